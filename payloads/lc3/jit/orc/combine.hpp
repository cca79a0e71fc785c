// One version out of both compilers' code: the fast one's for all blocks but those that the other one's code is entered
// at, which control reaches from either side.
//
// Threads: as of the compiler given.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/machine_code.hpp"

namespace warmfork::lc3::jit {

/// `optimised`: of the same unit, by the optimising compiler. `marks`: fill in those of the fast one's code. Errors: of
/// the fast compiler.
[[nodiscard]] Result<MachineCode> complete_with_xbyak(const Unit& unit, MachineCode optimised, bool marks = false);

}  // namespace warmfork::lc3::jit
