// The master of a program: a KVM VM with one vCPU, the program in it, booted until it is warm.
//
//   create ──> boot ──> (exited) exit code
//                 └──> ready: calls as for every Guest; a Snapshot of it can be taken
//
// Threads: as Guest.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "machine/code_region.hpp"
#include "machine/guest.hpp"
#include "machine/guest_cpu.hpp"
#include "machine/guest_io.hpp"
#include "machine/guest_storage.hpp"
#include "machine/linux/process.hpp"
#include "x86/cpuid.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace warmfork {

struct MachineConfig {
  std::uint64_t memory_bytes = std::uint64_t{64} << 20;  // everything the guest can write, together
  std::uint64_t stack_bytes = std::uint64_t{1} << 20;
  std::uint64_t call_area_bytes = 64 << 10;  // where the host puts buffers for vmcalls
  std::uint64_t code_bytes = 0;              // of the code region, rounded up to 2 MiB; 0: there is none
  /// Memory shared with others: the regions of this guest and all its forks (machine/shared_region.hpp) …
  std::vector<SharedRegionSpec> shared_regions;
  SharedBindings shared;  // … and what is behind them in the master. Forks have bindings of their own
  linux_abi::ProcessConfig process;
  GuestIo* io = nullptr;  // must outlive the machine; nullptr: reads see the end of input, writes are discarded
};

/// What became of a booted program.
struct BootOutcome {
  std::optional<int> exit_code;  // empty: it is warm and waits for vmcalls
};

class Machine final : public Guest {
 public:
  /// Builds the guest: VM, vCPU, memory, program. Nothing of it runs yet. `elf` is copied where needed; `name` is for
  /// messages and argv[0] if no arguments are given.
  [[nodiscard]] static Result<std::unique_ptr<Machine>> create(const kvm::Kvm& kvm, std::span<const std::byte> elf,
                                                               std::string_view name, MachineConfig config);

  /// Runs the program from its entry point until it exits or waits for vmcalls. Errors: kGuestFault (see fault()),
  /// kDeadline, kCancelled (boot() again goes on), kHost.
  [[nodiscard]] Result<BootOutcome> boot(CallOptions options = {});

  /// Where the host writes machine code for this guest and all its forks; without bytes if there is no such region.
  [[nodiscard]] const CodeRegion& code_region() const { return storage_.code; }
  /// The image, which every fork shares: nothing changes it once the program is loaded.
  [[nodiscard]] const std::shared_ptr<const Mapping>& image() const { return storage_.image; }
  [[nodiscard]] const x86::CpuModel& cpu_model() const { return cpu_model_; }

 private:
  Machine() = default;

  x86::CpuModel cpu_model_;
  std::unique_ptr<GuestIo> own_io_;
  GuestStorage storage_;
  std::optional<kvm::VmFd> vm_;
  std::unique_ptr<GuestCpu> own_cpu_;
};

}  // namespace warmfork
