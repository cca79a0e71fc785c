// Between the registers of the fast interpreter (warmfork/lc3/code.hpp) and a function of the optimising compiler
// (lower.hpp).
//
// Threads: any; everything is a function of its arguments.
#pragma once

#include "lc3/jit/machine_code.hpp"

#include <cstdint>
#include <span>

namespace warmfork::lc3::jit {

/// Appends an entry for each of the addresses to `code`, whose bytes hold the function at `function`.
void append_thunks(MachineCode& code, std::uint32_t function, std::span<const std::uint16_t> entries);

}  // namespace warmfork::lc3::jit
