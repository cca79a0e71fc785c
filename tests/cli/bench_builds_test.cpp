// bench --compare-builds with builds that hang. They are scripts that show a result file, so this needs no KVM.
#include "process.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;

class BenchBuilds : public CliTest {
 protected:
  // A build that shows the README's figures after these commands of a shell.
  std::string build(const std::string& name, const std::string& commands = "") const {
    std::string program = file(name, "#!/bin/sh\n" + commands + "exec cat " WARMFORK_README_RESULT "\n");
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    return program;
  }
  // One that hangs in a process of its own and does not listen to SIGTERM.
  std::string deaf() const {
    return build("deaf", "trap '' TERM; sleep 1000 & echo $! >" + path("child") + "; wait\n");
  }
  // Waits for that process.
  pid_t child() const {
    pid_t pid = 0;
    for (const double end = seconds_now() + 30; pid == 0 && seconds_now() < end; ::usleep(10'000)) {
      std::ifstream(path("child")) >> pid;
    }
    EXPECT_GT(pid, 0) << "the build was not started";
    return pid;
  }
  // A killed process is there until whoever has inherited it has looked at it.
  static bool ends(pid_t pid) {
    const auto gone = [pid] {
      const std::string file = "/proc/" + std::to_string(pid) + "/stat";
      std::string text;
      std::ifstream stat(file);
      return !std::getline(stat, text) || text.find(") Z ") != std::string::npos;
    };
    for (const double end = seconds_now() + 10; !gone() && seconds_now() < end;) ::usleep(10'000);
    return gone();
  }
};

TEST_F(BenchBuilds, OneThatHangsIsKilledAndFinishedRoundsAreKept) {
  const std::string hangs = build("hangs", "[ -e $0.1 ] && exec sleep 1000; : >$0.1\n");
  const Ended ended = run_cli({"bench", "--compare-builds", build("old"), hangs, "floors", "--rounds", "6", "--timeout",
                               "5s", "--json", path("r.json")});
  EXPECT_EQ(ended.code, 7) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("kept, marked \"partial\""));
  EXPECT_THAT(ended.err, HasSubstr("round 2 of 6: " + hangs + ": hangs: not finished after 5 s, so it was killed"));
  EXPECT_THAT(ended.out, HasSubstr("\n1 rounds of each"));
  const auto result = nlohmann::json::parse(read_text(path("r.json")));
  EXPECT_EQ(result.at("context").at("partial"), true);
  EXPECT_EQ(result.at("context").at("rounds"), 1);
}

TEST_F(BenchBuilds, OneThatHangsInTheFirstRoundLeavesNothingToCompare) {
  const std::string hangs = build("hangs", "exec sleep 1000\n");
  const Ended ended = run_cli(
      {"bench", "--compare-builds", hangs, build("new"), "floors", "--timeout", "1s", "--json", path("r.json")});
  EXPECT_EQ(ended.code, 7) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("round 1 of 10: " + hangs + ": hangs"));
  EXPECT_FALSE(std::filesystem::exists(path("r.json")));
}

TEST_F(BenchBuilds, CtrlCEndsABuildThatHangsWithAllItHasStarted) {
  Process process({"bench", "--compare-builds", deaf(), deaf(), "floors"});
  const pid_t pid = child();
  process.send(SIGINT);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 130) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no round of both builds was finished"));
  EXPECT_TRUE(ends(pid));
}

TEST_F(BenchBuilds, NothingOfABuildIsLeftWhenTheBenchIsKilled) {
  Process process({"bench", "--compare-builds", deaf(), deaf(), "floors"});
  const pid_t pid = child();
  process.send(SIGKILL);
  EXPECT_EQ(process.wait().code, -SIGKILL);
  EXPECT_TRUE(ends(pid));
}

TEST_F(BenchBuilds, ATimeoutNeedsBuildsAndATime) {
  EXPECT_EQ(run_cli({"bench", "floors", "--timeout", "1m"}).code, 2);
  const Ended ended = run_cli({"bench", "--compare-builds", build("a"), build("b"), "floors", "--timeout", "soon"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.err, HasSubstr("soon"));
}

}  // namespace
}  // namespace warmfork::test
