#include "machine/guest.hpp"

#include "machine/call_metrics.hpp"
#include "metrics/metrics.hpp"
#include "trace/trace.hpp"
#include "warmfork/abi/layout.h"

#include <algorithm>
#include <array>

namespace warmfork {
namespace {

constexpr trace::Kind kVmcall{"call", "vmcall", nullptr, trace::describe_function};
constexpr trace::Kind kResume{"call", "resume"};
constexpr trace::Kind kServeRing{"call", "call ring"};
constexpr std::uint64_t kUserStubs = WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET;

}  // namespace

CallMode Guest::call_mode() const { return own_vm_ != nullptr ? CallMode::kVm : CallMode::kSpace; }

Status Guest::bind_doorbell(std::uint8_t number, std::shared_ptr<Doorbell> doorbell) {
  if (doorbells_.size() <= number) doorbells_.resize(std::size_t{number} + 1);
  std::shared_ptr<Doorbell>& bound = doorbells_[number];
  if (own_vm_ != nullptr) {
    // Without one of its own the guest leaves KVM_RUN, and GuestCpu rings.
    if (bound != nullptr) WARMFORK_TRY(own_vm_->set_ioeventfd(WARMFORK_PORT_DOORBELL, number, bound->fd(), false));
    bound.reset();
    if (doorbell != nullptr) WARMFORK_TRY(own_vm_->set_ioeventfd(WARMFORK_PORT_DOORBELL, number, doorbell->fd(), true));
  }
  bound = std::move(doorbell);
  return {};
}

Result<Gva> Guest::put_buffer(std::uint64_t offset, std::span<const std::byte> bytes) {
  const AddressRange area = space_->call_area();
  if (offset > area.size || bytes.size() > area.size - offset) {
    return fail(ErrorKind::kLimit, "buffer of {} bytes at offset {} of a call area of {}", bytes.size(), offset,
                area.size);
  }
  const Gva address = area.begin + offset;
  WARMFORK_TRY(space_->write(address, bytes));
  return address;
}

Result<Guest::SharedRegion> Guest::shared_region(std::size_t index) const {
  const auto regions = space_->layout().shared_regions();
  if (index >= regions.size()) {
    return fail(ErrorKind::kUsage, "{}: shared region {}, it has {}", program_->name, index, regions.size());
  }
  const GuestLayout::SharedRegion& region = regions[index];
  const std::vector<BoundRegion>& bound = space_->regions().shared;
  return SharedRegion{.begin = region.range.begin,
                      .bytes = region.range.size,
                      .access = region.access,
                      .memory = bound.empty() ? nullptr : bound[index].memory};
}

Result<Guest::SharedRegion> Guest::shared_region(std::string_view name) const {
  const auto index = space_->layout().find_shared(name);
  if (!index) return fail(ErrorKind::kUsage, "{}: no shared region named {}", program_->name, name);
  return shared_region(*index);
}

Error Guest::describe_unready(std::string_view what) const {
  const std::string& name = program_->name;
  switch (state_) {
    case State::kNew: return {ErrorKind::kUsage, fmt::format("{}: {} before the program was booted", name, what)};
    case State::kStoppedInBoot:
    case State::kStopped:
      return {ErrorKind::kUsage, fmt::format("{}: {} while a stopped call waits to be resumed", name, what)};
    case State::kServing: return {ErrorKind::kUsage, fmt::format("{}: {} while it serves a call ring", name, what)};
    default: break;
  }
  if (fault_) return {ErrorKind::kGuestFault, fmt::format("{}: the guest has ended: {}", name, fault_->summary)};
  if (host_error_) return *host_error_;
  return {ErrorKind::kGuestFault, fmt::format("{}: the program has exited with code {}", name, exit_code_)};
}

kvm_regs Guest::call_registers(Gva function, std::span<const std::uint64_t> arguments) const {
  std::array<std::uint64_t, 6> values{};
  std::copy(arguments.begin(), arguments.end(), values.begin());
  kvm_regs regs{};
  regs.rdi = values[0];
  regs.rsi = values[1];
  regs.rcx = values[3];
  regs.r8 = values[4];
  regs.r9 = values[5];
  regs.rsp = call_stack_;
  regs.rflags = kUserFlags;
  if (pristine_entry_) {
    regs.rip = kUserStubs + WARMFORK_STUB_VMCALL_PRISTINE;
    regs.r11 = function.value;
    regs.r10 = values[2];
    regs.rax = regs.rdx = ~std::uint64_t{0};
  } else {
    regs.rip = kUserStubs + WARMFORK_STUB_VMCALL;
    regs.rax = function.value;
    regs.rdx = values[2];
  }
  return regs;
}

Result<std::uint64_t> Guest::call(Gva function, std::span<const std::uint64_t> arguments, CallOptions options) {
  if (state_ != State::kReady) [[unlikely]]
    return Failure(describe_unready("vmcall"));
  if (arguments.size() > 6) [[unlikely]] {
    return fail(ErrorKind::kUsage, "vmcall with {} arguments, at most 6", arguments.size());
  }
  if (!x86::is_user_address(function.value)) [[unlikely]] {
    return fail(ErrorKind::kUsage, "vmcall to {:#x}, outside user space", function.value);
  }
  if (cpu_ == nullptr) [[unlikely]]
    return fail(ErrorKind::kUsage, "{}: vmcall without a vCPU", program_->name);
  const metrics::Timer timer;
  const trace::Span span(kVmcall, function.value);
  const kvm_regs regs = call_registers(function, arguments);
  pristine_entry_ = false;
  auto answer = finish_call(cpu_->run(context(), regs, options.timeout_ns));
  if (timer.runs()) record_call(call_mode(), timer.ticks(), answer, options);
  return answer;
}

Status Guest::stage(Gva function, std::span<const std::uint64_t> arguments) {
  if (state_ != State::kReady) return Failure(describe_unready("stage"));
  if (arguments.size() > 6) return fail(ErrorKind::kUsage, "vmcall with {} arguments, at most 6", arguments.size());
  if (cpu_ == nullptr) return fail(ErrorKind::kUsage, "{}: stage without a vCPU", program_->name);
  return cpu_->stage(context(), call_registers(function, arguments));
}

Result<std::uint64_t> Guest::resume(CallOptions options) {
  if (state_ != State::kStopped) return fail(ErrorKind::kUsage, "{}: nothing to resume", program_->name);
  const metrics::Timer timer;
  const trace::Span span(kResume);
  auto answer = finish_call(cpu_->go_on(context(), options.timeout_ns));
  if (timer.runs()) record_call(call_mode(), timer.ticks(), answer, options);
  return answer;
}

Result<std::uint64_t> Guest::finish_call(Result<GuestStop> stop) {
  if (!stop) [[unlikely]]
    return note(std::move(stop).error());
  switch (stop->kind) {
    case GuestStop::Kind::kReturned:
      state_ = State::kReady;
      ++cpu_->counters().vmcalls;
      return stop->value;
    case GuestStop::Kind::kExited:
      exited(*stop);
      return fail(ErrorKind::kGuestFault, "{}: the program exited with code {} during a vmcall", program_->name,
                  exit_code_);
    case GuestStop::Kind::kReady: return condemn("the program asked for vmcalls during a vmcall");
    case GuestStop::Kind::kParked: break;
  }
  return condemn("the program parked outside a call ring");
}

Status Guest::begin_service() {
  if (state_ != State::kReady) return Failure(describe_unready("call ring"));
  if (cpu_ == nullptr) return fail(ErrorKind::kUsage, "{}: call ring without a vCPU", program_->name);
  state_ = State::kServing;
  return {};
}

Result<Guest::Service> Guest::serve(std::uint64_t polls) {
  const std::array arguments{space_->layout().call_ring().begin.value, std::uint64_t{1}, polls};
  const trace::Span span(kServeRing);
  const kvm_regs regs = call_registers(Gva{kUserStubs + WARMFORK_STUB_SERVE}, arguments);
  pristine_entry_ = false;
  return finish_service(cpu_->run(context(), regs, 0));
}

Result<Guest::Service> Guest::serve_on() {
  const trace::Span span(kServeRing);
  return finish_service(cpu_->go_on(context(), 0));
}

Result<Guest::Service> Guest::finish_service(Result<GuestStop> stop) {
  if (!stop) {
    Failure failure = note(std::move(stop).error());
    // What was stopped are calls of others, in the middle of the ring: nobody could resume them.
    if (state_ == State::kStopped) host_error_ = failure.value();
    state_ = State::kEnded;
    return failure;
  }
  switch (stop->kind) {
    case GuestStop::Kind::kParked: return Service::kParked;
    case GuestStop::Kind::kReturned: ++cpu_->counters().vmcalls; return Service::kEnded;
    case GuestStop::Kind::kExited:
      exited(*stop);
      return fail(ErrorKind::kGuestFault, "{}: the program exited with code {} during a vmcall", program_->name,
                  exit_code_);
    case GuestStop::Kind::kReady: break;
  }
  return condemn("the program asked for vmcalls during a vmcall");
}

void Guest::exited(const GuestStop& stop) {
  exit_code_ = static_cast<int>(stop.value);
  state_ = State::kEnded;
}

Failure Guest::note(Error error) {
  const bool stopped = error.kind == ErrorKind::kDeadline || error.kind == ErrorKind::kCancelled;
  state_ = stopped ? State::kStopped : State::kEnded;
  if (!stopped) {
    fault_ = cpu_->take_fault();
    if (!fault_) host_error_ = error;
  }
  return Failure(std::move(error));
}

}  // namespace warmfork
