// Why KVM_RUN returned, decoded once from kvm_run into a sum type. Dispatch on it needs no /dev/kvm, so tests feed
// exits of their own making. Source: Linux Documentation/virt/kvm/api.rst, section 5, "The kvm_run structure".
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstdint>
#include <string>
#include <variant>

namespace warmfork::kvm {

/// A port access. `value` is what the guest wrote (out) and is 0 for in; only the first of `count` items is read.
struct ExitIo {
  std::uint16_t port;
  std::uint8_t size;  // bytes an item: 1, 2, 4
  bool is_write;
  std::uint32_t count;
  std::uint32_t value;
};

/// An access to a guest-physical address without memory behind it, or a write to a read-only slot.
struct ExitMmio {
  std::uint64_t gpa;
  std::uint32_t size;
  bool is_write;
};

struct ExitHlt {};

/// Triple fault.
struct ExitShutdown {};

/// KVM_RUN was interrupted by a signal or by immediate_exit: look at the reason for the kick and enter again.
struct ExitInterrupted {};

struct ExitDebug {
  std::uint64_t rip;
};

/// The processor refused the guest state (host bug or a state the host must not accept).
struct ExitFailEntry {
  std::uint64_t hardware_reason;
};

/// KVM could not go on: typically its instruction emulator met an instruction it does not know.
struct ExitInternalError {
  std::uint32_t suberror;
  std::uint32_t count;
  std::array<std::uint64_t, 16> data;
};

/// The dirty ring is full and wants to be reset.
struct ExitDirtyRingFull {};

/// Anything else; `reason` is KVM_EXIT_*.
struct ExitUnsupported {
  std::uint32_t reason;
};

using VcpuExit = std::variant<ExitIo, ExitMmio, ExitHlt, ExitShutdown, ExitInterrupted, ExitDebug, ExitFailEntry,
                              ExitInternalError, ExitDirtyRingFull, ExitUnsupported>;

/// Decodes the exit in `run`, whose mapping is `run_size` bytes long (the data of a port access lies behind the
/// structure; an offset outside the mapping is decoded as ExitUnsupported, never followed).
[[nodiscard]] VcpuExit decode_exit(const kvm_run& run, std::size_t run_size);

/// One line for reports: "port write 0x3f8 (1 byte)", "triple fault", …
[[nodiscard]] std::string describe(const VcpuExit& exit);

/// KVM_EXIT_* as text, for exits that are not decoded.
[[nodiscard]] const char* exit_reason_name(std::uint32_t reason);

}  // namespace warmfork::kvm
