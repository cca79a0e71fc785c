#include "api/state.hpp"
#include "base/file.hpp"
#include "fork/snapshot_file.hpp"

namespace warmfork::api {
namespace {

constexpr std::size_t kMaxProgramBytes = std::size_t{1} << 30;

ErrorKind to_public(::warmfork::ErrorKind kind) {
  switch (kind) {
    case ::warmfork::ErrorKind::kUsage: return ErrorKind::kUsage;
    case ::warmfork::ErrorKind::kInput: return ErrorKind::kInput;
    case ::warmfork::ErrorKind::kHost: return ErrorKind::kHost;
    case ::warmfork::ErrorKind::kGuestFault: return ErrorKind::kGuestFault;
    case ::warmfork::ErrorKind::kDeadline: return ErrorKind::kDeadline;
    case ::warmfork::ErrorKind::kCancelled: return ErrorKind::kCancelled;
    case ::warmfork::ErrorKind::kLimit: return ErrorKind::kLimit;
    case ::warmfork::ErrorKind::kUnsupported: return ErrorKind::kUnsupported;
  }
  return ErrorKind::kHost;
}

MachineConfig to_config(const BootOptions& options, const std::string& name) {
  MachineConfig config;
  config.memory_bytes = options.memory_bytes;
  config.stack_bytes = options.stack_bytes;
  config.call_area_bytes = options.call_area_bytes;
  config.process.arguments = {name};
  config.process.arguments.insert(config.process.arguments.end(), options.arguments.begin(), options.arguments.end());
  config.process.environment = options.environment;
  config.process.seed = options.seed;
  return config;
}

}  // namespace

Error to_public(::warmfork::Error error) {
  return {to_public(error.kind), std::move(error.message), error.system_errno};
}

std::string_view name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage: return "usage";
    case ErrorKind::kInput: return "input";
    case ErrorKind::kHost: return "host";
    case ErrorKind::kGuestFault: return "guest fault";
    case ErrorKind::kDeadline: return "deadline";
    case ErrorKind::kCancelled: return "cancelled";
    case ErrorKind::kLimit: return "limit";
    case ErrorKind::kUnsupported: return "unsupported";
  }
  return "unknown";
}

ssize_t OutputIo::write(int fd, std::span<const std::byte> bytes) {
  if (!output_) return static_cast<ssize_t>(bytes.size());
  try {
    output_(fd, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } catch (...) {
    return -EIO;  // nothing may be thrown through a guest's run
  }
  return static_cast<ssize_t>(bytes.size());
}

// --- The master ------------------------------------------------------------------------------------------------------

Result<Function> Master::find(std::string_view name) const {
  const auto found = state_.machine.find_vmcall(name);
  if (!found) return api::to_public(found.error());
  return Function{found->value};
}

Result<std::uint64_t> Master::call(const Call& call) {
  if (call.argument_count() > Call::kMaxArguments) return too_many_arguments(call);
  const std::uint64_t timeout_ns = call.timeout() ? to_timeout(call.timeout()) : state_.timeout_ns;
  auto answer = state_.machine.call(Gva{call.function().address}, call.arguments(), {.timeout_ns = timeout_ns});
  if (!answer) return api::to_public(std::move(answer).error());
  return *answer;
}

Result<std::uint64_t> Master::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  const auto address = state_.machine.put_buffer(offset, bytes);
  if (!address) return api::to_public(address.error());
  return address->value;
}

Result<void> Master::read(std::uint64_t address, std::span<std::byte> out) const {
  if (auto done = state_.machine.memory().read(Gva{address}, out); !done) return api::to_public(done.error());
  return {};
}

// --- Snapshots -------------------------------------------------------------------------------------------------------

Result<Snapshot> Snapshot::boot(const std::string& path, const BootOptions& options, const WarmUp& warm_up) {
  const auto elf = read_file(path, kMaxProgramBytes);
  if (!elf) return api::to_public(elf.error());
  return boot_named(*elf, options.name.empty() ? path : options.name, options, warm_up);
}

Result<Snapshot> Snapshot::boot(std::span<const std::byte> elf, const BootOptions& options, const WarmUp& warm_up) {
  return boot_named(elf, options.name.empty() ? "program" : options.name, options, warm_up);
}

Result<Snapshot> Snapshot::boot_named(std::span<const std::byte> elf, const std::string& name,
                                      const BootOptions& options, const WarmUp& warm_up) {
  auto kvm = kvm::Kvm::open(options.kvm_device);
  if (!kvm) return api::to_public(std::move(kvm).error());
  OutputIo io(options.output);
  MachineConfig config = to_config(options, name);
  config.io = &io;
  auto machine = Machine::create(*kvm, elf, name, std::move(config));
  if (!machine) return api::to_public(std::move(machine).error());
  detail::MasterState master{**machine, to_timeout(options.timeout)};
  auto booted = (*machine)->boot({.timeout_ns = master.timeout_ns});
  if (!booted) return api::to_public(std::move(booted).error());
  if (booted->exit_code) {
    return Error{ErrorKind::kGuestFault, fmt::format("{}: the program exited with code {} without waiting for calls",
                                                     name, *booted->exit_code)};
  }
  if (warm_up) {
    Master handle = master.handle();
    if (auto warm = warm_up(handle); !warm) return warm.error();
  }
  auto snapshot = ::warmfork::Snapshot::take(*kvm, **machine);
  if (!snapshot) return api::to_public(std::move(snapshot).error());
  auto state = std::make_shared<detail::SnapshotState>();
  state->kvm = std::make_shared<const kvm::Kvm>(std::move(*kvm));
  state->snapshot = std::move(*snapshot);
  return Snapshot(std::move(state));
}

Result<void> Snapshot::save(const std::string& path) const {
  if (!state_) return usage_error("a snapshot that was moved elsewhere cannot be saved");
  if (auto saved = save_snapshot(*state_->snapshot, path); !saved) return api::to_public(std::move(saved).error());
  return {};
}

Result<Snapshot> Snapshot::load(const std::string& path, const std::string& kvm_device) {
  auto kvm = kvm::Kvm::open(kvm_device);
  if (!kvm) return api::to_public(std::move(kvm).error());
  auto snapshot = load_snapshot(*kvm, path);
  if (!snapshot) return api::to_public(std::move(snapshot).error());
  auto state = std::make_shared<detail::SnapshotState>();
  state->kvm = std::make_shared<const kvm::Kvm>(std::move(*kvm));
  state->snapshot = std::move(*snapshot);
  return Snapshot(std::move(state));
}

Result<Function> Snapshot::find(std::string_view name) const {
  if (!state_) return usage_error("find in a snapshot that was moved elsewhere");
  const auto found = state_->snapshot->program()->find_vmcall(name);
  if (!found) return api::to_public(found.error());
  return Function{found->value};
}

std::uint64_t Snapshot::stored_bytes() const { return state_ ? state_->snapshot->stored_bytes() : 0; }

}  // namespace warmfork::api
