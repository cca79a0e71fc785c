// From a region to LLVM's intermediate form: one function
//
//   std::uint32_t NAME(std::uint16_t* memory, const std::uint8_t* version, std::uint32_t entry)
//
// that loads the registers, the last result and the budget from State, runs from the entry until it has to leave,
// stores what has changed, and returns the LC-3 address, with kTransfers if control went there and without if the
// instruction there is the interpreter's.
//
// Threads: one per context.
#pragma once

#include "lc3/jit/orc/region.hpp"

#include <llvm/IR/Module.h>

#include <string_view>

namespace warmfork::lc3::jit {

inline constexpr std::uint32_t kTransfers = 1 << 16;

/// Adds the function to a module. `region` is of `unit`; the version that the code will be part of is made from `unit`
/// as well. With `lines` the function has debug information: an instruction's line is its LC-3 address + 1.
llvm::Function& lower(llvm::Module& module, const Unit& unit, const Region& region, std::string_view name,
                      bool lines = false);

}  // namespace warmfork::lc3::jit
