#include "machine/guest_cpu.hpp"

#include "trace/trace.hpp"
#include "warmfork/abi/layout.h"
#include "x86/system_pages.hpp"

#include <array>
#include <cerrno>
#include <system_error>

namespace warmfork {
namespace {

constexpr std::uint64_t kTrapFlag = 0x100;  // a single step may be pending
constexpr std::uint64_t kExceptionStubs = WARMFORK_SYSTEM_BASE + WARMFORK_EXCEPTION_STUBS_OFFSET;

// A vmcall's return, as KVM reports it: one byte written to our port. Only OUT leaves nothing for KVM to complete at
// the next entry: a pending IN would write into the registers of the next call.
bool is_return(const kvm_run& run) {
  return run.exit_reason == KVM_EXIT_IO && run.io.port == WARMFORK_PORT_RETURN && run.io.direction == KVM_EXIT_IO_OUT &&
         run.io.size == 1 && run.io.count == 1;
}

// Series of warmfork_exits_total, and what they count.
struct ExitSeries {
  metrics::Cell MachineCounters::* cell;
  metrics::Counter counter;
};
ExitSeries exits_by(std::string_view reason, metrics::Cell MachineCounters::* cell) {
  return {cell, metrics::counter(metrics::Family::kExits, {reason})};
}
const std::array kExits{
    exits_by("return", &MachineCounters::vmcalls),       exits_by("syscall", &MachineCounters::syscalls),
    exits_by("doorbell", &MachineCounters::doorbells),   exits_by("interrupted", &MachineCounters::interrupted),
    exits_by("park", &MachineCounters::parked),          exits_by("ready", &MachineCounters::readied),
    exits_by("exception", &MachineCounters::exceptions), exits_by("dirty_ring_full", &MachineCounters::ring_full),
    exits_by("other", &MachineCounters::others)};
// What a KVM_RUN ended with, as traces show it.
constexpr trace::Kind kRunReturn{"kvm", "KVM_RUN: return"};
constexpr trace::Kind kRunReady{"kvm", "KVM_RUN: ready"};
constexpr trace::Kind kRunSyscall{"kvm", "KVM_RUN: system call"};
constexpr trace::Kind kRunDoorbell{"kvm", "KVM_RUN: doorbell"};
constexpr trace::Kind kRunPark{"kvm", "KVM_RUN: park"};
constexpr trace::Kind kRunException{"kvm", "KVM_RUN: exception"};
constexpr trace::Kind kRunPort{"kvm", "KVM_RUN: port", "port"};
constexpr trace::Kind kRunInterrupted{"kvm", "KVM_RUN: interrupted"};
constexpr trace::Kind kRunFailed{"kvm", "KVM_RUN: failed", "errno"};
constexpr trace::Kind kRunRingFull{"kvm", "KVM_RUN: dirty ring full"};
constexpr trace::Kind kRunOther{"kvm", "KVM_RUN: exit", "exit_reason"};
constexpr trace::Kind kServe{"kvm", "serve", nullptr, linux_abi::syscall_name};

[[gnu::noinline]] void trace_exit(std::uint64_t entered, const kvm_run& run, int error) {
  if (error == EINTR || error == EAGAIN) return trace::end(entered, kRunInterrupted);
  if (error != 0) return trace::end(entered, kRunFailed, static_cast<std::uint64_t>(error));
  if (run.exit_reason == KVM_EXIT_DIRTY_RING_FULL) return trace::end(entered, kRunRingFull);
  if (run.exit_reason != KVM_EXIT_IO) return trace::end(entered, kRunOther, run.exit_reason);
  const std::uint16_t port = run.io.port;
  switch (port) {
    case WARMFORK_PORT_SYSCALL: return trace::end(entered, kRunSyscall);
    case WARMFORK_PORT_READY: return trace::end(entered, kRunReady);
    case WARMFORK_PORT_DOORBELL: return trace::end(entered, kRunDoorbell);
    case WARMFORK_PORT_PARK: return trace::end(entered, kRunPark);
    default: break;
  }
  const bool exception = static_cast<unsigned>(port - WARMFORK_PORT_EXCEPTION) < WARMFORK_EXCEPTION_COUNT;
  trace::end(entered, exception ? kRunException : kRunPort, port);
}

}  // namespace

GuestCpu::GuestCpu(kvm::VcpuFd vcpu)
    : vcpu_(std::move(vcpu)), exits_([this](metrics::Collector& collector) {
        for (const ExitSeries& series : kExits) collector.add(series.counter, counters_.*series.cell);
      }) {}

Result<std::unique_ptr<GuestCpu>> GuestCpu::create(kvm::VmFd& vm, const x86::CpuModel& cpu, std::string_view name,
                                                   unsigned id, std::size_t dirty_ring) {
  WARMFORK_TRY_ASSIGN(kvm::VcpuFd vcpu, vm.create_vcpu(id));
  std::unique_ptr<GuestCpu> guest_cpu(new GuestCpu(std::move(vcpu)));
  guest_cpu->vm_ = &vm;
  if (dirty_ring != 0) {
    WARMFORK_TRY_ASSIGN(guest_cpu->dirty_ring_, guest_cpu->vcpu_.map_dirty_ring(dirty_ring));
  }
  WARMFORK_TRY_ASSIGN(guest_cpu->user_sregs_, set_up_vcpu(guest_cpu->vcpu_, cpu));
  guest_cpu->vcpu_.shared().kvm_valid_regs = KVM_SYNC_X86_REGS;
  try {  // the first slot starts the watchdog's thread
    guest_cpu->watch_ = std::make_unique<WatchSlot>(guest_cpu->vcpu_);
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kHost, "{}: cannot start the watchdog thread: {}", name, error.what());
  }
  return guest_cpu;
}

Result<bool> GuestCpu::take_over(AddressSpace& space) {
  if (owner_ == &space) return false;
  if (owner_ != nullptr) WARMFORK_TRY(leave(*owner_));
  if (!clean_) WARMFORK_TRY(recover());  // what release() could not
  owner_ = &space;
  begin_life();
  return true;
}

Status GuestCpu::leave(AddressSpace& space) {
  if (owner_ != &space) return {};
  // Of a guest that crashed or was stopped. Now, not when the next one comes: KVM may still have to finish what the
  // guest began, in memory that by then is reset or another's.
  if (!clean_) WARMFORK_TRY(recover());
  WARMFORK_TRY(collect_dirty(space));
  owner_ = nullptr;
  return {};
}

void GuestCpu::release(const AddressSpace& space) {
  if (owner_ != &space) return;
  if (!clean_ && pristine_) (void)recover();  // as leave(); if that fails, so does the next take_over()
  if (dirty_ring_) dirty_ring_->harvest([](std::uint32_t, std::uint64_t) {});
  owner_ = nullptr;
}

Status GuestCpu::remember(const CaptureContext& context) {
  WARMFORK_TRY_ASSIGN(pristine_, capture(vcpu_, context));
  return {};
}

Status GuestCpu::recover() {
  forget_cancel();  // it was meant for the run that is over
  if (!pristine_) return fail(ErrorKind::kUsage, "a vCPU without a remembered state cannot be recovered");
  WARMFORK_TRY(restore(vcpu_, *pristine_));
  segments_stale_ = true;
  clean_ = true;
  return {};
}

Status GuestCpu::collect_dirty(AddressSpace& space) {
  if (!dirty_ring_) return {};
  const std::uint32_t slot = space.window_slot();
  bool foreign = false;
  dirty_ring_->harvest([&](std::uint32_t entry_slot, std::uint64_t page) {
    foreign |= entry_slot != slot || !space.dirty().covers(page);
    space.dirty().add(page);
  });
  if (foreign) return fail(ErrorKind::kHost, "the dirty ring names a page that is not of slot {}", slot);
  return dirty_ring_->needs_reset() ? dirty_ring_->reset(*vm_) : Status{};
}

void GuestCpu::load_registers(const GuestContext& guest, const kvm_regs& regs) {
  kvm_run& run = vcpu_.shared();
  run.s.regs.regs = regs;
  run.kvm_dirty_regs = KVM_SYNC_X86_REGS;
  if (segments_stale_) {
    kvm_sregs& sregs = run.s.regs.sregs;
    sregs = user_sregs_;
    sregs.cr3 = guest.space.root();
    sregs.fs.base = guest.process.fs_base();
    sregs.gs.base = guest.process.gs_base();
    run.kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    segments_stale_ = false;
  }
}

Failure GuestCpu::not_the_owner(const GuestContext& guest) {
  return fail(ErrorKind::kUsage, "{}: another guest has this vCPU", guest.name);
}

Status GuestCpu::stage(const GuestContext& guest, const kvm_regs& regs) {
  if (owner_ != &guest.space) return not_the_owner(guest);
  segments_stale_ = true;
  load_registers(guest, regs);
  // KVM takes the synced registers over before it looks at immediate_exit.
  vcpu_.request_immediate_exit();
  const int error = vcpu_.run_raw();
  vcpu_.clear_immediate_exit();
  segments_stale_ = true;
  if (error == EINTR) return {};
  errno = error;
  return fail_errno("{}: KVM_RUN (immediate exit)", guest.name);
}

Result<GuestStop> GuestCpu::go_on(const GuestContext& guest, std::uint64_t timeout_ns) {
  if (owner_ != &guest.space) [[unlikely]]
    return not_the_owner(guest);
  clean_ = false;
  watch_->arm(timeout_ns);
  auto stop = loop(guest);
  watch_->disarm();
  return stop;
}

Result<GuestStop> GuestCpu::loop(const GuestContext& guest) {
  kvm_run& run = vcpu_.shared();
  for (;;) {
    ++counters_.kvm_run;
    const std::uint64_t entered = trace::begin();
    const int error = vcpu_.run_raw();
    if (error == 0 && is_return(run)) [[likely]] {
      trace::end(entered, kRunReturn);
      clean_ = (run.s.regs.regs.rflags & kTrapFlag) == 0;
      return GuestStop{GuestStop::Kind::kReturned, run.s.regs.regs.rax};
    }
    if (entered != 0) [[unlikely]]
      trace_exit(entered, run, error);
    if (auto stop = handle_slow(guest, error)) return *std::move(stop);
  }
}

GuestCpu::Stop GuestCpu::handle_slow(const GuestContext& guest, int run_error) {
  if (run_error == EINTR || run_error == EAGAIN) {
    ++counters_.interrupted;
    // Cleared before looking: a kick that comes now sets it again, and the reason with it.
    vcpu_.clear_immediate_exit();
    if (watch_->take_sample() && guest.samples != nullptr) guest.samples->sample(vcpu_.shared().s.regs.regs);
    if (auto error = stop_error(guest)) return Result<GuestStop>(Failure(*std::move(error)));
    return std::nullopt;
  }
  if (run_error != 0) {
    ++counters_.others;
    errno = run_error;
    return Result<GuestStop>(fail_errno("{}: KVM_RUN", guest.name));
  }
  if (vcpu_.shared().exit_reason == KVM_EXIT_DIRTY_RING_FULL && dirty_ring_) {
    ++counters_.ring_full;
    if (auto done = collect_dirty(guest.space); !done) {
      return Result<GuestStop>(Failure(std::move(done).error()));
    }
    auto done = dirty_ring_->reset(*vm_);
    return done ? Stop{} : Stop(Result<GuestStop>(Failure(std::move(done).error())));
  }
  const kvm::VcpuExit exit = kvm::decode_exit(vcpu_.shared(), vcpu_.shared_size());
  if (const auto* io = std::get_if<kvm::ExitIo>(&exit);
      io != nullptr && io->is_write && io->size == 1 && io->count == 1) {
    if (io->port == WARMFORK_PORT_DOORBELL) {
      ++counters_.doorbells;
      const auto number = static_cast<std::uint8_t>(io->value);
      if (number < guest.doorbells.size() && guest.doorbells[number] != nullptr) guest.doorbells[number]->ring();
      return std::nullopt;
    }
    if (auto stop = handle_port(guest, io->port)) return stop;
    if (io->port == WARMFORK_PORT_SYSCALL) return std::nullopt;
  }
  ++counters_.others;
  if (std::holds_alternative<kvm::ExitInterrupted>(exit)) return std::nullopt;
  return Result<GuestStop>(end(guest, {.summary = fmt::format("{}, {}", kvm::describe(exit), where(guest))}));
}

GuestCpu::Stop GuestCpu::handle_port(const GuestContext& guest, std::uint16_t port) {
  const kvm_regs& regs = vcpu_.shared().s.regs.regs;
  if (port == WARMFORK_PORT_SYSCALL) return serve_syscall(guest);
  if (port == WARMFORK_PORT_PARK) {
    ++counters_.parked;
    return Result<GuestStop>(GuestStop{GuestStop::Kind::kParked, 0});
  }
  if (port == WARMFORK_PORT_READY) {
    ++counters_.readied;
    return Result<GuestStop>(GuestStop{GuestStop::Kind::kReady, regs.rsp});
  }
  // An exception port counts only if the processor itself came through our stub: a guest may write any port.
  constexpr std::uint64_t kStubBytes = std::uint64_t{WARMFORK_EXCEPTION_COUNT} * WARMFORK_EXCEPTION_STUB_SIZE;
  const unsigned vector = port - WARMFORK_PORT_EXCEPTION;
  if (port >= WARMFORK_PORT_EXCEPTION && vector < WARMFORK_EXCEPTION_COUNT && regs.rip - kExceptionStubs < kStubBytes) {
    ++counters_.exceptions;
    return Result<GuestStop>(end_with_exception(guest, vector));
  }
  return std::nullopt;
}

GuestCpu::Stop GuestCpu::serve_syscall(const GuestContext& guest) {
  kvm_regs regs = vcpu_.shared().s.regs.regs;
  const linux_abi::SyscallRequest request{regs.rax, {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9}};
  ++counters_.syscalls;
  const trace::Span span(kServe, request.number);
  linux_abi::SyscallOutcome outcome = guest.process.serve(request);
  while (outcome.interrupted) {
    if (auto error = stop_error(guest)) {
      // Stopped inside a blocking call: a resume makes the call again (SYSCALL is two bytes long).
      regs.rip = regs.rcx - 2;
      regs.rflags = sanitize_user_flags(regs.r11);
      segments_stale_ = true;
      load_registers(guest, regs);
      return Result<GuestStop>(Failure(*std::move(error)));
    }
    outcome = guest.process.serve(request);
  }
  if (outcome.host_error) {
    Failure failure =
        end(guest, {.summary = fmt::format("the host failed in a system call: {}", outcome.host_error->message)});
    failure.value().kind = ErrorKind::kHost;
    return Result<GuestStop>(std::move(failure));
  }
  if (outcome.exit_code) {
    return Result<GuestStop>(GuestStop{GuestStop::Kind::kExited, static_cast<std::uint64_t>(*outcome.exit_code)});
  }
  if (!x86::is_user_address(regs.rcx)) {
    return Result<GuestStop>(
        end(guest, {.summary = fmt::format("system call returns to {:#x}, outside user space", regs.rcx)}));
  }
  regs.rax = static_cast<std::uint64_t>(outcome.result);
  regs.rip = regs.rcx;
  regs.rflags = sanitize_user_flags(regs.r11);
  // On hardware SYSCALL has loaded the kernel's CS and SS; the host gives the user's back at the next entry.
  segments_stale_ = true;
  load_registers(guest, regs);
  return std::nullopt;
}

std::string GuestCpu::where(const GuestContext& guest) const {
  const std::uint64_t rip = vcpu_.shared().s.regs.regs.rip;
  const std::string symbol = guest.plan.symbolize(rip);
  return symbol.empty() ? fmt::format("at {:#x}", rip) : fmt::format("at {:#x} in {}", rip, symbol);
}

std::optional<Error> GuestCpu::stop_error(const GuestContext& guest) {
  switch (watch_->take_stop_reason()) {
    case StopReason::kNone: return std::nullopt;
    case StopReason::kDeadline:
      return Error{ErrorKind::kDeadline, fmt::format("{}: the deadline has passed, {}", guest.name, where(guest))};
    case StopReason::kCancelled:
      return Error{ErrorKind::kCancelled, fmt::format("{}: cancelled, {}", guest.name, where(guest))};
  }
  return std::nullopt;
}

Failure GuestCpu::end_with_exception(const GuestContext& guest, unsigned vector) {
  FaultReport report;
  report.vector = vector;
  report.regs = vcpu_.shared().s.regs.regs;
  // What the processor pushed, from the top down: SS, RSP, RFLAGS, CS, RIP, error code (AMD APM vol. 2, 8.9.3).
  if (const auto frame = guest.space.exception_frame(6)) {
    report.regs.rsp = (*frame)[4];
    report.regs.rflags = (*frame)[3];
    report.rip = report.regs.rip = (*frame)[1];
    if (x86::pushes_error_code(vector)) report.error_code = (*frame)[0];
  }
  report.symbol = guest.plan.symbolize(report.rip);
  constexpr unsigned kPageFault = 14;
  constexpr unsigned kGeneralProtection = 13;
  std::string what;
  if (vector == kPageFault) {
    if (const auto sregs = vcpu_.sregs()) report.fault_address = sregs->cr2;
    const bool write = (report.error_code & 2) != 0;
    const bool fetch = (report.error_code & 16) != 0;
    const Gva address{report.fault_address};
    const std::string place = guest.space.describe(address);
    what =
        fmt::format("page fault: {} {:#x} ({}{})", fetch ? "execution of" : (write ? "write to" : "read of"),
                    report.fault_address, place, place == "the guard page below the stack" ? ": stack overflow" : "");
  } else if (vector == kGeneralProtection) {
    what = fmt::format("general protection fault, error code {:#x} (privileged instruction, port or address)",
                       report.error_code);
  } else {
    what = x86::exception_name(vector);
  }
  report.summary = fmt::format("{}, at {:#x}{}", what, report.rip, report.symbol.empty() ? "" : " in " + report.symbol);
  return end(guest, std::move(report));
}

Failure GuestCpu::end(const GuestContext& guest, FaultReport report) {
  if (report.rip == 0) {
    report.regs = vcpu_.shared().s.regs.regs;
    report.rip = report.regs.rip;
    report.symbol = guest.plan.symbolize(report.rip);
  }
  report.last_exit = kvm::describe(kvm::decode_exit(vcpu_.shared(), vcpu_.shared_size()));
  fault_ = std::move(report);
  return Failure(Error{ErrorKind::kGuestFault, fmt::format("{}: {}", guest.name, fault_->summary)});
}

}  // namespace warmfork
