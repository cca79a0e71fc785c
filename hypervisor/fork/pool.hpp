// Ready forks for many threads: acquire, call, release.
//
//   Pool ──acquire──> Lease ──call──> answer ──(release)──> reset ──> ready again
//
// A thread that comes back gets the fork and the vCPU it had last, without a lock: each thread has a shelf it parks its
// fork on. Only a thread whose shelf is empty takes the lock, looks at the free list, makes a fork if there may be
// more, takes one from another shelf, or waits its turn (first come, first served). No KVM object is made or closed for
// a request once the pool is warm.
//
// A fork whose guest crashed, exited or ran out of time is reset as any other; one that cannot be reset (the host's
// kernel refused) is thrown away and replaced, and counted.
//
// Threads: any number; a Lease belongs to one thread at a time. The pool may be destroyed while calls are in flight: it
// cancels them and waits until every Lease has been given back; acquire() fails from then on.
#pragma once

#include "base/result.hpp"
#include "fork/fork.hpp"
#include "fork/fork_options.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

namespace warmfork {

/// When a used fork is put back.
enum class ResetPolicy : std::uint8_t {
  kDeferred,  // when the fork is next taken, or by the pool's own thread while nobody wants it
  kStrict,    // before release() returns: nothing of a request is in memory after it
};

struct PoolOptions {
  ForkOptions fork;
  std::size_t ready = 1;  // forks made ahead
  std::size_t most = 64;  // forks at once; acquire() waits when all are in use
  ResetPolicy policy = ResetPolicy::kStrict;
  std::uint64_t timeout_ns = 0;  // deadline of every call that gives none of its own; 0: none
};

/// What a pool has done since it was made.
struct PoolStats {
  std::uint64_t acquired = 0;
  std::uint64_t waited = 0;     // acquisitions that had to wait for a release
  std::uint64_t faults = 0;     // forks that came back crashed or exited …
  std::uint64_t deadlines = 0;  // … or stopped
  std::uint64_t replaced = 0;   // forks that could not be reset
  std::uint64_t forks = 0;      // alive now
  std::uint64_t in_use = 0;     // leased now
};

class Pool;

/// A fork on loan; gives itself back. Not to be used after release().
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease();

  [[nodiscard]] Fork& fork() const { return *fork_; }
  [[nodiscard]] Fork* operator->() const { return fork_; }
  [[nodiscard]] explicit operator bool() const { return fork_ != nullptr; }
  /// As Fork::call, with the pool's deadline if `options` has none.
  [[nodiscard]] Result<std::uint64_t> call(Gva function, std::span<const std::uint64_t> arguments,
                                           CallOptions options = {}) const;
  void release();

 private:
  friend class Pool;
  Pool* pool_ = nullptr;
  Fork* fork_ = nullptr;
  void* entry_ = nullptr;
};

class Pool {
 public:
  /// Makes options.ready forks. Errors: as make_fork_source(), kUsage (ready > most, most = 0).
  [[nodiscard]] static Result<std::unique_ptr<Pool>> create(const kvm::Kvm& kvm,
                                                            std::shared_ptr<const Snapshot> snapshot,
                                                            const PoolOptions& options);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// A ready fork, as new. Waits while all are in use, at most `timeout_ns` (0: as long as it takes). Errors:
  /// kDeadline, kCancelled (the pool is going away), kHost (a fork was needed and could not be made, and none is in
  /// use that could be waited for).
  [[nodiscard]] Result<Lease> acquire(std::uint64_t timeout_ns = 0);

  /// acquire, one call, release. With kStrict the fork is clean again when the answer is returned.
  [[nodiscard]] Result<std::uint64_t> request(Gva function, std::span<const std::uint64_t> arguments,
                                              CallOptions options = {});

  [[nodiscard]] PoolStats stats() const;
  [[nodiscard]] const Snapshot& snapshot() const;
  [[nodiscard]] const PoolOptions& options() const;
  /// "space forks, copied, reset by dirty_ring" …
  [[nodiscard]] std::string describe() const;

 private:
  friend class Lease;
  class Impl;
  explicit Pool(std::unique_ptr<Impl> impl);
  void release(Fork* fork, void* entry);

  std::unique_ptr<Impl> impl_;
};

}  // namespace warmfork
