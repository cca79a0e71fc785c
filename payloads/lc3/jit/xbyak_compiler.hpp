// The fast compiler: a template of machine code per operation, LC-3 registers in processor registers, blocks joined by
// direct jumps. Microseconds for a program.
//
// Threads: any; everything is a function of its arguments.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/machine_code.hpp"

namespace warmfork::lc3::jit {

/// A block that is not compiled: its code lies elsewhere, at this distance from the first byte of what is.
struct Elsewhere {
  std::int32_t offset;
  std::uint16_t address;
};

struct XbyakOptions {
  bool marks = false;     // fill MachineCode::marks
  bool counting = false;  // count executions (counts.hpp)
  std::vector<Elsewhere> elsewhere;
};

/// Compiles all blocks of a verified unit but those elsewhere. Errors (kLimit): the code outgrew every estimate,
/// or has more to count than kCodeCounters.
[[nodiscard]] Result<MachineCode> compile_with_xbyak(const Unit& unit, const XbyakOptions& options = {});

}  // namespace warmfork::lc3::jit
