// Ready forks for many threads: acquire, call, release.
//
//   Pool ──acquire──> Lease ──call──> answer ──(release)──> reset ──> ready again
//
// A thread that comes back gets the fork and the vCPU it had last, without a lock: each thread has a shelf it parks its
// fork on. Only a thread whose shelf is empty takes the lock, looks at the free list, makes a fork if there may be
// more, takes one from another shelf, or waits its turn (first come, first served). No KVM object is made or closed for
// a request once the pool is warm.
//
// A `space` fork gets a vCPU when it is first leased and keeps it. There are never more vCPUs than forks that have been
// in use at once.
//
// A fork whose guest crashed, exited or ran out of time is reset as any other; one that cannot be reset (the host's
// kernel refused) is thrown away and replaced, and counted.
//
// Threads: any number; a Lease belongs to one thread at a time. The pool may be closed or destroyed while calls are in
// flight in other threads: it cancels them and waits until every Lease has been given back.
#pragma once

#include "base/result.hpp"
#include "fork/fork.hpp"
#include "fork/fork_options.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace warmfork {

/// When a used fork is put back.
enum class ResetPolicy : std::uint8_t {
  kDeferred,  // when the fork is next taken, or by the pool's own thread once nobody has wanted it for a while
  kStrict,    // before release() returns: nothing of a request is in memory after it
};

[[nodiscard]] constexpr std::string_view name_of(ResetPolicy policy) {
  return policy == ResetPolicy::kStrict ? "strict" : "deferred";
}

struct PoolOptions {
  ForkOptions fork;
  std::size_t ready = 1;  // forks made ahead
  std::size_t most = 64;  // forks at once; acquire() waits when all are in use
  ResetPolicy policy = ResetPolicy::kStrict;
  std::uint64_t timeout_ns = 0;  // deadline of every call that gives none of its own; 0: none
};

/// What a pool has done since it was made. While threads use the pool the figures are of slightly different moments.
struct PoolStats {
  std::uint64_t acquired = 0;
  std::uint64_t waited = 0;     // acquisitions that had to wait for a release
  std::uint64_t faults = 0;     // forks that came back crashed or exited …
  std::uint64_t deadlines = 0;  // … or stopped, by a deadline or a cancellation
  std::uint64_t replaced = 0;   // forks that could not be reset
  std::uint64_t tended = 0;     // forks the pool's own thread has reset (kDeferred)
  std::uint64_t forks = 0;      // alive now
  std::uint64_t vcpus = 0;      // alive now
  std::uint64_t in_use = 0;     // leased now
};

class Pool;
struct PoolEntry;

/// A fork on loan; gives itself back. Not to be used after release(), but for release(), which then does nothing.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), fork_(std::exchange(other.fork_, nullptr)), entry_(other.entry_) {}
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { release(); }

  [[nodiscard]] Fork& fork() const { return *fork_; }
  [[nodiscard]] Fork* operator->() const { return fork_; }
  [[nodiscard]] explicit operator bool() const { return fork_ != nullptr; }
  /// As Fork::call, with the pool's deadline if `options` has none. Fails with kCancelled once the pool is closed.
  [[nodiscard]] Result<std::uint64_t> call(Gva function, std::span<const std::uint64_t> arguments,
                                           CallOptions options = {}) const;
  void release();

 private:
  friend class Pool;
  Lease(Pool& pool, Fork& fork, PoolEntry& entry) : pool_(&pool), fork_(&fork), entry_(&entry) {}
  Pool* pool_ = nullptr;
  Fork* fork_ = nullptr;
  PoolEntry* entry_ = nullptr;
};

class Pool {
 public:
  /// Makes options.ready forks. `kvm` outlives the pool. Errors: as make_fork_source(), kUsage (ready > most, most =
  /// 0), kLimit (more forks at once than a pool or this KVM's VMs can have).
  [[nodiscard]] static Result<std::unique_ptr<Pool>> create(const kvm::Kvm& kvm,
                                                            std::shared_ptr<const Snapshot> snapshot,
                                                            const PoolOptions& options);
  /// As close().
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// A ready fork, as new. Waits while all are in use, at most `timeout_ns` (0: as long as it takes). Errors:
  /// kDeadline, kCancelled (the pool is closed), and that of making a fork (kHost, mostly) if there is none that could
  /// be waited for.
  [[nodiscard]] Result<Lease> acquire(std::uint64_t timeout_ns = 0);

  /// acquire, one call, release. With kStrict the fork is clean again when the answer is returned.
  [[nodiscard]] Result<std::uint64_t> request(Gva function, std::span<const std::uint64_t> arguments,
                                              CallOptions options = {});

  /// Cancels calls in flight and acquisitions that wait, and returns when every Lease has been given back; acquire()
  /// fails from then on. Not by a thread that holds a Lease itself.
  void close();

  [[nodiscard]] PoolStats stats() const;
  [[nodiscard]] const Snapshot& snapshot() const;
  [[nodiscard]] const PoolOptions& options() const;
  /// "space forks, copied, reset by dirty_ring, strict" …
  [[nodiscard]] std::string describe() const;

 private:
  friend class Lease;
  class Impl;
  explicit Pool(std::unique_ptr<Impl> impl);
  void release(PoolEntry& entry);
  [[nodiscard]] bool closed() const;

  std::unique_ptr<Impl> impl_;
};

}  // namespace warmfork
