#include "machine/backend_probe.hpp"

#include "base/tsc_clock.hpp"
#include "machine/raw_guest.hpp"
#include "warmfork/abi/layout.h"
#include "x86/cpuid.hpp"

#include <cpuid.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace warmfork {
namespace {

struct NamedCapability {
  long number;
  const char* name;
};

constexpr std::array kInteresting{
    NamedCapability{KVM_CAP_SYNC_REGS, "SYNC_REGS"},
    NamedCapability{KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
    NamedCapability{KVM_CAP_READONLY_MEM, "READONLY_MEM"},
    NamedCapability{KVM_CAP_XSAVE2, "XSAVE2"},
    NamedCapability{KVM_CAP_IOEVENTFD, "IOEVENTFD"},
    NamedCapability{KVM_CAP_IRQFD, "IRQFD"},
    NamedCapability{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "MANUAL_DIRTY_LOG_PROTECT2"},
    NamedCapability{KVM_CAP_DIRTY_LOG_RING, "DIRTY_LOG_RING"},
    NamedCapability{KVM_CAP_MULTI_ADDRESS_SPACE, "MULTI_ADDRESS_SPACE"},
    NamedCapability{KVM_CAP_BINARY_STATS_FD, "BINARY_STATS_FD"},
    NamedCapability{KVM_CAP_SREGS2, "SREGS2"},
};

// The processor's brand string, from the processor itself: KVM need not pass it on.
std::string cpu_name() {
  std::array<std::uint32_t, 12> words{};
  for (unsigned i = 0; i < 3; ++i) {
    std::uint32_t* leaf = &words[std::size_t{i} * 4];
    if (__get_cpuid(0x80000002 + i, &leaf[0], &leaf[1], &leaf[2], &leaf[3]) == 0) return "unknown";
  }
  const auto* text = reinterpret_cast<const char*>(words.data());
  const std::string name(text, ::strnlen(text, sizeof words));
  const auto begin = name.find_first_not_of(' ');
  const auto end = name.find_last_not_of(' ');
  return begin == std::string::npos ? "unknown" : name.substr(begin, end - begin + 1);
}

bool is_amd(std::span<const kvm_cpuid_entry2> cpuid) {
  const auto leaf0 = std::ranges::find(cpuid, 0U, &kvm_cpuid_entry2::function);
  constexpr std::uint32_t kAuth = 0x68747541;   // "Auth"enticAMD
  constexpr std::uint32_t kHygon = 0x6f677948;  // "Hygo"nGenuine
  return leaf0 != cpuid.end() && (leaf0->ebx == kAuth || leaf0->ebx == kHygon);
}

Status run_to_port(RawGuest& guest, std::uint16_t port) {
  WARMFORK_TRY_ASSIGN(kvm::VcpuExit exit, guest.vcpu().run());
  while (std::holds_alternative<kvm::ExitInterrupted>(exit)) {
    WARMFORK_TRY_ASSIGN(exit, guest.vcpu().run());
  }
  const auto* io = std::get_if<kvm::ExitIo>(&exit);
  if (io == nullptr || !io->is_write || io->port != port) {
    return fail(ErrorKind::kHost, "backend probe: expected a write to port {:#x}, got: {}", port, kvm::describe(exit));
  }
  return {};
}

Status probe_exit_rip(RawGuest& guest, BackendInfo& info) {
  WARMFORK_TRY(guest.prepare(RawGuest::Code::kExit));
  WARMFORK_TRY(run_to_port(guest, WARMFORK_PORT_RETURN));
  WARMFORK_TRY_ASSIGN(const kvm_regs regs, guest.vcpu().regs());
  info.exit_rip_is_after_out = regs.rip != RawGuest::address(RawGuest::Code::kExit).value;
  return {};
}

Status probe_syscall(RawGuest& guest, BackendInfo& info) {
  WARMFORK_TRY(guest.prepare(RawGuest::Code::kSyscall));
  WARMFORK_TRY(run_to_port(guest, WARMFORK_PORT_SYSCALL));
  WARMFORK_TRY_ASSIGN(const kvm_sregs sregs, guest.vcpu().sregs());
  info.syscall_enters_cpl0 = (sregs.cs.selector & 3) == 0;
  return {};
}

// An emulated instruction costs hundreds of nanoseconds, a native one less than one: compare two run lengths, so that
// the cost of the exit drops out.
Status probe_cpl0(RawGuest& guest, BackendInfo& info) {
  constexpr std::array<std::uint64_t, 2> kIterations{1, 513};
  std::array<double, 2> best_ns{1e18, 1e18};
  for (int round = 0; round < 5; ++round) {
    for (std::size_t i = 0; i < kIterations.size(); ++i) {
      WARMFORK_TRY(guest.prepare(RawGuest::Code::kCpl0Loop, 0, kIterations[i]));
      const std::uint64_t begin = tsc_now();
      WARMFORK_TRY(run_to_port(guest, WARMFORK_PORT_RETURN));
      best_ns[i] = std::min(best_ns[i], tsc_to_ns(tsc_now_ordered() - begin));
    }
  }
  constexpr double kInstructions = 2.0 * (kIterations[1] - kIterations[0]);
  constexpr double kNativeBelowNs = 50;
  info.cpl0_instruction_ns = std::max(0.0, best_ns[1] - best_ns[0]) / kInstructions;
  info.cpl0_is_native = info.cpl0_instruction_ns < kNativeBelowNs;
  return {};
}

}  // namespace

Result<BackendInfo> probe_backend(const kvm::Kvm& kvm) {
  BackendInfo info;
  const x86::CpuModel model = x86::make_cpu_model(kvm.supported_cpuid());
  info.cpu = cpu_name();
  info.guest_xcr0 = model.xcr0;
  info.physical_bits = model.physical_bits;
  info.dirty_ring_bytes = static_cast<std::uint32_t>(kvm.check_extension(KVM_CAP_DIRTY_LOG_RING));
  info.xsave_bytes = static_cast<std::uint32_t>(kvm.xsave_size());
  info.memory_slots = static_cast<std::uint32_t>(kvm.check_extension(KVM_CAP_NR_MEMSLOTS));
  info.vcpus = static_cast<std::uint32_t>(kvm.check_extension(KVM_CAP_MAX_VCPUS));
  for (const NamedCapability& capability : kInteresting) {
    (kvm.check_extension(capability.number) != 0 ? info.capabilities : info.missing).emplace_back(capability.name);
  }
  WARMFORK_TRY_ASSIGN(const auto guest, RawGuest::create(kvm));
  WARMFORK_TRY(probe_exit_rip(*guest, info));
  WARMFORK_TRY(probe_syscall(*guest, info));
  WARMFORK_TRY(probe_cpl0(*guest, info));
  // Hardware virtualisation never leaves SYSCALL at CPL 3; a backend that does is the para-virtual one.
  info.name = !info.syscall_enters_cpl0 ? "pvm" : (is_amd(kvm.supported_cpuid()) ? "svm" : "vmx");
  return info;
}

Status check_xrstor(const kvm::Kvm& kvm, const x86::CpuModel& cpu) {
  WARMFORK_TRY_ASSIGN(const auto guest, RawGuest::create(kvm, cpu));
  WARMFORK_TRY(guest->prepare(RawGuest::Code::kXrstor));
  WARMFORK_TRY_ASSIGN(kvm::VcpuExit exit, guest->vcpu().run());
  while (std::holds_alternative<kvm::ExitInterrupted>(exit)) {
    WARMFORK_TRY_ASSIGN(exit, guest->vcpu().run());
  }
  const auto* io = std::get_if<kvm::ExitIo>(&exit);
  if (io != nullptr && io->is_write && io->port == WARMFORK_PORT_RETURN) return {};
  return fail(ErrorKind::kUnsupported, "forks need XRSTOR in the guest, which faults on this KVM or processor ({})",
              kvm::describe(exit));
}

}  // namespace warmfork
