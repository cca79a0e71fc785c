// What a benchmark produces, and how it is written down. The JSON names are stable: a renamed result is a breaking
// change for everything that reads result files.
#pragma once

#include "base/histogram.hpp"
#include "base/result.hpp"

#include <cstdint>
#include <map>
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
};

/// A figure from latencies recorded in TSC ticks.
[[nodiscard]] Figure from_ticks(std::string name, const Histogram& ticks);

/// A figure from one value per repetition (throughputs).
[[nodiscard]] Figure from_values(std::string name, std::string unit, std::vector<double> values);

/// Says that `floor` is the floor of `figure` and computes the ratio of the medians.
void set_floor(Figure& figure, const Figure& floor);

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
};

[[nodiscard]] Context make_context(std::string kvm_backend, std::string cpu, std::vector<int> pinned);

/// The result file (one JSON object).
[[nodiscard]] std::string to_json(const Context& context, const std::vector<Figure>& figures);

/// A table for people: name, p50, p99, p99.9, max, and the ratio to the floor.
[[nodiscard]] std::string to_table(const std::vector<Figure>& figures);

/// The name with what tells it from others of that name: "lifecycle/reset/auto 8 dirty".
[[nodiscard]] std::string full_name(const Figure& figure);

/// "26.1 µs", "1.43 G instr/s": a value with a unit people read.
[[nodiscard]] std::string format_value(double value, const std::string& unit);

}  // namespace warmfork::bench
