// Forks that share one KVM VM. Each has page tables and a window of its own at guest-physical addresses no other fork's
// tables lead to; tables and windows are made once per home and keep their place for life, so that KVM's cached
// translations never go stale.
//
//   guest-physical   image | code region | tables 0 | tables 1 | …   | window 0 | window 1 | … | shared memory …
//   slot             0       2             1 (all of them)             3          4          …   3 + capacity …
//
// Memory that is bound to shared regions has one place and one slot for all forks that have it with the same rights,
// made for the first and deleted with the last of them. Who has it is decided by page tables alone, which is why a
// home's tables are not always the same: they are zeroed before its slot is deleted, and KVM gives up all it has
// derived from any table whenever a slot is deleted (kvm_arch_flush_shadow_memslot).
//
// Threads: make() and make_cpu() from one thread at a time; the forks as Fork says. A fork may be destroyed on any
// thread.
#pragma once

#include "fork/fork.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace warmfork {

class SpaceForks final : public ForkSource {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ForkSource>> create(const kvm::Kvm& kvm,
                                                                  std::shared_ptr<const Snapshot> snapshot,
                                                                  const ForkOptions& options, std::size_t capacity);

  [[nodiscard]] ForkKind kind() const override { return ForkKind::kSpace; }
  [[nodiscard]] Result<GuestCpu*> make_cpu() override;

 private:
  [[nodiscard]] Result<std::unique_ptr<Fork>> make_one(const SharedBindings& shared) override;
  [[nodiscard]] const SharedBindings& own_bindings() const override { return options_.shared; }
  SpaceForks(std::shared_ptr<const Snapshot> snapshot, const ForkOptions& options)
      : snapshot_(std::move(snapshot)), options_(options) {}
  [[nodiscard]] Status prepare(const kvm::Kvm& kvm, std::size_t capacity);
  [[nodiscard]] Result<std::size_t> take_home();
  void leave(std::size_t index, const std::vector<BoundRegion>& shared);

  // One memory with one kind of access, as the VM has it.
  struct SharedSlot {
    std::shared_ptr<SharedMemory> memory;
    bool writable = false;
    std::uint32_t slot = 0;
    std::size_t users = 0;  // regions of forks
  };
  [[nodiscard]] Result<std::vector<BoundRegion>> bind_regions(const SharedBindings& shared);
  [[nodiscard]] Result<Gpa> bind_memory(const std::shared_ptr<SharedMemory>& memory, bool writable);
  void unbind_regions(const std::vector<BoundRegion>& shared);

  std::shared_ptr<const Snapshot> snapshot_;
  ForkOptions options_;
  CaptureContext capture_;
  kvm::VmFd vm_;
  Mapping tables_;
  std::uint64_t tables_stride_ = 0;
  std::uint64_t window_stride_ = 0;
  std::size_t capacity_ = 0;
  std::vector<std::unique_ptr<GuestCpu>> cpus_;
  std::uint64_t shared_begin_ = 0;  // guest-physical: behind all windows …
  std::uint64_t shared_end_ = 0;    // … up to where this processor can address
  std::uint32_t slots_end_ = 0;
  std::mutex mutex_;  // of what follows
  std::size_t used_ = 0;
  std::vector<std::size_t> free_;
  std::map<std::uint64_t, SharedSlot> shared_;  // by guest-physical address
  std::vector<std::uint32_t> free_slots_;       // below next_slot_
  std::uint32_t next_slot_ = 0;
};

}  // namespace warmfork
