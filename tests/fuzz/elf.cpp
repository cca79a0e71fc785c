// Program files: whatever is accepted is a plan that can be carried out.
#include "elf_properties.hpp"
#include "require.hpp"

#include <cstdint>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto elf = std::as_bytes(std::span(data, size));
  const warmfork::ElfLimits small{.lowest_address = 0x200000, .memory_bytes = 1 << 20, .symbols = 32};
  for (const warmfork::ElfLimits& limits : {warmfork::ElfLimits{}, small}) {
    const char* const broken = warmfork::test::broken_promise(elf, limits);
    if (broken != nullptr) std::fprintf(stderr, "broken promise: %s\n", broken);
    WARMFORK_REQUIRE(broken == nullptr);
  }
  return 0;
}
