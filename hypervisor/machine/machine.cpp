#include "machine/machine.hpp"

#include "warmfork/abi/layout.h"
#include "warmfork/abi/vmcall.hpp"
#include "x86/cpuid.hpp"

#include <algorithm>

namespace warmfork {
namespace {

constexpr std::uint64_t kUserStubs = WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET;
constexpr std::size_t kMaxVmcalls = 1024;
constexpr std::uint64_t kRedZone = 128;  // System V AMD64 ABI, §3.2.2: bytes below rsp that belong to the caller

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
  WARMFORK_TRY_ASSIGN(machine->cpu_, GuestCpu::create(*machine->vm_, cpu, machine->space_->root(), name));
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
  Result<GuestStop> stop = GuestStop{};
  if (state_ == State::kNew) {
    WARMFORK_TRY_ASSIGN(const Gva stack, process_->build_initial_stack(plan_, hwcap_));
    kvm_regs regs{};
    regs.rip = plan_.entry.value;
    regs.rsp = stack.value;
    regs.rflags = kUserFlags;
    stop = cpu_->run(guest(), regs, options.timeout_ns);
  } else if (state_ == State::kStopped && stopped_in_boot_) {
    stop = cpu_->go_on(guest(), options.timeout_ns);
  } else {
    return fail(ErrorKind::kUsage, "{}: boot of a program that was booted before", name_);
  }
  if (!stop) {
    stopped_in_boot_ = true;
    return note(std::move(stop).error());
  }
  stopped_in_boot_ = false;
  switch (stop->kind) {
    case GuestStop::Kind::kExited: exited(*stop); return BootOutcome{exit_code_};
    case GuestStop::Kind::kReady: break;
    case GuestStop::Kind::kReturned: return condemn("the program returned from a vmcall that was never made");
  }
  if (stop->value < kRedZone || !x86::is_user_address(stop->value)) {
    return condemn(fmt::format("the program waits for vmcalls with rsp {:#x}", stop->value));
  }
  call_stack_ = (stop->value - kRedZone) & ~std::uint64_t{15};
  state_ = State::kReady;
  return BootOutcome{};
}

Result<std::uint64_t> Machine::call(Gva function, std::span<const std::uint64_t> arguments, CallOptions options) {
  if (state_ != State::kReady) [[unlikely]]
    return Failure(describe_unready("vmcall"));
  if (arguments.size() > 6) [[unlikely]] {
    return fail(ErrorKind::kUsage, "vmcall with {} arguments, at most 6", arguments.size());
  }
  if (!x86::is_user_address(function.value)) [[unlikely]] {
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
  return finish_call(cpu_->run(guest(), regs, options.timeout_ns));
}

Result<std::uint64_t> Machine::resume(CallOptions options) {
  if (state_ != State::kStopped || stopped_in_boot_) {
    return fail(ErrorKind::kUsage, "{}: nothing to resume", name_);
  }
  return finish_call(cpu_->go_on(guest(), options.timeout_ns));
}

Result<std::uint64_t> Machine::finish_call(Result<GuestStop> stop) {
  if (!stop) [[unlikely]]
    return note(std::move(stop).error());
  switch (stop->kind) {
    case GuestStop::Kind::kReturned:
      state_ = State::kReady;
      ++cpu_->counters().vmcalls;
      return stop->value;
    case GuestStop::Kind::kExited:
      exited(*stop);
      return fail(ErrorKind::kGuestFault, "{}: the program exited with code {} during a vmcall", name_, exit_code_);
    case GuestStop::Kind::kReady: break;
  }
  return condemn("the program asked for vmcalls during a vmcall");
}

void Machine::exited(const GuestStop& stop) {
  exit_code_ = static_cast<int>(stop.value);
  state_ = State::kEnded;
}

Failure Machine::note(Error error) {
  const bool stopped = error.kind == ErrorKind::kDeadline || error.kind == ErrorKind::kCancelled;
  state_ = stopped ? State::kStopped : State::kEnded;
  if (!stopped) {
    fault_ = cpu_->take_fault();
    if (!fault_) host_error_ = error;
  }
  return Failure(std::move(error));
}

}  // namespace warmfork
