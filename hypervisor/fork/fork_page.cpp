#include "fork/fork_page.hpp"

#include <algorithm>
#include <cstring>

namespace warmfork {
namespace {

// The XSAVE area (Intel SDM vol. 1, 13.4.1 and 13.4.2).
constexpr std::size_t kControlWord = 0;
constexpr std::size_t kMxcsr = 24;
constexpr std::size_t kStateBv = 512;
constexpr std::uint64_t kX87 = 1;
constexpr std::uint32_t kMxcsrBits = 0xffff;  // all others are reserved, and XRSTOR faults on them

}  // namespace

PristineState PristineState::of_area(std::span<const std::byte> area) {
  PristineState state;
  std::uint64_t used = 0;
  std::memcpy(&used, &area[kStateBv], sizeof used);
  std::memcpy(&state.mxcsr, &area[kMxcsr], sizeof state.mxcsr);
  state.x87_in_use = (used & kX87) != 0;
  if (state.x87_in_use) std::memcpy(&state.x87_control, &area[kControlWord], sizeof state.x87_control);
  return state;
}

Status PristineState::check() const {
  if ((mxcsr & ~kMxcsrBits) != 0) {
    return fail(ErrorKind::kInput, "MXCSR {:#x} has reserved bits, allowed are {:#x}", mxcsr, kMxcsrBits);
  }
  if (!x87_in_use && x87_control != 0) {
    return fail(ErrorKind::kInput, "x87 control word {:#x} of a state that is not in use", x87_control);
  }
  return {};
}

void write_fork_page(std::span<std::byte> page, const PristineState& state) {
  std::ranges::fill(page, std::byte{0});
  std::memcpy(&page[kMxcsr], &state.mxcsr, sizeof state.mxcsr);
  if (!state.x87_in_use) return;
  std::memcpy(&page[kControlWord], &state.x87_control, sizeof state.x87_control);
  std::memcpy(&page[kStateBv], &kX87, sizeof kX87);
}

}  // namespace warmfork
