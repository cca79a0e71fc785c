#include "bench/figure.hpp"

#include "base/tsc_clock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string_view>

namespace warmfork::bench {
namespace {

struct NamedQuantile {
  const char* name;
  double fraction;
};
constexpr std::array<NamedQuantile, 3> kQuantiles{{{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}}};

constexpr std::array kDistribution{0.001, 0.01, 0.05, 0.1,  0.2,  0.3,   0.4,   0.5,    0.6,
                                   0.7,   0.8,  0.9,  0.95, 0.99, 0.995, 0.999, 0.9999, 1.0};

}  // namespace

Figure from_ticks(std::string name, const Histogram& ticks) {
  const double ns = tsc_ns_per_tick();
  const auto quantile_of = [&, step = tsc_step_ticks()](double fraction) {
    return ticks.grouped_quantile(fraction, step) * ns;
  };
  Figure figure{.name = std::move(name), .unit = "ns", .samples = ticks.count()};
  figure.mean = ticks.mean() * ns;
  figure.stddev = ticks.stddev() * ns;
  figure.min = static_cast<double>(ticks.min()) * ns;
  figure.p50 = quantile_of(0.5);
  figure.p90 = quantile_of(0.9);
  figure.p99 = quantile_of(0.99);
  figure.p999 = quantile_of(0.999);
  figure.max = static_cast<double>(ticks.max()) * ns;
  figure.ticks = std::make_shared<const Histogram>(ticks);
  figure.noise = NoiseMeter::since_begin();
  if (ticks.count() == 0) return figure;
  for (const NamedQuantile& quantile : kQuantiles) {
    if (const auto ranks = quantile_ranks(ticks.count(), quantile.fraction)) {
      // In the middle of the interval that the value of this rank stands for.
      const auto at = [&](std::uint64_t rank) {
        return ticks.grouped_at(static_cast<double>(rank) - 0.5, tsc_step_ticks()) * ns;
      };
      figure.intervals[quantile.name] = {at(ranks->low), at(ranks->high)};
    }
  }
  const Fences fence = fences(quantile_of(0.25) / ns, quantile_of(0.75) / ns);
  figure.outliers.severe = ticks.count_outside(fence.severe_low, fence.severe_high);
  figure.outliers.mild = ticks.count_outside(fence.mild_low, fence.mild_high) - figure.outliers.severe;
  for (const double fraction : kDistribution) figure.distribution.emplace_back(fraction, quantile_of(fraction));
  return figure;
}

Figure from_values(std::string name, std::string unit, std::vector<double> values) {
  Figure figure{.name = std::move(name), .unit = std::move(unit), .samples = values.size()};
  figure.noise = NoiseMeter::since_begin();
  if (values.empty()) return figure;
  figure.values = values;
  std::ranges::sort(values);
  const double n = static_cast<double>(values.size());
  figure.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - figure.mean) * (value - figure.mean);
  figure.stddev = values.size() > 1 ? std::sqrt(squares / (n - 1)) : 0;
  const auto rank = [&](double fraction) {
    return values[static_cast<std::size_t>(std::max(1.0, std::ceil(fraction * n))) - 1];
  };
  figure.min = values.front();
  figure.p50 = rank(0.5);
  figure.p90 = rank(0.9);
  figure.p99 = rank(0.99);
  figure.p999 = rank(0.999);
  figure.max = values.back();
  for (const NamedQuantile& quantile : kQuantiles) {
    if (const auto interval = quantile_interval(values, quantile.fraction)) figure.intervals[quantile.name] = *interval;
  }
  constexpr std::uint64_t kSeed = 1;  // any: the same values give the same interval
  if (const auto interval = mean_interval(values, kSeed)) figure.intervals["mean"] = *interval;
  figure.outliers = classify(values);
  for (const double fraction : kDistribution) figure.distribution.emplace_back(fraction, rank(fraction));
  return figure;
}

void set_floor(Figure& figure, const Figure& floor) {
  figure.floor = floor.name;
  if (floor.p50 > 0) figure.ratio_to_floor_p50 = figure.p50 / floor.p50;
}

bool is_rate(const Figure& figure) { return figure.unit.ends_with("/s"); }

std::string identity(const Figure& figure) {
  // A reset that chooses its mode, and sizes that follow from how much is measured.
  constexpr std::array<std::string_view, 2> kChosenByTheRun{"chosen", "tests"};
  std::string text = figure.name;
  for (const auto& [key, value] : figure.labels) {
    if (std::ranges::find(kChosenByTheRun, key) == kChosenByTheRun.end()) text += fmt::format(" {}={}", key, value);
  }
  for (const auto& [key, value] : figure.params) {
    if (std::ranges::find(kChosenByTheRun, key) == kChosenByTheRun.end()) text += fmt::format(" {}={}", key, value);
  }
  return text;
}

}  // namespace warmfork::bench
