// Compiled code for people: each LC-3 instruction, what became of it between the compilers' passes, and the machine
// code it ended as, side by side.
//
// Threads: one at a time.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/machine_code.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3::jit {

/// One instruction of the processor.
struct MachineInstruction {
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
  std::string text;  // Intel syntax; a jump's target is an offset
};

/// Machine code as text. Bytes that are no instruction become one line each.
[[nodiscard]] Result<std::vector<MachineInstruction>> disassemble_machine_code(std::span<const std::uint8_t> code);

/// All blocks of a unit with their code, which was compiled with marks. `name` gives an address its label, or nothing.
[[nodiscard]] Result<std::string> list_code(std::span<const std::uint16_t, kMemoryWords> words, const Unit& unit,
                                            const MachineCode& code,
                                            const std::function<std::string(std::uint16_t)>& name);

}  // namespace warmfork::lc3::jit
