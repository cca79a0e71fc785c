#include "machine/machine.hpp"

#include "trace/trace.hpp"
#include "warmfork/abi/layout.h"

#include <algorithm>
#include <cstring>

namespace warmfork {
namespace {

constexpr trace::Kind kCreate{"call", "create machine"};
constexpr trace::Kind kBoot{"call", "boot"};
constexpr std::uint64_t kRedZone = 128;  // System V AMD64 ABI, §3.2.2: bytes below rsp that belong to the caller

std::uint32_t hwcap(const x86::CpuModel& cpu) {
  const auto leaf = std::ranges::find(cpu.cpuid, 1U, &kvm_cpuid_entry2::function);
  return leaf == cpu.cpuid.end() ? 0 : leaf->edx;
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const kvm::Kvm& kvm, std::span<const std::byte> elf,
                                                 std::string_view name, MachineConfig config) {
  const trace::Span span(kCreate);
  std::unique_ptr<Machine> machine(new Machine);
  const auto program = std::make_shared<GuestProgram>();
  machine->program_ = program;
  program->name = name;
  const ElfLimits limits{.lowest_address = WARMFORK_USER_BASE, .memory_bytes = config.memory_bytes};
  WARMFORK_TRY_ASSIGN(program->plan, plan_elf(elf, name, limits));

  // Fork page, call ring, exception stack.
  constexpr std::uint64_t kOwnPages = 3 * kPage;
  std::uint64_t fixed = page_ceil(config.stack_bytes) + page_ceil(config.call_area_bytes) + kOwnPages;
  for (const LoadSegment& segment : program->plan.segments) {
    if (segment.write) {
      fixed += page_ceil(segment.address.value + segment.memory_size) - page_floor(segment.address.value);
    }
  }
  if (fixed > config.memory_bytes) {
    return fail(ErrorKind::kLimit, "{}: data, stack and call area need {} bytes, the memory limit is {}", name, fixed,
                config.memory_bytes);
  }
  const LayoutSizes sizes{.heap = page_floor(config.memory_bytes - fixed),
                          .stack = config.stack_bytes,
                          .call_area = config.call_area_bytes,
                          .code = config.code_bytes,
                          .shared = config.shared_regions};
  machine->cpu_model_ = x86::make_cpu_model(kvm.supported_cpuid());
  WARMFORK_TRY_ASSIGN(const auto layout, GuestLayout::plan(program->plan, sizes, machine->cpu_model_.physical_bits));
  WARMFORK_TRY_ASSIGN(machine->storage_, GuestStorage::allocate(*layout));
  WARMFORK_TRY(check_bindings(*layout, config.shared));
  WARMFORK_TRY(check_shared_slots(kvm, *layout));
  machine->storage_.regions.shared = place_bindings(*layout, config.shared);
  WARMFORK_TRY_ASSIGN(machine->space_, AddressSpace::build(layout, machine->storage_.regions));
  WARMFORK_TRY(machine->space_->load(program->plan));
  // The program is in the guest's memory now; the plan outlives the caller's bytes.
  for (LoadSegment& segment : program->plan.segments) segment.file_bytes = {};
  WARMFORK_TRY(program->read_vmcalls(*machine->space_));

  WARMFORK_TRY_ASSIGN(machine->vm_, kvm.create_vm());
  machine->own_vm_ = &*machine->vm_;
  WARMFORK_TRY(machine->space_->attach_shared(*machine->vm_));
  WARMFORK_TRY(machine->space_->attach_window(*machine->vm_, 0));
  WARMFORK_TRY(machine->space_->attach_shared_regions(*machine->vm_));
  WARMFORK_TRY_ASSIGN(machine->own_cpu_, GuestCpu::create(*machine->vm_, machine->cpu_model_, name));
  machine->cpu_ = machine->own_cpu_.get();
  WARMFORK_TRY(machine->cpu_->take_over(*machine->space_));

  if (config.process.arguments.empty()) config.process.arguments.emplace_back(name);
  if (config.io == nullptr) {
    machine->own_io_ = std::make_unique<NullIo>();
    config.io = machine->own_io_.get();
  }
  machine->process_.emplace(*machine->space_, *config.io, std::move(config.process));
  return machine;
}

Result<BootOutcome> Machine::boot(CallOptions options) {
  const trace::Span span(kBoot);
  Result<GuestStop> stop = GuestStop{};
  if (state_ == State::kNew) {
    space_->set_fork_info(process_->fork_info());
    WARMFORK_TRY_ASSIGN(const Gva stack, process_->build_initial_stack(plan(), hwcap(cpu_model_)));
    kvm_regs regs{};
    regs.rip = plan().entry.value;
    regs.rsp = stack.value;
    regs.rflags = kUserFlags;
    stop = cpu_->run(context(), regs, options.timeout_ns);
  } else if (state_ == State::kStoppedInBoot) {
    stop = cpu_->go_on(context(), options.timeout_ns);
  } else {
    return fail(ErrorKind::kUsage, "{}: boot of a program that was booted before", program().name);
  }
  if (!stop) {
    Failure failure = note(std::move(stop).error());
    if (state_ == State::kStopped) state_ = State::kStoppedInBoot;
    return failure;
  }
  switch (stop->kind) {
    case GuestStop::Kind::kExited: exited(*stop); return BootOutcome{exit_code_};
    case GuestStop::Kind::kReady: break;
    case GuestStop::Kind::kReturned: return condemn("the program returned from a vmcall that was never made");
    case GuestStop::Kind::kParked: return condemn("the program parked outside a call ring");
  }
  if (stop->value < kRedZone || !x86::is_user_address(stop->value)) {
    return condemn(fmt::format("the program waits for vmcalls with rsp {:#x}", stop->value));
  }
  call_stack_ = (stop->value - kRedZone) & ~std::uint64_t{15};
  state_ = State::kReady;
  return BootOutcome{};
}

}  // namespace warmfork
