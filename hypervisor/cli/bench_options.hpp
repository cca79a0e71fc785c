// What `warmfork bench` was asked for.
#pragma once

#include "bench/verdict.hpp"
#include "metrics.hpp"

#include <string>
#include <vector>

namespace warmfork::cli {

struct BenchOptions {
  MetricsOptions metrics;
  std::vector<std::string> suites;
  std::string json;
  double effort = 1;
  std::string plot;
  bool quick = false;
  bool all_figures = false;
  std::string messages;

  unsigned rounds = 0;  // 0: by what is asked for
  bool until_stable = false;
  unsigned most_rounds = 40;
  std::string filter;

  std::string save_baseline, baseline, delete_baseline, baseline_dir;
  bool list_baselines = false;
  bool allow_foreign = false;
  std::vector<std::string> builds;
  std::string timeout;  // of a build's round
  std::string verdicts;
  double change = 5, noise = 10, severe = 20, confidence = 95;  // %

  std::string markdown, csv, html, google_benchmark;
  std::string readme_tables, readme = "README.md";
  bool check_tables = false;
};

/// Rounds where runs are compared: with ten, the second smallest and second largest hold the median with 97.9 %.
inline constexpr unsigned kComparedRounds = 10;
/// The least that 95 % can be said of (bench/statistics.hpp).
inline constexpr unsigned kLeastRounds = 6;

[[nodiscard]] inline bench::Thresholds thresholds_of(const BenchOptions& options) {
  return {.change = options.change / 100,
          .noise = options.noise / 100,
          .severe = options.severe / 100,
          .confidence = options.confidence / 100};
}

}  // namespace warmfork::cli
