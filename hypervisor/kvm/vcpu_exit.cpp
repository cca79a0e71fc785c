#include "kvm/vcpu_exit.hpp"

#include <fmt/format.h>

#include <cstring>

namespace warmfork::kvm {
namespace {

ExitIo decode_io(const kvm_run& run, const std::byte* data) {
  ExitIo io{.port = run.io.port,
            .size = run.io.size,
            .is_write = run.io.direction == KVM_EXIT_IO_OUT,
            .count = run.io.count,
            .value = 0};
  if (io.is_write) std::memcpy(&io.value, data, io.size);
  return io;
}

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

}  // namespace

VcpuExit decode_exit(const kvm_run& run, std::size_t run_size) {
  switch (run.exit_reason) {
    case KVM_EXIT_IO: {
      const std::uint64_t offset = run.io.data_offset;
      const std::uint64_t size = run.io.size;
      const bool valid_size = size == 1 || size == 2 || size == 4;
      if (!valid_size || offset > run_size || run_size - offset < size) return ExitUnsupported{run.exit_reason};
      return decode_io(run, reinterpret_cast<const std::byte*>(&run) + offset);
    }
    case KVM_EXIT_MMIO: return ExitMmio{run.mmio.phys_addr, run.mmio.len, run.mmio.is_write != 0};
    case KVM_EXIT_HLT: return ExitHlt{};
    case KVM_EXIT_SHUTDOWN: return ExitShutdown{};
    case KVM_EXIT_INTR: return ExitInterrupted{};
    case KVM_EXIT_DEBUG: return ExitDebug{run.debug.arch.pc};
    case KVM_EXIT_FAIL_ENTRY: return ExitFailEntry{run.fail_entry.hardware_entry_failure_reason};
    case KVM_EXIT_INTERNAL_ERROR: {
      ExitInternalError error{run.internal.suberror, run.internal.ndata, {}};
      if (error.count > error.data.size()) error.count = static_cast<std::uint32_t>(error.data.size());
      std::memcpy(error.data.data(), run.internal.data, error.count * sizeof(std::uint64_t));
      return error;
    }
    case KVM_EXIT_DIRTY_RING_FULL: return ExitDirtyRingFull{};
    default: return ExitUnsupported{run.exit_reason};
  }
}

std::string describe(const VcpuExit& exit) {
  return std::visit(Overloaded{
                        [](const ExitIo& io) {
                          return fmt::format("port {} {:#x} ({} byte{})", io.is_write ? "write" : "read", io.port,
                                             io.size, io.size == 1 ? "" : "s");
                        },
                        [](const ExitMmio& mmio) {
                          return fmt::format("{} of {} bytes at guest-physical {:#x}, where no such access is allowed",
                                             mmio.is_write ? "write" : "read", mmio.size, mmio.gpa);
                        },
                        [](const ExitHlt&) { return std::string("hlt"); },
                        [](const ExitShutdown&) { return std::string("triple fault"); },
                        [](const ExitInterrupted&) { return std::string("interrupted"); },
                        [](const ExitDebug& debug) { return fmt::format("debug stop at {:#x}", debug.rip); },
                        [](const ExitFailEntry& entry) {
                          return fmt::format("entry refused by the processor, reason {:#x}", entry.hardware_reason);
                        },
                        [](const ExitInternalError& error) {
                          return fmt::format(
                              "KVM internal error, suberror {}{}", error.suberror,
                              error.suberror == KVM_INTERNAL_ERROR_EMULATION ? " (instruction not emulated)" : "");
                        },
                        [](const ExitDirtyRingFull&) { return std::string("dirty ring full"); },
                        [](const ExitUnsupported& other) {
                          return fmt::format("{} ({})", exit_reason_name(other.reason), other.reason);
                        },
                    },
                    exit);
}

const char* exit_reason_name(std::uint32_t reason) {
  switch (reason) {
    case KVM_EXIT_UNKNOWN: return "unknown exit";
    case KVM_EXIT_EXCEPTION: return "exception exit";
    case KVM_EXIT_IO: return "port access";
    case KVM_EXIT_HYPERCALL: return "hypercall";
    case KVM_EXIT_DEBUG: return "debug stop";
    case KVM_EXIT_HLT: return "hlt";
    case KVM_EXIT_MMIO: return "memory-mapped access";
    case KVM_EXIT_IRQ_WINDOW_OPEN: return "interrupt window";
    case KVM_EXIT_SHUTDOWN: return "triple fault";
    case KVM_EXIT_FAIL_ENTRY: return "entry refused";
    case KVM_EXIT_INTR: return "interrupted";
    case KVM_EXIT_INTERNAL_ERROR: return "KVM internal error";
    case KVM_EXIT_SYSTEM_EVENT: return "system event";
    case KVM_EXIT_X86_RDMSR: return "rdmsr";
    case KVM_EXIT_X86_WRMSR: return "wrmsr";
    case KVM_EXIT_DIRTY_RING_FULL: return "dirty ring full";
    case KVM_EXIT_X86_BUS_LOCK: return "bus lock";
    default: return "exit without a name";
  }
}

}  // namespace warmfork::kvm
