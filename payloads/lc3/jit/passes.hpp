// What is made better between translation and machine code. Each pass keeps the meaning of every operation for a
// machine that leaves before it; each can be left out, to find out which one is to blame.
#pragma once

#include "lc3/jit/ir.hpp"

#include <cstdint>
#include <string_view>

namespace warmfork::lc3::jit {

struct Passes {
  bool constants = true;   // registers with known values: x & 0, LEA, and what is computed from them
  bool forwarding = true;  // a load of what the block has just stored or loaded
  bool dead_flags = true;  // condition codes that are set again before anyone can look
};
inline constexpr std::string_view kPassNames[] = {"constants", "forwarding", "dead-flags"};

void run_passes(Unit& unit, const Passes& passes);

}  // namespace warmfork::lc3::jit
