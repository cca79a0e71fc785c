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

  // A program whose runs give these medians, in turns.
  std::string program(const std::string& name, const std::vector<double>& medians) const {
    const std::filesystem::path base = directory_ / name;
    for (std::size_t i = 0; i < medians.size(); ++i) {
      Histogram ticks;
      ticks.record(1000);
      Figure figure = from_ticks("a", ticks);
      figure.p50 = medians[i];
      std::ofstream(base.string() + std::to_string(i)) << to_json(make_context("pvm", "CPU", {0}), {figure});
    }
    std::ofstream(base) << "#!/bin/sh\nn=$(cat " << base.string() << ".n 2>/dev/null || echo 0)\necho $((n + 1)) >"
                        << base.string() << ".n\nexec cat " << base.string() << "$((n % " << medians.size() << "))\n";
    std::filesystem::permissions(base, std::filesystem::perms::owner_all);
    return base.string();
  }
  static bool known(const ResultFile& before, const ResultFile& after) {
    return precise(compare_runs(before, after, true, {}), {});
  }

  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("warmfork-builds-" + std::to_string(::getpid()));
};

TEST_F(Builds, TakeAsManyRoundsAsAskedFor) {
  const auto results = run_builds({.before = program("old", {100}),
                                   .after = program("new", {100, 200}),
                                   .arguments = {},
                                   .rounds = 4,
                                   .enough = {},
                                   .progress = {},
                                   .stop = {}});
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_EQ(results->first.context.rounds, 4U);
  EXPECT_THAT(results->second.figures.at(0).rounds.at("p50"), ::testing::ElementsAre(100, 200, 100, 200));
  EXPECT_FALSE(results->first.context.partial);
}

TEST_F(Builds, GoOnUntilItIsEnough) {
  const auto rounds = [&](const std::string& after, const auto& enough) {
    const auto results = run_builds({.before = program("old", {100}),
                                     .after = after,
                                     .arguments = {},
                                     .rounds = 6,
                                     .enough = enough,
                                     .most_rounds = 9,
                                     .progress = {},
                                     .stop = {}});
    return results ? results->second.context.rounds : 0;
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
  int asked = 0;
  const auto results =
      run_builds({.before = program("old", {100}),
                  .after = program("new", {100, 200}),
                  .arguments = {},
                  .rounds = 6,
                  .enough = known,
                  .progress = {},
                  .stop = [&] { return ++asked == 16; }});  // after the second program of the eighth round
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_EQ(results->first.context.rounds, 8U);
  EXPECT_TRUE(results->first.context.partial);
  EXPECT_TRUE(results->second.context.partial);
}

}  // namespace
}  // namespace warmfork::bench
