// The virtual processor and what happens on it: entry with given registers, the run loop, exit dispatch, system calls,
// faults. It owns the vCPU and its place in the watchdog; memory, program and process belong to the guest that runs.
//
// Hot path: run() to a vmcall's return is one KVM_RUN, without allocation, lock, log or further system call.
//
// Threads: one at a time, but for cancel().
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "loader/elf_loader.hpp"
#include "machine/address_space.hpp"
#include "machine/fault_report.hpp"
#include "machine/linux/process.hpp"
#include "machine/vcpu_setup.hpp"
#include "machine/watchdog.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace warmfork {

/// Event counts of one machine since it was made.
struct MachineCounters {
  std::uint64_t kvm_run = 0;      // KVM_RUN ioctls
  std::uint64_t vmcalls = 0;      // finished vmcalls
  std::uint64_t syscalls = 0;     // system calls served
  std::uint64_t interrupted = 0;  // KVM_RUNs that returned because of a signal
};

/// Why a guest came back by itself.
struct GuestStop {
  enum class Kind : std::uint8_t {
    kReturned,  // a vmcall: value is its result
    kReady,     // it waits for vmcalls: value is its stack pointer
    kExited,    // value is its exit code
  };
  Kind kind;
  std::uint64_t value;
};

class GuestCpu {
 public:
  /// What runs on the processor. All of it outlives the run.
  struct Guest {
    std::string_view name;
    const LoadPlan& plan;
    AddressSpace& space;
    linux_abi::Process& process;
  };

  /// A vCPU of `vm`, set up to run at CPL 3 on the page tables at `root`. `name` is for messages.
  [[nodiscard]] static Result<std::unique_ptr<GuestCpu>> create(const kvm::VmFd& vm, const x86::CpuModel& cpu,
                                                                std::uint64_t root, std::string_view name);

  /// Runs `guest` from `regs` until it stops by itself. Errors: kDeadline and kCancelled (go_on() continues exactly
  /// there), kGuestFault (see take_fault()), kHost. A timeout of 0 is none.
  [[nodiscard]] Result<GuestStop> run(const Guest& guest, const kvm_regs& regs, std::uint64_t timeout_ns) {
    load_registers(regs);
    return go_on(guest, timeout_ns);
  }
  [[nodiscard]] Result<GuestStop> go_on(const Guest& guest, std::uint64_t timeout_ns);

  /// Ends `guest` for a reason the host has found. Returns the error to pass on (kGuestFault).
  [[nodiscard]] Failure end(const Guest& guest, FaultReport report);

  /// The report of the fault that ended the last run.
  [[nodiscard]] std::optional<FaultReport> take_fault() { return std::exchange(fault_, std::nullopt); }

  /// Stops what runs, or the next run. Any thread; async-signal-safe.
  void cancel() { watch_->cancel(); }

  [[nodiscard]] kvm::VcpuFd& vcpu() { return vcpu_; }
  [[nodiscard]] MachineCounters& counters() { return counters_; }
  [[nodiscard]] const MachineCounters& counters() const { return counters_; }

 private:
  explicit GuestCpu(kvm::VcpuFd vcpu) : vcpu_(std::move(vcpu)) {}
  using Stop = std::optional<Result<GuestStop>>;  // empty: enter again

  void load_registers(const kvm_regs& regs);
  [[nodiscard]] Result<GuestStop> loop(const Guest& guest);
  [[nodiscard]] Stop handle_slow(const Guest& guest, int run_error);
  [[nodiscard]] Stop handle_port(const Guest& guest, std::uint16_t port);
  [[nodiscard]] Stop serve_syscall(const Guest& guest);
  [[nodiscard]] std::string where(const Guest& guest) const;
  [[nodiscard]] std::optional<Error> stop_error(const Guest& guest);
  [[nodiscard]] Failure end_with_exception(const Guest& guest, unsigned vector);

  kvm::VcpuFd vcpu_;
  std::unique_ptr<WatchSlot> watch_;  // refers to vcpu_
  kvm_sregs user_sregs_{};            // segments of every entry at CPL 3
  bool segments_stale_ = false;       // the vCPU's segments may differ from user_sregs_: load them at the next entry
  MachineCounters counters_;
  std::optional<FaultReport> fault_;
};

}  // namespace warmfork
