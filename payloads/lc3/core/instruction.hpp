// The LC-3 instruction set as data: one table that the decoder, the disassembler, the interpreters, the compilers and
// the random program generator of the tests all read. Pure and freestanding; any thread, any side.
//
//   bits 15-12 choose the opcode; for ADD and AND bit 5, for JSR/JSRR bit 11, choose the form.
//   `mask`/`match` are the bits that the machine looks at; `fixed_mask`/`fixed_match` are all bits that the textbook
//   fixes. A word that matches the first but not the second executes all the same, but has no assembler syntax.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace warmfork::lc3 {

/// The 2nd and 3rd edition of the textbook differ in LEA's condition codes, in TRAP/RET, and in system space.
enum class Edition : std::uint8_t { kSecond = 2, kThird = 3 };

enum class Operation : std::uint8_t {
  kBr,
  kAddRegister,
  kAddImmediate,
  kLd,
  kSt,
  kJsr,
  kJsrr,
  kAndRegister,
  kAndImmediate,
  kLdr,
  kStr,
  kRti,
  kNot,
  kLdi,
  kSti,
  kJmp,
  kReserved,
  kLea,
  kTrap,
};
inline constexpr std::size_t kOperationCount = 19;

enum class OperandKind : std::uint8_t {
  kNone,
  kDr,          // bits 11-9, written
  kSr,          // bits 11-9, read (the source of ST, STI and STR)
  kSr1,         // bits 8-6, read
  kBase,        // bits 8-6, read, an address
  kSr2,         // bits 2-0, read
  kImm5,        // bits 4-0, signed
  kOffset6,     // bits 5-0, signed
  kPcOffset9,   // bits 8-0, signed, relative to the incremented PC
  kPcOffset11,  // bits 10-0, signed, relative to the incremented PC
  kTrapVect8,   // bits 7-0, unsigned
  kNzp,         // bits 11-9, a mask; written as a suffix of the mnemonic
};

/// Where an operand sits in the word.
struct OperandField {
  std::uint8_t shift;
  std::uint8_t width;
  bool is_signed;
};

constexpr OperandField operand_field(OperandKind kind) {
  switch (kind) {
    case OperandKind::kDr:
    case OperandKind::kSr:
    case OperandKind::kNzp: return {9, 3, false};
    case OperandKind::kSr1:
    case OperandKind::kBase: return {6, 3, false};
    case OperandKind::kSr2: return {0, 3, false};
    case OperandKind::kImm5: return {0, 5, true};
    case OperandKind::kOffset6: return {0, 6, true};
    case OperandKind::kPcOffset9: return {0, 9, true};
    case OperandKind::kPcOffset11: return {0, 11, true};
    case OperandKind::kTrapVect8: return {0, 8, false};
    case OperandKind::kNone: break;
  }
  return {0, 0, false};
}

/// What an instruction does, as far as analyses and generators want to know.
enum Property : std::uint16_t {
  kWritesDr = 1 << 0,
  kWritesR7 = 1 << 1,  // JSR, JSRR; TRAP in the 2nd edition only (see kTrap's note below)
  kSetsCcThirdEdition = 1 << 2,
  kSetsCcSecondEdition = 1 << 3,
  kReadsMemory = 1 << 4,  // data, not the fetch
  kWritesMemory = 1 << 5,
  kIndirect = 1 << 6,  // LDI, STI: the address is itself read from memory
  kBranch = 1 << 7,    // BR: may continue at its target or at the next word
  kJump = 1 << 8,      // never continues at the next word by itself
  kCall = 1 << 9,      // JSR, JSRR, TRAP: a return address is kept
  kSystem = 1 << 10,   // TRAP, RTI, reserved: privilege, stacks or exceptions are involved
};

struct InstructionInfo {
  Operation operation;
  std::string_view name;  // upper case, without suffixes
  std::uint16_t mask, match;
  std::uint16_t fixed_mask, fixed_match;
  std::array<OperandKind, 3> operands;  // in the order the assembler writes them
  std::uint16_t properties;             // of Property

  constexpr bool has(Property property) const { return (properties & property) != 0; }
  constexpr bool sets_cc(Edition edition) const {
    return has(edition == Edition::kThird ? kSetsCcThirdEdition : kSetsCcSecondEdition);
  }
};

namespace detail {
inline constexpr std::uint16_t kSetsCc = kSetsCcThirdEdition | kSetsCcSecondEdition;
using enum OperandKind;
}  // namespace detail

/// Indexed by Operation. TRAP reads its vector from memory; it writes the supervisor stack in the 3rd edition and R7 in
/// the 2nd. RTI reads the supervisor stack and restores condition codes as part of the PSR (it does not "set" them).
inline constexpr std::array<InstructionInfo, kOperationCount> kInstructions = {{
    {Operation::kBr, "BR", 0xf000, 0x0000, 0xf000, 0x0000, {detail::kNzp, detail::kPcOffset9}, kBranch},
    {Operation::kAddRegister,
     "ADD",
     0xf020,
     0x1000,
     0xf038,
     0x1000,
     {detail::kDr, detail::kSr1, detail::kSr2},
     kWritesDr | detail::kSetsCc},
    {Operation::kAddImmediate,
     "ADD",
     0xf020,
     0x1020,
     0xf020,
     0x1020,
     {detail::kDr, detail::kSr1, detail::kImm5},
     kWritesDr | detail::kSetsCc},
    {Operation::kLd,
     "LD",
     0xf000,
     0x2000,
     0xf000,
     0x2000,
     {detail::kDr, detail::kPcOffset9},
     kWritesDr | detail::kSetsCc | kReadsMemory},
    {Operation::kSt, "ST", 0xf000, 0x3000, 0xf000, 0x3000, {detail::kSr, detail::kPcOffset9}, kWritesMemory},
    {Operation::kJsr, "JSR", 0xf800, 0x4800, 0xf800, 0x4800, {detail::kPcOffset11}, kWritesR7 | kJump | kCall},
    {Operation::kJsrr, "JSRR", 0xf800, 0x4000, 0xfe3f, 0x4000, {detail::kBase}, kWritesR7 | kJump | kCall},
    {Operation::kAndRegister,
     "AND",
     0xf020,
     0x5000,
     0xf038,
     0x5000,
     {detail::kDr, detail::kSr1, detail::kSr2},
     kWritesDr | detail::kSetsCc},
    {Operation::kAndImmediate,
     "AND",
     0xf020,
     0x5020,
     0xf020,
     0x5020,
     {detail::kDr, detail::kSr1, detail::kImm5},
     kWritesDr | detail::kSetsCc},
    {Operation::kLdr,
     "LDR",
     0xf000,
     0x6000,
     0xf000,
     0x6000,
     {detail::kDr, detail::kBase, detail::kOffset6},
     kWritesDr | detail::kSetsCc | kReadsMemory},
    {Operation::kStr,
     "STR",
     0xf000,
     0x7000,
     0xf000,
     0x7000,
     {detail::kSr, detail::kBase, detail::kOffset6},
     kWritesMemory},
    {Operation::kRti, "RTI", 0xf000, 0x8000, 0xffff, 0x8000, {}, kReadsMemory | kJump | kSystem},
    {Operation::kNot, "NOT", 0xf000, 0x9000, 0xf03f, 0x903f, {detail::kDr, detail::kSr1}, kWritesDr | detail::kSetsCc},
    {Operation::kLdi,
     "LDI",
     0xf000,
     0xa000,
     0xf000,
     0xa000,
     {detail::kDr, detail::kPcOffset9},
     kWritesDr | detail::kSetsCc | kReadsMemory | kIndirect},
    {Operation::kSti,
     "STI",
     0xf000,
     0xb000,
     0xf000,
     0xb000,
     {detail::kSr, detail::kPcOffset9},
     kReadsMemory | kWritesMemory | kIndirect},
    {Operation::kJmp, "JMP", 0xf000, 0xc000, 0xfe3f, 0xc000, {detail::kBase}, kJump},
    {Operation::kReserved, "", 0xf000, 0xd000, 0xf000, 0xd000, {}, kJump | kSystem},
    {Operation::kLea,
     "LEA",
     0xf000,
     0xe000,
     0xf000,
     0xe000,
     {detail::kDr, detail::kPcOffset9},
     kWritesDr | kSetsCcSecondEdition},
    {Operation::kTrap,
     "TRAP",
     0xf000,
     0xf000,
     0xff00,
     0xf000,
     {detail::kTrapVect8},
     kReadsMemory | kJump | kCall | kSystem},
}};

constexpr const InstructionInfo& info(Operation operation) {
  return kInstructions[static_cast<std::size_t>(operation)];
}

/// The operation of a word. Every word has one (1101 is kReserved).
constexpr Operation operation_of(std::uint16_t word) {
  constexpr std::array<Operation, 16> first = {
      Operation::kBr,  Operation::kAddRegister, Operation::kLd,  Operation::kSt,
      Operation::kJsr, Operation::kAndRegister, Operation::kLdr, Operation::kStr,
      Operation::kRti, Operation::kNot,         Operation::kLdi, Operation::kSti,
      Operation::kJmp, Operation::kReserved,    Operation::kLea, Operation::kTrap};
  const Operation operation = first[word >> 12];
  switch (operation) {
    case Operation::kAddRegister: return (word & 0x20) != 0 ? Operation::kAddImmediate : operation;
    case Operation::kAndRegister: return (word & 0x20) != 0 ? Operation::kAndImmediate : operation;
    case Operation::kJsr: return (word & 0x800) != 0 ? operation : Operation::kJsrr;
    default: return operation;
  }
}

/// The value of an operand in a word: sign-extended where the field is signed.
constexpr std::int16_t operand_value(OperandKind kind, std::uint16_t word) {
  const OperandField field = operand_field(kind);
  if (field.width == 0) return 0;
  const int value = (word >> field.shift) & ((1 << field.width) - 1);
  const int sign = 1 << (field.width - 1);
  return static_cast<std::int16_t>(field.is_signed ? (value ^ sign) - sign : value);
}

/// A word taken apart. Fields that the operation lacks are zero.
struct Instruction {
  std::uint16_t word;
  Operation operation;
  std::uint8_t dr;         // destination, or the source register of ST, STI, STR
  std::uint8_t sr1;        // first source, or base register
  std::uint8_t sr2;        // second source
  std::uint8_t nzp;        // branch mask: bit 2 N, bit 1 Z, bit 0 P
  std::int16_t immediate;  // imm5, offset6, PC offset (sign-extended), or trap vector
  bool canonical;          // all bits that the textbook fixes are as it fixes them

  constexpr const InstructionInfo& info() const { return lc3::info(operation); }
};

constexpr Instruction decode(std::uint16_t word) {
  Instruction result{};
  result.word = word;
  result.operation = operation_of(word);
  const InstructionInfo& table = info(result.operation);
  result.canonical = (word & table.fixed_mask) == table.fixed_match;
  for (const OperandKind kind : table.operands) {
    const std::int16_t value = operand_value(kind, word);
    switch (kind) {
      case OperandKind::kNone: break;
      case OperandKind::kDr:
      case OperandKind::kSr: result.dr = static_cast<std::uint8_t>(value); break;
      case OperandKind::kSr1:
      case OperandKind::kBase: result.sr1 = static_cast<std::uint8_t>(value); break;
      case OperandKind::kSr2: result.sr2 = static_cast<std::uint8_t>(value); break;
      case OperandKind::kNzp: result.nzp = static_cast<std::uint8_t>(value); break;
      default: result.immediate = value; break;
    }
  }
  return result;
}

/// Puts a value into an operand's field of a word; bits that do not fit are cut off. For generators and tests.
constexpr std::uint16_t with_operand(std::uint16_t word, OperandKind kind, int value) {
  const OperandField field = operand_field(kind);
  const unsigned mask = ((1u << field.width) - 1) << field.shift;
  return static_cast<std::uint16_t>((word & ~mask) | ((static_cast<unsigned>(value) << field.shift) & mask));
}

/// One line of text in a fixed buffer.
class DisassemblyText {
 public:
  constexpr std::string_view view() const { return {text_.data(), size_}; }
  constexpr void push(char c) {
    if (size_ < text_.size()) text_[size_++] = c;
  }
  constexpr void push(std::string_view text) {
    for (const char c : text) push(c);
  }

 private:
  std::array<char, 48> text_{};
  std::uint8_t size_ = 0;
};

/// The word at address `pc` in assembler syntax, upper case, one blank after the mnemonic and after each comma:
///   "ADD R0, R1, #-3", "BRnz #-5 ; x2FFC", "TRAP x30", "GETC", "RET", "NOP", ".FILL xD000"
/// PC-relative operands are offsets, with the target as a comment. Assembled at the same address, the text gives the
/// same word again, for all 65,536 words: what has no syntax of its own becomes .FILL.
DisassemblyText disassemble(std::uint16_t word, std::uint16_t pc);

}  // namespace warmfork::lc3
