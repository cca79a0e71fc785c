// The fork page of a snapshot (abi/layout.h): the pristine extended state as an XSAVE area, and an empty ForkInfo.
//
// Between two calls a program's extended state is the x87 control word and MXCSR; all other registers belong to whoever
// calls (System V AMD64 ABI, 3.2.1 and 3.2.3). So the area holds these two, and says that everything else is in its
// initial configuration: XRSTOR then clears it, whatever states this processor has (Intel SDM vol. 1, 13.4 and 13.8).
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork {

struct PristineState {
  bool x87_in_use = false;  // else the x87 state is initial, and x87_control 0
  std::uint16_t x87_control = 0;
  std::uint32_t mxcsr = 0;

  /// What a program has left in `area` (KVM_GET_XSAVE2, at least 576 bytes).
  [[nodiscard]] static PristineState of_area(std::span<const std::byte> area);
  /// Errors (kInput): XRSTOR would refuse it.
  [[nodiscard]] Status check() const;
  friend bool operator==(const PristineState&, const PristineState&) = default;
};

/// Writes the whole page: generation 0, no random bytes; every fork gets its own.
void write_fork_page(std::span<std::byte> page, const PristineState& state);

}  // namespace warmfork
