// The virtual processor and what happens on it: entry with given registers, the run loop, exit dispatch, system calls,
// faults. It owns the vCPU, its dirty ring and its place in the watchdog; memory, program and process belong to the
// guest that runs. One processor may run many guests in turn: what it holds of one is never seen by the next, because
// take_over() makes the next entry load every register anew.
//
// Hot path: run() to a vmcall's return is one KVM_RUN, without allocation, lock, log or further system call.
//
// Threads: one at a time, but for cancel().
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "loader/elf_loader.hpp"
#include "machine/address_space.hpp"
#include "machine/doorbell.hpp"
#include "machine/fault_report.hpp"
#include "machine/linux/process.hpp"
#include "machine/sampler.hpp"
#include "machine/vcpu_setup.hpp"
#include "machine/vcpu_state.hpp"
#include "machine/watchdog.hpp"
#include "metrics/metrics.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace warmfork {

/// Event counts of one machine since it was made. All but the first say why a KVM_RUN returned. Written by the thread
/// that runs the machine, read by any.
struct MachineCounters {
  metrics::Cell kvm_run;      // KVM_RUN ioctls
  metrics::Cell vmcalls;      // finished vmcalls
  metrics::Cell syscalls;     // system calls served
  metrics::Cell doorbells;    // rings that came as exits
  metrics::Cell interrupted;  // KVM_RUNs that returned because of a signal
  metrics::Cell parked;       // a call ring was empty for long enough
  metrics::Cell readied;      // the program waits for vmcalls
  metrics::Cell exceptions;   // of the guest
  metrics::Cell ring_full;    // the dirty ring was full
  metrics::Cell others;       // a guest's forbidden accesses, errors of KVM
};

/// Why a guest came back by itself.
struct GuestStop {
  enum class Kind : std::uint8_t {
    kReturned,  // a vmcall: value is its result
    kReady,     // it waits for vmcalls: value is its stack pointer
    kExited,    // value is its exit code
    kParked,    // it serves a call ring and has found it empty for long enough; go_on() continues it
  };
  Kind kind;
  std::uint64_t value;
};

/// What runs on the processor. All of it outlives the run.
struct GuestContext {
  std::string_view name;
  const LoadPlan& plan;
  AddressSpace& space;
  linux_abi::Process& process;
  std::span<const std::shared_ptr<Doorbell>> doorbells = {};  // by their numbers
  SampleSink* samples = nullptr;                              // told of samples; nullptr: nobody
};

class GuestCpu {
 public:
  /// The vCPU number `id` of `vm`, set up to run at CPL 3. `name` is for messages. With `dirty_ring` entries (the VM's
  /// KVM_CAP_DIRTY_LOG_RING was enabled with as many) the pages guests write are collected from it.
  [[nodiscard]] static Result<std::unique_ptr<GuestCpu>> create(kvm::VmFd& vm, const x86::CpuModel& cpu,
                                                                std::string_view name, unsigned id = 0,
                                                                std::size_t dirty_ring = 0);

  /// Runs `guest` from `regs` until it stops by itself. Errors: kDeadline and kCancelled (go_on() continues exactly
  /// there), kGuestFault (see take_fault()), kHost. A timeout of 0 is none.
  [[nodiscard]] Result<GuestStop> run(const GuestContext& guest, const kvm_regs& regs, std::uint64_t timeout_ns) {
    // Before anything is loaded: it would be the registers, and the page tables, of whoever has the vCPU now.
    if (owner_ != &guest.space) [[unlikely]]
      return not_the_owner(guest);
    load_registers(guest, regs);
    return go_on(guest, timeout_ns);
  }
  [[nodiscard]] Result<GuestStop> go_on(const GuestContext& guest, std::uint64_t timeout_ns);

  /// Gives KVM all registers of an entry at `regs`, and comes back before the guest runs. The next run() loads them
  /// again.
  [[nodiscard]] Status stage(const GuestContext& guest, const kvm_regs& regs);

  /// Ends `guest` for a reason the host has found. Returns the error to pass on (kGuestFault).
  [[nodiscard]] Failure end(const GuestContext& guest, FaultReport report);

  /// The report of the fault that ended the last run.
  [[nodiscard]] std::optional<FaultReport> take_fault() { return std::exchange(fault_, std::nullopt); }

  /// Says whose memory runs from now on: if that is not what ran before, what the former has written is noted in its
  /// dirty set, the next entry loads all registers but the extended state, and true is returned (the caller has that
  /// loaded by the pristine entry). Errors (kHost): see collect_dirty().
  [[nodiscard]] Result<bool> take_over(AddressSpace& space);
  [[nodiscard]] bool runs(const AddressSpace& space) const { return owner_ == &space; }
  /// `space` runs on another vCPU from now on, if it has run here last: what it has written is noted, what a crash of
  /// it has left here is gone. Errors (kHost): see collect_dirty().
  [[nodiscard]] Status leave(AddressSpace& space);
  /// `space` is going away: nothing refers to it any more.
  void release(const AddressSpace& space);
  /// The next entry loads all registers, whoever runs: a reset guest must not see what it had in them.
  void reload() { segments_stale_ = true; }
  /// As reload(), and a cancel() that came too late for the former guest does not reach the next.
  void begin_life() {
    reload();
    forget_cancel();
  }
  /// False once a run has ended in another way than a vmcall's return: state may be left that no entry overwrites.
  [[nodiscard]] bool clean() const { return clean_; }
  /// Remembers the vCPU's state as it is now for recover(); before the first run.
  [[nodiscard]] Status remember(const CaptureContext& context);
  /// Puts the vCPU back to what remember() saw, by ioctls: after a run that was not clean(), and before the guest's
  /// memory is restored, because KVM may still have to finish what the guest began.
  [[nodiscard]] Status recover();

  /// Adds the pages that KVM has reported as written since the last time to the dirty set of `space`, the only one that
  /// may have run since.
  [[nodiscard]] Status collect_dirty(AddressSpace& space);

  /// Stops what runs, or the next run. Any thread; async-signal-safe.
  void cancel() { watch_->cancel(); }
  /// Ends what runs with kDeadline: for whoever keeps the time himself. Does nothing between runs. Any thread.
  void expire() { watch_->expire(); }
  /// Forgets a cancel() that has not stopped anything yet.
  void forget_cancel() {
    (void)watch_->take_stop_reason();
    vcpu_.clear_immediate_exit();
  }

  [[nodiscard]] kvm::VcpuFd& vcpu() { return vcpu_; }
  [[nodiscard]] MachineCounters& counters() { return counters_; }
  [[nodiscard]] const MachineCounters& counters() const { return counters_; }

 private:
  explicit GuestCpu(kvm::VcpuFd vcpu);
  using Stop = std::optional<Result<GuestStop>>;  // empty: enter again

  [[nodiscard]] static Failure not_the_owner(const GuestContext& guest);
  void load_registers(const GuestContext& guest, const kvm_regs& regs);
  [[nodiscard]] Result<GuestStop> loop(const GuestContext& guest);
  [[nodiscard]] Stop handle_slow(const GuestContext& guest, int run_error);
  [[nodiscard]] Stop handle_port(const GuestContext& guest, std::uint16_t port);
  [[nodiscard]] Stop serve_syscall(const GuestContext& guest);
  [[nodiscard]] std::string where(const GuestContext& guest) const;
  [[nodiscard]] std::optional<Error> stop_error(const GuestContext& guest);
  [[nodiscard]] Failure end_with_exception(const GuestContext& guest, unsigned vector);

  kvm::VcpuFd vcpu_;
  std::unique_ptr<WatchSlot> watch_;  // refers to vcpu_
  std::optional<kvm::DirtyRing> dirty_ring_;
  kvm::VmFd* vm_ = nullptr;
  kvm_sregs user_sregs_{};      // segments of every entry at CPL 3, but for FS, GS and the page tables
  bool segments_stale_ = true;  // the vCPU's segments may be others: load them at the next entry
  bool clean_ = true;
  std::optional<VcpuState> pristine_;
  AddressSpace* owner_ = nullptr;
  MachineCounters counters_;
  std::optional<FaultReport> fault_;
  metrics::Source exits_;  // reads counters_
};

}  // namespace warmfork
