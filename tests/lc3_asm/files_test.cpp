#include "base/file.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/asm/object_file.hpp"
#include "lc3/asm/symbol_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

namespace warmfork::lc3 {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

std::vector<std::byte> lc3tools(std::initializer_list<int> records) {
  auto bytes = bytes_of({0x1C, 0x30, 0x15, 0xC0, 0x01, 0x01, 0x01});
  for (const int value : records) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

std::string error_of(const std::vector<std::byte>& bytes) {
  const auto program = read_object(bytes, "p.obj");
  return program ? "no error" : program.error().message;
}

TEST(ObjectFile, ReadsClassicBigEndianWords) {
  const auto program = read_object(bytes_of({0x30, 0x00, 0xF0, 0x25, 0x12, 0x34}), "p.obj");
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->segments, (std::vector<Segment>{{0x3000, {0xF025, 0x1234}, 0}}));
}

TEST(ObjectFile, ReadsLc3toolsRecordsWithTheirText) {
  const auto program = read_object(lc3tools({0x00, 0x30, 1,    0, 0, 0, 0, 0x25, 0xF0, 0, 4, 0, 0, 0, 'H', 'A', 'L',
                                             'T',  0,    0x40, 1, 1, 0, 0, 0,    'x',  1, 0, 0, 0, 0, 0,   0}),
                                   "p.obj");
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->segments, (std::vector<Segment>{{0x3000, {0xF025}, 0}, {0x4000, {1}, 0}}));
  EXPECT_EQ(program->lines, (std::vector<SourceLine>{{0x3000, 1, 0, 0, "HALT"}}));
}

TEST(ObjectFile, RefusesBrokenFilesWithOneSentence) {
  EXPECT_EQ(error_of({}), "p.obj: empty: an object file starts with its origin");
  EXPECT_EQ(error_of(bytes_of({0x30})), "p.obj: 1 bytes, an odd number: an object file consists of 16-bit words");
  EXPECT_EQ(error_of(bytes_of({0x30, 0})), "p.obj: the origin x3000 and no words after it");
  EXPECT_EQ(error_of(bytes_of({0x30, 0, 0xF0})),
            "p.obj: 3 bytes, an odd number: an object file consists of 16-bit words");
  EXPECT_EQ(error_of(bytes_of({0xFF, 0xFF, 0, 1, 0, 2})), "p.obj: 2 words from xFFFF reach past xFFFF: at most 1 fit");
  EXPECT_EQ(error_of(bytes_of({0x1C, 0x30, 0x15, 0xC0, 0x01, 0x01})),
            "p.obj: 6 bytes, shorter than the 7 of an lc3tools header");
  EXPECT_EQ(error_of(bytes_of({0x1C, 0x30, 0x15, 0xC0, 0x01, 0x02, 0x01})),
            "p.obj: lc3tools object format 2.1: only 1.1 is supported");
  EXPECT_EQ(error_of(lc3tools({})), "p.obj: no words to load");
  EXPECT_EQ(error_of(lc3tools({0, 0x30, 1, 0, 0, 0, 0})), "p.obj: no words to load");
  EXPECT_EQ(error_of(lc3tools({0, 0x30, 1, 0})), "p.obj: truncated at byte 7: a record has 7 bytes, 4 are left");
  EXPECT_EQ(error_of(lc3tools({0, 0x30, 1, 0xFF, 0xFF, 0xFF, 0xFF})),
            "p.obj: truncated at byte 14: source text of 4294967295 bytes, 0 are left");
  EXPECT_EQ(error_of(lc3tools({0, 0x30, 0, 0, 0, 0, 0})), "p.obj: byte 7: a word before any origin");
  EXPECT_EQ(error_of(lc3tools({0, 0x30, 2, 0, 0, 0, 0})), "p.obj: byte 9: origin mark 2, neither 0 nor 1");
  EXPECT_EQ(error_of(lc3tools({0xFF, 0xFF, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0})),
            "p.obj: byte 21: words from xFFFF reach past xFFFF: at most 1 fit");
  EXPECT_EQ(
      error_of(lc3tools({0, 0x30, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x30, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0})),
      "segments overlap at x3000: x3000-x3000 of p.obj and x3000-x3000 of p.obj");
}

TEST(ObjectFile, EveryTruncationIsRefusedOrAWholeRecord) {
  const auto program = assemble(".ORIG x3000\nLD R0, A\nA .STRINGZ \"hi\"\n.END\n.ORIG x4000\nHALT\n.END", "t.asm");
  ASSERT_TRUE(program) << program.error().message;
  const auto whole = write_lc3tools_object(*program);
  ASSERT_TRUE(read_object(whole, "p.obj"));
  std::size_t accepted = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // Below the header the bytes pass for a classic file: five bytes of magic tell the formats apart.
    if (size < 5) continue;
    accepted += read_object(std::span(whole).first(size), "p.obj").has_value() ? 1 : 0;
  }
  EXPECT_EQ(accepted, 5U);  // after each of the 4 words of the first segment, and after the bare second origin
}

TEST(ObjectFile, WhatIsWrittenReadsBackTheSame) {
  const auto program =
      assemble(".ORIG xFFFD\nLD R0, A\nA .FILL x1C30\n.FILL x15C0\n.END\n.ORIG x0\nHALT\n.END", "t.asm");
  ASSERT_TRUE(program) << program.error().message;
  const auto modern = read_object(write_lc3tools_object(*program), "t.obj");
  ASSERT_TRUE(modern) << modern.error().message;
  EXPECT_EQ(modern->segments, program->segments);
  EXPECT_EQ(modern->lines.size(), program->lines.size());
  for (const Segment& segment : program->segments) {
    const auto classic = read_object(write_classic_object(segment), "t.obj");
    ASSERT_TRUE(classic) << classic.error().message;
    EXPECT_EQ(classic->segments, std::vector<Segment>{segment});
  }
}

TEST(SymbolFile, ReadsWhatItWrites) {
  const std::vector<Symbol> symbols{{"LOOP", 0x3003, 0}, {"A_very_long_name_of_a_label", 0xFFFF, 0}, {"face1", 0, 0}};
  const auto read = read_symbols(write_symbols(symbols), "p.sym");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, symbols);
}

TEST(SymbolFile, AcceptsTheBareAndThePrefixedForm) {
  const auto read =
      read_symbols("// Symbol table\r\n// Scope level 0:\r\n//\tA  3000\n\n// B xABC\n//\tA 3000\n", "p.sym");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, (std::vector<Symbol>{{"A", 0x3000, 0}, {"B", 0x0ABC, 0}}));
}

TEST(SymbolFile, AcceptsNamesOfOtherAssemblers) {
  const auto read = read_symbols("// R1 3000\n// x1 3001\n// main.loop$2 3002\n", "p.sym");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, (std::vector<Symbol>{{"R1", 0x3000, 0}, {"x1", 0x3001, 0}, {"main.loop$2", 0x3002, 0}}));
}

TEST(SymbolFile, RefusesWhatIsNone) {
  const auto error = [](std::string_view text) {
    const auto read = read_symbols(text, "p.sym");
    return read ? "no error" : read.error().message;
  };
  EXPECT_EQ(error("// Symbol table\nhello"), "p.sym:2: expected '// NAME ADDRESS', found 'hello'");
  EXPECT_EQ(error("// A"), "p.sym:1: expected a hexadecimal address after 'A', found ''");
  EXPECT_EQ(error("// A 12G4"), "p.sym:1: expected a hexadecimal address after 'A', found '12G4'");
  EXPECT_EQ(error("// A -1"), "p.sym:1: expected a hexadecimal address after 'A', found '-1'");
  EXPECT_EQ(error("// A 3000 4"), "p.sym:1: expected a hexadecimal address after 'A', found '3000 4'");
  EXPECT_EQ(error("// A 10000"), "p.sym:1: address '10000' of 'A' is past xFFFF");
  EXPECT_EQ(error("// " + std::string(65, 'n') + " 3000"),
            "p.sym:1: symbol '" + std::string(60, 'n') + "...' has 65 characters: the limit is 64");
  EXPECT_EQ(error("// caf\xC3\xA9 3000"), "p.sym:1: symbol 'caf\?\?' has characters outside of ASCII's printable ones");
  EXPECT_EQ(error("// A 3000\n// a 3001"), "p.sym:2: 'a' is x3001 here and x3000 before");
}

class LoadProgram : public testing::Test {
 protected:
  LoadProgram() {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("warmfork-load-{}", ::getpid());
    std::filesystem::create_directories(folder_);
  }
  ~LoadProgram() override { std::filesystem::remove_all(folder_); }

  std::string put(const std::string& name, std::string_view text) {
    const std::string path = (folder_ / name).string();
    EXPECT_TRUE(write_file(path, text.data(), text.size()));
    return path;
  }
  std::string put(const std::string& name, const std::vector<std::byte>& bytes) {
    const std::string path = (folder_ / name).string();
    EXPECT_TRUE(write_file(path, bytes.data(), bytes.size()));
    return path;
  }
  static Result<Program> load(std::vector<std::string> paths) { return load_program(paths); }
  static std::string error_of(std::vector<std::string> paths) {
    const auto program = load_program(paths);
    return program ? "no error" : program.error().message;
  }

  std::filesystem::path folder_;
};

TEST_F(LoadProgram, MergesSourcesAndObjectsWithTheirSymbols) {
  const std::string source = put("main.asm", ".ORIG x3000\nSTART HALT\n.END");
  const std::string classic = put("sub.OBJ", bytes_of({0x40, 0x00, 0xC1, 0xC0}));
  put("sub.sym", "// Symbol table\n//\tSUB 4000\n");
  const std::string modern = put("data.obj", lc3tools({0x00, 0x50, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}));
  const auto program = load({source, classic, modern});
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->entry(), 0x3000);
  EXPECT_EQ(program->files, (std::vector<std::string>{source, classic, modern}));
  EXPECT_EQ(program->segments, (std::vector<Segment>{{0x3000, {0xF025}, 0}, {0x4000, {0xC1C0}, 1}, {0x5000, {1}, 2}}));
  EXPECT_EQ(program->symbols, (std::vector<Symbol>{{"START", 0x3000, 0}, {"SUB", 0x4000, 1}}));
}

TEST_F(LoadProgram, TakesASymbolFileByItself) {
  const std::string object = put("a.obj", bytes_of({0x40, 0x00, 0xC1, 0xC0}));
  const std::string symbols = put("other.sym", "// X_ 4000\n");
  const auto program = load({object, symbols});
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->symbols, (std::vector<Symbol>{{"X_", 0x4000, 1}}));
  EXPECT_EQ(error_of({symbols}), symbols + ": symbols only, no program");
}

TEST_F(LoadProgram, RefusesOverlapsNamingBothFilesAndTheAddresses) {
  const std::string a = put("a.asm", ".ORIG x3000\n.BLKW 16\n.END");
  const std::string b = put("b.obj", bytes_of({0x30, 0x0F, 0, 1, 0, 2}));
  EXPECT_EQ(error_of({a, b}), fmt::format("segments overlap at x300F: x3000-x300F of {} and x300F-x3010 of {}", a, b));
  EXPECT_EQ(error_of({a, a}), fmt::format("segments overlap at x3000: x3000-x300F of {} and x3000-x300F of {}", a, a));
}

TEST_F(LoadProgram, NamesWhatItCannotLoad) {
  EXPECT_EQ(error_of({}), "no program file given");
  const std::string text = put("a.txt", "x");
  EXPECT_EQ(error_of({text}), text + ": the name ends in '.txt': expected .asm, .obj or .sym");
  const std::string missing = (folder_ / "missing.asm").string();
  EXPECT_EQ(error_of({missing}), missing + ": No such file or directory");
  const std::string object = put("c.obj", bytes_of({0x30, 0x0F, 0, 1}));
  const std::string broken = put("c.sym", "what");
  EXPECT_EQ(error_of({object}), broken + ":1: expected '// NAME ADDRESS', found 'what'");
  const std::string bad = put("bad.asm", ".ORIG x3000\nADD R0\n.END");
  EXPECT_EQ(error_of({bad}),
            fmt::format("{}:2:7: ADD takes 3 operands, found 1\nADD R0\n      ^\n{}: 1 error", bad, bad));
}

}  // namespace
}  // namespace warmfork::lc3
