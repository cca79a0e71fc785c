#include "lc3/jit/orc/combine.hpp"

#include "lc3/jit/xbyak_compiler.hpp"

#include <algorithm>

namespace warmfork::lc3::jit {

Result<MachineCode> complete_with_xbyak(const Unit& unit, MachineCode optimised, bool marks) {
  constexpr std::size_t kAlignment = 64;
  optimised.bytes.resize((optimised.bytes.size() + kAlignment - 1) / kAlignment * kAlignment, 0xcc);
  const auto begin = static_cast<std::uint32_t>(optimised.bytes.size());
  XbyakOptions options{.marks = marks};
  for (const MachineCode::Mark& entry : optimised.entries) {
    options.elsewhere.push_back({static_cast<std::int32_t>(entry.offset - begin), entry.address});
  }
  WARMFORK_TRY_ASSIGN(const MachineCode rest, compile_with_xbyak(unit, options));
  optimised.bytes.insert(optimised.bytes.end(), rest.bytes.begin(), rest.bytes.end());
  for (const MachineCode::Mark& entry : rest.entries) {
    optimised.entries.push_back({begin + entry.offset, entry.address});
  }
  for (const MachineCode::Mark& mark : rest.marks) optimised.marks.push_back({begin + mark.offset, mark.address});
  optimised.optimised = begin;
  optimised.out_of_line = begin + rest.out_of_line;
  std::ranges::sort(optimised.entries, {}, &MachineCode::Mark::address);
  return optimised;
}

}  // namespace warmfork::lc3::jit
