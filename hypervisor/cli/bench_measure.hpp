// Measuring: suites in rounds, until there are enough of them or somebody has had enough.
//
// Threads: the verb's.
#pragma once

#include "bench/report.hpp"
#include "bench/result_file.hpp"
#include "bench_options.hpp"
#include "kvm/kvm.hpp"

#include <signal.h>

#include <array>
#include <csignal>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::cli {

/// The verb that run_start() is behind: in a process of its own, for one sample of startup/….
inline constexpr const char* kStartVerb = "bench-start";

/// The suites there are, by name.
[[nodiscard]] std::vector<std::string> suite_names();

/// While it lives, the first Ctrl-C or SIGTERM ends the run after the suite that is being measured, the second one at
/// once. There is one.
class StopGuard {
 public:
  StopGuard();
  ~StopGuard();
  StopGuard(const StopGuard&) = delete;
  StopGuard& operator=(const StopGuard&) = delete;

 private:
  static constexpr std::array<int, 2> kSignals{SIGINT, SIGTERM};
  std::array<struct sigaction, kSignals.size()> previous_{};
};
/// The signal that has come, or 0.
[[nodiscard]] int stop_signal();

/// Shows what is measured at the moment, on standard error.
[[nodiscard]] std::function<void(const std::string&)> progress_line();

/// What was measured, and what ended it too early, if anything did: what is finished is worth keeping all the same.
struct Measured {
  bench::ResultFile result;
  std::optional<Error> error;
};

/// Figures that `wanted` names and their floors (nothing: all), of options' suites.
[[nodiscard]] Measured measure(const BenchOptions& options, const kvm::Kvm& kvm, bench::Context context,
                               const std::function<bool(const std::string&)>& wanted);

}  // namespace warmfork::cli
