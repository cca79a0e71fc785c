#include "lc3/asm/assembler.hpp"

#include "lc3/asm/text.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {
namespace {

using Words = std::vector<std::uint16_t>;

Words words_of(std::string_view source) {
  const auto program = assemble(source, "t.asm");
  if (!program) {
    ADD_FAILURE() << program.error().message;
    return {};
  }
  EXPECT_EQ(program->segments.size(), 1U);
  return program->segments[0].words;
}

// The words of statements at x3000.
Words body(const std::string& statements) { return words_of(".ORIG x3000\n" + statements + "\n.END\n"); }

// "line:column: message" of every diagnostic.
std::vector<std::string> errors_of(std::string_view source) {
  std::vector<std::string> result;
  for (const Diagnostic& d : assemble_with_diagnostics(source, "t.asm").diagnostics) {
    result.push_back(fmt::format("{}:{}: {}", d.line, d.column, d.message));
  }
  return result;
}

std::string only_error(const std::string& statement) {
  const auto errors = errors_of(".ORIG x3000\n" + statement + "\n.END\n");
  EXPECT_EQ(errors.size(), 1U) << statement;
  return errors.empty() ? "" : errors[0];
}

TEST(Assembler, EncodesEveryInstruction) {
  EXPECT_EQ(body("ADD R1, R2, R3"), Words{0x1283});
  EXPECT_EQ(body("ADD R1, R2, #-1"), Words{0x12BF});
  EXPECT_EQ(body("AND R7, R0, R6"), Words{0x5E06});
  EXPECT_EQ(body("AND R0, R0, #0"), Words{0x5020});
  EXPECT_EQ(body("NOT R3, R4"), Words{0x973F});
  EXPECT_EQ(body("BRn #1"), Words{0x0801});
  EXPECT_EQ(body("BRz #-1"), Words{0x05FF});
  EXPECT_EQ(body("BRp #0"), Words{0x0200});
  EXPECT_EQ(body("BRnz #255"), Words{0x0CFF});
  EXPECT_EQ(body("BRnp #-256"), Words{0x0B00});
  EXPECT_EQ(body("BRzp #2"), Words{0x0602});
  EXPECT_EQ(body("BRnzp #3"), Words{0x0E03});
  EXPECT_EQ(body("BR #3"), Words{0x0E03});
  EXPECT_EQ(body("JMP R2"), Words{0xC080});
  EXPECT_EQ(body("RET"), Words{0xC1C0});
  EXPECT_EQ(body("JSR #-1024"), Words{0x4C00});
  EXPECT_EQ(body("JSRR R5"), Words{0x4140});
  EXPECT_EQ(body("LD R1, #5"), Words{0x2205});
  EXPECT_EQ(body("LDI R1, #5"), Words{0xA205});
  EXPECT_EQ(body("LDR R1, R2, #-32"), Words{0x62A0});
  EXPECT_EQ(body("LEA R1, #5"), Words{0xE205});
  EXPECT_EQ(body("ST R1, #5"), Words{0x3205});
  EXPECT_EQ(body("STI R1, #5"), Words{0xB205});
  EXPECT_EQ(body("STR R1, R2, #31"), Words{0x729F});
  EXPECT_EQ(body("TRAP x25"), Words{0xF025});
  EXPECT_EQ(body("RTI"), Words{0x8000});
  EXPECT_EQ(body("NOP"), Words{0x0000});
  EXPECT_EQ(body("GETC\nOUT\nPUTS\nIN\nPUTSP\nHALT"), (Words{0xF020, 0xF021, 0xF022, 0xF023, 0xF024, 0xF025}));
}

TEST(Assembler, NumberForms) {
  EXPECT_EQ(body(".FILL #10\n.FILL #-3\n.FILL x1F\n.FILL x-1\n.FILL X1f\n.FILL 0x1F\n.FILL b101\n.FILL 12\n.FILL -12\n"
                 ".FILL x8000\n.FILL 65535\n.FILL -32768"),
            (Words{10, 0xFFFD, 0x1F, 0xFFFF, 0x1F, 0x1F, 5, 12, 0xFFF4, 0x8000, 0xFFFF, 0x8000}));
}

TEST(Assembler, CaseBlanksCommasAndCommentsDoNotMatter) {
  EXPECT_EQ(
      words_of(
          "\xEF\xBB\xBF .orig x3000 ; a comment\r\n\tadd r1 r2,r3;x\r\n\r\n;;\nLoop: bR lOOP\n .end ; \xE2\x80\xA6"),
      (Words{0x1283, 0x0FFF}));
}

TEST(Assembler, LabelsWithAndWithoutColonAndAlone) {
  EXPECT_EQ(body("A\nB:\nC NOP\nD: LD R0, A\nLD R0, B\nLD R0, C\nLD R0, D"),
            (Words{0, 0x21FE, 0x21FD, 0x21FC, 0x21FC}));
}

TEST(Assembler, LabelsBecomeOffsets) {
  EXPECT_EQ(body("START LD R0, DATA\nLEA R1, START\nJSR SUB\nBRz START\nDATA .FILL START\nSUB\nRET"),
            (Words{0x2003, 0xE3FE, 0x4802, 0x05FC, 0x3000, 0xC1C0}));
}

TEST(Assembler, OffsetsWrapAroundTheAddressSpace) {
  const auto program = assemble(".ORIG xFFFE\nLD R0, LOW\nNOP\n.END\n.ORIG x0000\nLOW .FILL 7\n.END", "t.asm");
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->segments[0].words, (Words{0x2001, 0}));
}

TEST(Assembler, StringsAndTheirEscapes) {
  EXPECT_EQ(body(R"(.STRINGZ "a;\n\t\r\0\"\\\e")"), (Words{'a', ';', '\n', '\t', '\r', 0, '"', '\\', 0x1B, 0}));
  EXPECT_EQ(body(".STRINGZ \"\""), Words{0});
  EXPECT_EQ(body(".STRINGZ \"\xC3\xA9\""), (Words{0xC3, 0xA9, 0}));
}

TEST(Assembler, BlkwIsZeroed) { EXPECT_EQ(body(".BLKW 3\n.FILL 1"), (Words{0, 0, 0, 1})); }

TEST(Assembler, SeveralSegmentsShareLabels) {
  const auto program = assemble(".ORIG x3000\nLDI R0, P\nP .FILL FAR\n.END\n.ORIG x5000\nFAR .FILL P\n.END\n", "t.asm");
  ASSERT_TRUE(program) << program.error().message;
  ASSERT_EQ(program->segments.size(), 2U);
  EXPECT_EQ(program->segments[0].words, (Words{0xA000, 0x5000}));
  EXPECT_EQ(program->segments[1].words, Words{0x3001});
  EXPECT_EQ(program->entry(), 0x3000);
  ASSERT_NE(program->find_symbol("far"), nullptr);
  EXPECT_EQ(program->find_symbol("far")->address, 0x5000);
  EXPECT_EQ(program->lines[2].address, 0x5000);
  EXPECT_EQ(program->lines[2].line, 6U);
}

TEST(Assembler, FillsTheAddressSpaceToItsLastWord) {
  const auto program = assemble(".ORIG x0000\n.BLKW x8000\n.BLKW x8000\n.END", "t.asm");
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->word_count(), 0x10000U);
}

TEST(Assembler, ErrorsNameValueAndLimit) {
  EXPECT_EQ(only_error("ADD R0, R0, #16"), "2:13: #16 is out of range: a 5-bit immediate reaches from -16 to 15");
  EXPECT_EQ(only_error("ADD R0, R0, #-17"), "2:13: #-17 is out of range: a 5-bit immediate reaches from -16 to 15");
  EXPECT_EQ(only_error("LDR R0, R0, #32"), "2:13: #32 is out of range: a 6-bit offset reaches from -32 to 31");
  EXPECT_EQ(only_error("LD R0, #256"), "2:8: #256 is out of range: a 9-bit PC offset reaches from -256 to 255");
  EXPECT_EQ(only_error("JSR #1024"), "2:5: #1024 is out of range: an 11-bit PC offset reaches from -1024 to 1023");
  EXPECT_EQ(only_error("TRAP x100"), "2:6: x100 is out of range: a trap vector reaches from 0 to 255");
  EXPECT_EQ(only_error(".FILL 65536"), "2:7: 65536 is out of range: a 16-bit number reaches from -32768 to 65535");
  EXPECT_EQ(only_error(".FILL 99999999999999999999"),
            "2:7: 99999999999999999999 is out of range: a 16-bit number reaches from -32768 to 65535");
  EXPECT_EQ(only_error(".BLKW 0"), "2:7: 0 is out of range: a number of words reaches from 1 to 65535");
  EXPECT_EQ(only_error("LD R0, FAR\n.BLKW 256\nFAR .FILL 1"),
            "2:8: 'FAR' at x3101 is 256 words away: a 9-bit PC offset reaches from -256 to 255");
}

TEST(Assembler, ErrorsOfOperands) {
  EXPECT_EQ(only_error("ADD R0, R8, #1"), "2:9: expected a register R0-R7, found 'R8'");
  EXPECT_EQ(only_error("ADD R0, R1, WHAT"), "2:13: expected a register R0-R7 or a number, found 'WHAT'");
  EXPECT_EQ(only_error("ADD R0, R1"), "2:11: ADD takes 3 operands, found 2");
  EXPECT_EQ(only_error("RET R7"), "2:5: RET takes 0 operands, found 1");
  EXPECT_EQ(only_error("NOT R0, R1, R2"), "2:13: NOT takes 2 operands, found 3");
  EXPECT_EQ(only_error("JMP LOOP"), "2:5: expected a register R0-R7, found 'LOOP'");
  EXPECT_EQ(only_error("LD R0,"), "2:7: expected an operand after ','");
  EXPECT_EQ(only_error("ADD R0,,R1,R2"), "2:8: expected an operand, found ','");
  EXPECT_EQ(only_error("LD R0, \"A\"\nA NOP"), "2:8: expected a number or a label, found 'A'");
  EXPECT_EQ(only_error("LD R0, x"), "2:8: label 'x' is not defined in this file");
  EXPECT_EQ(only_error("LD R0, #x"), "2:8: expected a 9-bit PC offset, found '#x'");
  EXPECT_EQ(only_error("LEA R0, NOWHERE"), "2:9: label 'NOWHERE' is not defined in this file");
  EXPECT_EQ(only_error(".STRINGZ hello"), "2:10: .STRINGZ needs a string, found 'hello'");
  EXPECT_EQ(only_error(".STRINGZ \"a\" \"b\""), "2:14: .STRINGZ takes one operand, found 2");
  EXPECT_EQ(only_error(".FILL"), "2:6: .FILL needs a number or a label");
  EXPECT_EQ(only_error(".STRINGZ \"abc"), "2:10: a string without its closing '\"'");
  EXPECT_EQ(only_error(".STRINGZ \"abc\\\""), "2:10: a string without its closing '\"'");
  EXPECT_EQ(only_error(".STRINGZ \"a\\q\""), "2:12: unknown escape '\\q': there are \\n \\t \\r \\0 \\\" \\\\ \\e");
}

TEST(Assembler, ErrorsOfStatements) {
  EXPECT_EQ(only_error("ADDD R0, R0, #1"), "2:1: 'ADDD' is no instruction, and what follows it is none either");
  EXPECT_EQ(only_error("LOOP: JUMP R0"), "2:7: 'JUMP' is no instruction or directive");
  EXPECT_EQ(only_error(".WORD 3"), "2:1: '.WORD' is no directive: there are .ORIG .FILL .BLKW .STRINGZ .END");
  EXPECT_NE(only_error(".EXTERNAL PRINTF").find(".EXTERNAL is not supported"), std::string::npos);
  EXPECT_EQ(only_error(", R0"), "2:1: expected a label, an instruction or a directive");
}

TEST(Assembler, ErrorsOfLabels) {
  EXPECT_EQ(only_error("A NOP\na NOP"), "3:1: label 'a' is already defined in line 2");
  EXPECT_EQ(only_error("R3 NOP"), "2:1: 'R3' is a register, so it cannot be a label");
  EXPECT_EQ(only_error("b10 NOP"), "2:1: 'b10' reads as a number, so it cannot be a label");
  EXPECT_EQ(only_error("9A NOP"), "2:1: '9A' cannot be a label: labels start with a letter or '_'");
  EXPECT_EQ(only_error("A-B NOP"), "2:1: 'A-B' cannot be a label: '-' is none of a-z, 0-9, '_'");
  EXPECT_EQ(only_error("ADD: NOP"), "2:1: 'ADD' is an instruction, so it cannot be a label");
  EXPECT_EQ(body(std::string(64, 'L') + " NOP"), Words{0});
  EXPECT_EQ(only_error(std::string(65, 'L') + " NOP"),
            "2:1: label '" + std::string(60, 'L') + "...' has 65 characters: the limit is 64");
}

TEST(Assembler, ErrorsOfSegments) {
  using Errors = std::vector<std::string>;
  EXPECT_EQ(errors_of(""), Errors{"1:1: nothing to assemble: no .ORIG with words after it"});
  EXPECT_EQ(errors_of(".ORIG x3000\n.END"), Errors{"1:1: nothing to assemble: no .ORIG with words after it"});
  EXPECT_EQ(
      errors_of("NOP\nNOP\n.ORIG x3000\nNOP\n.END\nHALT"),
      (Errors{"1:1: outside of .ORIG … .END: it has no address", "6:1: outside of .ORIG … .END: it has no address"}));
  EXPECT_EQ(errors_of(" .ORIG x3000\nNOP"), Errors{"1:2: no .END for the .ORIG x3000 of line 1"});
  EXPECT_EQ(errors_of(".ORIG x3000\nNOP\n.ORIG x4000\nNOP\n.END"),
            Errors{"3:1: .ORIG inside of the segment x3000 of line 1: .END comes first"});
  EXPECT_EQ(errors_of(".ORIG x10000\nNOP\n.END"),
            Errors{"1:7: x10000 is out of range: an address reaches from 0 to 65535"});
  EXPECT_EQ(errors_of("L .ORIG x3000\nNOP\n.END"), Errors{"1:1: a label before .ORIG has no address"});
  EXPECT_EQ(errors_of(".ORIG xFFFE\nNOP\nNOP\nNOP\nNOP\n.END"), Errors{"4:1: 1 words at x10000 reach past xFFFF"});
  EXPECT_EQ(errors_of(".ORIG xFFF0\n.BLKW 17\n.END"), Errors{"2:1: 17 words at xFFF0 reach past xFFFF"});
  EXPECT_EQ(errors_of(".ORIG xFFFF\nNOP\nEND_OF_IT\n.END"), Errors{"3:1: label 'END_OF_IT' at x10000 is past xFFFF"});
  EXPECT_EQ(errors_of(".ORIG x3010\n.BLKW 4\n.END\n.ORIG x3000\n.BLKW 17\n.END"),
            Errors{"4:1: segment x3000-x3010 overlaps the segment x3010-x3013 of line 1"});
  // The one that reaches furthest counts, not only the neighbour.
  EXPECT_EQ(errors_of(".ORIG 0\n.BLKW 100\n.END\n.ORIG 10\n.BLKW 1\n.END\n.ORIG 20\n.BLKW 1\n.END").size(), 2U);
}

TEST(Assembler, ReportsEveryErrorOfARun) {
  const auto program = assemble(".ORIG x3000\n\tADD R0, R0, #99\nLD R1, NONE ; c\nFOO BAR BAZ\n.END\n", "dir/p.asm");
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().kind, ErrorKind::kInput);
  EXPECT_EQ(program.error().message,
            "dir/p.asm:2:14: #99 is out of range: a 5-bit immediate reaches from -16 to 15\n"
            "\tADD R0, R0, #99\n"
            "\t            ^\n"
            "dir/p.asm:3:8: label 'NONE' is not defined in this file\n"
            "LD R1, NONE ; c\n"
            "       ^\n"
            "dir/p.asm:4:1: 'FOO' is no instruction, and what follows it is none either\n"
            "FOO BAR BAZ\n"
            "^\n"
            "dir/p.asm: 3 errors");
}

TEST(Assembler, TheCaretOfAMissingOperandStandsBehindTheLine) {
  const Diagnostic d = assemble_with_diagnostics(".ORIG x3000\nNOT R0\n.END", "t.asm").diagnostics.at(0);
  EXPECT_EQ(format_diagnostic(d), "t.asm:2:7: NOT takes 2 operands, found 1\nNOT R0\n      ^");
}

TEST(Assembler, ControlCharactersOfTheSourceDoNotReachATerminal) {
  const std::string line =
      "\tFOO \x1B]0;t\x07 BAR \xC2\x9B"
      "5m \xC3\xA9";
  const Diagnostic d = assemble_with_diagnostics(".ORIG x3000\n" + line + "\n.END", "t.asm").diagnostics.at(0);
  EXPECT_EQ(without_controls(line), "\tFOO ?]0;t? BAR ?5m \xC3\xA9");
  EXPECT_NE(format_diagnostic(d).find("\n" + without_controls(line) + "\n"), std::string::npos) << format_diagnostic(d);
}

TEST(Assembler, TextOfManyErrorsIsBounded) {
  std::string source = ".ORIG x3000\n";
  for (int i = 0; i < 500; ++i) source += "ADD R0\n";
  const auto program = assemble(source + ".END", "t.asm");
  ASSERT_FALSE(program);
  EXPECT_NE(program.error().message.find("t.asm: 500 errors, the first 100 shown"), std::string::npos);
}

TEST(Assembler, HugeOverlappingBlocksCostNoMemory) {
  std::string source;
  for (int i = 0; i < 20000; ++i) source += ".ORIG 0\n.BLKW 65535\n.END\n";
  const Assembly assembly = assemble_with_diagnostics(source, "t.asm");
  EXPECT_EQ(assembly.diagnostics.size(), kMaxDiagnostics);
  EXPECT_EQ(assembly.dropped_diagnostics, 19999U - kMaxDiagnostics);
}

TEST(Assembler, AStringHasOneErrorHoweverLongItIs) {
  std::string source = ".ORIG x3000\n.STRINGZ \"";
  for (int i = 0; i < 20000; ++i) source += "\\q";
  EXPECT_EQ(assemble_with_diagnostics(source + "\"\n.END", "t.asm").diagnostics.size(), 1U);
}

TEST(Program, StartsBehindTheVectorsItSets) {
  const auto program = assemble(".ORIG x0040\n.FILL x4000\n.END\n.ORIG x3000\nHALT\n.END\n", "vectors.asm");
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->entry(), 0x3000);
  const auto system = assemble(".ORIG x0000\n.FILL x0200\n.END\n.ORIG x0200\nHALT\n.END\n", "os.asm");
  ASSERT_TRUE(system);
  EXPECT_EQ(system->entry(), 0x0200);
  const auto vectors_only = assemble(".ORIG x0040\n.FILL x4000\n.END\n", "only.asm");
  ASSERT_TRUE(vectors_only);
  EXPECT_EQ(vectors_only->entry(), 0x0040);
}

}  // namespace
}  // namespace warmfork::lc3
