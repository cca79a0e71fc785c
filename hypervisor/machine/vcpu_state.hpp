// Everything KVM tells about a vCPU, as one value: taken, put back, compared with another in words.
//
//   capture   after a run, all registers KVM lets the host read
//   restore   the same registers again by ioctl, whatever the guest has made of them
//   compare   what differs, one sentence each, by the register's name
//
// For the cold paths: a guest that has crashed is put back, and a proof that nothing of it is left. About ten ioctls
// each; the hot path uses synced registers instead.
//
// What KVM does not tell: an exit whose other half is still to come (a port read, a string instruction). It shows in no
// register, and the next KVM_RUN completes it over the registers the host has just set, or over guest memory: see
// finish_exit(). TLBs and caches of page tables are not here either (AddressSpace).
//
// Threads: the one that owns the vCPU.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace warmfork {

/// Where a component of the extended state lies in a (standard, not compacted) XSAVE area; components 2 and up.
struct XsaveComponent {
  unsigned number;
  std::uint32_t offset;
  std::uint32_t size;
};

/// What to ask a KVM's vCPUs for; the same for all vCPUs of one Kvm.
struct CaptureContext {
  std::vector<std::uint32_t> msr_indices;  // all that KVM saves and restores
  std::size_t xsave_size = 0;
  std::vector<XsaveComponent> xsave_layout;
  bool has_sregs2 = false;  // without: KVM_GET_SREGS, which lacks the PDPTRs (unused in long mode)

  [[nodiscard]] static Result<CaptureContext> create(const kvm::Kvm& kvm);
};

/// One model-specific register; without a value KVM lists it but does not let it be read.
struct MsrValue {
  std::uint32_t index;
  std::optional<std::uint64_t> value;
};

struct VcpuState {
  kvm_regs regs{};
  kvm_sregs2 sregs{};
  bool from_sregs2 = false;      // false: KVM_GET_SREGS filled sregs; flags and pdptrs are 0
  std::vector<std::byte> xsave;  // as KVM gave it, for restore(); compare() looks at its meaning
  std::vector<XsaveComponent> xsave_layout;
  std::vector<MsrValue> msrs;
  kvm_debugregs debugregs{};
  kvm_vcpu_events events{};
  kvm_xcrs xcrs{};
  kvm_mp_state mp_state{};
};

/// True for a register that counts time, whoever runs and whatever it does. Three registers of KVM's lists are such,
/// each seen to move between captures of a vCPU that does not run (tests/kvm/vcpu_state_test.cpp checks it on every
/// backend):
///   0x10        TSC
///   0x40000010  HV_X64_MSR_VP_RUNTIME: processor time of the thread that owns the vCPU, in 100 ns
///   0x40000020  HV_X64_MSR_TIME_REF_COUNT: age of the VM, in 100 ns
/// The last two are Hyper-V's; KVM lists them where it emulates Hyper-V (kvm_amd, kvm_intel), and shows them to the
/// host whether or not the guest's CPUID offers them, which ours does not. Guest code at CPL 3 can read
/// the TSC, and none of them can it write.
///
/// Not clocks, although their names may suggest it, because they do not move by themselves, and so they are compared:
/// TSC_ADJUST (0x3b; a host's write to TSC leaves it alone), TSC_DEADLINE (0x6e0; no APIC, always 0), TSC_RATIO
/// (0xc0000104), TSC_AUX (0xc0000103), the kvmclock registers (0x11, 0x12, 0x4b564d00, 0x4b564d01; addresses a guest
/// kernel sets), the count of system management interrupts as KVM shows it (0x34). APERF and MPERF are in no list of
/// KVM's.
[[nodiscard]] bool is_clock_msr(std::uint32_t index);

/// Reads everything. The vCPU is not running.
[[nodiscard]] Result<VcpuState> capture(const kvm::VcpuFd& vcpu, const CaptureContext& context);

/// Lets KVM do the second half of the last exit, without entering the guest. That half writes registers, and guest
/// memory if it is of a string instruction: call it before either is put back. Errors: KVM wants more of it than any
/// instruction needs; the vCPU is of no more use.
[[nodiscard]] Status finish_exit(kvm::VcpuFd& vcpu);

/// finish_exit(), then puts everything back but clocks (the guest's time goes on) and what already is as it was:
/// registers KVM refuses to have written at all (0x4b564d06) are only touched when they differ. SSE is in use
/// afterwards (XSTATE_BV), because MXCSR cannot be set otherwise. Errors name what was refused.
[[nodiscard]] Status restore(kvm::VcpuFd& vcpu, const VcpuState& state);

/// What compare() looks at besides.
struct CompareOptions {
  bool clocks = false;  // is_clock_msr()
  /// XSTATE_BV: which components the processor considers in use. With equal contents it still shows to a guest (XGETBV
  /// with ECX=1, XSAVE), but a processor may set it at will for a component that equals its initial configuration
  /// (Intel SDM vol. 1, 13.6).
  bool xstate_bv = false;
};

/// Every difference in words: `rip: 0x10110 != 0x400123`. Empty: the same.
///
/// Extended state is compared by meaning. A component whose XSTATE_BV bit is 0 is in its initial configuration whatever
/// its bytes are, so these are taken as the initial ones: FCW 0x37f, everything else 0 (Intel SDM vol. 1, 13.6 and
/// 13.8.1). MXCSR is not part of that: XRSTOR loads it from the area whatever XSTATE_BV says of SSE and AVX, and KVM
/// fills in 0x1f80 if both are initial, so its bytes always count.
[[nodiscard]] std::vector<std::string> compare(const VcpuState& a, const VcpuState& b, CompareOptions options = {});

}  // namespace warmfork
