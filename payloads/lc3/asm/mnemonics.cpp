#include "lc3/asm/mnemonics.hpp"

#include "lc3/asm/text.hpp"

#include <array>

namespace warmfork::lc3 {
namespace {

struct Fixed {
  std::string_view name;
  Operation operation;
  std::uint16_t word;
  bool takes_operands;
};

constexpr std::array kFixed = {
    Fixed{"BR", Operation::kBr, 0x0E00, true},       Fixed{"BRN", Operation::kBr, 0x0800, true},
    Fixed{"BRZ", Operation::kBr, 0x0400, true},      Fixed{"BRP", Operation::kBr, 0x0200, true},
    Fixed{"BRNZ", Operation::kBr, 0x0C00, true},     Fixed{"BRNP", Operation::kBr, 0x0A00, true},
    Fixed{"BRZP", Operation::kBr, 0x0600, true},     Fixed{"BRNZP", Operation::kBr, 0x0E00, true},
    Fixed{"NOP", Operation::kBr, 0x0000, false},     Fixed{"RET", Operation::kJmp, 0xC1C0, false},
    Fixed{"GETC", Operation::kTrap, 0xF020, false},  Fixed{"OUT", Operation::kTrap, 0xF021, false},
    Fixed{"PUTS", Operation::kTrap, 0xF022, false},  Fixed{"IN", Operation::kTrap, 0xF023, false},
    Fixed{"PUTSP", Operation::kTrap, 0xF024, false}, Fixed{"HALT", Operation::kTrap, 0xF025, false},
};

}  // namespace

std::optional<Mnemonic> find_mnemonic(std::string_view name) {
  for (const Fixed& fixed : kFixed) {
    if (equal_ignoring_case(name, fixed.name)) return Mnemonic{fixed.operation, fixed.word, fixed.takes_operands};
  }
  for (const InstructionInfo& entry : kInstructions) {
    if (entry.name.empty() || !equal_ignoring_case(name, entry.name)) continue;
    return Mnemonic{entry.operation, entry.fixed_match, entry.operands[0] != OperandKind::kNone};
  }
  return std::nullopt;
}

bool is_mnemonic(std::string_view name) { return find_mnemonic(name).has_value(); }

}  // namespace warmfork::lc3
