// Puts a fork's window back to its snapshot. One file per strategy; all have the same post-condition: every byte of the
// window but the fork page's ForkInfo is the snapshot's, and no page can be written without the strategy's knowledge.
//
// The tracking strategies share one idea. KVM reports a page when it makes it writable, and the page stays writable; a
// reset copies back every page reported so far and protects nothing again. So after a few requests the pages a request
// usually writes are writable, are copied at each reset, and cost no fault: the set is learned by itself. It only
// shrinks when samples show that most of it is copied in vain; then all pages are protected and learned anew.
//
// Threads: the thread that uses the fork.
#pragma once

#include "base/result.hpp"
#include "fork/fork_options.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"
#include "machine/address_space.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace warmfork {

/// What the resets of one fork have done, in all.
struct ResetStats {
  std::uint64_t resets = 0;
  std::uint64_t pages_copied = 0;
  std::uint64_t pages_sampled = 0;    // pages compared before they were copied …
  std::uint64_t pages_differing = 0;  // … and found to differ
  std::uint64_t relearned = 0;        // times the learned set was given up
};

/// What a strategy works on; all of it outlives the strategy.
struct ResetTarget {
  const Snapshot& snapshot;
  AddressSpace& space;
  kvm::VmFd& vm;
};

class ResetStrategy {
 public:
  virtual ~ResetStrategy() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Restores the window. The guest's writes reported by a dirty ring have been collected into space.dirty() before.
  /// Errors (kHost): the fork must not be used again.
  [[nodiscard]] virtual Status reset(ResetStats& stats) = 0;
  /// What it does and why, in words: "dirty_ring: 8 of 64 pages learned".
  [[nodiscard]] virtual std::string describe() const = 0;
};

/// What a VM must be made with for a mode.
struct TrackingNeeds {
  bool dirty_log = false;          // KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
  std::size_t ring_entries = 0;    // KVM_CAP_DIRTY_LOG_RING; 0: no ring
  std::uint32_t window_flags = 0;  // of the window's slot
};

/// What `mode` becomes for windows of this snapshot on this KVM: never kAuto. Errors (kUnsupported): the mode was asked
/// for by name and the KVM lacks it, or it does not go with the population.
[[nodiscard]] Result<ResetMode> choose_reset_mode(ResetMode mode, Population population, const Snapshot& snapshot,
                                                  const kvm::Kvm& kvm);
[[nodiscard]] TrackingNeeds tracking_needs(ResetMode mode, const Snapshot& snapshot);

/// The strategy for a mode that is not kAuto. `automatic` lets it change its mind about single resets: it copies
/// everything at once where that is cheaper.
[[nodiscard]] std::unique_ptr<ResetStrategy> make_reset_strategy(ResetMode mode, bool automatic,
                                                                 const ResetTarget& target);

/// One factory per file.
[[nodiscard]] std::unique_ptr<ResetStrategy> make_full_copy(const ResetTarget& target);
[[nodiscard]] std::unique_ptr<ResetStrategy> make_dirty_log(const ResetTarget& target);
[[nodiscard]] std::unique_ptr<ResetStrategy> make_dirty_ring(const ResetTarget& target, bool automatic);
[[nodiscard]] std::unique_ptr<ResetStrategy> make_cow_remap(const ResetTarget& target);

}  // namespace warmfork
