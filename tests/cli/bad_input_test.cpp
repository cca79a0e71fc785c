// What a user can get wrong: each is one clear message on standard error and the documented exit code.
#include "process.hpp"

#include <gmock/gmock.h>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class BadInputTest : public CliTest {
 protected:
  static void expect(const Arguments& arguments, int code, const std::string& message) {
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, code) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr(message));
    EXPECT_THAT(ended.out, IsEmpty());
  }
};

constexpr std::string_view kHalt = ".ORIG x3000\nHALT\n.END\n";

TEST_F(BadInputTest, Files) {
  expect({"run", path("missing.asm")}, 3, "missing.asm: No such file or directory");
  expect({"run", "/"}, 3, "expected .asm, .obj or .sym");
  std::string folder = path("folder.asm");
  ASSERT_EQ(std::system(("mkdir " + folder).c_str()), 0);
  expect({"run", folder}, 3, "folder.asm: Is a directory");
  expect({"run", file("program.txt", kHalt)}, 3, "the name ends in '.txt'");
  expect({"run", file("empty.asm", "")}, 3, "empty.asm");
  expect({"run", file("empty.obj", "")}, 3, "empty.obj");
  expect({"run", file("odd.obj", std::string("\x30\x00\xF0\x25\x00", 5))}, 3, "odd.obj");
  expect({"run", file("origin.obj", std::string("\x30\x00", 2))}, 3, "origin.obj");
  expect({"run", file("truncated.obj", std::string("\x1c\x30\x15\xc0\x01\x01\x01\x00\x30", 9))}, 3, "truncated.obj");
  expect({"run", file("a.asm", kHalt), file("b.asm", kHalt)}, 3, "overlap at x3000");
  expect({"run", file("past.asm", ".ORIG xFFF0\n.BLKW 32\n.END\n")}, 3, "xFFFF");
  expect({"run", file("names.sym", "// Symbol table\n//\tA  3000\n")}, 3, "symbols only");
  expect({"run", file("bad.asm", ".ORIG x3000\nADD R0\nFOO BAR\n.END\n")}, 3, "bad.asm:2:");
  expect({"asm", path("missing.asm")}, 3, "No such file");
  expect({"disasm", path("missing.obj")}, 3, "No such file");
}

TEST_F(BadInputTest, Options) {
  const std::string program = file("halt.asm", kHalt);
  for (const char* value : {"x", "-1", "10q", "1e", "", "99999999999999999999999"}) {
    if (*value != '\0') expect({"run", "--budget", value, program}, 2, "");
    if (*value != '\0') expect({"run", "--timeout", value, program}, 2, "");
  }
  expect({"run", "--edition", "4", program}, 2, "--edition");
  expect({"run", "--traps", "magic", program}, 2, "--traps");
  expect({"run", "--privilege", "none", program}, 2, "--privilege");
  expect({"run", "--start", "kernel", program}, 2, "--start");
  expect({"run", "--seed", "abc", program}, 2, "--seed");
  expect({"run"}, 2, "file");
  expect({"run", "--frobnicate", program}, 2, "--frobnicate");
  expect({"run", "--input", path("missing"), program}, 3, "missing: No such file");
  expect({"disasm"}, 2, "give files, or --os");
  expect({"asm", "--sym", path("x.sym"), "--no-sym", program}, 2, "--no-sym");
  expect({}, 2, "subcommand");
}

TEST_F(BadInputTest, NumbersThatWouldWrapAround) {
  const std::string program = file("halt.asm", kHalt);
  for (const std::string value : {"-1", "18446744073709551616", "0x", "0x10000000000000000", "1 "}) {
    const std::string message = ": \"" + value + "\" is no whole number from 0 to 18446744073709551615";
    for (const Arguments& verb : std::vector<Arguments>{{"run", program},
                                                        {"debug", program},
                                                        {"grade", program, "--tests", program},
                                                        {"exec", program},
                                                        {"snapshot", "save", program, "-o", path("x.snap")},
                                                        {"lockstep"},
                                                        {"verify-reset"}}) {
      Arguments words = verb;
      words.insert(words.begin() + (verb.front() == "snapshot" ? 2 : 1), {"--seed", value});
      SCOPED_TRACE(testing::PrintToString(words));
      expect(words, 2, "--seed" + message);
    }
    expect({"lockstep", "--programs", value}, 2, "--programs" + message);
  }
  EXPECT_EQ(run_cli({"run", "--seed", "18446744073709551615", program}).code, 0);
  EXPECT_EQ(run_cli({"run", "--seed", "0x10", program}).code, 0);
}

TEST_F(BadInputTest, StudyOptions) {
  const std::string program = file("halt.asm", kHalt);
  const auto study = [&](const std::string& option, const std::string& value, const std::string& message) {
    SCOPED_TRACE(option + " " + value);
    expect({"study", "branches", option, value, program}, 2, message);
  };
  for (const std::string option : {"--bimodal-table", "--gshare-table", "--gshare-history", "--perceptron-table",
                                   "--perceptron-history", "--worst", "--repeats"}) {
    study(option, "x", option);
    study(option, "-1", option);
    study(option, "99999999999999999999999", option);
  }
  study("--bimodal-table", "0", "--bimodal-table: Value 0 not in range 1 to 65536");
  study("--bimodal-table", "1000", "bimodal: a table of 1000 counters: it has to be a power of two from 1 to 65536");
  study("--gshare-table", "131072", "--gshare-table: Value 131072 not in range 1 to 65536");
  study("--gshare-table", "5", "gshare: a table of 5 counters");
  study("--gshare-history", "17", "--gshare-history: Value 17 not in range 0 to 16");
  study("--gshare-history", "11", "gshare: a history of 11 branches: the index of 1024 counters has room for 10");
  study("--perceptron-table", "65537", "--perceptron-table: Value 65537 not in range 1 to 65536");
  study("--perceptron-history", "0", "--perceptron-history: Value 0 not in range 1 to 62");
  study("--perceptron-history", "63", "--perceptron-history: Value 63 not in range 1 to 62");
  study("--repeats", "0", "--repeats");
  study("--worst", "65537", "--worst");
  study("--by", "oracle", "--by");
  study("--budget", "x", "\"x\"");
  study("--frobnicate", "1", "--frobnicate");
  expect({"study"}, 2, "subcommand");
  expect({"study", "branches"}, 2, "file");
  expect({"study", "branches", path("missing.asm")}, 3, "missing.asm: No such file or directory");
  expect({"study", "branches", "--input", path("missing"), program}, 3, "missing: No such file");
}

TEST_F(BadInputTest, MessagesThatNobodyCanReadLeaveTheExitCode) {
  const std::string bad = file("bad.asm", ".ORIG x3000\nADD R0\n.END\n");
  const std::string binary = WARMFORK_BINARY;
  for (const std::string where : {" 2>&-", " 2>/dev/full"}) {
    const auto code = [&](const std::string& arguments) {
      return WEXITSTATUS(std::system((binary + " " + arguments + " >/dev/null </dev/null" + where).c_str()));
    };
    EXPECT_EQ(code("run " + path("missing.asm")), 3) << where;
    EXPECT_EQ(code("run " + bad), 3) << where;
    EXPECT_EQ(code("asm " + bad), 3) << where;
    EXPECT_EQ(code("exec " + path("missing")), 3) << where;
    EXPECT_EQ(code("run --budget x " + bad), 2) << where;
  }
}

TEST_F(BadInputTest, HelpThatCannotBeWrittenIsAnError) {
  const std::string command = std::string(WARMFORK_BINARY) + " run --help >/dev/full 2>/dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 4);
}

TEST_F(BadInputTest, WithoutKvmEveryVerbThatNeedsItSaysSo) {
  const std::string program = file("halt.asm", kHalt);
  const std::string none = path("no-kvm");
  for (const Arguments& verb :
       {Arguments{"run", program}, Arguments{"demo"}, Arguments{"doctor"}, Arguments{"study", "branches", program}}) {
    Arguments arguments{"--kvm", none};
    arguments.insert(arguments.end(), verb.begin(), verb.end());
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, 4) << verb.front();
    EXPECT_THAT(ended.err, HasSubstr("there is no KVM on this machine")) << verb.front();
  }
  const Ended device = run_cli({"run", "--kvm", "/dev/null", program});  // behind the verb, too
  EXPECT_EQ(device.code, 4);
  EXPECT_THAT(device.err, HasSubstr("/dev/null"));
  EXPECT_THAT(run_cli({"--kvm", none, "demo"}).err, HasSubstr("warmfork asm"));  // what works all the same
}

TEST_F(BadInputTest, HelpTeachesAndSucceeds) {
  for (const char* verb : {"run", "asm", "disasm", "demo"}) {
    const Ended help = run_cli({verb, "--help"});
    EXPECT_EQ(help.code, 0);
    if (std::string(verb) != "demo") EXPECT_THAT(help.out, HasSubstr(std::string("  warmfork ") + verb));
  }
  const Ended study = run_cli({"study", "branches", "--help"});
  EXPECT_EQ(study.code, 0);
  for (const char* text : {"  warmfork study branches", "perceptron", "ns_per_branch", "Exit codes"}) {
    EXPECT_THAT(study.out, HasSubstr(text));
  }
  EXPECT_THAT(run_cli({"--help"}).out, HasSubstr("Exit codes"));
  EXPECT_THAT(run_cli({"run", "--help"}).out, HasSubstr("8 waits for input"));
}

}  // namespace
}  // namespace warmfork::test
