// What this machine's KVM really does: found out by running a few instructions, once, not by asking for its name.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "x86/cpuid.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace warmfork {

struct BackendInfo {
  std::string name;                    // "pvm", "svm" or "vmx"
  std::string cpu;                     // the processor's own name
  bool syscall_enters_cpl0 = false;    // as on hardware; kvm-pvm stays at CPL 3
  bool cpl0_is_native = false;         // false: KVM's instruction emulator runs code at CPL 0
  double cpl0_instruction_ns = 0;      // measured, per instruction at CPL 0
  bool exit_rip_is_after_out = false;  // RIP at a port exit: behind the OUT, or still on it
  std::uint32_t dirty_ring_bytes = 0;  // 0: none
  std::uint32_t xsave_bytes = 0;       // of KVM_GET_XSAVE2
  std::uint64_t guest_xcr0 = 0;        // extended states a guest gets
  std::uint32_t memory_slots = 0;
  std::uint32_t vcpus = 0;
  std::uint8_t physical_bits = 0;
  std::vector<std::string> capabilities;  // by name, those that matter here and are there
  std::vector<std::string> missing;       // those that matter here and are not
};

/// Runs the probe (some milliseconds). Errors: what KVM refused.
[[nodiscard]] Result<BackendInfo> probe_backend(const kvm::Kvm& kvm);

/// Whether a guest on a processor of this model may use XRSTOR at CPL 3, as every fork's first entry does: found out by
/// doing it, because CPUID and CR4 decide it on some backends only. Errors: kUnsupported (it faults), kHost.
[[nodiscard]] Status check_xrstor(const kvm::Kvm& kvm, const x86::CpuModel& cpu);

}  // namespace warmfork
