// One fork: a guest that starts as the snapshot was and can be put back there.
//
//   made ──> ready ──call──> ready …  ──reset──> ready, as new
//              └── fault, exit, deadline ──reset──> ready, as new
//
// A fork is made by a ForkSource (vm_forks.hpp, space_forks.hpp) and lives no longer than it. A `vm` fork has a vCPU of
// its own; a `space` fork runs on whichever it is bound to.
//
// Threads: one at a time, as every Guest. A `space` fork that moves to another vCPU must not run on the first any more.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "fork/fork_options.hpp"
#include "fork/reset_strategy.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"
#include "machine/guest.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace warmfork {

class Fork final : public Guest {
 public:
  ~Fork();

  /// Lets the fork run on `cpu` from now on. Cheap; the first call after a change of processor begins with the
  /// snapshot's extended state (x87, SSE, AVX, AVX-512), whatever the fork had in it. What the fork has run on before
  /// must be idle. Errors (kHost): KVM's report of written pages makes no sense.
  [[nodiscard]] Status bind(GuestCpu& cpu);
  [[nodiscard]] bool bound() const { return cpu_ != nullptr; }

  /// Puts the fork back to its snapshot, whatever became of the guest, with a new generation and new random bytes.
  /// Errors (kHost): the fork cannot be used any more.
  [[nodiscard]] Status reset();

  /// Reads guest memory with the guest's rights.
  [[nodiscard]] Status read(Gva address, std::span<std::byte> out) const { return space_->read(address, out); }

  [[nodiscard]] const std::shared_ptr<const Snapshot>& snapshot() const { return snapshot_; }
  [[nodiscard]] const ForkOptions& options() const { return options_; }
  /// Different for every fork and every reset in this process.
  [[nodiscard]] std::uint64_t generation() const { return generation_; }
  [[nodiscard]] Population population() const { return population_; }
  [[nodiscard]] const ResetStrategy& strategy() const { return *strategy_; }
  [[nodiscard]] const ResetStats& reset_stats() const { return stats_; }
  /// Where the time of making the fork went.
  struct Times {
    std::uint64_t prepare_ticks = 0;  // address space, page faults of the window, KVM slot, page tables
    std::uint64_t fill_ticks = 0;     // the snapshot's bytes, random bytes, books
  };
  [[nodiscard]] const Times& times() const { return times_; }
  /// Host memory that is this fork's alone: private pages of the window, page tables. Counts pages, so not for hot
  /// paths.
  [[nodiscard]] Result<std::uint64_t> private_bytes() const;

 private:
  friend class VmForks;
  friend class SpaceForks;

  /// Where a fork runs: what a source has prepared for it.
  struct Home {
    std::span<std::byte> tables;  // zeroed
    Gpa window_gpa;
    Gpa tables_gpa;
    std::uint32_t window_slot = kWindowSlot;
    std::vector<BoundRegion> shared;
    kvm::VmFd* vm = nullptr;
    std::function<void()> leave;  // gives the home back
  };
  Fork(std::shared_ptr<const Snapshot> snapshot, const ForkOptions& options, const SharedBindings& shared);
  /// Makes the window and the page tables. `mode` is chosen, `population` is not kAuto.
  [[nodiscard]] Status settle(Home home, Population population, ResetMode mode);
  [[nodiscard]] Status make_window(Population population);
  void fill_window();
  [[nodiscard]] Status put_back();
  /// Everything but memory is as in the snapshot again.
  [[nodiscard]] Status begin_life();

  std::shared_ptr<const Snapshot> snapshot_;
  ForkOptions options_;
  Home home_;
  Population population_ = Population::kCopy;
  Mapping window_;
  std::unique_ptr<ResetStrategy> strategy_;
  ResetMode mode_ = ResetMode::kFullCopy;  // of the strategy
  ResetStats stats_;
  std::uint64_t generation_ = 0;
  Times times_;
};

/// Makes forks of one kind from one snapshot. Forks must be gone before their source.
class ForkSource {
 public:
  virtual ~ForkSource() = default;
  /// A new fork, ready to be called (once bound, if it is a `space` fork). Errors: kHost (the machine is out of memory,
  /// descriptors or KVM's limits), kLimit (the source is full).
  [[nodiscard]] Result<std::unique_ptr<Fork>> make() { return make_with(own_bindings()); }
  /// The same with `shared` instead of the options' bindings; the source does not hold them when the fork is gone. Also
  /// kUsage: as check_bindings().
  [[nodiscard]] Result<std::unique_ptr<Fork>> make_with(const SharedBindings& shared);
  [[nodiscard]] virtual ForkKind kind() const = 0;
  /// A vCPU for `space` forks, for one thread at a time; nullptr for `vm` forks, which have their own. Errors (kHost).
  [[nodiscard]] virtual Result<GuestCpu*> make_cpu() = 0;
  /// The mode resets use, never kAuto, and the population, never kAuto.
  [[nodiscard]] ResetMode reset_mode() const { return mode_; }
  [[nodiscard]] Population population() const { return population_; }

 protected:
  [[nodiscard]] virtual Result<std::unique_ptr<Fork>> make_one(const SharedBindings& shared) = 0;
  /// The options'.
  [[nodiscard]] virtual const SharedBindings& own_bindings() const = 0;
  ResetMode mode_ = ResetMode::kFullCopy;
  Population population_ = Population::kCopy;
};

/// Prepares a source for forks of `snapshot`; `capacity` is the most that will be alive at once. Errors: as
/// choose_reset_mode() and check_bindings(), kLimit (capacity, slots for shared regions), kHost.
[[nodiscard]] Result<std::unique_ptr<ForkSource>> make_fork_source(const kvm::Kvm& kvm,
                                                                   std::shared_ptr<const Snapshot> snapshot,
                                                                   const ForkOptions& options, std::size_t capacity);

}  // namespace warmfork
