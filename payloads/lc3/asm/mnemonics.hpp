// The words that start an assembler statement: the instruction table's names, and the names that stand for one fixed
// use of an instruction (BRz, RET, NOP, the traps).
#pragma once

#include "lc3/core/instruction.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace warmfork::lc3 {

/// What a mnemonic stands for: the operation, the bits that the name itself fixes, and whether operands follow.
struct Mnemonic {
  Operation operation;  // the register form for ADD and AND, whose third operand decides
  std::uint16_t word;
  bool takes_operands;
};

/// The meaning of `name`, upper or lower case. Nothing for directives and for what is no instruction.
[[nodiscard]] std::optional<Mnemonic> find_mnemonic(std::string_view name);
[[nodiscard]] bool is_mnemonic(std::string_view name);

}  // namespace warmfork::lc3
