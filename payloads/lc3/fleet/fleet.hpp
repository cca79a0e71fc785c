// A fleet: LC-3 machines that run side by side, each in a fork of its own, until each has come to its end.
//
//   [[machine]] ──master: program loaded──snapshot──> count forks ──> queue ──slice by a worker──> queue … ──> result
//
// All machines are alive at once and take turns, a slice of some million instructions each; a machine with a `cpu` is
// run by a worker that is pinned there. Forks of one master share what has been compiled of its program.
//
// A machine that has links takes no turns: it has a thread of its own (bus.hpp), so that one that waits for another
// keeps nobody from running, and the kernel shares the CPUs out.
//
// Threads: run_fleet() starts its own and returns when they have ended; two at once share nothing.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "lc3/fleet/config.hpp"
#include "lc3/fleet/judge.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::lc3 {

/// How one machine ended.
struct MachineResult {
  std::string name;
  Verdict verdict = Verdict::kInterrupted;
  RunEnd end = RunEnd::kInterrupted;
  std::uint64_t executed = 0;  // instructions; see IsolatedRun::executed()
  std::uint64_t ns = 0;        // of its slices
  bool compared = false;       // an output was expected
  std::string output;          // what it printed, any bytes, at most RunLimits::output_bytes
  Profile profile;             // where samples found it; none unless FleetOptions::locate_samples
  std::string detail;          // why it is not as expected: visible text of at most 3 KiB
};

/// What became of one link. What the machines at its ends say of it is known if they could be asked at their end.
struct LinkResult {
  LinkEnd from, to;
  std::uint64_t capacity = 0;
  std::optional<std::uint64_t> sent;      // messages
  std::optional<std::uint64_t> received;  // of them
  /// What the sender has caught its receiver at, and the receiver its sender.
  std::array<ring::Violation, 2> violations;
};
/// "machine b: port 0: the peer's index went back or too far: 8, limit 65600", of either end; empty: none.
[[nodiscard]] std::vector<std::string> violations_of(const LinkResult& link);

struct FleetProgress {
  std::size_t machines = 0;
  std::size_t done = 0;
  std::uint64_t instructions = 0;  // of all, so far
};

struct FleetOptions {
  bool locate_samples = false;  // machines say where a Sampler finds them
  unsigned threads = 0;         // for machines without a `cpu`; 0: one per CPU this process may use
  /// Asked every 50 ms by the calling thread; true ends everything as soon as can be. May be empty.
  std::function<bool(const FleetProgress&)> should_stop;
};

struct FleetReport {
  std::vector<MachineResult> machines;  // in the order of the file
  std::vector<LinkResult> links;        // likewise
  std::uint64_t ns = 0;                 // from the first slice to the last
  bool interrupted = false;
  [[nodiscard]] bool all_passed() const;
};

/// Runs a fleet that load_fleet() has read. Errors: kInput (a program that cannot be read or assembled, a CPU this
/// process may not use, with file and line), kHost, kUnsupported (KVM, memory, threads).
[[nodiscard]] Result<FleetReport> run_fleet(const kvm::Kvm& kvm, const FleetFile& fleet, const FleetOptions& options);

}  // namespace warmfork::lc3
