// The suites of `warmfork bench`. Each measures its figures and their floors in one process, on one pinned CPU,
// interleaved in rounds, so that what disturbs one disturbs the other.
#pragma once

#include "base/result.hpp"
#include "bench/figure.hpp"
#include "bench/noise.hpp"
#include "kvm/kvm.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::bench {

/// When a measured call is given up. The guest is the benchmark's own: this is for a machine that stands still, not for
/// a guest that hangs.
inline constexpr std::uint64_t kTimeoutNs = 60'000'000'000;

struct SuiteOptions {
  const kvm::Kvm* kvm = nullptr;
  double effort = 1.0;    // scales sample counts: 1 is the full set, 0.02 a smoke test
  int cpu = 0;            // the measuring thread is pinned here
  int other_cpu = 0;      // for figures with two threads; equal to `cpu` if there is only one
  std::vector<int> cpus;  // all this process may use, at least one: for figures by the number of threads
  std::function<void(const std::string&)> progress;  // one line per figure that begins
  std::function<void(const std::string&)> remarks;   // what this machine has no figures of, and why
  // What executes run_start() (lc3_start.hpp) in a new process and prints its line: the program's file and its first
  // arguments. Empty: there is no such program, and no figures of starts.
  std::vector<std::string> start_command;

  std::function<bool(const std::string&)> wanted;  // by name; empty: every figure. For suites that can do less.

  /// True if any of these figures is wanted. Suites may measure more than that.
  [[nodiscard]] bool wants(std::initializer_list<std::string_view> names) const {
    return !wanted ||
           std::any_of(names.begin(), names.end(), [this](std::string_view name) { return wanted(std::string(name)); });
  }
  /// A sample count scaled by the effort, at least `least`.
  [[nodiscard]] std::uint64_t samples(std::uint64_t full, std::uint64_t least = 10) const {
    return std::max(least, static_cast<std::uint64_t>(static_cast<double>(full) * effort));
  }
  void say(const std::string& text) const {
    NoiseMeter::begin();
    if (progress) progress(text);
  }
  void remark(const std::string& text) const {
    if (remarks) remarks(text);
  }
};

using SuiteResult = Result<std::vector<Figure>>;

/// What the machine's KVM and memory cost by themselves: floors/….
[[nodiscard]] SuiteResult run_floors(const SuiteOptions& options);
/// Making, booting, calling and closing a machine: lifecycle/….
[[nodiscard]] SuiteResult run_lifecycle(const SuiteOptions& options);

/// LC-3 code: every kernel and engine in the guest, and its yardsticks: lc3/….
[[nodiscard]] SuiteResult run_lc3(const SuiteOptions& options);

/// Graded LC-3 runs per second by the number of threads, forks reset between them: fleet/….
[[nodiscard]] SuiteResult run_fleet(const SuiteOptions& options);

/// What a user would pick instead: a process forked for each request, warm processes called by pipe and futex:
/// alternatives/….
[[nodiscard]] SuiteResult run_alternatives(const SuiteOptions& options);

/// The rings of shared memory between two CPUs: ring/…. No figure if there is only one.
[[nodiscard]] SuiteResult run_ring(const SuiteOptions& options);

/// LC-3 machines that send each other messages, in both ways to wait, and what waiting costs: bus/…. No figure if there
/// is only one CPU.
[[nodiscard]] SuiteResult run_bus(const SuiteOptions& options);
struct BusCheck {
  std::uint64_t messages = 0;  // that were sent, and came
  double seconds = 0;
};
/// One LC-3 machine sends another one `messages` numbered messages, the other checks each. `stop` is asked now and
/// then: if it says so, those are checked that were sent until then. Errors: kGuestFault (one is missing, came twice or
/// out of order, as its text says), kHost.
[[nodiscard]] Result<BusCheck> run_bus_check(
    const SuiteOptions& options, std::uint64_t messages, const std::function<bool()>& stop = [] { return false; });
/// A replayed feed into guests: the highest rates without a loss, the cost of a message: feed/…. No rates if there is
/// only one CPU.
[[nodiscard]] SuiteResult run_feed(const SuiteOptions& options);

/// What being watched costs: requests with metrics off, on, and while somebody scrapes; records; scrapes of 10,000
/// series: metrics/….
[[nodiscard]] SuiteResult run_metrics(const SuiteOptions& options);

/// What traces cost a request, and samples a running LC-3, beside the same without: trace/…. Errors (kUsage): something
/// records already.
[[nodiscard]] SuiteResult run_trace(const SuiteOptions& options);

/// Memory in a guest beside the same loops over the same memory in the host, by size, stride, page size and NUMA node:
/// memory/….
[[nodiscard]] SuiteResult run_memory(const SuiteOptions& options);

/// Snapshots of a master and of a fork, as objects and as files: taking, saving, loading, size: snapshot/….
[[nodiscard]] SuiteResult run_snapshot(const SuiteOptions& options);
/// From nothing to a first answer, by booting, from a file, by a fork, from a pool: startup/….
[[nodiscard]] SuiteResult run_startup(const SuiteOptions& options);

/// Memory of forks by kind, window and population, and of LC-3 machines and their forks by engine: footprint/….
[[nodiscard]] SuiteResult run_footprint(const SuiteOptions& options);

/// Requests by the number of threads on a pool; a ring without locks and one with: concurrency/….
[[nodiscard]] SuiteResult run_concurrency(const SuiteOptions& options);

/// Numbers of threads to measure with on so many CPUs: 1, 2, 4 … and all of them.
[[nodiscard]] std::vector<std::size_t> thread_counts(std::size_t cpus);
/// Pins the calling thread. Errors (kHost): no such CPU.
[[nodiscard]] Status pin_to(int cpu);

}  // namespace warmfork::bench
