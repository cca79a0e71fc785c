#include "machine/vcpu_setup.hpp"

#include "warmfork/abi/layout.h"
#include "x86/segments.hpp"
#include "x86/system_pages.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace warmfork {
namespace {

// Control registers (AMD APM vol. 2, 3.1; Intel SDM vol. 3, 2.5). SMEP and SMAP stay off: on hardware SYSCALL enters
// CPL 0 on the user-executable stub page. FSGSBASE, PCE and PKE stay off: FS comes from arch_prctl (kvm-pvm lets CPL 3
// write it all the same; the next system call sets it again).
constexpr std::uint64_t kCr0 = 1U << 0 /* PE */ | 1U << 1 /* MP */ | 1U << 4 /* ET */ | 1U << 5 /* NE */ |
                               1U << 16 /* WP */ | std::uint64_t{1} << 31 /* PG */;
constexpr std::uint64_t kCr4 = 1U << 5 /* PAE */ | 1U << 9 /* OSFXSR */ | 1U << 10 /* OSXMMEXCPT */;
constexpr std::uint64_t kCr4OsXsave = 1U << 18;
constexpr std::uint64_t kCr4Umip = 1U << 11;
constexpr std::uint64_t kEfer = 1U << 0 /* SCE */ | 1U << 8 /* LME */ | 1U << 10 /* LMA */ | 1U << 11 /* NXE */;

constexpr std::uint32_t kMsrStar = 0xc0000081;
constexpr std::uint32_t kMsrLstar = 0xc0000082;
constexpr std::uint32_t kMsrSfmask = 0xc0000084;

const kvm_cpuid_entry2* find_leaf(const x86::CpuModel& cpu, std::uint32_t function) {
  const auto found = std::ranges::find_if(
      cpu.cpuid, [&](const kvm_cpuid_entry2& entry) { return entry.function == function && entry.index == 0; });
  return found == cpu.cpuid.end() ? nullptr : &*found;
}

}  // namespace

Result<kvm_sregs> set_up_vcpu(kvm::VcpuFd& vcpu, const x86::CpuModel& cpu, std::uint64_t root) {
  WARMFORK_TRY(vcpu.set_cpuid(cpu.cpuid));
  const kvm_cpuid_entry2* leaf1 = find_leaf(cpu, 1);
  const kvm_cpuid_entry2* leaf7 = find_leaf(cpu, 7);
  const bool has_xsave = leaf1 != nullptr && (leaf1->ecx >> 26 & 1) != 0;
  const bool has_umip = leaf7 != nullptr && (leaf7->ecx >> 2 & 1) != 0;

  WARMFORK_TRY_ASSIGN(kvm_sregs sregs, vcpu.sregs());
  sregs.cr0 = kCr0;
  sregs.cr3 = root;
  sregs.cr4 = kCr4 | (has_xsave ? kCr4OsXsave : 0) | (has_umip ? kCr4Umip : 0);
  sregs.efer = kEfer;
  sregs.cs = x86::code_segment(3);
  sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = x86::data_segment(3);
  sregs.tr = x86::task_segment(WARMFORK_SYSTEM_BASE + WARMFORK_GDT_OFFSET + x86::kTssOffset, x86::kTssLimit);
  sregs.ldt = x86::no_segment();
  sregs.gdt = {.base = WARMFORK_SYSTEM_BASE + WARMFORK_GDT_OFFSET, .limit = x86::kGdtLimit, .padding = {}};
  sregs.idt = {.base = WARMFORK_SYSTEM_BASE + WARMFORK_IDT_OFFSET, .limit = x86::kIdtLimit, .padding = {}};
  WARMFORK_TRY(vcpu.set_sregs(sregs));
  if (has_xsave) WARMFORK_TRY(vcpu.set_xcr0(cpu.xcr0));
  // x87 and SSE need nothing: a new vCPU of KVM has the control words Linux gives a program (0x37f, 0x1f80).

  const std::array msrs{
      kvm::Msr{kMsrStar, std::uint64_t{x86::kKernelCode} << 32},
      kvm::Msr{kMsrLstar, WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET + WARMFORK_STUB_SYSCALL},
      // Cleared on SYSCALL: TF, IF, DF, NT, AC.
      kvm::Msr{kMsrSfmask, 0x100 | 0x200 | 0x400 | 0x4000 | 0x40000},
  };
  WARMFORK_TRY(vcpu.set_msrs(msrs));
  return vcpu.sregs();
}

}  // namespace warmfork
