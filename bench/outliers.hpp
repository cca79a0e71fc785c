// Why some runs took much longer than the others: every outlier is put down to what was seen to happen, as far as the
// clocks of this machine tell.
#pragma once

#include "base/result.hpp"
#include "bench/figure.hpp"
#include "kvm/kvm.hpp"
#include "warmfork/lc3/protocol.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace warmfork::bench {

/// In the order they are looked for: what the run itself reports comes before what was only counted beside it.
enum class Cause : std::uint8_t {
  kCompile,       // the run stopped to be compiled, or went over to other code
  kInvalidation,  // the run changed a word that code was made from
  kEntry,         // the first run after the guest was entered: what the host did has used caches and predictors
  kStolen,        // the thread did not run: another had its processor, or the host's hypervisor had
  kExit,          // an interrupt of the host took the processor out of the guest
  kUnattributed,
};
inline constexpr std::array kCauseNames = {"compile", "invalidation", "entry", "stolen", "exit", "unattributed"};

/// An outlier takes more than so many times the mean.
inline constexpr double kOutlierFactor = 3;

/// Runs measured one after the other without leaving the guest on purpose, and what happened meanwhile.
struct TimedCall {
  std::vector<lc3::TimedRun> runs;
  bool compiled = false;        // see lc3::TimedRuns
  std::uint64_t stolen_ns = 0;  // time the thread could have run and did not
  std::uint64_t exits = 0;      // interrupts that KVM left the guest for
};

struct CauseCount {
  std::uint64_t count = 0;
  double worst_ns = 0;  // of a whole run
};
using Causes = std::array<CauseCount, kCauseNames.size()>;

/// Counts the outliers among `call`'s runs, those longer than kOutlierFactor times `mean_ns`. Of what is not reported
/// by the run itself the longest come first: stolen time explains an outlier while half of what that took too long is
/// left of it, an exit one outlier.
void attribute(const TimedCall& call, double mean_ns, double ns_per_tick, Causes& causes);

/// "CAUSE" and "CAUSE_worst_ns" of every cause, and "outliers", among the figure's counters.
void add_counters(const Causes& causes, Figure& figure);

/// A table of the figures that have them, a line each: how many outliers of which cause, and the longest of each.
/// Empty if there are none.
[[nodiscard]] std::string outlier_table(const std::vector<Figure>& figures);

/// What stops a thread and its vCPU from running, so far. Threads: of the calling one.
struct Interruptions {
  std::uint64_t stolen_ns = 0;
  std::uint64_t exits = 0;
  /// From /proc/thread-self/schedstat (time on the run queue), /proc/stat (steal of `cpu`; in ticks of 10 ms) and KVM's
  /// counter irq_exits, which is 0 where KVM does not count. Errors (kHost): no such files.
  [[nodiscard]] static Result<Interruptions> now(const kvm::VcpuFd& vcpu, int cpu);
};

}  // namespace warmfork::bench
