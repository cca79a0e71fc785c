// Between the registers of the fast interpreter (warmfork/lc3/code.hpp) and a function of the optimising compiler
// (lower.hpp).
//
// Threads: any; everything is a function of its arguments.
#pragma once

#include "lc3/jit/machine_code.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace warmfork::lc3::jit {

struct Function {
  std::uint32_t offset;  // in MachineCode::bytes
  std::vector<std::uint16_t> entries;
};

/// Appends code for each of the functions' entries to `code`, whose bytes hold the functions.
void append_thunks(MachineCode& code, std::span<const Function> functions);

}  // namespace warmfork::lc3::jit
