// --metrics, of every verb that runs for long: numbers about it over HTTP, and as a file at its end.
#pragma once

#include "base/result.hpp"

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace warmfork::cli {

struct MetricsOptions {
  std::string address;
  std::string linger;
  std::string file;
};

void add_metrics_options(CLI::App& verb, MetricsOptions& options);

/// Runs a verb, with metrics if they were asked for, and returns its exit code; or why there can be none, reported.
/// `command`: what runs, for people; no arguments that may be secrets.
int with_metrics(const MetricsOptions& options, const std::string& command, const std::function<int()>& run);

/// What the verb is for has begun: /readyz says so. Nothing without --metrics. Again is no harm.
void metrics_ready();

}  // namespace warmfork::cli
