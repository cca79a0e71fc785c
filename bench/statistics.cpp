#include "bench/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace warmfork::bench {
namespace {

// P(B <= k) of a binomial distribution for k = first, first + 1, …; what lies outside is below 1e-15.
struct Cumulative {
  std::uint64_t first = 0;
  std::vector<double> below_or_at;
};

Cumulative binomial(std::uint64_t count, double fraction) {
  const double n = static_cast<double>(count);
  const double spread = 9 * std::sqrt(n * fraction * (1 - fraction)) + 20;
  const auto first = static_cast<std::uint64_t>(std::max(0.0, std::floor(n * fraction - spread)));
  const auto last = static_cast<std::uint64_t>(std::min(n, std::ceil(n * fraction + spread)));
  // From the middle outwards, each term from its neighbour: nothing underflows where it matters.
  const std::uint64_t middle = std::clamp(static_cast<std::uint64_t>(n * fraction), first, last);
  std::vector<double> terms(last - first + 1);
  const double odds = fraction / (1 - fraction);
  terms[middle - first] = 1;
  for (std::uint64_t k = middle; k < last; ++k) {
    terms[k + 1 - first] = terms[k - first] * odds * static_cast<double>(count - k) / static_cast<double>(k + 1);
  }
  for (std::uint64_t k = middle; k > first; --k) {
    terms[k - 1 - first] = terms[k - first] / odds * static_cast<double>(k) / static_cast<double>(count - k + 1);
  }
  const double sum = std::accumulate(terms.begin(), terms.end(), 0.0);
  double running = 0;
  for (double& term : terms) term = (running += term / sum);
  return {first, std::move(terms)};
}

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

// The inverse, by bisection: exact to the last digits, and not called often enough to be worth a faster one.
double normal_quantile(double p) {
  double low = -9;
  double high = 9;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (normal_cdf(middle) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t below(std::uint64_t limit) {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    // Without a division; that some values are likelier by limit / 2^32 is far below what resampling can show.
    return ((z ^ (z >> 31)) >> 32) * limit >> 32;
  }

 private:
  std::uint64_t state_;
};

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// How likely each value of Mann-Whitney's U is, 0 … m·n, if both samples are alike: counted exactly up to these sizes.
constexpr std::size_t kExact = 50;
std::vector<double> mann_whitney_cdf(std::size_t m, std::size_t n) {
  // The generating function of U is the Gaussian binomial: product of (1 - q^(n+i)) / (1 - q^i), i = 1 … m. Dividing by
  // (1 - q^i) is a running sum with stride i; as counts are far below 2^1023, doubles keep enough of them.
  std::vector<double> counts(m * n + 1);
  counts[0] = 1;
  for (std::size_t i = 1; i <= m; ++i) {
    for (std::size_t u = counts.size(); u-- > n + i;) counts[u] -= counts[u - (n + i)];
    for (std::size_t u = i; u < counts.size(); ++u) counts[u] += counts[u - i];
  }
  const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
  double running = 0;
  for (double& count : counts) count = (running += count / sum);
  return counts;
}

// The same of Wilcoxon's W+, 0 … n(n+1)/2, for n differences that lie symmetrically about 0: each rank is in it or not.
std::vector<double> signed_rank_cdf(std::size_t n) {
  std::vector<double> counts(n * (n + 1) / 2 + 1);
  counts[0] = 1;
  for (std::size_t rank = 1; rank <= n; ++rank) {
    for (std::size_t w = counts.size(); w-- > rank;) counts[w] += counts[w - rank];
  }
  double running = 0;
  for (double& count : counts) count = (running += std::ldexp(count, -static_cast<int>(n)));
  return counts;
}

// Both tests end alike: of all shifts that they count, sorted, as many are left out at either end as the null
// distribution of their statistic allows. `above`: how many of them are above 0, those at 0 half. `cdf` may be empty
// for a large sample; then the statistic is normal with this deviation.
Ratio invert(std::vector<double> shifts, double above, const std::vector<double>& cdf, double deviation,
             double confidence) {
  std::ranges::sort(shifts);
  Ratio ratio;
  ratio.estimate = std::exp(median(shifts));
  const double all = static_cast<double>(shifts.size());
  const double tail = (1 - confidence) / 2;
  const double less = std::min(above, all - above);
  std::size_t cut = 0;  // so many shifts are left out at either end
  if (!cdf.empty()) {
    while (cut < cdf.size() && cdf[cut] <= tail) ++cut;
    ratio.p = std::min(1.0, 2 * cdf[static_cast<std::size_t>(less)]);
  } else {
    cut = static_cast<std::size_t>(std::max(0.0, std::floor(all / 2 + normal_quantile(tail) * deviation)));
    ratio.p = std::min(1.0, 2 * normal_cdf((less + 0.5 - all / 2) / deviation));
  }
  if (cut > 0 && 2 * cut <= shifts.size()) {
    ratio.interval = Interval{std::exp(shifts[cut - 1]), std::exp(shifts[shifts.size() - cut])};
  }
  return ratio;
}

std::vector<double> logs(std::span<const double> values) {
  std::vector<double> out(values.size());
  std::ranges::transform(values, out.begin(), [](double value) { return std::log(value); });
  return out;
}

}  // namespace

std::optional<Ranks> quantile_ranks(std::uint64_t count, double fraction, double confidence) {
  if (count == 0) return std::nullopt;
  const double tail = (1 - confidence) / 2;
  const Cumulative b = binomial(count, fraction);
  // B values are at or below the quantile. Below the lower rank with P(B < low) <= tail, above the upper one with
  // P(B >= high) <= tail.
  const auto at = [&](std::uint64_t index) { return index < b.first ? 0.0 : b.below_or_at[index - b.first]; };
  const std::uint64_t last = b.first + b.below_or_at.size() - 1;
  std::uint64_t low = b.first;
  while (low < last && at(low) <= tail) ++low;  // the largest low with P(B <= low - 1) <= tail
  std::uint64_t high = low + 1;
  while (high <= last && at(high - 1) < 1 - tail) ++high;  // the smallest high with P(B <= high - 1) >= 1 - tail
  if (low == 0 || high > count) return std::nullopt;
  return Ranks{low, high};
}

std::uint64_t least_count(double fraction, double confidence) {
  // The extreme values must be beyond the quantile: both fraction^n and (1 - fraction)^n at most the tail.
  const double tail = (1 - confidence) / 2;
  const double rarer = std::max(fraction, 1 - fraction);
  return static_cast<std::uint64_t>(std::ceil(std::log(tail) / std::log(rarer)));
}

std::optional<Interval> quantile_interval(std::span<const double> values, double fraction, double confidence) {
  const auto ranks = quantile_ranks(values.size(), fraction, confidence);
  if (!ranks) return std::nullopt;
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  return Interval{sorted[ranks->low - 1], sorted[ranks->high - 1]};
}

double median(std::span<const double> values) {
  if (values.empty()) return 0;
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : std::midpoint(sorted[middle - 1], sorted[middle]);
}

std::optional<Interval> mean_interval(std::span<const double> values, std::uint64_t seed, double confidence,
                                      unsigned resamples) {
  constexpr std::size_t kLeast = 8;
  if (values.size() < kLeast || resamples < 100) return std::nullopt;
  const double mean = mean_of(values);
  const double n = static_cast<double>(values.size());
  Random random(seed);
  std::vector<double> means(resamples);
  for (double& one : means) {
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += values[random.below(values.size())];
    one = sum / n;
  }
  std::ranges::sort(means);
  if (means.front() == means.back()) return Interval{mean, mean};
  // Bias: how many resampled means lie below the mean itself.
  const double below = static_cast<double>(std::ranges::lower_bound(means, mean) - means.begin());
  const double size = static_cast<double>(resamples);
  const double bias = normal_quantile(std::clamp(below / size, 0.5 / size, 1 - 0.5 / size));
  // Acceleration: the skewness of the jackknife, whose means are mean + (mean - value) / (n - 1).
  double squares = 0;
  double cubes = 0;
  for (const double value : values) {
    const double off = value - mean;
    squares += off * off;
    cubes += off * off * off;
  }
  const double acceleration = squares > 0 ? cubes / (6 * std::pow(squares, 1.5)) : 0;
  const auto end = [&](double p) {
    const double z = bias + normal_quantile(p);
    const double adjusted = normal_cdf(bias + z / (1 - acceleration * z));
    const double index = std::clamp(std::floor(adjusted * size), 0.0, size - 1);
    return means[static_cast<std::size_t>(index)];
  };
  const double tail = (1 - confidence) / 2;
  return Interval{end(tail), end(1 - tail)};
}

Ratio ratio_of(std::span<const double> before, std::span<const double> after, double confidence) {
  if (before.empty() || after.empty()) return {};
  const std::vector<double> first = logs(before);
  const std::vector<double> second = logs(after);
  std::vector<double> shifts;
  shifts.reserve(first.size() * second.size());
  double above = 0;  // Mann-Whitney's U; a tie counts half
  for (const double from : first) {
    for (const double to : second) {
      shifts.push_back(to - from);
      above += to > from ? 1 : to == from ? 0.5 : 0;
    }
  }
  const bool exact = first.size() <= kExact && second.size() <= kExact;
  const double deviation =
      std::sqrt(static_cast<double>(shifts.size()) * static_cast<double>(first.size() + second.size() + 1) / 12);
  return invert(std::move(shifts), above, exact ? mann_whitney_cdf(first.size(), second.size()) : std::vector<double>(),
                deviation, confidence);
}

Ratio paired_ratio_of(std::span<const double> before, std::span<const double> after, double confidence) {
  const std::size_t pairs = std::min(before.size(), after.size());
  if (pairs == 0) return {};
  std::vector<double> shifts(pairs);
  // Not the logarithm of the quotient, which need not be finite.
  for (std::size_t i = 0; i < pairs; ++i) shifts[i] = std::log(after[i]) - std::log(before[i]);
  // W+ is the number of Walsh averages above 0 (Tukey): the mean of any two shifts, and each with itself.
  std::vector<double> averages;
  averages.reserve(pairs * (pairs + 1) / 2);
  double above = 0;
  for (std::size_t i = 0; i < pairs; ++i) {
    for (std::size_t j = i; j < pairs; ++j) {
      const double average = (shifts[i] + shifts[j]) / 2;
      averages.push_back(average);
      above += average > 0 ? 1 : average == 0 ? 0.5 : 0;
    }
  }
  const double n = static_cast<double>(pairs);
  const double deviation = std::sqrt(n * (n + 1) * (2 * n + 1) / 24);
  return invert(std::move(averages), above, pairs <= kExact ? signed_rank_cdf(pairs) : std::vector<double>(), deviation,
                confidence);
}

Fences fences(double first_quartile, double third_quartile) {
  const double range = third_quartile - first_quartile;
  return {first_quartile - 1.5 * range, third_quartile + 1.5 * range, first_quartile - 3 * range,
          third_quartile + 3 * range};
}

OutlierClasses classify(std::span<const double> values) {
  OutlierClasses classes;
  if (values.empty()) return classes;
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const auto rank = [&](double fraction) {
    const double at = std::ceil(fraction * static_cast<double>(sorted.size()));
    return sorted[static_cast<std::size_t>(std::max(1.0, at)) - 1];
  };
  const Fences fence = fences(rank(0.25), rank(0.75));
  for (const double value : sorted) {
    if (value < fence.severe_low || value > fence.severe_high) {
      ++classes.severe;
    } else if (value < fence.mild_low || value > fence.mild_high) {
      ++classes.mild;
    }
  }
  return classes;
}

}  // namespace warmfork::bench
