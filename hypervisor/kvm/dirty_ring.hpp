// One vCPU's dirty ring: KVM writes an entry for each page it makes writable, before the guest can write it; the host
// reads entries from shared memory, without a system call (Linux Documentation/virt/kvm/api.rst, 8.29).
//
// A page that has been reported stays writable and is not reported again until reset() protects it. So the entries read
// so far name every page that may have changed, however often it changed.
//
// Threads: the thread that runs the vCPU.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"

#include <linux/kvm.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace warmfork::kvm {

class VmFd;

class DirtyRing {
 public:
  explicit DirtyRing(Mapping mapping)
      : mapping_(std::move(mapping)), mask_(mapping_.size() / sizeof(kvm_dirty_gfn) - 1) {}

  /// Calls visit(slot, page in slot) for each entry that is new since the last time. Entries stay in the ring.
  template <class Visit>
  void harvest(Visit visit) {
    for (;; ++next_) {
      kvm_dirty_gfn& gfn = entry(next_);
      if (next_ - first_ > mask_ || (std::atomic_ref(gfn.flags).load(std::memory_order_acquire) & kDirty) == 0) return;
      visit(gfn.slot, gfn.offset);
    }
  }

  /// True if so many entries wait in the ring that KVM would soon stop the vCPU (KVM_EXIT_DIRTY_RING_FULL).
  [[nodiscard]] bool needs_reset() const { return next_ - first_ > mask_ / 2; }

  /// Gives the harvested entries back and write-protects their pages: they will be reported again when written. An
  /// ioctl.
  [[nodiscard]] Status reset(VmFd& vm);

 private:
  static constexpr std::uint32_t kDirty = KVM_DIRTY_GFN_F_DIRTY;
  // SAFETY: the mapping is KVM's array of kvm_dirty_gfn, a power of two of them.
  kvm_dirty_gfn& entry(std::uint64_t index) { return reinterpret_cast<kvm_dirty_gfn*>(mapping_.data())[index & mask_]; }

  Mapping mapping_;
  std::uint64_t mask_;
  std::uint64_t first_ = 0;  // entries first_ … next_ are harvested and not yet given back
  std::uint64_t next_ = 0;
};

}  // namespace warmfork::kvm
