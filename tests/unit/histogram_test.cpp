// The histogram against sorted samples: every quantile to three digits.
#include "base/histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

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

TEST(Histogram, EmptyIsZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.quantile(0.5), 0);
  EXPECT_EQ(histogram.mean(), 0);
  EXPECT_EQ(histogram.min(), 0u);
}

}  // namespace
}  // namespace warmfork
