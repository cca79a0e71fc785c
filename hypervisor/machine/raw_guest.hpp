// The smallest guest there is: one page of code, no program, no library. It shows what a KVM does
// (backend_probe) and what its raw operations cost (the floors of the benchmarks), without anything of ours in the way.
//
// Threads: one at a time.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "memory/address.hpp"
#include "x86/cpuid.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace warmfork {

class RawGuest {
 public:
  /// Entry points of its code page.
  enum class Code : std::uint8_t {
    kExit,      // one exit
    kExitLoop,  // exits for ever
    kSyscall,   // one SYSCALL, which exits from its stub
    kCpl0Loop,  // rcx iterations of two instructions, then an exit; made to be run at CPL 0
    kXrstor,    // XRSTOR of the initial state, then an exit
  };

  [[nodiscard]] static Result<std::unique_ptr<RawGuest>> create(const kvm::Kvm& kvm);
  /// The same on a processor of that model.
  [[nodiscard]] static Result<std::unique_ptr<RawGuest>> create(const kvm::Kvm& kvm, const x86::CpuModel& cpu);

  /// Sets the registers for a run of `code` from its start at privilege level `level` (0 or 3), by one ioctl each.
  [[nodiscard]] Status prepare(Code code, unsigned level = 3, std::uint64_t rcx = 0);
  [[nodiscard]] static Gva address(Code code);

  [[nodiscard]] kvm::VcpuFd& vcpu() { return *vcpu_; }
  [[nodiscard]] kvm::VmFd& vm() { return *vm_; }

 private:
  RawGuest() = default;

  Mapping image_;
  Mapping window_;
  Mapping tables_;
  std::optional<kvm::VmFd> vm_;
  std::optional<kvm::VcpuFd> vcpu_;
  kvm_sregs user_sregs_{};
};

}  // namespace warmfork
