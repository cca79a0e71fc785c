// Cases as bytes, for fuzzers: every input is a case, and every bit of it matters to the case.
//
//   +0  flags   bits 5-0: of ConfigFlag; bit 6: KBSR's interrupt enable; bit 7: supervisor mode
//   +1  place   where the words begin: bits 1-0 x3000, the last words below device space, x0000, x0200; bits 7-2: PC
//   +2  slices  0: one; else the longest
//   +3  input   bytes that are typed
//   +4  registers, 8 * 2 bytes, little-endian
//   +20 input: for each two bytes, how many instructions after the one before (times 4), and the character
//   …   words, little-endian
// What is missing at the end is zero.
#pragma once

#include "lc3/lockstep/case.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace warmfork::lc3 {

inline constexpr std::size_t kLockstepHeader = 20;

[[nodiscard]] LockstepCase case_from_bytes(std::span<const std::uint8_t> bytes);
/// The bytes whose case comes nearest: registers, input and configuration, and the words from the one at PC's segment.
[[nodiscard]] std::vector<std::uint8_t> case_to_bytes(const LockstepCase& one);

}  // namespace warmfork::lc3
