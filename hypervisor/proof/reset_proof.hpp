// The proof that a reset leaves nothing: hostile guests run in forks, the forks are reset, and each is compared with a
// fresh fork, one that nothing has ever run in, on a VM and vCPU of its own.
//
//   record    a fresh fork, for each place (home, vCPU) a fork can be at: what is in its memory, what KVM tells of its
//             vCPU, what the guest itself sees, what it does next; then thrown away
//   round     hostile acts in a fork, in its neighbour, on this vCPU and another; reset; the same observations; every
//             difference to the record of that place is reported in words
//
// What is compared, and what is not and why: SECURITY.md, "Forks and resets".
//
// Threads: one.
#pragma once

#include "base/result.hpp"
#include "fork/fork.hpp"
#include "kvm/kvm.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace warmfork {

struct ResetProofOptions {
  std::vector<ForkKind> kinds{ForkKind::kVm, ForkKind::kSpace};
  std::vector<Population> populations{Population::kCopy, Population::kCow};
  /// Those that a population or this KVM cannot have are skipped, and the report says so.
  std::vector<ResetMode> modes{ResetMode::kAuto, ResetMode::kFullCopy, ResetMode::kDirtyLog, ResetMode::kDirtyRing,
                               ResetMode::kCowRemap};
  std::uint64_t resets = 2000;             // in all, spread over the combinations
  std::uint64_t seed = 1;                  // of everything that is random
  std::uint64_t memory_bytes = 512 << 10;  // of the guest; from about 5 MiB on it has 2 MiB pages
  /// Of two shared regions, one read-write that is attacked and one read-only; 0: none. They are no part of a reset:
  /// what is proven is that they change nothing in it, and that the read-only one's memory never changes.
  std::uint64_t shared_bytes = 0;
  std::size_t keep_differences = 20;              // kept in words; all are counted
  std::function<bool(std::uint64_t)> progress{};  // called with the resets done; false: stop here
  std::function<void(Fork&)> after_reset{};       // for tests of the proof: undoes part of a reset
};

/// What was proven of one kind, population and mode.
struct ResetProofResult {
  ForkKind kind = ForkKind::kVm;
  Population population = Population::kCopy;
  ResetMode mode = ResetMode::kAuto;
  ResetMode chosen = ResetMode::kAuto;        // what kAuto has become
  std::string skipped;                        // why it cannot be had here; else empty
  std::uint64_t resets = 0;                   // compared
  std::uint64_t fresh_forks = 0;              // made beside the hostile ones, compared as well
  std::map<std::string, std::uint64_t> acts;  // hostile runs by kind
  std::uint64_t bytes = 0;                    // of memory, page tables and reports compared
  std::uint64_t registers = 0;                // of vCPUs compared
  std::uint64_t system_calls = 0;             // of following runs compared
  std::uint64_t differing = 0;                // differences found in all …
  std::vector<std::string> differences;       // … and the first of them
};

struct ResetProofReport {
  std::vector<ResetProofResult> results;
  std::string processor;     // what could not be compared on this one, in words; else empty
  bool interrupted = false;  // progress() wanted it to end
  [[nodiscard]] std::uint64_t resets() const;
  [[nodiscard]] std::uint64_t differing() const;
};

/// Runs the proof. Differences are results, not errors. Errors: what KVM or the host refused.
[[nodiscard]] Result<ResetProofReport> prove_reset(const kvm::Kvm& kvm, const ResetProofOptions& options);

}  // namespace warmfork
