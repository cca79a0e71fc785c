// warmfork grade and warmfork fleet, with guests.
#include "process.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kCourse = WARMFORK_LC3_PROGRAMS "/course";

class Grade : public CliKvmTest {
 protected:
  static nlohmann::json json_of(const Ended& ended) {
    auto json = nlohmann::json::parse(ended.out, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << ended.out << ended.err;
    return json;
  }
};

TEST_F(Grade, TheCourseIsGraded) {
  const Ended ended =
      run_cli({"grade", kCourse + "/submissions", "--tests", kCourse + "/tests.toml", "--junit", path("out.xml")});
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("alice.asm                     ok            ok            ok            3/3"));
  EXPECT_THAT(ended.out, HasSubstr("bob.asm, nothing (seed 1): wrong output"));
  EXPECT_THAT(ended.out, HasSubstr("not done after 10000 instructions"));
  EXPECT_THAT(ended.out, HasSubstr("1 of 3 submissions passed all 3 tests"));
  EXPECT_THAT(read_text(path("out.xml")), HasSubstr("<failure type=\"instruction_limit\""));
  const Ended full =
      run_cli({"grade", kCourse + "/submissions/alice.asm", "--tests", kCourse + "/tests", "--junit", "/dev/full"});
  EXPECT_EQ(full.code, 4);
  EXPECT_THAT(full.out, HasSubstr("1 of 1 submissions passed")) << "not lost with the file";
  EXPECT_EQ(run_cli({"grade", kCourse + "/submissions/alice.asm", "--tests", kCourse + "/tests"}).code, 0);
}

TEST_F(Grade, SeedsFindWhatReliesOnZeros) {
  const Arguments bob{"grade",   kCourse + "/submissions/bob.asm", "--tests", kCourse + "/tests", "--compare",
                      "trailing"};
  EXPECT_EQ(run_cli(bob).code, 0) << "memory that begins as zero hides it";
  Arguments seeded = bob;
  seeded.insert(seeded.end(), {"--seed", "1", "--seed", "2"});
  EXPECT_EQ(run_cli(seeded).code, 1);
}

TEST_F(Grade, EveryVerdictIsTold) {
  ASSERT_EQ(::mkdir(path("s").c_str(), 0700), 0);
  const auto submission = [&](const std::string& name, const std::string& body) {
    return file("s/" + name, ".ORIG x3000\n" + body + "\n.END\n");
  };
  submission("01_good.asm", "GETC\nOUT\nHALT");
  submission("02_wrong.asm", "GETC\nADD R0, R0, #1\nOUT\nHALT");
  submission("03_loop.asm", "L BRnzp L");
  submission("04_input.asm", "GETC\nGETC\nHALT");
  submission("05_opcode.asm", ".FILL xD000");
  submission("06_rti.asm", "RTI");
  submission("07_trap.asm", ".FILL xF0FF");
  submission("08_flood.asm", "L OUT\nBRnzp L");
  submission("09_syntax.asm", "ADD R0, R0, #99");
  submission("10_device.asm", "HALT\n.BLKW #53000");
  file("s/11_empty.obj", "");
  file("s/12_huge.asm", std::string((1 << 20) + 1, ';'));
  ASSERT_EQ(::symlink("/etc/hostname", path("s/13_link.asm").c_str()), 0);
  const std::string tests = file("t.toml",
                                 "budget = \"1M\"\noutput_limit = \"1K\"\n[[test]]\nname = \"one\"\ninput = \"a\"\n"
                                 "output = \"a\"\n");
  const Ended ended = run_cli({"grade", path("s"), "--tests", tests, "--json"});
  EXPECT_EQ(ended.code, 1) << ended.err;
  const auto json = json_of(ended);
  std::vector<std::string> verdicts;
  for (const auto& one : json["submissions"]) verdicts.push_back(one["results"][0]["verdict"]);
  EXPECT_THAT(verdicts, ::testing::ElementsAre("passed", "wrong_output", "instruction_limit", "input_exhausted",
                                               "fault", "fault", "fault", "output_limit", "not_assembled",
                                               "not_assembled", "not_assembled", "unreadable", "unreadable"));
  EXPECT_EQ(json["submissions"][2]["results"][0]["instructions"], 1'000'000);
  EXPECT_THAT(std::string(json["submissions"][4]["results"][0]["detail"]), HasSubstr("illegal opcode"));
  EXPECT_THAT(std::string(json["submissions"][5]["results"][0]["detail"]), HasSubstr("RTI in user mode"));
  EXPECT_THAT(std::string(json["submissions"][8]["error"]), StartsWith("09_syntax.asm:2:"));
  // A clock that runs out before the instructions do.
  const Ended late =
      run_cli({"grade", path("s/03_loop.asm"), "--tests", tests, "--budget", "900G", "--timeout", "50ms", "--json"});
  EXPECT_EQ(json_of(late)["submissions"][0]["results"][0]["verdict"], "timeout");
}

TEST_F(Grade, CtrlCEndsWithACompleteReport) {
  const std::string loop = file("loop.asm", ".ORIG x3000\nL BRnzp L\n.END\n");
  const std::string tests =
      file("t.toml", "budget = \"900G\"\ndeadline = \"60s\"\n[[test]]\nname = \"a\"\noutput = \"\"\n");
  Process process({"grade", loop, "--tests", tests, "--json"});
  ::usleep(500'000);
  process.send(SIGINT);
  const Ended ended = process.wait(20);
  EXPECT_EQ(ended.code, 130) << ended.err;
  const auto json = json_of(ended);
  EXPECT_EQ(json["interrupted"], true);
  EXPECT_EQ(json["submissions"][0]["results"][0]["verdict"], "interrupted");
}

class FleetVerb : public Grade {};

TEST_F(FleetVerb, MachinesEndAsTheFileSays) {
  const Ended ended = run_cli({"fleet", kCourse + "/fleet.toml", "--json"});
  EXPECT_EQ(ended.code, 1) << ended.err;
  const auto json = json_of(ended);
  ASSERT_EQ(json["machines"].size(), 9U);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(json["machines"][i]["verdict"], "passed") << json["machines"][i];
  EXPECT_EQ(json["machines"][2]["name"], "sum.1");
  EXPECT_EQ(json["machines"][2]["output"], "7\n");
  EXPECT_EQ(json["machines"][2]["instructions"], json["machines"][7]["instructions"]);
  EXPECT_EQ(json["machines"][8]["stop"], "instruction_limit");
  EXPECT_EQ(json["machines"][8]["instructions"], 1'000'000);
}

TEST_F(FleetVerb, MachinesTakeTurnsAndCtrlCStopsThem) {
  const std::string loop = file("loop.asm", ".ORIG x3000\nL BRnzp L\n.END\n");
  file("hello.asm", ".ORIG x3000\nLEA R0, T\nPUTS\nHALT\nT .STRINGZ \"hello\"\n.END\n");
  const std::string fleet =
      file("f.toml",
           "[[machine]]\nname = \"loop\"\nprogram = \"loop.asm\"\nbudget = \"900G\"\ncount = 3\n"
           "engine = \"interp\"\n[[machine]]\nname = \"hello\"\nprogram = \"hello.asm\"\noutput = "
           "\"hello\"\n");
  Process process({"fleet", fleet, "--threads", "1", "--json"});
  ::usleep(700'000);
  process.send(SIGINT);
  const Ended ended = process.wait(20);
  EXPECT_EQ(ended.code, 130) << ended.err;
  const auto json = json_of(ended);
  ASSERT_EQ(json["machines"].size(), 4U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(json["machines"][i]["verdict"], "interrupted");
    EXPECT_GT(json["machines"][i]["instructions"], 0) << "one worker, yet all had their turns";
  }
  EXPECT_EQ(json["machines"][3]["verdict"], "passed");
}

// Machines that are there already when another cannot be made are given back, and nothing of them is touched
// afterwards.
TEST_F(FleetVerb, WithoutMemoryForAllMachinesItSaysSo) {
#ifdef WARMFORK_SANITIZED
  GTEST_SKIP() << "sanitizers need more address space than there is";
#endif
  file("a.asm", ".ORIG x3000\nHALT\n.END\n");
  for (const char* fork : {"space", "vm"}) {
    const std::string fleet =
        file("f.toml", fmt::format("[[machine]]\nname = \"a\"\nprogram = \"a.asm\"\ncount = 4000\n"
                                   "engine = \"interp\"\noutput_limit = 100\nfork = \"{}\"\n",
                                   fork));
    const Ended ended = run_cli({"fleet", fleet}, {.address_space = std::uint64_t{512} << 20});
    EXPECT_EQ(ended.code, 4) << fork << ": " << ended.out;
    EXPECT_TRUE(ended.err.starts_with("warmfork: ")) << fork << ": " << ended.err;
    EXPECT_EQ(std::ranges::count(ended.err, '\n'), 1) << fork << ": " << ended.err;
  }
}

TEST_F(FleetVerb, AProgramOrCpuThatIsNotThereIsNamed) {
  const auto error = [&](const std::string& machine) {
    const Ended ended = run_cli({"fleet", file("f.toml", "[[machine]]\nname = \"a\"\n" + machine)});
    EXPECT_EQ(ended.code, 3) << ended.out;
    return ended.err;
  };
  EXPECT_THAT(error("program = \"none.asm\"\n"), HasSubstr("f.toml:1: machine \"a\": "));
  file("a.asm", ".ORIG x3000\nHALT\n.END\n");
  EXPECT_THAT(error("program = \"a.asm\"\ncpu = 4095\n"), HasSubstr("f.toml:1: machine: cpu = 4095: not one of the"));
}

}  // namespace
}  // namespace warmfork::test
