// Typed owners of the three kinds of KVM file descriptor: the system (Kvm), a virtual machine (VmFd), a virtual
// processor (VcpuFd). The only place with KVM ioctls. Every ioctl returns Result; errors name the ioctl, its arguments
// and errno. Source: Linux Documentation/virt/kvm/api.rst.
//
// Threads: Kvm and VmFd may be used from any thread. A VcpuFd belongs to one thread at a time (KVM's rule); the only
// exception is request_immediate_exit(), which any thread may call.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "kvm/dirty_ring.hpp"
#include "kvm/vcpu_exit.hpp"

#include <linux/kvm.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::kvm {

/// One (index, value) pair of a model-specific register.
struct Msr {
  std::uint32_t index;
  std::uint64_t value;
  friend bool operator==(const Msr&, const Msr&) = default;
};

class VcpuFd {
 public:
  /// Runs the guest until it exits. An interrupted KVM_RUN (signal or immediate exit) is ExitInterrupted, not an error.
  [[nodiscard]] Result<VcpuExit> run();

  /// KVM_RUN without decoding: 0 or errno. For the hot path, which looks at kvm_run itself. Selectors that the guest
  /// has left in the thread's segment registers (kvm-pvm does not switch them) are gone when it returns.
  [[nodiscard]] int run_raw();

  /// The structure shared with KVM: synced registers, exit reason, immediate_exit.
  [[nodiscard]] kvm_run& shared() { return *run_; }
  [[nodiscard]] const kvm_run& shared() const { return *run_; }
  [[nodiscard]] std::size_t shared_size() const { return mapping_.size(); }

  /// Makes the next (or current, together with a signal to its thread) KVM_RUN return at once. Any thread.
  void request_immediate_exit() { std::atomic_ref(run_->immediate_exit).store(1, std::memory_order_release); }
  void clear_immediate_exit() { std::atomic_ref(run_->immediate_exit).store(0, std::memory_order_release); }

  [[nodiscard]] Result<kvm_regs> regs() const;
  [[nodiscard]] Status set_regs(const kvm_regs& regs);
  [[nodiscard]] Result<kvm_sregs> sregs() const;
  [[nodiscard]] Status set_sregs(const kvm_sregs& sregs);
  /// As sregs(), with PDPTRs and without the bitmap of pending interrupts (KVM_CAP_SREGS2).
  [[nodiscard]] Result<kvm_sregs2> sregs2() const;
  [[nodiscard]] Status set_sregs2(const kvm_sregs2& sregs);
  [[nodiscard]] Status set_cpuid(std::span<const kvm_cpuid_entry2> entries);
  [[nodiscard]] Status set_msrs(std::span<const Msr> msrs);
  /// The values of `indices`, in their order. Fails at the first register KVM refuses, naming it.
  [[nodiscard]] Result<std::vector<Msr>> msrs(std::span<const std::uint32_t> indices) const;
  /// Fills in the values of `msrs` up to the first register KVM refuses; returns how many that are.
  [[nodiscard]] Result<std::size_t> read_msrs(std::span<Msr> msrs) const;
  [[nodiscard]] Status set_xcr0(std::uint64_t value);
  [[nodiscard]] Result<kvm_xcrs> xcrs() const;
  [[nodiscard]] Status set_xcrs(const kvm_xcrs& xcrs);
  /// The extended state in XSAVE layout, `size` bytes (from Kvm::xsave_size()).
  [[nodiscard]] Result<std::vector<std::byte>> xsave(std::size_t size) const;
  /// Loads what xsave() returned, or an area in that layout whose XSTATE_BV has no component outside the vCPU's CPUID.
  [[nodiscard]] Status set_xsave(std::span<const std::byte> area);
  [[nodiscard]] Result<kvm_debugregs> debugregs() const;
  /// A counter of this vCPU by its name in KVM ("irq_exits"; api.rst, "KVM_GET_STATS_FD"). Errors (kUnsupported): this
  /// KVM does not count that.
  [[nodiscard]] Result<std::uint64_t> statistic(std::string_view name) const;
  /// This vCPU's dirty ring of `entries` entries; its VM must have rings of that size.
  [[nodiscard]] Result<DirtyRing> map_dirty_ring(std::size_t entries) const;
  [[nodiscard]] Status set_debugregs(const kvm_debugregs& registers);
  [[nodiscard]] Result<kvm_vcpu_events> events() const;
  [[nodiscard]] Status set_events(const kvm_vcpu_events& events);
  [[nodiscard]] Result<kvm_mp_state> mp_state() const;
  [[nodiscard]] Status set_mp_state(const kvm_mp_state& state);

 private:
  friend class VmFd;
  VcpuFd(UniqueFd fd, Mapping mapping);

  UniqueFd fd_;
  Mapping mapping_;
  kvm_run* run_ = nullptr;
};

class VmFd {
 public:
  /// No virtual machine: every call fails with EBADF.
  VmFd() = default;
  /// Maps `host` at guest-physical `gpa` as slot `slot`. An empty `host` deletes the slot.
  [[nodiscard]] Status set_memory(std::uint32_t slot, std::uint32_t flags, std::uint64_t gpa,
                                  std::span<std::byte> host);
  /// Creates the virtual processor number `id`.
  [[nodiscard]] Result<VcpuFd> create_vcpu(unsigned id) const;
  [[nodiscard]] int check_extension(long capability) const;
  [[nodiscard]] Status enable_capability(std::uint32_t capability, std::uint64_t argument);
  /// Pages of slot `slot` written since they were last write-protected: one bit each, into `bitmap` (whole 64-page
  /// words). With KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE nothing is protected again.
  [[nodiscard]] Status dirty_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) const;
  /// Write-protects those of `pages` pages from page 0 whose bit is set, and forgets that they were written.
  [[nodiscard]] Status clear_dirty_log(std::uint32_t slot, std::size_t pages, std::span<std::uint64_t> bitmap);
  /// Takes back the entries of all dirty rings of this VM that were marked as seen, and write-protects their pages.
  [[nodiscard]] Status reset_dirty_rings();
  /// A one-byte write of `value` to I/O port `port` signals the eventfd `fd` and leaves KVM_RUN no more; `assigned`
  /// false takes that back. Errors (kHost): KVM has no room, or the same is assigned already.
  [[nodiscard]] Status set_ioeventfd(std::uint16_t port, std::uint8_t value, int fd, bool assigned);
  /// How many shadow page tables KVM may keep for this VM (shadow paging only).
  [[nodiscard]] Status set_mmu_pages(std::uint64_t count);
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  friend class Kvm;
  VmFd(UniqueFd fd, std::size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}

  UniqueFd fd_;
  std::size_t run_size_ = 0;
};

/// Checks that a KVM has every capability the machine needs, as `check_extension` answers (KVM_CHECK_EXTENSION: 0 is
/// absent). The error (kHost) names the first one that is missing.
[[nodiscard]] Status check_capabilities(const std::function<int(long)>& check_extension);

class Kvm {
 public:
  /// Opens `path` and checks the API version and every capability the machine needs. Errors (kHost) say in one
  /// sentence what is missing and what to do: no device, no permission, not KVM, a capability by name.
  [[nodiscard]] static Result<Kvm> open(const std::string& path = "/dev/kvm");

  [[nodiscard]] Result<VmFd> create_vm() const;
  /// KVM_CHECK_EXTENSION on the system descriptor: 0 if absent.
  [[nodiscard]] int check_extension(long capability) const;
  /// What this KVM lets a guest see, unfiltered.
  [[nodiscard]] const std::vector<kvm_cpuid_entry2>& supported_cpuid() const { return supported_cpuid_; }
  /// Every model-specific register KVM saves and restores.
  [[nodiscard]] Result<std::vector<std::uint32_t>> msr_indices() const;
  /// Bytes of KVM_GET_XSAVE2's area (KVM_CAP_XSAVE2), at least 4096.
  [[nodiscard]] std::size_t xsave_size() const;

 private:
  Kvm(UniqueFd fd, std::size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}
  [[nodiscard]] Status read_supported_cpuid();

  UniqueFd fd_;
  std::size_t run_size_ = 0;
  std::vector<kvm_cpuid_entry2> supported_cpuid_;
};

}  // namespace warmfork::kvm
