// Rounds of two programs, which need not be warmfork: how many of them, and what is left if they are stopped.
#include "bench/builds.hpp"

#include "bench/context.hpp"
#include "bench/result_file.hpp"
#include "bench/verdict.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace warmfork::bench {
namespace {

class Builds : public ::testing::Test {
 protected:
  Builds() { std::filesystem::create_directories(directory_); }
  ~Builds() override { std::filesystem::remove_all(directory_); }

  // A program whose runs give these medians, in turns. `also`: commands before that, with $n the number of the run.
  std::string program(const std::string& name, const std::vector<double>& medians, const std::string& also = "") const {
    const std::filesystem::path base = directory_ / name;
    for (std::size_t i = 0; i < medians.size(); ++i) {
      Histogram ticks;
      ticks.record(1000);
      Figure figure = from_ticks("a", ticks);
      figure.p50 = medians[i];
      std::ofstream(base.string() + std::to_string(i)) << to_json(make_context("pvm", "CPU", {0}), {figure});
    }
    std::ofstream(base) << "#!/bin/sh\nn=$(cat " << base.string() << ".n 2>/dev/null || echo 0)\necho $((n + 1)) >"
                        << base.string() << ".n\n"
                        << also << "exec cat " << base.string() << "$((n % " << medians.size() << "))\n";
    std::filesystem::permissions(base, std::filesystem::perms::owner_all);
    return base.string();
  }
  static pid_t number_in(const std::string& file) {
    pid_t number = 0;
    std::ifstream(file) >> number;
    EXPECT_GT(number, 0) << file;
    return number;
  }
  // A killed process is there until whoever has inherited it has looked at it.
  static bool ends(pid_t pid) {
    const auto gone = [pid] {
      std::string text;
      std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), text);
      return text.empty() || text.find(") Z ") != std::string::npos;
    };
    for (int i = 0; i < 1000 && !gone(); ++i) ::usleep(10'000);
    return gone();
  }
  static bool known(const ResultFile& before, const ResultFile& after) {
    return precise(compare_runs(before, after, true, {}), {});
  }

  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("warmfork-builds-" + std::to_string(::getpid()));
};

TEST_F(Builds, TakeAsManyRoundsAsAskedFor) {
  const BuildsRun run = run_builds({.before = program("old", {100}),
                                    .after = program("new", {100, 200}),
                                    .arguments = {},
                                    .rounds = 4,
                                    .enough = {},
                                    .progress = {},
                                    .stop = {}});
  ASSERT_FALSE(run.error) << run.error->message;
  EXPECT_EQ(run.before.context.rounds, 4U);
  EXPECT_THAT(run.after.figures.at(0).rounds.at("p50"), ::testing::ElementsAre(100, 200, 100, 200));
  EXPECT_FALSE(run.before.context.partial);
}

TEST_F(Builds, GoOnUntilItIsEnough) {
  const auto rounds = [&](const std::string& after, const auto& enough) {
    const BuildsRun run = run_builds({.before = program("old", {100}),
                                      .after = after,
                                      .arguments = {},
                                      .rounds = 6,
                                      .enough = enough,
                                      .most_rounds = 9,
                                      .progress = {},
                                      .stop = {}});
    return run.error ? 0 : run.after.context.rounds;
  };
  const std::string steady = program("steady", {110});
  EXPECT_EQ(rounds(steady, known), 6U) << "not before six, and not after: it has changed, but that is known";
  const auto seven = [](const ResultFile&, const ResultFile& after) {
    return after.figures.at(0).rounds.at("p50").size() == 7;
  };
  EXPECT_EQ(rounds(steady, seven), 7U);
  EXPECT_EQ(rounds(program("wild", {100, 200}), known), 9U) << "never";
}

TEST_F(Builds, KeepWhatWasMeasuredBeforeTheyAreStopped) {
  int begun = 0;
  const BuildsRun run = run_builds({.before = program("old", {100}),
                                    .after = program("new", {100, 200}),
                                    .arguments = {},
                                    .rounds = 6,
                                    .enough = known,
                                    .progress = [&](const std::string&) { ++begun; },
                                    .stop = [&] { return begun == 8; }});
  ASSERT_FALSE(run.error) << run.error->message;
  EXPECT_EQ(run.before.context.rounds, 7U);
  EXPECT_TRUE(run.before.context.partial);
  EXPECT_TRUE(run.after.context.partial);
}

// What it has started, a process of its own, hangs as well, and must not be there afterwards.
TEST_F(Builds, ThatHangAreKilledWithAllTheyHaveStartedAndTheirFinishedRoundsKept) {
  const std::string child = (directory_ / "child").string();
  const std::string hangs = program("hangs", {100}, "[ $n -ge 2 ] && { sleep 1000 & echo $! >" + child + "; wait; }\n");
  const BuildsRun run = run_builds({.before = program("old", {100}),
                                    .after = hangs,
                                    .arguments = {},
                                    .rounds = 6,
                                    .enough = {},
                                    .timeout_ns = 5'000'000'000,  // the others take milliseconds
                                    .progress = {},
                                    .stop = {}});
  ASSERT_TRUE(run.error);
  EXPECT_EQ(run.error->kind, ErrorKind::kDeadline);
  EXPECT_EQ(run.error->message, "round 3 of 6: " + hangs + ": hangs: not finished after 5 s, so it was killed");
  EXPECT_EQ(run.before.context.rounds, 2U);
  EXPECT_EQ(run.after.context.rounds, 2U);
  EXPECT_TRUE(run.before.context.partial);
  EXPECT_TRUE(run.after.context.partial);
  EXPECT_TRUE(ends(number_in(child)));
}

TEST_F(Builds, ThatHangAreKilledWhenTheyAreStoppedAndDoNotListen) {
  const std::string deaf = program(
      "deaf", {100}, "trap '' TERM; echo $$ >" + (directory_ / "pid").string() + "; while :; do sleep 1000; done\n");
  const BuildsRun run =
      run_builds({.before = deaf, .after = deaf, .arguments = {}, .enough = {}, .progress = {}, .stop = [&] {
                    return std::filesystem::exists(directory_ / "pid");
                  }});
  EXPECT_FALSE(run.error) << run.error->message;
  EXPECT_TRUE(run.before.context.partial);
  EXPECT_TRUE(run.before.figures.empty());
  EXPECT_TRUE(ends(number_in((directory_ / "pid").string())));
}

TEST(BuildsLimit, IsTenTimesWhatRoundsTookBefore) {
  constexpr std::uint64_t kMinute = 60'000'000'000;
  EXPECT_EQ(limit_ns(3 * kMinute, 0), 3 * kMinute) << "no round is finished";
  EXPECT_EQ(limit_ns(3 * kMinute, 1), 5 * kMinute);
  EXPECT_EQ(limit_ns(3 * kMinute, 2 * kMinute), 20 * kMinute);
}

}  // namespace
}  // namespace warmfork::bench
