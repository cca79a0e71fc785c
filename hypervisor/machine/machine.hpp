// One guest: a KVM VM with one vCPU, a program in it, and the calls into it.
//
//   create ──> boot ──> (exited) exit code
//                 └──> ready ──call──> ready …      any of them ──> ended (fault, with a report)
//                                └─ deadline, cancel ──> stopped ──resume──> …
//
// A call is one KVM_RUN: arguments go in through the synced registers, the result comes back in them. No allocation,
// lock, log or further system call happens on that path.
//
// Threads: one thread at a time uses a Machine (KVM's rule for vCPUs); cancel() may be called from any thread and from
// a signal handler.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "loader/elf_loader.hpp"
#include "machine/address_space.hpp"
#include "machine/fault_report.hpp"
#include "machine/guest_cpu.hpp"
#include "machine/guest_io.hpp"
#include "machine/linux/process.hpp"
#include "machine/vcpu_setup.hpp"
#include "machine/watchdog.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace warmfork {

struct MachineConfig {
  std::uint64_t memory_bytes = std::uint64_t{64} << 20;  // everything the guest can write, together
  std::uint64_t stack_bytes = std::uint64_t{1} << 20;
  std::uint64_t call_area_bytes = 64 << 10;  // where the host puts buffers for vmcalls
  linux_abi::ProcessConfig process;
  GuestIo* io = nullptr;  // must outlive the machine; nullptr: reads see the end of input, writes are discarded
};

struct CallOptions {
  std::uint64_t timeout_ns = 0;  // 0: none
};

/// What became of a booted program.
struct BootOutcome {
  std::optional<int> exit_code;  // empty: it is warm and waits for vmcalls
};

class Machine {
 public:
  /// Builds the guest: VM, vCPU, memory, program. Nothing of it runs yet. `elf` is copied where needed; `name` is for
  /// messages and argv[0] if no arguments are given.
  [[nodiscard]] static Result<std::unique_ptr<Machine>> create(const kvm::Kvm& kvm, std::span<const std::byte> elf,
                                                               std::string_view name, MachineConfig config);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Runs the program from its entry point until it exits or waits for vmcalls. Errors: kGuestFault (see fault()),
  /// kDeadline, kCancelled, kHost.
  [[nodiscard]] Result<BootOutcome> boot(CallOptions options = {});

  /// The address of a vmcall: by name in the program's table, else by symbol. Errors (kInput): no such function.
  [[nodiscard]] Result<Gva> find_vmcall(std::string_view name) const;

  /// Calls a function of the guest with up to six integers and returns what it returns. Errors: kUsage (not ready, too
  /// many arguments), kGuestFault (the machine has ended; a program that exits during a call has ended too),
  /// kDeadline and kCancelled (the call can be resumed).
  [[nodiscard]] Result<std::uint64_t> call(Gva function, std::span<const std::uint64_t> arguments,
                                           CallOptions options = {});

  /// Goes on with what a deadline or a cancellation stopped; returns as that call would have.
  [[nodiscard]] Result<std::uint64_t> resume(CallOptions options = {});

  /// Stops what runs, or the next thing that is asked to run. Any thread; async-signal-safe.
  void cancel() { cpu_->cancel(); }

  /// Ends the guest because its answers cannot be right; later calls say so. Returns the error (kGuestFault) to pass
  /// on.
  [[nodiscard]] Failure condemn(const std::string& why) { return note(cpu_->end(guest(), {.summary = why}).value()); }

  /// Copies `bytes` into the call area at `offset` and returns their guest address, to be passed as an argument.
  [[nodiscard]] Result<Gva> put_buffer(std::uint64_t offset, std::span<const std::byte> bytes);

  [[nodiscard]] AddressSpace& memory() { return *space_; }
  [[nodiscard]] const LoadPlan& plan() const { return plan_; }
  [[nodiscard]] const MachineCounters& counters() const { return cpu_->counters(); }
  [[nodiscard]] bool ready() const { return state_ == State::kReady; }
  /// Why the machine ended, if a fault ended it.
  [[nodiscard]] const std::optional<FaultReport>& fault() const { return fault_; }
  /// The vCPU, for measurements and tests that look below the machine.
  [[nodiscard]] kvm::VcpuFd& vcpu() { return cpu_->vcpu(); }

 private:
  enum class State : std::uint8_t { kNew, kReady, kStopped, kEnded };

  Machine() = default;
  [[nodiscard]] Status read_vmcall_table();
  [[nodiscard]] GuestCpu::Guest guest() { return {name_, plan_, *space_, *process_}; }
  [[nodiscard]] Result<std::uint64_t> finish_call(Result<GuestStop> stop);
  void exited(const GuestStop& stop);
  /// Takes note of why a run failed, and passes the error on.
  [[nodiscard]] Failure note(Error error);
  [[nodiscard]] Error describe_unready(std::string_view what) const;

  std::string name_;
  LoadPlan plan_;
  std::unique_ptr<GuestIo> own_io_;
  std::optional<kvm::VmFd> vm_;
  std::unique_ptr<AddressSpace> space_;
  std::unique_ptr<GuestCpu> cpu_;
  std::optional<linux_abi::Process> process_;
  std::vector<std::pair<std::string, Gva>> vmcalls_;
  std::uint32_t hwcap_ = 0;
  std::uint64_t call_stack_ = 0;  // rsp of every vmcall
  State state_ = State::kNew;
  bool stopped_in_boot_ = false;
  int exit_code_ = 0;
  std::optional<FaultReport> fault_;
  std::optional<Error> host_error_;  // why the machine ended, if KVM gave up
};

}  // namespace warmfork
