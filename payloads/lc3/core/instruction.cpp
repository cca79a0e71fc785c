#include "lc3/core/instruction.hpp"

namespace warmfork::lc3 {
namespace {

void push_hex(DisassemblyText& text, unsigned value, int digits) {
  text.push('x');
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) text.push("0123456789ABCDEF"[(value >> shift) & 0xf]);
}

void push_decimal(DisassemblyText& text, int value) {
  text.push('#');
  if (value < 0) text.push('-');
  unsigned rest = static_cast<unsigned>(value < 0 ? -value : value);
  char digits[8];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + rest % 10);
    rest /= 10;
  } while (rest != 0);
  while (count > 0) text.push(digits[--count]);
}

}  // namespace

DisassemblyText disassemble(std::uint16_t word, std::uint16_t pc) {
  DisassemblyText text;
  const Instruction instruction = decode(word);
  const InstructionInfo& table = instruction.info();

  // BR with an empty mask does nothing whatever its offset is; only the all-zero word has a name.
  const bool nameless_nop = instruction.operation == Operation::kBr && instruction.nzp == 0 && word != 0;
  if (!instruction.canonical || instruction.operation == Operation::kReserved || nameless_nop) {
    text.push(".FILL ");
    push_hex(text, word, 4);
    return text;
  }
  if (word == 0) {
    text.push("NOP");
    return text;
  }
  if (instruction.operation == Operation::kJmp && instruction.sr1 == 7) {
    text.push("RET");
    return text;
  }
  if (instruction.operation == Operation::kTrap && instruction.immediate >= 0x20 && instruction.immediate <= 0x25) {
    constexpr std::array<std::string_view, 6> names = {"GETC", "OUT", "PUTS", "IN", "PUTSP", "HALT"};
    text.push(names[static_cast<std::size_t>(instruction.immediate - 0x20)]);
    return text;
  }

  text.push(table.name);
  bool first = true;
  bool relative = false;
  for (const OperandKind kind : table.operands) {
    const int value = operand_value(kind, word);
    if (kind == OperandKind::kNone) continue;
    if (kind == OperandKind::kNzp) {
      if ((value & 4) != 0) text.push('n');
      if ((value & 2) != 0) text.push('z');
      if ((value & 1) != 0) text.push('p');
      continue;
    }
    text.push(first ? " " : ", ");
    first = false;
    switch (kind) {
      case OperandKind::kImm5:
      case OperandKind::kOffset6: push_decimal(text, value); break;
      case OperandKind::kPcOffset9:
      case OperandKind::kPcOffset11:
        push_decimal(text, value);
        relative = true;
        break;
      case OperandKind::kTrapVect8: push_hex(text, static_cast<unsigned>(value), 2); break;
      default:
        text.push('R');
        text.push(static_cast<char>('0' + value));
        break;
    }
  }
  if (relative) {
    text.push(" ; ");
    push_hex(text, static_cast<std::uint16_t>(pc + 1 + instruction.immediate), 4);
  }
  return text;
}

}  // namespace warmfork::lc3
