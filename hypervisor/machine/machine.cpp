#include "machine/machine.hpp"

#include "warmfork/abi/layout.h"
#include "warmfork/abi/vmcall.hpp"
#include "x86/cpuid.hpp"
#include "x86/segments.hpp"
#include "x86/system_pages.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace warmfork {
namespace {

constexpr std::uint64_t kUserStubs = WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET;
constexpr std::uint64_t kExceptionStubs = WARMFORK_SYSTEM_BASE + WARMFORK_EXCEPTION_STUBS_OFFSET;
constexpr std::size_t kMaxVmcalls = 1024;
constexpr std::uint64_t kRedZone = 128;  // System V AMD64 ABI, §3.2.2: bytes below rsp that belong to the caller

// A vmcall's return, as KVM reports it: one byte written to our port. Only OUT leaves nothing for KVM to complete at
// the next entry: a pending IN would write into the registers of the next call.
bool is_return(const kvm_run& run) {
  return run.exit_reason == KVM_EXIT_IO && run.io.port == WARMFORK_PORT_RETURN && run.io.direction == KVM_EXIT_IO_OUT &&
         run.io.size == 1 && run.io.count == 1;
}

bool canonical_user(std::uint64_t address) { return address < x86::kMaxVirtual; }

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const kvm::Kvm& kvm, std::span<const std::byte> elf,
                                                 std::string_view name, MachineConfig config) {
  std::unique_ptr<Machine> machine(new Machine);
  machine->name_ = name;
  const ElfLimits limits{.lowest_address = WARMFORK_USER_BASE, .memory_bytes = config.memory_bytes};
  WARMFORK_TRY_ASSIGN(machine->plan_, plan_elf(elf, name, limits));

  std::uint64_t fixed = page_ceil(config.stack_bytes) + page_ceil(config.call_area_bytes) + kPage;
  for (const LoadSegment& segment : machine->plan_.segments) {
    if (segment.write) {
      fixed += page_ceil(segment.address.value + segment.memory_size) - page_floor(segment.address.value);
    }
  }
  if (fixed > config.memory_bytes) {
    return fail(ErrorKind::kLimit, "{}: data, stack and call area need {} bytes, the memory limit is {}", name, fixed,
                config.memory_bytes);
  }
  const WindowSizes sizes{.heap = page_floor(config.memory_bytes - fixed),
                          .stack = config.stack_bytes,
                          .call_area = config.call_area_bytes};
  const x86::CpuModel cpu = x86::make_cpu_model(kvm.supported_cpuid());
  WARMFORK_TRY_ASSIGN(machine->space_, AddressSpace::build(machine->plan_, sizes, cpu.physical_bits));
  // The program is in the guest's memory now; the plan outlives the caller's bytes.
  for (LoadSegment& segment : machine->plan_.segments) segment.file_bytes = {};
  WARMFORK_TRY_ASSIGN(machine->vm_, kvm.create_vm());
  WARMFORK_TRY(machine->space_->attach(*machine->vm_));
  WARMFORK_TRY_ASSIGN(machine->vcpu_, machine->vm_->create_vcpu(0));
  WARMFORK_TRY_ASSIGN(machine->user_sregs_, set_up_vcpu(*machine->vcpu_, cpu, machine->space_->root()));
  machine->vcpu_->shared().kvm_valid_regs = KVM_SYNC_X86_REGS;
  try {  // the first slot starts the watchdog's thread
    machine->watch_ = std::make_unique<WatchSlot>(*machine->vcpu_);
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kHost, "{}: cannot start the watchdog thread: {}", name, error.what());
  }
  for (const kvm_cpuid_entry2& leaf : cpu.cpuid) {
    if (leaf.function == 1) machine->hwcap_ = leaf.edx;
  }

  if (config.process.arguments.empty()) config.process.arguments.emplace_back(name);
  if (config.io == nullptr) {
    machine->own_io_ = std::make_unique<NullIo>();
    config.io = machine->own_io_.get();
  }
  machine->process_.emplace(*machine->space_, *machine->vm_, *config.io, std::move(config.process));
  WARMFORK_TRY(machine->read_vmcall_table());
  return machine;
}

Machine::~Machine() = default;

Status Machine::read_vmcall_table() {
  const std::uint64_t begin = plan_.vmcall_table_begin.value;
  const std::uint64_t end = plan_.vmcall_table_end.value;
  if (end < begin || (end - begin) % sizeof(VmcallEntry) != 0 || (end - begin) / sizeof(VmcallEntry) > kMaxVmcalls) {
    return fail(ErrorKind::kInput, "{}: vmcall table {:#x} … {:#x} is not a table of at most {} entries", name_, begin,
                end, kMaxVmcalls);
  }
  for (std::uint64_t at = begin; at < end; at += sizeof(VmcallEntry)) {
    const auto entry = space_->read_value<VmcallEntry>(Gva{at});
    if (!entry) return with_context(entry.error(), fmt::format("{}: vmcall table", name_));
    auto entry_name = space_->read_string(Gva{entry->name}, 64);
    if (!entry_name) return with_context(entry_name.error(), fmt::format("{}: vmcall table", name_));
    vmcalls_.emplace_back(std::move(*entry_name), Gva{entry->function});
  }
  return {};
}

Result<Gva> Machine::find_vmcall(std::string_view name) const {
  for (const auto& [entry_name, function] : vmcalls_) {
    if (entry_name == name) return function;
  }
  if (const ElfSymbol* symbol = plan_.find_symbol(name); symbol != nullptr && symbol->is_function) {
    return Gva{symbol->address};
  }
  return fail(ErrorKind::kInput, "{}: no vmcall or function named \"{}\"", name_, name);
}

Result<Gva> Machine::put_buffer(std::uint64_t offset, std::span<const std::byte> bytes) {
  const AddressRange area = space_->call_area();
  if (offset > area.size || bytes.size() > area.size - offset) {
    return fail(ErrorKind::kLimit, "buffer of {} bytes at offset {} of a call area of {}", bytes.size(), offset,
                area.size);
  }
  const Gva address = area.begin + offset;
  WARMFORK_TRY(space_->write(address, bytes));
  return address;
}

void Machine::load_registers(const kvm_regs& regs) {
  kvm_run& run = vcpu_->shared();
  run.s.regs.regs = regs;
  run.kvm_dirty_regs = KVM_SYNC_X86_REGS;
  if (segments_stale_) {
    run.s.regs.sregs = user_sregs_;
    run.kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    segments_stale_ = false;
  }
}

Error Machine::describe_unready(std::string_view what) const {
  switch (state_) {
    case State::kNew: return {ErrorKind::kUsage, fmt::format("{}: {} before the program was booted", name_, what)};
    case State::kStopped:
      return {ErrorKind::kUsage, fmt::format("{}: {} while a stopped call waits to be resumed", name_, what)};
    default: break;
  }
  if (fault_) return {ErrorKind::kGuestFault, fmt::format("{}: the guest has ended: {}", name_, fault_->summary)};
  if (host_error_) return *host_error_;
  return {ErrorKind::kGuestFault, fmt::format("{}: the program has exited with code {}", name_, exit_code_)};
}

Result<BootOutcome> Machine::boot(CallOptions options) {
  if (state_ == State::kNew) {
    WARMFORK_TRY_ASSIGN(const Gva stack, process_->build_initial_stack(plan_, hwcap_));
    kvm_regs regs{};
    regs.rip = plan_.entry.value;
    regs.rsp = stack.value;
    regs.rflags = kUserFlags;
    load_registers(regs);
  } else if (state_ != State::kStopped || !stopped_in_boot_) {
    return fail(ErrorKind::kUsage, "{}: boot of a program that was booted before", name_);
  }
  stopped_in_boot_ = true;
  auto stop = enter(options);
  if (!stop) return Failure(std::move(stop).error());
  stopped_in_boot_ = false;
  switch (*stop) {
    case Stop::kExited: return BootOutcome{exit_code_};
    case Stop::kReady: return BootOutcome{};
    case Stop::kReturned: break;
  }
  return end({.summary = "the program returned from a vmcall that was never made"});
}

Result<std::uint64_t> Machine::call(Gva function, std::span<const std::uint64_t> arguments, CallOptions options) {
  if (state_ != State::kReady) [[unlikely]]
    return Failure(describe_unready("vmcall"));
  if (arguments.size() > 6) [[unlikely]] {
    return fail(ErrorKind::kUsage, "vmcall with {} arguments, at most 6", arguments.size());
  }
  if (!canonical_user(function.value)) [[unlikely]] {
    return fail(ErrorKind::kUsage, "vmcall to {:#x}, outside user space", function.value);
  }
  std::array<std::uint64_t, 6> values{};
  std::copy(arguments.begin(), arguments.end(), values.begin());
  kvm_regs regs{};
  regs.rip = kUserStubs + WARMFORK_STUB_VMCALL;
  regs.rax = function.value;
  regs.rdi = values[0];
  regs.rsi = values[1];
  regs.rdx = values[2];
  regs.rcx = values[3];
  regs.r8 = values[4];
  regs.r9 = values[5];
  regs.rsp = call_stack_;
  regs.rflags = kUserFlags;
  load_registers(regs);
  return resume_call(options);
}

Result<std::uint64_t> Machine::resume(CallOptions options) {
  if (state_ != State::kStopped || stopped_in_boot_) {
    return fail(ErrorKind::kUsage, "{}: nothing to resume", name_);
  }
  return resume_call(options);
}

Result<std::uint64_t> Machine::resume_call(CallOptions options) {
  auto stop = enter(options);
  if (!stop) [[unlikely]]
    return Failure(std::move(stop).error());
  if (*stop == Stop::kReturned) [[likely]] {
    ++counters_.vmcalls;
    return result_;
  }
  if (*stop == Stop::kExited) {
    return fail(ErrorKind::kGuestFault, "{}: the program exited with code {} during a vmcall", name_, exit_code_);
  }
  return end({.summary = "the program asked for vmcalls during a vmcall"});
}

Result<Machine::Stop> Machine::enter(CallOptions options) {
  watch_->arm(options.timeout_ns);
  auto stop = run_loop();
  watch_->disarm();
  return stop;
}

Result<Machine::Stop> Machine::run_loop() {
  kvm_run& run = vcpu_->shared();
  for (;;) {
    ++counters_.kvm_run;
    const int error = vcpu_->run_raw();
    if (error == 0 && is_return(run)) [[likely]] {
      result_ = run.s.regs.regs.rax;
      state_ = State::kReady;
      return Stop::kReturned;
    }
    if (auto stop = handle_slow(error)) return *std::move(stop);
  }
}

std::optional<Result<Machine::Stop>> Machine::handle_slow(int run_error) {
  if (run_error == EINTR || run_error == EAGAIN) {
    ++counters_.interrupted;
    // Cleared before looking: a kick that comes now sets it again, and the reason with it.
    vcpu_->clear_immediate_exit();
    if (auto error = stop_error()) return Result<Stop>(Failure(*std::move(error)));
    return std::nullopt;
  }
  if (run_error != 0) {
    state_ = State::kEnded;
    errno = run_error;
    Failure failure = fail_errno("{}: KVM_RUN", name_);
    host_error_ = failure.value();
    return Result<Stop>(std::move(failure));
  }
  const kvm::VcpuExit exit = kvm::decode_exit(vcpu_->shared(), vcpu_->shared_size());
  if (const auto* io = std::get_if<kvm::ExitIo>(&exit);
      io != nullptr && io->is_write && io->size == 1 && io->count == 1) {
    if (auto stop = handle_port(io->port)) return stop;
    if (io->port == WARMFORK_PORT_SYSCALL) return std::nullopt;
  }
  if (std::holds_alternative<kvm::ExitInterrupted>(exit)) return std::nullopt;
  return Result<Stop>(end_with(exit));
}

std::optional<Result<Machine::Stop>> Machine::handle_port(std::uint16_t port) {
  const kvm_regs& regs = vcpu_->shared().s.regs.regs;
  if (port == WARMFORK_PORT_SYSCALL) return serve_syscall();
  if (port == WARMFORK_PORT_READY) {
    if (regs.rsp < kRedZone || !canonical_user(regs.rsp)) {
      return Result<Stop>(end({.summary = fmt::format("the program waits for vmcalls with rsp {:#x}", regs.rsp)}));
    }
    call_stack_ = (regs.rsp - kRedZone) & ~std::uint64_t{15};
    state_ = State::kReady;
    return Result<Stop>(Stop::kReady);
  }
  // An exception port counts only if the processor itself came through our stub: a guest may write any port.
  const std::uint64_t stub_bytes = WARMFORK_EXCEPTION_COUNT * WARMFORK_EXCEPTION_STUB_SIZE;
  const unsigned vector = port - WARMFORK_PORT_EXCEPTION;
  if (port >= WARMFORK_PORT_EXCEPTION && vector < WARMFORK_EXCEPTION_COUNT && regs.rip - kExceptionStubs < stub_bytes) {
    return Result<Stop>(end_with_exception(vector));
  }
  return std::nullopt;
}

std::optional<Result<Machine::Stop>> Machine::serve_syscall() {
  kvm_regs regs = vcpu_->shared().s.regs.regs;
  const linux_abi::SyscallRequest request{regs.rax, {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9}};
  ++counters_.syscalls;
  linux_abi::SyscallOutcome outcome = process_->serve(request);
  while (outcome.interrupted) {
    if (auto error = stop_error()) {
      // Stopped inside a blocking call: a resume makes the call again (SYSCALL is two bytes long).
      regs.rip = regs.rcx - 2;
      regs.rflags = sanitize_user_flags(regs.r11);
      segments_stale_ = true;
      load_registers(regs);
      return Result<Stop>(Failure(*std::move(error)));
    }
    outcome = process_->serve(request);
  }
  if (outcome.host_error) {
    Failure failure =
        end({.summary = fmt::format("the host failed in a system call: {}", outcome.host_error->message)});
    failure.value().kind = ErrorKind::kHost;
    return Result<Stop>(std::move(failure));
  }
  if (outcome.exit_code) {
    exit_code_ = *outcome.exit_code;
    state_ = State::kEnded;
    return Result<Stop>(Stop::kExited);
  }
  if (!canonical_user(regs.rcx)) {
    return Result<Stop>(end({.summary = fmt::format("system call returns to {:#x}, outside user space", regs.rcx)}));
  }
  regs.rax = static_cast<std::uint64_t>(outcome.result);
  regs.rip = regs.rcx;
  regs.rflags = sanitize_user_flags(regs.r11);
  user_sregs_.fs.base = process_->fs_base();
  user_sregs_.gs.base = process_->gs_base();
  // On hardware SYSCALL has loaded the kernel's CS and SS; the host gives the user's back at the next entry.
  segments_stale_ = true;
  load_registers(regs);
  return std::nullopt;
}

std::string Machine::where() const {
  const std::uint64_t rip = vcpu_->shared().s.regs.regs.rip;
  const std::string symbol = plan_.symbolize(rip);
  return symbol.empty() ? fmt::format("at {:#x}", rip) : fmt::format("at {:#x} in {}", rip, symbol);
}

std::optional<Error> Machine::stop_error() {
  switch (watch_->take_stop_reason()) {
    case StopReason::kNone: return std::nullopt;
    case StopReason::kDeadline:
      state_ = State::kStopped;
      return Error{ErrorKind::kDeadline, fmt::format("{}: the deadline has passed, {}", name_, where())};
    case StopReason::kCancelled:
      state_ = State::kStopped;
      return Error{ErrorKind::kCancelled, fmt::format("{}: cancelled, {}", name_, where())};
  }
  return std::nullopt;
}

Failure Machine::end_with_exception(unsigned vector) {
  FaultReport report;
  report.vector = vector;
  report.regs = vcpu_->shared().s.regs.regs;
  // What the processor pushed, from the top down: SS, RSP, RFLAGS, CS, RIP, error code (AMD APM vol. 2, 8.9.3).
  if (const auto frame = space_->exception_frame(6)) {
    report.regs.rsp = (*frame)[4];
    report.regs.rflags = (*frame)[3];
    report.rip = report.regs.rip = (*frame)[1];
    if (x86::pushes_error_code(vector)) report.error_code = (*frame)[0];
  }
  report.symbol = plan_.symbolize(report.rip);
  constexpr unsigned kPageFault = 14;
  constexpr unsigned kGeneralProtection = 13;
  std::string what;
  if (vector == kPageFault) {
    if (const auto sregs = vcpu_->sregs()) report.fault_address = sregs->cr2;
    const bool write = (report.error_code & 2) != 0;
    const bool fetch = (report.error_code & 16) != 0;
    const Gva address{report.fault_address};
    const std::string place = space_->describe(address);
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
  return end(std::move(report));
}

Failure Machine::end_with(const kvm::VcpuExit& exit) {
  FaultReport report;
  report.summary = fmt::format("{}, {}", kvm::describe(exit), where());
  return end(std::move(report));
}

Failure Machine::end(FaultReport report) {
  state_ = State::kEnded;
  if (report.rip == 0) {
    report.regs = vcpu_->shared().s.regs.regs;
    report.rip = report.regs.rip;
    report.symbol = plan_.symbolize(report.rip);
  }
  report.last_exit = kvm::describe(kvm::decode_exit(vcpu_->shared(), vcpu_->shared_size()));
  fault_ = std::move(report);
  return Failure(Error{ErrorKind::kGuestFault, fmt::format("{}: {}", name_, fault_->summary)});
}

}  // namespace warmfork
