// A guest that can be called: what a master (Machine) and a fork of it (Fork) have in common.
//
//   ready ──call──> ready …            any state ──> ended (fault, exit; with a report)
//     ├─ deadline, cancel ──> stopped ──resume──> ready …
//     └─ begin_service ──> serving a call ring ──> ready …
//
// A call is one KVM_RUN: arguments go in through the synced registers, the result comes back in them. No allocation,
// lock, log or further system call happens on that path.
//
// Threads: one thread at a time uses a Guest (KVM's rule for vCPUs); cancel() may be called from any thread and from
// a signal handler.
#pragma once

#include "base/result.hpp"
#include "machine/address_space.hpp"
#include "machine/doorbell.hpp"
#include "machine/fault_report.hpp"
#include "machine/guest_cpu.hpp"
#include "machine/linux/process.hpp"
#include "machine/program.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork {

enum class CallMode : std::uint8_t;

struct CallOptions {
  std::uint64_t timeout_ns = 0;  // 0: none
  /// The answer by which the program says that its instruction budget ended the call: for metrics, which count it as
  /// that.
  std::optional<std::uint64_t> budget_answer = std::nullopt;
};

class Guest {
 public:
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  /// The address of a vmcall: by name in the program's table, else by symbol. Errors (kInput): no such function.
  [[nodiscard]] Result<Gva> find_vmcall(std::string_view name) const { return program_->find_vmcall(name); }

  /// Calls a function of the guest with up to six integers and returns what it returns. Errors: kUsage (not ready, too
  /// many arguments), kGuestFault (the guest has ended; a program that exits during a call has ended too), kDeadline
  /// and kCancelled (the call can be resumed).
  [[nodiscard]] Result<std::uint64_t> call(Gva function, std::span<const std::uint64_t> arguments,
                                           CallOptions options = {});

  /// Goes on with what a deadline or a cancellation stopped; returns as that call would have.
  [[nodiscard]] Result<std::uint64_t> resume(CallOptions options = {});

  /// What has become of the service of the call ring.
  enum class Service : std::uint8_t {
    kParked,  // the ring has been empty for as many polls as it was told; serve_on() continues
    kEnded,   // by a request for that, or the guest says so
  };
  /// For CallChannel (fork/call_channel.hpp), which knows when to do what: from here on the guest is not for calls.
  /// Errors: kUsage (not ready, or no vCPU).
  [[nodiscard]] Status begin_service();
  /// Runs the stub page's server of the call ring from request 1 on, with `polls` before it parks (0: never). May run
  /// on another thread than begin_service(). Whatever ends it in another way ends the guest, with the same error.
  [[nodiscard]] Result<Service> serve(std::uint64_t polls);
  [[nodiscard]] Result<Service> serve_on();
  /// Gives KVM the registers a call would start from, without running the guest: what KVM then shows of the vCPU is
  /// what that call begins with, but for the extended state, which a fork's first call loads itself. For proofs.
  /// Errors: kUsage (not ready), kHost.
  [[nodiscard]] Status stage(Gva function, std::span<const std::uint64_t> arguments);
  /// By the thread of begin_service(), when nothing serves any more: the guest is ready again, unless it has ended.
  void end_service() {
    if (state_ == State::kServing) state_ = State::kReady;
  }

  /// Stops what runs, or the next thing that is asked to run. Any thread; async-signal-safe.
  void cancel() { cpu_->cancel(); }

  /// Ends the guest because its answers cannot be right; later calls say so. Returns the error (kGuestFault) to pass
  /// on.
  [[nodiscard]] Failure condemn(const std::string& why) { return note(cpu_->end(context(), {.summary = why}).value()); }

  /// Binds a doorbell to the number the guest rings it by, in place of what was bound to it (nullptr: nothing is). Not
  /// part of what a reset restores. Errors: kHost.
  [[nodiscard]] Status bind_doorbell(std::uint8_t number, std::shared_ptr<Doorbell> doorbell);

  /// From now on `sink` is told where a Sampler finds this guest; nullptr: nobody is. It outlives the guest, or is
  /// taken back. Not part of what a reset restores.
  void set_sample_sink(SampleSink* sink) { samples_ = sink; }

  /// Copies `bytes` into the call area at `offset` and returns their guest address, to be passed as an argument.
  [[nodiscard]] Result<Gva> put_buffer(std::uint64_t offset, std::span<const std::byte> bytes);

  /// One of this guest's shared regions (machine/shared_region.hpp), to be told to the guest as an argument.
  struct SharedRegion {
    Gva begin;
    std::uint64_t bytes = 0;
    SharedAccess access = SharedAccess::kReadOnly;
    std::shared_ptr<SharedMemory> memory;  // nullptr: nothing is bound to it
  };
  /// By its place in MachineConfig::shared_regions, or by name. Errors (kUsage): there is no such region.
  [[nodiscard]] Result<SharedRegion> shared_region(std::size_t index) const;
  [[nodiscard]] Result<SharedRegion> shared_region(std::string_view name) const;

  [[nodiscard]] AddressSpace& memory() { return *space_; }
  [[nodiscard]] const AddressSpace& memory() const { return *space_; }
  [[nodiscard]] const GuestProgram& program() const { return *program_; }
  [[nodiscard]] const std::shared_ptr<const GuestProgram>& shared_program() const { return program_; }
  [[nodiscard]] const LoadPlan& plan() const { return program_->plan; }
  [[nodiscard]] linux_abi::Process& process() { return *process_; }
  [[nodiscard]] const linux_abi::Process& process() const { return *process_; }
  [[nodiscard]] const MachineCounters& counters() const { return cpu_->counters(); }
  [[nodiscard]] bool ready() const { return state_ == State::kReady; }
  /// A deadline or a cancellation has stopped a call, which can be resumed.
  [[nodiscard]] bool stopped() const { return state_ == State::kStopped; }
  /// The next call begins with the snapshot's extended state, whatever the vCPU holds: it is the last guest's.
  [[nodiscard]] bool begins_pristine() const { return pristine_entry_ || cpu_ == nullptr || !cpu_->runs(*space_); }
  /// Stack pointer of every vmcall.
  [[nodiscard]] std::uint64_t call_stack() const { return call_stack_; }
  /// Why the guest ended, if a fault ended it.
  [[nodiscard]] const std::optional<FaultReport>& fault() const { return fault_; }
  /// The vCPU, for measurements and tests that look below the machine.
  [[nodiscard]] kvm::VcpuFd& vcpu() { return cpu_->vcpu(); }
  [[nodiscard]] GuestCpu& cpu() { return *cpu_; }

 protected:
  enum class State : std::uint8_t { kNew, kStoppedInBoot, kReady, kServing, kStopped, kEnded };

  Guest() = default;
  ~Guest() = default;

  [[nodiscard]] GuestContext context() {
    return {program_->name, program_->plan, *space_, *process_, doorbells_, samples_};
  }
  /// Registers of a vmcall's entry, through the pristine stub if the extended state must be the snapshot's.
  [[nodiscard]] kvm_regs call_registers(Gva function, std::span<const std::uint64_t> arguments) const;
  [[nodiscard]] Result<std::uint64_t> finish_call(Result<GuestStop> stop);
  [[nodiscard]] Result<Service> finish_service(Result<GuestStop> stop);
  [[nodiscard]] CallMode call_mode() const;
  void exited(const GuestStop& stop);
  /// Takes note of why a run failed, and passes the error on.
  [[nodiscard]] Failure note(Error error);
  [[nodiscard]] Error describe_unready(std::string_view what) const;

  std::shared_ptr<const GuestProgram> program_;
  std::unique_ptr<AddressSpace> space_;
  std::optional<linux_abi::Process> process_;
  GuestCpu* cpu_ = nullptr;
  std::uint64_t call_stack_ = 0;
  State state_ = State::kNew;
  bool pristine_entry_ = false;  // the next call begins with the snapshot's extended state
  int exit_code_ = 0;
  std::optional<FaultReport> fault_;
  std::vector<std::shared_ptr<Doorbell>> doorbells_;
  SampleSink* samples_ = nullptr;
  kvm::VmFd* own_vm_ = nullptr;      // if no other guest is in it; it outlives the guest
  std::optional<Error> host_error_;  // why the guest ended, if KVM gave up
};

}  // namespace warmfork
