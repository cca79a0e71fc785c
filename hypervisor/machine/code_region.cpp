#include "machine/code_region.hpp"

namespace warmfork {

Result<CodeRegion> CodeRegion::allocate(const GuestLayout& layout) {
  CodeRegion region{.begin = layout.code().begin, .bytes = {}};
  if (layout.code().size == 0) return region;
  WARMFORK_TRY_ASSIGN(Mapping memory, Mapping::anonymous(layout.code().size, x86::kLargePageSize));
  region.bytes = memory.bytes();
  region.memory = std::make_shared<const Mapping>(std::move(memory));
  return region;
}

}  // namespace warmfork
