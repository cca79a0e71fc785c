// The Linux a guest program sees: one process, three descriptors, private memory. A subset of the system calls for
// static musl and glibc programs; one table holds number, name, handler and policy. What is not in the table returns
// ENOSYS.
//
// Threads: the thread that runs the vCPU.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "machine/address_space.hpp"
#include "machine/guest_io.hpp"
#include "machine/linux/heap.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace warmfork::linux_abi {

/// A system call as the guest made it: number and six arguments, copied out of its registers once.
struct SyscallRequest {
  std::uint64_t number = 0;
  std::array<std::uint64_t, 6> arguments{};
};

/// What the machine has to do after a system call.
struct SyscallOutcome {
  std::int64_t result = 0;          // for rax
  std::optional<int> exit_code;     // the program has ended
  std::optional<Error> host_error;  // the host could not do its part: the guest cannot go on
  bool interrupted = false;         // a blocking call met a signal: stop if asked to, else make the call again
};

/// For `--trace`: one finished system call.
struct SyscallRecord {
  SyscallRequest request;
  std::string name;
  SyscallOutcome outcome;
  bool supported = true;
};

/// How the table treats a call.
enum class SyscallPolicy : std::uint8_t {
  kServe,   // does what Linux does, within the guest
  kIgnore,  // reports success and does nothing (signals, affinity)
  kRefuse,  // reports a fixed error: the thing does not exist here (files, threads)
};

class Process;
struct SyscallEntry {
  unsigned number;
  const char* name;
  SyscallOutcome (*handler)(Process&, const SyscallRequest&);
  SyscallPolicy policy;
};

/// The table, sorted by number.
[[nodiscard]] std::span<const SyscallEntry> syscall_table();
/// The name of any x86-64 system call, also of those not served; "syscall_N" if there is none.
[[nodiscard]] std::string syscall_name(std::uint64_t number);

struct ProcessConfig {
  std::vector<std::string> arguments;    // argv
  std::vector<std::string> environment;  // NAME=value
  std::optional<std::uint64_t> seed;     // random bytes from this seed instead of the host's entropy
  std::function<void(const SyscallRecord&)> trace;
};

class Process {
 public:
  /// `io`, `space` and `vm` must outlive the process.
  Process(AddressSpace& space, kvm::VmFd& vm, GuestIo& io, ProcessConfig config);

  /// Writes argc, argv, envp, the auxiliary vector and their strings onto the stack as Linux does (System V AMD64 ABI,
  /// §3.4.1) and returns the stack pointer to start with. Errors: arguments too long for the stack.
  [[nodiscard]] Result<Gva> build_initial_stack(const LoadPlan& plan, std::uint32_t hwcap);

  /// Serves one system call.
  [[nodiscard]] SyscallOutcome serve(const SyscallRequest& request);

  /// FS and GS base as set by arch_prctl; the machine loads them at the next entry.
  [[nodiscard]] std::uint64_t fs_base() const { return fs_base_; }
  [[nodiscard]] std::uint64_t gs_base() const { return gs_base_; }
  [[nodiscard]] std::uint64_t calls() const { return calls_; }
  /// Fills `out` with random bytes, from the seed if one was given.
  void fill_random(std::span<std::byte> out);

 private:
  friend struct Handlers;
  [[nodiscard]] Status scrub_freed();

  AddressSpace& space_;
  kvm::VmFd& vm_;
  GuestIo& io_;
  ProcessConfig config_;
  Heap heap_;
  std::optional<std::mt19937_64> seeded_;
  std::uint64_t fs_base_ = 0;
  std::uint64_t gs_base_ = 0;
  std::uint64_t calls_ = 0;
};

}  // namespace warmfork::linux_abi
