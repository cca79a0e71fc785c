// The histogram against sorted samples: every quantile to three digits.
#include "base/histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

namespace warmfork {
namespace {

TEST(Histogram, QuantilesAgreeWithSortedSamplesToThreeDigits) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> distribution(9, 3);
  Histogram histogram;
  std::vector<std::uint64_t> samples;
  for (int i = 0; i < 50'000; ++i) {
    samples.push_back(static_cast<std::uint64_t>(distribution(random)));
    histogram.record(samples.back());
  }
  std::ranges::sort(samples);
  for (const double fraction : {0.0001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(samples.size())));
    const double expected = static_cast<double>(samples[std::max<std::size_t>(rank, 1) - 1]);
    EXPECT_NEAR(histogram.quantile(fraction), expected, expected * 0.001) << fraction;
  }
  EXPECT_EQ(histogram.min(), samples.front());
  EXPECT_EQ(histogram.max(), samples.back());
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (std::uint64_t value = 0; value < 2048; ++value) histogram.record(value);
  EXPECT_EQ(histogram.quantile(0.5), 1023);
  EXPECT_EQ(histogram.quantile(1.0), 2047);
  EXPECT_DOUBLE_EQ(histogram.mean(), 1023.5);
  EXPECT_NEAR(histogram.stddev(), 591.35, 0.01);
}

TEST(Histogram, EveryPowerOfTwoKeepsItsPlace) {
  for (unsigned bit = 0; bit < 48; ++bit) {
    Histogram histogram;
    const std::uint64_t value = std::uint64_t{1} << bit;
    histogram.record(value);
    EXPECT_EQ(histogram.quantile(0.5), static_cast<double>(value)) << bit;
  }
}

TEST(Histogram, AbsurdValuesAreKeptAtTheEnd) {
  Histogram histogram;
  histogram.record(~std::uint64_t{0});
  histogram.record(1);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.max(), ~std::uint64_t{0});
  EXPECT_EQ(histogram.quantile(0.5), 1);
}

TEST(Histogram, MergedIsAsIfRecordedInOne) {
  Histogram one, other, all;
  for (std::uint64_t value = 1; value < 5000; value += 3) {
    (value % 2 == 0 ? one : other).record(value);
    all.record(value);
  }
  one.merge(other);
  one.merge(Histogram());
  EXPECT_EQ(one.count(), all.count());
  EXPECT_EQ(one.min(), all.min());
  EXPECT_EQ(one.max(), all.max());
  EXPECT_DOUBLE_EQ(one.mean(), all.mean());
  EXPECT_EQ(one.quantile(0.99), all.quantile(0.99));
  EXPECT_EQ(one.at_rank(1), 1);
  EXPECT_NEAR(one.at_rank(one.count()), 4999, 2);  // its bucket is four wide
  EXPECT_EQ(one.count_outside(4, 4990), 4U);       // 1, 4993, 4996 and 4999
}

// A clock that advances by 26 and is read when something that takes `ticks` begins, at any phase, and when it ends.
class CoarseClock {
 public:
  static constexpr double kStep = 26;
  double phase() { return std::uniform_real_distribution<double>(0, kStep)(random); }
  std::uint64_t read(double ticks) {
    const double begin = phase();
    return static_cast<std::uint64_t>(std::floor((begin + ticks) / kStep) * kStep);
  }
  std::mt19937_64 random{5};
};

TEST(Histogram, SeveralAtOnceAreAsEachAlone) {
  const std::vector<std::uint64_t> values{7, 0, 3'000, 1U << 20, ~std::uint64_t{0}, 7};
  Histogram one, all;
  for (const std::uint64_t value : values) one.record(value);
  all.record_each({});
  EXPECT_EQ(all.count(), 0U);
  EXPECT_EQ(all.min(), 0U);
  all.record_each(std::span(values).first(2));
  all.record_each(std::span(values).subspan(2));
  EXPECT_EQ(all.count(), one.count());
  EXPECT_EQ(all.min(), one.min());
  EXPECT_EQ(all.max(), one.max());
  EXPECT_DOUBLE_EQ(all.mean(), one.mean());
  EXPECT_DOUBLE_EQ(all.stddev(), one.stddev());
  for (std::uint64_t rank = 1; rank <= values.size(); ++rank) EXPECT_EQ(all.at_rank(rank), one.at_rank(rank)) << rank;
}

TEST(Histogram, SumBeyondCountsOnlyTheExcess) {
  Histogram histogram;
  EXPECT_EQ(histogram.sum_beyond(0), 0);
  for (const unsigned value : {100U, 200U, 200U, 1'000U}) histogram.record(value);
  EXPECT_EQ(histogram.sum_beyond(0), 1'500);
  EXPECT_EQ(histogram.sum_beyond(200), 800);
  EXPECT_EQ(histogram.sum_beyond(150), 50 + 50 + 850);
  EXPECT_EQ(histogram.sum_beyond(1'000), 0);
}

TEST(Histogram, GroupedMediansAreFractionsOfTheClocksStepFromTheTruth) {
  for (const double spread : {0.0, 0.02, 0.2}) {
    for (double truth = 130; truth < 4000; truth *= 1.1) {
      SCOPED_TRACE(std::to_string(truth) + " +- " + std::to_string(spread));
      CoarseClock clock;
      std::lognormal_distribution<double> body(std::log(truth), spread);
      Histogram histogram;
      for (int i = 0; i < 20'000; ++i) histogram.record(clock.read(spread == 0 ? truth : body(clock.random)));
      EXPECT_NEAR(histogram.grouped_quantile(0.5, CoarseClock::kStep), truth, CoarseClock::kStep / 5 + truth / 1000);
    }
  }
}

TEST(Histogram, GroupedRanksHoldTheMedianAsOftenAsTheyPromise) {
  CoarseClock clock;
  constexpr double kTruth = 1203;  // 46.3 steps
  std::lognormal_distribution<double> body(std::log(kTruth), 0.05);
  constexpr int kRepetitions = 500;
  int covered = 0;
  double widest = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    Histogram histogram;
    for (int n = 0; n < 400; ++n) histogram.record(clock.read(body(clock.random)));
    // 95 %: 200 -+ 1.96 * sqrt(100), outwards.
    const double low = histogram.grouped_at(180.5 - 0.5, CoarseClock::kStep);
    const double high = histogram.grouped_at(220.5 - 0.5, CoarseClock::kStep);
    covered += low <= kTruth && kTruth <= high ? 1 : 0;
    widest = std::max(widest, high - low);
  }
  EXPECT_GE(covered, kRepetitions * 93 / 100);
  EXPECT_LT(widest, CoarseClock::kStep) << "less than the distance of two readings";
}

TEST(Histogram, GroupedQuantilesAscendAndStayWithinWhatWasRecorded) {
  CoarseClock clock;
  Histogram histogram;
  std::lognormal_distribution<double> body(std::log(5000), 1);  // buckets of 1 to more than a step
  for (int i = 0; i < 5000; ++i) histogram.record(clock.read(body(clock.random)));
  double last = 0;
  for (int i = 0; i <= 1000; ++i) {
    const double value = histogram.grouped_quantile(i / 1000.0, CoarseClock::kStep);
    EXPECT_GE(value, last) << i;
    if (i > 0) EXPECT_NEAR(value, histogram.quantile(i / 1000.0), CoarseClock::kStep / 2 + value * 0.001) << i;
    last = value;
  }
  EXPECT_GE(histogram.grouped_quantile(0, CoarseClock::kStep), histogram.min());
  EXPECT_EQ(histogram.grouped_quantile(1, CoarseClock::kStep), histogram.max());
}

TEST(Histogram, GroupedByStepsOfOneIsTheNearestRankToHalfATick) {
  Histogram histogram;
  for (std::uint64_t value = 100; value < 201; ++value) histogram.record(value);
  EXPECT_NEAR(histogram.grouped_quantile(0.5, 1), 150, 1e-9);
  Histogram one;
  one.record(37);
  EXPECT_EQ(one.grouped_quantile(0.5, 26), 37) << "nothing else was recorded";
}

TEST(Histogram, EmptyIsZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.quantile(0.5), 0);
  EXPECT_EQ(histogram.grouped_quantile(0.5, 26), 0);
  EXPECT_EQ(histogram.mean(), 0);
  EXPECT_EQ(histogram.min(), 0u);
}

}  // namespace
}  // namespace warmfork
