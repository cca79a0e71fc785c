// bench --compare-builds with builds that hang or lack figures. They are scripts that show a result file, so this needs
// no KVM.
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
  std::string build(const std::string& name, const std::string& commands = "",
                    const std::string& shown = WARMFORK_README_RESULT) const {
    std::string program = file(name, "#!/bin/sh\n" + commands + "exec cat " + shown + "\n");
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

// The README's figures without those that --plot draws.
class BenchPlot : public BenchBuilds {
 protected:
  std::string without_sweep() const {
    auto result = nlohmann::json::parse(read_text(WARMFORK_README_RESULT));
    auto others = nlohmann::json::array();
    for (const auto& figure : result.at("results")) {
      const auto name = figure.at("name").get<std::string>();
      if (!name.starts_with("lifecycle/reset/") && !name.starts_with("lifecycle/request/reset_"))
        others.push_back(figure);
    }
    result["results"] = others;
    return file("others.json", result.dump());
  }
};

TEST_F(BenchPlot, OfSuitesWithoutTheSweepIsRefusedBeforeAnythingIsMeasured) {
  for (const Arguments& what : {Arguments{"floors", "lc3"}, {"floors", "--compare-builds", build("a"), build("b")}}) {
    Arguments arguments{"bench", "--plot", path("p")};
    arguments.insert(arguments.end(), what.begin(), what.end());
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, 2) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("warmfork bench lifecycle --plot BASE"));
    EXPECT_EQ(ended.out, "");
  }
}

TEST_F(BenchPlot, OfResultsWithoutTheSweepSaysSoAndCostsNoOtherReport) {
  const std::string one = build("one", "", without_sweep());
  const Ended ended = run_cli({"bench", "lifecycle", "--compare-builds", one, one, "--rounds", "6", "--plot", path("p"),
                               "--json", path("r.json")});
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no plot: there is no lifecycle/reset/… and no lifecycle/request/reset_… among the "
                                   "results; the suite lifecycle gives both"));
  EXPECT_FALSE(nlohmann::json::parse(read_text(path("r.json"))).at("results").empty());
  EXPECT_FALSE(std::filesystem::exists(path("p-reset.png")));
}

TEST_F(BenchPlot, ThatLacksFiguresOfAnUnfinishedRunLeavesItsExitCode) {
  const std::string old = build("old", "", without_sweep());
  const std::string hangs = build("hangs", "[ -e $0.1 ] && exec sleep 1000; : >$0.1\n", without_sweep());
  const Ended ended =
      run_cli({"bench", "lifecycle", "--compare-builds", old, hangs, "--timeout", "3s", "--plot", path("p")});
  EXPECT_EQ(ended.code, 7) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no plot: there is no"));
}

TEST_F(BenchPlot, IsDrawnOfResultsWithTheSweep) {
  const std::string one = build("one");
  const Ended ended =
      run_cli({"bench", "lifecycle", "--compare-builds", one, one, "--rounds", "6", "--plot", path("p")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, ::testing::Not(HasSubstr("no lifecycle/reset/")));
  const bool drawn = std::filesystem::exists(path("p-reset.png")) && std::filesystem::exists(path("p-request.svg"));
  EXPECT_TRUE(drawn || ended.err.find("gnuplot is not installed") != std::string::npos) << ended.err;
}

TEST_F(BenchBuilds, ATimeoutNeedsBuildsAndATime) {
  EXPECT_EQ(run_cli({"bench", "floors", "--timeout", "1m"}).code, 2);
  const Ended ended = run_cli({"bench", "--compare-builds", build("a"), build("b"), "floors", "--timeout", "soon"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.err, HasSubstr("soon"));
}

}  // namespace
}  // namespace warmfork::test
