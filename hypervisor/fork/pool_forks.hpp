// All forks of a pool, and how they become more and fewer: a fork and the vCPU it runs on are made, and thrown away
// when the fork cannot be reset. Knows nothing of who uses them.
//
// Threads: all with the pool's lock, but open(). Functions that take the lock as an argument give it up while KVM
// objects are made or closed: that takes milliseconds.
#pragma once

#include "base/result.hpp"
#include "fork/fork.hpp"
#include "fork/pool.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace warmfork {

/// A fork of the pool, with the vCPU it runs on. It belongs to whoever has taken it from its shelf or from the free
/// list; memory is ordered by that exchange.
struct PoolEntry {
  std::unique_ptr<Fork> fork;
  GuestCpu* cpu = nullptr;         // once it has one, for good
  std::atomic<bool> dirty{false};  // to be reset before it is used; atomic only because tend() looks before it takes
};

class PoolForks {
 public:
  using Lock = std::unique_lock<std::mutex>;
  using Clock = std::chrono::steady_clock;
  // After a fork could not be made, nobody tries again for so long: each attempt costs much and will hardly succeed.
  static constexpr Clock::duration kGrowAgainAfter = std::chrono::milliseconds(250);

  struct Counts {
    std::size_t alive = 0;   // forks, also those that are just being made or destroyed
    std::size_t usable = 0;  // forks that are leased, parked or free
    std::size_t making = 0;  // threads in grow(), or in discard()
    std::size_t broken = 0;  // forks that are just being thrown away
    std::size_t vcpus = 0;
    std::uint64_t replaced = 0;
  };

  /// Before all else, once. Makes `options.ready` forks and gives those that can be leased at once to `free`, which has
  /// room for `options.most` then.
  [[nodiscard]] Status open(const kvm::Kvm& kvm, const std::shared_ptr<const Snapshot>& snapshot,
                            const PoolOptions& options, std::vector<PoolEntry*>& free);

  [[nodiscard]] const Counts& counts() const { return counts_; }
  /// No fork that could be waited for.
  [[nodiscard]] bool hopeless() const { return counts_.usable == 0 && counts_.making == 0; }
  [[nodiscard]] bool has_room() const { return !fresh_.empty() || counts_.alive < most_; }
  [[nodiscard]] bool may_grow() const;
  [[nodiscard]] Clock::time_point grow_again() const { return grow_again_; }

  /// A fork more, with a vCPU.
  [[nodiscard]] Result<PoolEntry*> grow(Lock& lock);
  /// A fork less; `entry` is gone.
  void discard(Lock& lock, PoolEntry& entry);
  /// Stops what runs.
  void cancel_all();

  /// "space forks, copied, reset by dirty_ring". Any thread.
  [[nodiscard]] std::string describe() const;

 private:
  // An entry while it is made: nobody else sees it.
  struct Parts {
    std::unique_ptr<Fork> fork;
    GuestCpu* cpu = nullptr;
    GuestCpu* spare = nullptr;  // a vCPU without a fork
    std::size_t vcpus_made = 0;
  };
  [[nodiscard]] Status prepare(Parts& parts);
  void take_parts(PoolEntry& entry, Parts parts);

  std::size_t most_ = 0;
  std::unique_ptr<ForkSource> source_;               // outlives the forks
  std::mutex source_mutex_;                          // whoever makes a fork or a vCPU; never taken with the pool's held
  std::vector<std::unique_ptr<PoolEntry>> entries_;  // all
  std::vector<PoolEntry*> fresh_;                    // `space` forks that have no vCPU yet
  std::vector<GuestCpu*> idle_cpus_;                 // their forks had to be thrown away
  Counts counts_;
  Clock::time_point grow_again_;
};

}  // namespace warmfork
