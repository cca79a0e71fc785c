// From LC-3 words to blocks: follows control flow from the roots as far as it is known without running.
//
// Threads: any; everything is a function of its arguments.
#pragma once

#include "lc3/jit/ir.hpp"
#include "warmfork/lc3/state.hpp"

#include <bitset>
#include <cstdint>
#include <span>

namespace warmfork::lc3::jit {

using WordSet = std::bitset<kMemoryWords>;

struct Source {
  std::span<const std::uint16_t, kMemoryWords> words;
  /// Words that code must not be made from: they are interpreted.
  const WordSet& left_out;
  bool lea_sets_cc = false;
};

/// Blocks reachable from the roots: over both sides of branches, into subroutines and behind their calls, behind what
/// is interpreted. At most `max_instructions`; what lies beyond has no block.
[[nodiscard]] Unit translate(const Source& source, std::span<const std::uint16_t> roots,
                             std::uint32_t max_instructions = 16384);

}  // namespace warmfork::lc3::jit
