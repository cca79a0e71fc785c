// Why a program ended that did not end by itself: from the result of its run, and from what the OS has left in the
// machine. Threads: as Lc3Vm.
#pragma once

#include "lc3/host/lc3_vm.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace warmfork::lc3 {

/// An exception or trap that nobody served: where, and which.
struct Lc3Failure {
  std::string what;  // "illegal opcode (exception x01)"
  std::uint8_t vector = 0;
  bool is_trap = false;
  std::uint16_t address = 0;  // of the instruction
};

/// What ended a program that the machine or its OS had to end; nothing if it ended by itself. Reads the machine, which
/// is a call of the guest where the OS has ended it. A program may write over its OS and its stack: then this is what
/// they say, not what was. Errors: as Lc3Vm::registers() and read_memory().
[[nodiscard]] Result<std::optional<Lc3Failure>> find_failure(Lc3Vm& vm, const Lc3Options& options,
                                                             const RunResult& result);

}  // namespace warmfork::lc3
