// The step of a counter, found from its readings.
#include "base/tsc_clock.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace warmfork {
namespace {

// What a program reads from a counter that advances by `step`, at distances of 40 ticks and more; one in a thousand is
// an interruption.
std::vector<std::uint64_t> readings_of(double step, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> jitter(1.0 / 3);
  std::vector<std::uint64_t> readings;
  double now = 1e12;
  for (int i = 0; i < 2000; ++i) {
    now += 40 + 8 * (i % 61) + jitter(random) + (i % 1000 == 999 ? 100'000.5 : 0);
    readings.push_back(static_cast<std::uint64_t>(std::floor(now / step) * step));
  }
  return readings;
}

TEST(TscClock, FindsTheStepOfACoarseCounter) {
  for (const double step : {8.0, 21.0, 25.96, 26.0, 33.3, 100.0}) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      EXPECT_NEAR(step_of(readings_of(step, seed)), step, step * 0.01) << seed;
    }
  }
}

TEST(TscClock, TakesNoFineCounterForACoarseOne) {
  for (const double step : {1.0, 2.0, 3.5}) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed)
      EXPECT_EQ(step_of(readings_of(step, seed)), 1) << step << " " << seed;
  }
}

TEST(TscClock, SaysOneOfReadingsThatDoNotTell) {
  EXPECT_EQ(step_of({}), 1);
  EXPECT_EQ(step_of(std::vector<std::uint64_t>{5}), 1);
  EXPECT_EQ(step_of(std::vector<std::uint64_t>(100, 5)), 1) << "it stands still";
  std::vector<std::uint64_t> regular;
  for (std::uint64_t i = 0; i < 1000; ++i) regular.push_back(i * 26);
  EXPECT_EQ(step_of(regular), 1) << "always as far from each other, by whatever clock";
}

TEST(TscClock, StepIsFoundOnce) {
  const double step = tsc_step_ticks();
  EXPECT_GE(step, 1);
  EXPECT_EQ(tsc_step_ticks(), step);
}

}  // namespace
}  // namespace warmfork
