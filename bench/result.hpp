// What a benchmark produces, and how it is written down. The JSON names are stable: a renamed result is a breaking
// change for everything that reads result files.
#pragma once

#include "base/histogram.hpp"
#include "base/result.hpp"
#include "bench/noise.hpp"
#include "bench/statistics.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
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

/// The version of the result file's form. Figures of files with different ones are not compared.
inline constexpr int kSchema = 1;

/// Where a run took place.
struct Context {
  std::string date;    // ISO 8601
  std::string commit;  // of the build, "unknown" outside a repository
  std::string cpu;
  std::string kernel;
  std::string kvm_backend;  // "pvm", "svm", "vmx"
  int cpus = 0;
  std::vector<int> pinned;
  std::string build;  // build type and compiler
  // By so much the clock advances that latencies are read from (tsc_step_ticks()); 0: an older file, which does not
  // say.
  double clock_step_ns = 0;
  int schema = kSchema;
  bool partial = false;  // interrupted: some figures, or rounds of them, are missing
  unsigned rounds = 1;
  double effort = 1;
  MachineState before = {};
  MachineState after = {};
};

[[nodiscard]] Context make_context(std::string kvm_backend, std::string cpu, std::vector<int> pinned);

/// Of a run, and of a figure in a result file: a comparison takes the square of them in time and memory.
inline constexpr unsigned kMostRounds = 1000;

/// The result file (one JSON object).
[[nodiscard]] std::string to_json(const Context& context, const std::vector<Figure>& figures);

/// A result file, read back. Every number in it is finite; strings are as they are in the file.
struct ResultFile {
  Context context;
  std::vector<Figure> figures;
};
/// `source` is named in errors (kInput): not JSON, not of this form, a value out of range.
[[nodiscard]] Result<ResultFile> parse_result(const std::string& text, const std::string& source);
/// The same of a file of at most 64 MiB.
[[nodiscard]] Result<ResultFile> read_result(const std::string& path);

/// A table for people: name, p50, p99, p99.9, max, and the ratio to the floor.
[[nodiscard]] std::string to_table(const std::vector<Figure>& figures);

/// The name with what tells it from others of that name: "lifecycle/reset/auto 8 dirty".
[[nodiscard]] std::string full_name(const Figure& figure);

/// What is the same figure in two runs: name, labels and params, without those that a run chooses by itself.
[[nodiscard]] std::string identity(const Figure& figure);

/// Figures of rounds as one each: distributions are joined, counters averaged, and every round's quantiles kept.
/// Figures read from files have no distribution to join: theirs are the medians over the rounds.
class RoundSet {
 public:
  /// The figures of one more round. What they were made from is joined and dropped: it is large.
  void add(std::vector<Figure> round);
  /// In the order they came. Figures that a round lacks have fewer rounds than others.
  [[nodiscard]] std::vector<Figure> merged() const;
  [[nodiscard]] unsigned rounds() const { return rounds_; }

 private:
  struct One {
    std::vector<Figure> figures;            // without ticks
    std::shared_ptr<Histogram> ticks = {};  // of all of them; nothing if one lacks them
  };
  [[nodiscard]] static Figure merge(const One& one);
  std::vector<std::string> order_;  // identities
  std::map<std::string, One> of_;
  unsigned rounds_ = 0;
};

/// True if more is better: all units but ns and bytes.
[[nodiscard]] bool is_rate(const Figure& figure);

/// "26.1 µs", "1.43 G instr/s": a value with a unit people read.
[[nodiscard]] std::string format_value(double value, const std::string& unit);

}  // namespace warmfork::bench
