// How long a new process takes until an LC-3 program runs at full speed in it.
#pragma once

#include "bench/suites.hpp"
#include "kvm/kvm.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <cstdint>
#include <string>

namespace warmfork::bench {

/// What one process has seen. Times in ns since just before it was made (fork and exec included).
struct StartSample {
  std::uint64_t first_ns = 0;    // the end of the first slice: the machine has executed instructions
  std::uint64_t reached_ns = 0;  // the end of the first slice at 90 % of the peak rate
  double peak = 0;              // instructions per second: the median of the last slices, with nothing left to optimise
  std::uint64_t disk_hits = 0;  // units found in the cache
};

struct StartOptions {
  lc3::Engine engine = lc3::Engine::kAuto;
  std::string cache_dir;       // as of Lc3Options
  std::uint64_t begin_ns = 0;  // CLOCK_MONOTONIC just before the process was made
};

/// In the new process: makes a machine, runs a kernel (crc) in slices of about 0.2 ms and notes each slice's rate,
/// exits included, until nothing becomes faster. With a cache directory it waits for what is still written there.
[[nodiscard]] Result<StartSample> run_start(const kvm::Kvm& kvm, const StartOptions& options);
/// One line; and back. Errors (kHost): that is none.
[[nodiscard]] std::string to_line(const StartSample& sample);
[[nodiscard]] Result<StartSample> parse_start(const std::string& line);

/// startup/to_90_percent/ENGINE/cold for every engine, and …/cached, with a directory of optimised code that an earlier
/// process has left, for those that optimise. One new process a sample, by SuiteOptions::start_command; without that
/// there is no figure.
[[nodiscard]] SuiteResult run_lc3_start(const SuiteOptions& options);

}  // namespace warmfork::bench
