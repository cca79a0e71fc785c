#include "lc3/core/instruction.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace warmfork::lc3 {
namespace {

std::string text(std::uint16_t word, std::uint16_t pc = 0x3000) { return std::string(disassemble(word, pc).view()); }

TEST(Instruction, EveryWordMatchesExactlyTheEntryThatItDecodesTo) {
  for (std::uint32_t word = 0; word < 0x10000; ++word) {
    int matches = 0;
    for (const InstructionInfo& entry : kInstructions) {
      if ((word & entry.mask) != entry.match) continue;
      ++matches;
      EXPECT_EQ(entry.operation, operation_of(static_cast<std::uint16_t>(word))) << std::hex << word;
    }
    EXPECT_EQ(matches, 1) << std::hex << word;
  }
}

TEST(Instruction, TableIsIndexedByOperation) {
  for (std::size_t i = 0; i < kOperationCount; ++i) {
    EXPECT_EQ(static_cast<std::size_t>(kInstructions[i].operation), i);
    EXPECT_EQ(kInstructions[i].mask & ~kInstructions[i].fixed_mask, 0) << "decoding looks at a bit that is not fixed";
    EXPECT_EQ(kInstructions[i].fixed_match & kInstructions[i].mask, kInstructions[i].match);
  }
}

TEST(Instruction, OperandsAndFixedBitsCoverTheWordWithoutOverlap) {
  for (const InstructionInfo& entry : kInstructions) {
    if (entry.operation == Operation::kReserved) continue;
    unsigned covered = entry.fixed_mask;
    for (const OperandKind kind : entry.operands) {
      const unsigned bits = with_operand(0, kind, -1);
      EXPECT_EQ(covered & bits, 0u) << entry.name;
      covered |= bits;
    }
    EXPECT_EQ(covered, 0xffffu) << entry.name;
  }
}

TEST(Instruction, FieldsAreSignExtendedAtTheirEdges) {
  EXPECT_EQ(decode(0x1030).immediate, -16);  // ADD R0, R0, #-16
  EXPECT_EQ(decode(0x102f).immediate, 15);
  EXPECT_EQ(decode(0x6020).immediate, -32);  // LDR R0, R0, #-32
  EXPECT_EQ(decode(0x601f).immediate, 31);
  EXPECT_EQ(decode(0x2100).immediate, -256);  // LD R0, #-256
  EXPECT_EQ(decode(0x20ff).immediate, 255);
  EXPECT_EQ(decode(0x4c00).immediate, -1024);  // JSR #-1024
  EXPECT_EQ(decode(0x4bff).immediate, 1023);
  EXPECT_EQ(decode(0xf0ff).immediate, 255);  // trap vectors are unsigned
}

TEST(Instruction, RegistersComeFromTheirFields) {
  const Instruction add = decode(0x1a87);  // ADD R5, R2, R7
  EXPECT_EQ(add.dr, 5);
  EXPECT_EQ(add.sr1, 2);
  EXPECT_EQ(add.sr2, 7);
  const Instruction str = decode(0x7cc1);  // STR R6, R3, #1
  EXPECT_EQ(str.dr, 6);
  EXPECT_EQ(str.sr1, 3);
  EXPECT_EQ(str.immediate, 1);
  EXPECT_EQ(decode(0x0bfd).nzp, 5);
}

TEST(Instruction, LeaSetsConditionCodesInTheSecondEditionOnly) {
  EXPECT_TRUE(info(Operation::kLea).sets_cc(Edition::kSecond));
  EXPECT_FALSE(info(Operation::kLea).sets_cc(Edition::kThird));
  EXPECT_TRUE(info(Operation::kLdi).sets_cc(Edition::kThird));
  EXPECT_FALSE(info(Operation::kSt).sets_cc(Edition::kSecond));
}

TEST(Disassembly, WritesEveryInstruction) {
  EXPECT_EQ(text(0x1042), "ADD R0, R1, R2");
  EXPECT_EQ(text(0x16fd), "ADD R3, R3, #-3");
  EXPECT_EQ(text(0x5020), "AND R0, R0, #0");
  EXPECT_EQ(text(0x5ac4), "AND R5, R3, R4");
  EXPECT_EQ(text(0x927f), "NOT R1, R1");
  EXPECT_EQ(text(0x0ffe), "BRnzp #-2 ; x2FFF");
  EXPECT_EQ(text(0x0403), "BRz #3 ; x3004");
  EXPECT_EQ(text(0xc080), "JMP R2");
  EXPECT_EQ(text(0xc1c0), "RET");
  EXPECT_EQ(text(0x4fff), "JSR #-1 ; x3000");
  EXPECT_EQ(text(0x40c0), "JSRR R3");
  EXPECT_EQ(text(0x2e05), "LD R7, #5 ; x3006");
  EXPECT_EQ(text(0xa1ff), "LDI R0, #-1 ; x3000");
  EXPECT_EQ(text(0x6e42), "LDR R7, R1, #2");
  EXPECT_EQ(text(0xe000), "LEA R0, #0 ; x3001");
  EXPECT_EQ(text(0x3201), "ST R1, #1 ; x3002");
  EXPECT_EQ(text(0xb400), "STI R2, #0 ; x3001");
  EXPECT_EQ(text(0x70bf), "STR R0, R2, #-1");
  EXPECT_EQ(text(0xf026), "TRAP x26");
  EXPECT_EQ(text(0xf025), "HALT");
  EXPECT_EQ(text(0xf020), "GETC");
  EXPECT_EQ(text(0x8000), "RTI");
  EXPECT_EQ(text(0x0000), "NOP");
}

TEST(Disassembly, WhatHasNoSyntaxIsFill) {
  EXPECT_EQ(text(0xd123), ".FILL xD123");
  EXPECT_EQ(text(0x0001), ".FILL x0001");  // a branch that is never taken
  EXPECT_EQ(text(0x1008), ".FILL x1008");  // ADD with a bit set that should be clear
  EXPECT_EQ(text(0x9000), ".FILL x9000");
  EXPECT_EQ(text(0x4001), ".FILL x4001");
  EXPECT_EQ(text(0xc200), ".FILL xC200");
  EXPECT_EQ(text(0x8001), ".FILL x8001");
  EXPECT_EQ(text(0xf120), ".FILL xF120");
}

TEST(Disassembly, TargetsWrapAtTheEndOfMemory) {
  EXPECT_EQ(text(0x0e01, 0xffff), "BRnzp #1 ; x0001");
  EXPECT_EQ(text(0x0fff, 0xffff), "BRnzp #-1 ; xFFFF");
  EXPECT_EQ(text(0x2100, 0x0000), "LD R0, #-256 ; xFF01");
}

TEST(Disassembly, EveryWordHasADifferentText) {
  // Together with the assembler's own tests: reading the text back can give the same word.
  std::vector<std::string> all;
  for (std::uint32_t word = 0; word < 0x10000; ++word) all.push_back(text(static_cast<std::uint16_t>(word)));
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
}

}  // namespace
}  // namespace warmfork::lc3
