// Statistics for figures that are not normally distributed, do not follow each other independently and are few: order
// statistics, ranks and resampling instead of means and standard errors. Nothing here measures; everything is
// deterministic (what resamples takes a seed). Confidence is a fraction, 0.95 unless told otherwise.
//
// Threads: any; no state.
//
// Sources: Hahn and Meeker, Statistical Intervals (order statistics); Efron and Tibshirani, An Introduction to the
// Bootstrap, chapter 14 (BCa); Hollander and Wolfe, Nonparametric Statistical Methods, chapters 3 and 4 (signed
// rank, Walsh averages, Mann-Whitney, Hodges-Lehmann); Tukey, Exploratory Data Analysis (fences).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace warmfork::bench {

inline constexpr double kConfidence = 0.95;

struct Interval {
  double low = 0;
  double high = 0;
};

/// Positions in a sorted sample, from 1.
struct Ranks {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

/// Between which order statistics of a sample of `count` the quantile `fraction` of its distribution lies with at least
/// `confidence`, whatever the distribution. Nothing if the sample is too small for that: no observed value is high (or
/// low) enough then, and the quantile must not be given as if it were known.
[[nodiscard]] std::optional<Ranks> quantile_ranks(std::uint64_t count, double fraction,
                                                  double confidence = kConfidence);

/// The smallest sample for which quantile_ranks() has an answer: 6 for the median, 368 for p99, 3,688 for p99.9.
[[nodiscard]] std::uint64_t least_count(double fraction, double confidence = kConfidence);

/// quantile_ranks() of these values (in any order). `fraction` 0.5: what inverting the sign test gives.
[[nodiscard]] std::optional<Interval> quantile_interval(std::span<const double> values, double fraction,
                                                        double confidence = kConfidence);

/// The middle value, or the mean of the two in the middle; 0 of none.
[[nodiscard]] double median(std::span<const double> values);

/// Where the mean lies, by bias-corrected and accelerated bootstrap with `resamples` samples drawn from `values`. The
/// same seed gives the same interval. Nothing of fewer than 8 values, which say too little of the spread. For heavy
/// tails (no finite variance) no interval for the mean keeps its promise, this one neither: use quantiles.
[[nodiscard]] std::optional<Interval> mean_interval(std::span<const double> values, std::uint64_t seed,
                                                    double confidence = kConfidence, unsigned resamples = 1000);

/// A comparison of two sets of rounds: how many times as large the second is, and between which limits.
struct Ratio {
  double estimate = 1;
  std::optional<Interval> interval;  // nothing: too few rounds for this confidence
  double p = 1;                      // of both being alike, two-sided
};

/// Unpaired (a baseline and a later run): Hodges-Lehmann's estimate of the shift between the logarithms, its interval
/// by inverting Mann-Whitney's test, and that test's p. All values must be positive. Four rounds each give 95 %.
[[nodiscard]] Ratio ratio_of(std::span<const double> before, std::span<const double> after,
                             double confidence = kConfidence);

/// Paired (rounds of two builds, interleaved: before[i] and after[i] saw the same weather): Hodges-Lehmann's estimate
/// of the logarithm of the ratio, its interval by inverting Wilcoxon's signed-rank test, and that test's p. It takes
/// the logarithms of the ratios as symmetric about their centre, which those of two alike builds are that take turns in
/// going first: swapping both changes nothing. That makes its interval a third narrower than the sign test's, which
/// takes nothing for granted. As many values each, all positive. Six pairs give 95 %.
[[nodiscard]] Ratio paired_ratio_of(std::span<const double> before, std::span<const double> after,
                                    double confidence = kConfidence);

/// Values beyond the quartiles by more than 1.5 (mild) or 3 (severe) times the distance between them.
struct Fences {
  double mild_low = 0, mild_high = 0, severe_low = 0, severe_high = 0;
};
struct OutlierClasses {
  std::uint64_t mild = 0;    // beyond 1.5, not beyond 3
  std::uint64_t severe = 0;  // beyond 3
};
[[nodiscard]] Fences fences(double first_quartile, double third_quartile);
[[nodiscard]] OutlierClasses classify(std::span<const double> values);

}  // namespace warmfork::bench
