// What a benchmark produces: a figure with its distribution, made from what was measured. Its name is stable: a renamed
// figure is a breaking change for everything that reads result files.
#pragma once

#include "base/histogram.hpp"
#include "bench/noise.hpp"
#include "bench/statistics.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace warmfork::bench {

/// One figure with its distribution. Latencies are in ns; throughputs in ops/s, instr/s, bytes/s or packets/s over
/// repetitions.
struct Figure {
  std::string name;  // "lifecycle/vmcall/warm"
  std::string unit;  // "ns", "instr/s", …
  std::uint64_t samples = 0;
  double mean = 0, stddev = 0, min = 0, p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
  std::optional<std::string> floor;  // name of the figure that is its physical floor
  std::optional<double> ratio_to_floor_p50;
  std::map<std::string, double> params;
  std::map<std::string, std::string> labels;  // params whose values are words; in the result file they are params too
  std::map<std::string, double> counters;
  // Where the quantiles "p50", "p99" and "p999" of what was measured lie with 95 % confidence (order statistics), and
  // the "mean" of repetitions (bootstrap). One that is missing: too few samples to say.
  std::map<std::string, Interval> intervals;
  OutlierClasses outliers;
  std::vector<std::pair<double, double>> distribution;  // (fraction, value), ascending: what a plot shows
  // The same quantile of each round, where rounds were repeated: what differs between them is not in the intervals.
  std::map<std::string, std::vector<double>> rounds;  // "p50", "p99", "p999"
  Noise noise;                                        // while it was measured
  // What it was made from, if that is still there: one of both. Not in the result file.
  std::shared_ptr<const Histogram> ticks = nullptr;
  std::vector<double> values = {};
};

/// A figure from latencies recorded in TSC ticks. Its quantiles, and their intervals, are those of grouped data
/// (Histogram::grouped_at()): each reading stands for a step of this clock around it. So a p50 of 460 ns by a clock
/// that advances in steps of 10 ns is no multiple of 10 ns, and a change of 2 % is seen. `min` and `max` are as read.
[[nodiscard]] Figure from_ticks(std::string name, const Histogram& ticks);

/// A figure from one value per repetition (throughputs).
[[nodiscard]] Figure from_values(std::string name, std::string unit, std::vector<double> values);

/// Says that `floor` is the floor of `figure` and computes the ratio of the medians.
void set_floor(Figure& figure, const Figure& floor);

/// What is the same figure in two runs: name, labels and params, without those that a run chooses by itself.
[[nodiscard]] std::string identity(const Figure& figure);

/// True if more is better: all units but ns and bytes.
[[nodiscard]] bool is_rate(const Figure& figure);

}  // namespace warmfork::bench
