// Intervals keep their promise on data whose truth is known, and verdicts are neither alarmist nor blind.
#include "bench/statistics.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>

namespace warmfork::bench {
namespace {

struct Distribution {
  std::string name;
  std::function<double(std::mt19937_64&)> draw;
  std::function<double(double)> quantile;  // the true one
};

double normal_quantile(double p) {
  double low = -9, high = 9;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

// Uniform in (0, 1).
double uniform(std::mt19937_64& random) { return (static_cast<double>(random() >> 11) + 0.5) / 9007199254740992.0; }

// Latencies look like each of these at some time. All by inverting the distribution function, so that the truth is
// exact.
const std::vector<Distribution>& distributions() {
  static const std::vector<Distribution> all = [] {
    std::vector<double> table(4096);  // of the normal distribution: erfc 60 times for each value would take too long
    for (std::size_t i = 0; i < table.size(); ++i)
      table[i] = normal_quantile((static_cast<double>(i) + 0.5) / static_cast<double>(table.size()));
    // The table's steps are the distribution: its quantiles are its own.
    const auto normal = [table](double p) {
      return table[std::min(static_cast<std::size_t>(p * static_cast<double>(table.size())), table.size() - 1)];
    };
    const std::vector<std::pair<std::string, std::function<double(double)>>> inverses{
        {"normal", [normal](double p) { return 100 + 10 * normal(p); }},
        {"lognormal", [normal](double p) { return std::exp(3 + 0.5 * normal(p)); }},
        {"bimodal", [normal](double p) { return p < 0.7 ? 100 + normal(p / 0.7) : 200 + normal((p - 0.7) / 0.3); }},
        {"heavy tail", [](double p) { return std::pow(1 - p, -1 / 1.5); }},  // Pareto: infinite variance
    };
    std::vector<Distribution> made;
    for (const auto& [name, inverse] : inverses) {
      made.push_back({name, [inverse](std::mt19937_64& random) { return inverse(uniform(random)); }, inverse});
    }
    return made;
  }();
  return all;
}

constexpr int kRepetitions = 1000;
// 95 % of 1,000, less three standard deviations of a binomial: sqrt(1000 * 0.95 * 0.05) = 6.9.
constexpr int kLeastCovered = 929;

TEST(Statistics, QuantileIntervalsCoverTheTruthWhateverTheDistribution) {
  std::mt19937_64 random(1);
  for (const Distribution& distribution : distributions()) {
    for (const auto& [fraction, count] : {std::pair{0.5, 40}, {0.99, 1000}}) {
      SCOPED_TRACE(distribution.name + " " + std::to_string(fraction));
      const auto ranks = quantile_ranks(static_cast<std::uint64_t>(count), fraction);
      ASSERT_TRUE(ranks);
      const double truth = distribution.quantile(fraction);
      std::vector<double> values(static_cast<std::size_t>(count));
      int covered = 0;
      for (int i = 0; i < kRepetitions; ++i) {
        for (double& value : values) value = distribution.draw(random);
        std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(ranks->low - 1));
        const double low = values[ranks->low - 1];
        std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(ranks->high - 1));
        covered += low <= truth && truth <= values[ranks->high - 1] ? 1 : 0;
      }
      EXPECT_GE(covered, kLeastCovered);
      EXPECT_LE(covered, 995) << "so wide that they say nothing";
    }
  }
}

TEST(Statistics, RanksAreTheBinomialsAndSaySoWhenTheSampleIsTooSmall) {
  // Of ten values, the second and the ninth hold the median with 1 - 2 * 11 / 1024 = 97.9 %; the third and eighth do
  // not.
  const auto ten = quantile_ranks(10, 0.5);
  ASSERT_TRUE(ten);
  EXPECT_EQ(ten->low, 2U);
  EXPECT_EQ(ten->high, 9U);
  for (const double fraction : {0.5, 0.9, 0.99, 0.999}) {
    const std::uint64_t least = least_count(fraction);
    EXPECT_TRUE(quantile_ranks(least, fraction)) << fraction;
    EXPECT_FALSE(quantile_ranks(least - 1, fraction)) << fraction;
  }
  EXPECT_EQ(least_count(0.5), 6U);
  EXPECT_EQ(least_count(0.999), 3688U);
  EXPECT_FALSE(quantile_ranks(0, 0.5));
  // A million values: the normal distribution says np -+ 1.96 sqrt(npq).
  const auto million = quantile_ranks(1'000'000, 0.99);
  ASSERT_TRUE(million);
  EXPECT_NEAR(static_cast<double>(million->low), 990'000 - 195, 2);
  EXPECT_NEAR(static_cast<double>(million->high), 990'000 + 196, 2);
}

TEST(Statistics, BootstrappedMeansCoverTheTruthWhereTheVarianceIsFinite) {
  std::mt19937_64 random(2);
  for (const Distribution& distribution : distributions()) {
    if (distribution.name == "heavy tail") continue;
    SCOPED_TRACE(distribution.name);
    double truth = 0;
    constexpr int kSteps = 1 << 16;
    for (int i = 0; i < kSteps; ++i) truth += distribution.quantile((i + 0.5) / kSteps) / kSteps;
    std::vector<double> values(60);
    int covered = 0;
    for (int i = 0; i < kRepetitions; ++i) {
      for (double& value : values) value = distribution.draw(random);
      const auto interval = mean_interval(values, static_cast<std::uint64_t>(i), 0.95, 400);
      ASSERT_TRUE(interval);
      covered += interval->low <= truth && truth <= interval->high ? 1 : 0;
    }
    // BCa is right only in the limit: at 60 values of a skewed distribution it lacks a percent or two.
    EXPECT_GE(covered, 915);
  }
  const std::vector<double> few{1, 2, 3, 4, 5, 6, 7};
  EXPECT_FALSE(mean_interval(few, 1));
  const std::vector<double> same(20, 5.0);
  EXPECT_EQ(mean_interval(same, 1)->low, 5.0);
  const std::vector<double> some{1, 2, 3, 4, 5, 6, 7, 80};
  EXPECT_EQ(mean_interval(some, 3)->low, mean_interval(some, 3)->low) << "seeded";
  EXPECT_LT(mean_interval(some, 3)->low, 13.5);
  EXPECT_GT(mean_interval(some, 3)->high, 13.5);
}

TEST(Statistics, RatiosOfRoundsCoverTheTruthPairedAndUnpaired) {
  std::mt19937_64 random(3);
  for (const Distribution& distribution : distributions()) {
    SCOPED_TRACE(distribution.name);
    int unpaired = 0, paired = 0, alarms = 0;
    std::vector<double> before(10), after(10), paired_after(10);
    for (int i = 0; i < kRepetitions; ++i) {
      for (std::size_t n = 0; n < before.size(); ++n) {
        before[n] = distribution.draw(random);
        after[n] = 1.3 * distribution.draw(random);
        // The weather both of a pair see, and what is each one's own.
        paired_after[n] = 1.3 * before[n] * std::exp(0.05 * normal_quantile(uniform(random)));
      }
      const Ratio ratio = ratio_of(before, after);
      const Ratio pairs = paired_ratio_of(before, paired_after);
      ASSERT_TRUE(ratio.interval && pairs.interval);
      unpaired += ratio.interval->low <= 1.3 && 1.3 <= ratio.interval->high ? 1 : 0;
      paired += pairs.interval->low <= 1.3 && 1.3 <= pairs.interval->high ? 1 : 0;
      for (double& value : after) value /= 1.3;
      alarms += ratio_of(before, after).p < 0.05 ? 1 : 0;
    }
    EXPECT_GE(unpaired, kLeastCovered);
    EXPECT_GE(paired, kLeastCovered);
    EXPECT_LE(alarms, 71);
  }
}

TEST(Statistics, MannWhitneyAgreesWithItsTables) {
  // Complete separation: 2 / C(8, 4) = 0.0286 and 2 / C(6, 3) = 0.1.
  const std::vector<double> low{1, 2, 3, 4}, high{5, 6, 7, 8};
  EXPECT_NEAR(ratio_of(low, high).p, 2.0 / 70, 1e-12);
  EXPECT_TRUE(ratio_of(low, high).interval);
  const std::vector<double> three{1, 2, 3}, others{4, 5, 6};
  EXPECT_NEAR(ratio_of(three, others).p, 0.1, 1e-12);
  EXPECT_FALSE(ratio_of(three, others).interval) << "three rounds each cannot be 95 % sure of anything";
  // More than are counted exactly: the normal approximation takes over without a step.
  std::vector<double> fifty, more;
  for (int i = 0; i < 50; ++i) fifty.push_back(100 + i);
  for (int i = 0; i < 51; ++i) more.push_back(103.3 + i);
  const Ratio exact = ratio_of(fifty, std::span(more).first(50));
  const Ratio normal = ratio_of(fifty, more);
  EXPECT_NEAR(exact.interval->low, normal.interval->low, 0.01);
  EXPECT_NEAR(exact.p, normal.p, 0.1);
  // Two pairs of six, all one way: 2 / 2^6.
  const std::vector<double> six{1, 2, 3, 4, 5, 6}, doubled{2, 4, 6, 8, 10, 12};
  EXPECT_NEAR(paired_ratio_of(six, doubled).p, 2.0 / 64, 1e-12);
  EXPECT_DOUBLE_EQ(paired_ratio_of(six, doubled).estimate, 2.0);
}

// As a foreign file may have them.
TEST(Statistics, RatiosBeyondTheRangeOfNumbersAreSortedAsAnyOthers) {
  std::vector<double> before, after;
  for (int i = 0; i < 40; ++i) {
    before.push_back(i % 2 == 0 ? 1e-300 : 1e300);
    after.push_back(i % 2 == 0 ? 1e300 : 1e-300);
  }
  EXPECT_NEAR(paired_ratio_of(before, after).estimate, 1, 1e-9) << "half a thousand digits up, half down";
  EXPECT_NEAR(ratio_of(before, after).estimate, 1, 1e-9);
}

TEST(Statistics, SignedRanksAgreeWithTheirTables) {
  // Differences of the logarithms -1, 2, 3 … 10: the ranks below zero add up to 1, which two of 2^10 subsets do not
  // exceed.
  std::vector<double> before(10, 1.0), after;
  for (int i = 1; i <= 10; ++i) after.push_back(std::exp(i == 1 ? -1 : i));
  const Ratio ten = paired_ratio_of(before, after);
  EXPECT_NEAR(ten.p, 2 * 2.0 / 1024, 1e-12);
  // The tables' critical value for ten pairs at 5 % is 8: the ninth smallest and ninth largest Walsh average. Of those
  // of -1, 2, 3 … 10 they are 3 (after -1, 0.5, 1, 1.5, 2, 2, 2.5, 2.5) and 8 (after 10, 9.5, 9, 9, 8.5, 8.5, 8, 8).
  ASSERT_TRUE(ten.interval);
  EXPECT_NEAR(std::log(ten.interval->low), 3, 1e-9);
  EXPECT_NEAR(std::log(ten.interval->high), 8, 1e-9);
  EXPECT_FALSE(paired_ratio_of(std::span(before).first(5), std::span(after).first(5)).interval) << "2 / 2^5 is 6 %";
  EXPECT_TRUE(paired_ratio_of(std::span(before).first(6), std::span(after).first(6)).interval);
  const Ratio same = paired_ratio_of(after, after);
  EXPECT_EQ(same.p, 1);
  EXPECT_EQ(same.interval->low, 1);
  EXPECT_EQ(same.interval->high, 1);
  // More pairs than are counted exactly: the normal approximation takes over without a step.
  std::vector<double> ones(51, 1.0), spread;
  for (int i = 0; i < 51; ++i) spread.push_back(std::exp(0.01 * (i * 20 % 51 - 20)));
  const Ratio exact = paired_ratio_of(std::span(ones).first(50), std::span(spread).first(50));
  const Ratio normal = paired_ratio_of(ones, spread);
  EXPECT_NEAR(exact.interval->low, normal.interval->low, 0.01);
  EXPECT_NEAR(exact.interval->high, normal.interval->high, 0.01);
  EXPECT_NEAR(exact.p, normal.p, 0.02);
}

TEST(Statistics, SignedRanksTellMoreOfTenPairsThanSigns) {
  std::mt19937_64 random(4);
  std::normal_distribution<double> normal;
  double width = 0, width_of_signs = 0;
  int found = 0, found_by_signs = 0;
  std::vector<double> before(10, 1.0), after(10);
  for (int i = 0; i < kRepetitions; ++i) {
    for (double& value : after) value = 1.1 * std::exp(0.04 * normal(random));
    const Ratio ratio = paired_ratio_of(before, after);
    const auto signs = quantile_interval(after, 0.5);
    width += ratio.interval->high - ratio.interval->low;
    width_of_signs += signs->high - signs->low;
    found += ratio.interval->low > 1.05 ? 1 : 0;
    found_by_signs += signs->low > 1.05 ? 1 : 0;
  }
  EXPECT_LT(width, 0.8 * width_of_signs);
  EXPECT_GT(found, found_by_signs + kRepetitions / 10);
}

TEST(Statistics, OutliersAreClassifiedByTheQuartiles) {
  std::vector<double> values(100);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i + 1);
  EXPECT_EQ(classify(values).mild + classify(values).severe, 0U);  // quartiles 25 and 75: fences -50, 150, -125, 225
  // These move the quartiles to 25 and 77: fences -53, 155, -131, 233.
  values.insert(values.end(), {160, 230, 260, -60, -140});
  const OutlierClasses classes = classify(values);
  EXPECT_EQ(classes.mild, 3U);
  EXPECT_EQ(classes.severe, 2U);
  const Fences fence = fences(25, 75);
  EXPECT_EQ(fence.mild_low, -50);
  EXPECT_EQ(fence.mild_high, 150);
  EXPECT_EQ(fence.severe_low, -125);
  EXPECT_EQ(fence.severe_high, 225);
}

}  // namespace
}  // namespace warmfork::bench
