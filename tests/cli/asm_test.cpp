// warmfork asm and disasm.
#include "process.hpp"

#include <gmock/gmock.h>

#include <filesystem>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kTwoSegments =
    ".ORIG x3000\nSTART LEA R0, TEXT\nPUTS\nHALT\nTEXT .STRINGZ \"hi\"\n.END\n.ORIG x4000\nTABLE .BLKW 5\n.FILL "
    "x41\n.END\n";

class AsmTest : public CliTest {};

TEST_F(AsmTest, WritesObjectAndSymbolsBesideTheSource) {
  const Ended ended = run_cli({"asm", file("a.asm", ".ORIG x3000\nGO HALT\n.END\n")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(read_text(path("a.obj")), std::string("\x30\x00\xF0\x25", 4));
  EXPECT_THAT(read_text(path("a.sym")), HasSubstr("GO"));
}

TEST_F(AsmTest, WritesOneClassicObjectPerSegmentAndSaysSo) {
  const Ended ended = run_cli({"asm", file("two.asm", kTwoSegments), "-o", path("out.obj"), "--no-sym"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("out.obj: 6 words from x3000"));
  EXPECT_THAT(ended.out, HasSubstr("out-x4000.obj: 6 words from x4000"));
  EXPECT_EQ(read_text(path("out-x4000.obj")).size(), 14U);
  EXPECT_FALSE(std::filesystem::exists(path("out.sym")));
}

TEST_F(AsmTest, Lc3toolsFormatHoldsAllSegments) {
  ASSERT_EQ(run_cli({"asm", "--format", "lc3tools", file("two.asm", kTwoSegments)}).code, 0);
  EXPECT_THAT(run_cli({"disasm", path("two.obj")}).out, HasSubstr(".ORIG x4000"));
}

TEST_F(AsmTest, DisassemblyAssemblesToTheSame) {
  ASSERT_EQ(run_cli({"asm", "--format", "lc3tools", file("two.asm", kTwoSegments)}).code, 0);
  const std::string text = run_cli({"disasm", path("two.obj")}).out;
  EXPECT_THAT(text, HasSubstr("START"));
  const std::string hex = run_cli({"disasm", "--hex", path("two.obj")}).out;
  EXPECT_EQ(run_cli({"disasm", "--hex", file("again.asm", text)}).out, hex);
  EXPECT_THAT(hex, HasSubstr("x3000  E002 F022 F025 0068 0069 0000"));
  EXPECT_THAT(run_cli({"disasm", "--os", "--edition", "2"}).out, HasSubstr("OS_PUTS"));
}

TEST_F(AsmTest, ListingShowsEveryLine) {
  const std::string out = run_cli({"asm", "--listing", file("two.asm", kTwoSegments)}).out;
  EXPECT_THAT(out, HasSubstr("x3000  xE002         2  START LEA R0, TEXT\n"));
  EXPECT_THAT(out, HasSubstr("x3004  x0069  \n"));
  EXPECT_THAT(out, HasSubstr("(5 times)"));
  EXPECT_THAT(out, HasSubstr("x4005  x0041"));
}

TEST_F(AsmTest, ListingPassesNoControlCharactersOn) {
  const Ended ended = run_cli({"asm", "--listing", file("a.asm", ".ORIG x3000\n; \x1B[31m\nHALT ; \x1B[0m\n.END\n")});
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.out, HasSubstr("; ?[31m\n"));
  EXPECT_EQ(ended.out.find('\x1B'), std::string::npos);
}

TEST_F(AsmTest, ReportsEveryErrorWithItsLineAndACaretAndWritesNothing) {
  const Ended ended = run_cli({"asm", file("bad.asm", ".ORIG x3000\nADD R0, R0, #99\nBRz NOWHERE\n.END\n")});
  EXPECT_EQ(ended.code, 3);
  EXPECT_THAT(ended.out, IsEmpty());
  EXPECT_THAT(ended.err, HasSubstr("bad.asm:2:13: #99 is out of range"));
  EXPECT_THAT(ended.err, HasSubstr("\nADD R0, R0, #99\n            ^\n"));
  EXPECT_THAT(ended.err, HasSubstr("bad.asm:3:5: label 'NOWHERE'"));
  EXPECT_THAT(ended.err, HasSubstr("2 errors: nothing written"));
  EXPECT_EQ(ended.err.find('\033'), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("bad.obj")));
}

TEST_F(AsmTest, NeverReplacesItsSource) {
  const std::string source = file("a.obj", ".ORIG x3000\nHALT\n.END\n");
  EXPECT_EQ(run_cli({"asm", source}).code, 2);
  EXPECT_THAT(read_text(source), HasSubstr("HALT"));
}

TEST_F(AsmTest, NeverReplacesItsSourceUnderAnotherNameOrOneOutputByAnother) {
  const std::string source = file("a.asm", ".ORIG x3000\nHALT\n.END\n");
  std::filesystem::create_symlink(source, path("link.obj"));
  EXPECT_EQ(run_cli({"asm", source, "-o", path("link.obj")}).code, 2);
  EXPECT_EQ(run_cli({"asm", source, "--sym", source}).code, 2);
  EXPECT_THAT(read_text(source), HasSubstr("HALT"));
  EXPECT_EQ(run_cli({"asm", source, "-o", path("x.sym")}).code, 2);
  EXPECT_FALSE(std::filesystem::exists(path("x.sym")));
  EXPECT_EQ(run_cli({"asm", file("b.sym", ".ORIG x3000\nHALT\n.END\n")}).code, 2);
  EXPECT_THAT(read_text(path("b.sym")), HasSubstr("HALT"));
}

TEST_F(AsmTest, AFailedWriteRemovesNoDeviceAndNoLinkToOne) {
  const std::string link = path("full.obj");
  std::filesystem::create_symlink("/dev/full", link);
  const Ended ended = run_cli({"asm", file("a.asm", ".ORIG x3000\nHALT\n.END\n"), "-o", link});
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr("No space left on device"));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
}

TEST_F(AsmTest, UnwritableOutputIsAnError) {
  const Ended ended = run_cli({"asm", file("a.asm", ".ORIG x3000\nHALT\n.END\n"), "-o", path("no/such/x.obj")});
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr("No such file or directory"));
}

TEST_F(AsmTest, CompiledCodeIsShownBesideWhatItWasMadeFrom) {
  const std::string program = file("loop.asm", R"(
        .ORIG x3000
        AND R1, R1, #0
        ADD R1, R1, #9
LOOP    ADD R1, R1, #-1
        BRnp LOOP
        HALT
        .END
)");
  const Ended ended = run_cli({"disasm", "--jit", program});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("LOOP  x3002  2 instructions"));
  EXPECT_THAT(ended.out, HasSubstr("R1 = x0009 !"));
  EXPECT_THAT(ended.out,
              ::testing::ContainsRegex("x3003 0BFE BRnp #-2 ; x3002 +if np go to x3002 else x3004 +mov eax, r9d"));
  EXPECT_THAT(ended.out, HasSubstr("jne x3002"));
  const Ended plain = run_cli({"disasm", "--jit", "--without", "constants", program});
  EXPECT_THAT(plain.out, HasSubstr("R1 = R1 & x0000"));
  EXPECT_EQ(run_cli({"disasm", "--jit", "--without", "magic", program}).code, 2);
}

}  // namespace
}  // namespace warmfork::test
