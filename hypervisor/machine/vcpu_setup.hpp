// The state a guest's processor starts in: long mode, CPL 3, page tables, descriptor tables, system-call entry, a clean
// x87/SSE state. Set once per vCPU by ioctl; afterwards only synced registers change.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "x86/cpuid.hpp"

#include <cstdint>

namespace warmfork {

/// RFLAGS of every host-made entry: bit 1 is always set; IOPL 3 lets CPL 3 use our ports where KVM's emulator ignores
/// the TSS bitmap.
inline constexpr std::uint64_t kUserFlags = 0x3002;

/// RFLAGS a guest may bring back from a system call: arithmetic flags, DF, AC, ID. Never TF, NT, RF, VM, IOPL changes.
[[nodiscard]] constexpr std::uint64_t sanitize_user_flags(std::uint64_t flags) {
  constexpr std::uint64_t kAllowed = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x400 | 0x800 | 0x40000 | 0x200000;
  return (flags & kAllowed) | kUserFlags;
}

/// Sets CPUID, MSRs, XCR0 and segments; `root` is the guest-physical address of the page tables,
/// for those who enter without loading segments. Returns the segment registers as KVM now holds them: the state every
/// later entry at CPL 3 is made from.
[[nodiscard]] Result<kvm_sregs> set_up_vcpu(kvm::VcpuFd& vcpu, const x86::CpuModel& cpu, std::uint64_t root = 0);

}  // namespace warmfork
