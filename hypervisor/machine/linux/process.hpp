// The Linux a guest program sees: one process, three descriptors, private memory. A subset of the system calls for
// static musl and glibc programs; one table holds number, name, handler and policy. What is not in the table returns
// ENOSYS.
//
// Threads: the thread that runs the vCPU.
#pragma once

#include "base/result.hpp"
#include "machine/address_space.hpp"
#include "machine/guest_io.hpp"
#include "machine/linux/heap.hpp"
#include "warmfork/abi/fork_info.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
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
  /// `io` and `space` must outlive the process.
  Process(AddressSpace& space, GuestIo& io, ProcessConfig config);

  /// Writes argc, argv, envp, the auxiliary vector and their strings onto the stack as Linux does (System V AMD64 ABI,
  /// §3.4.1) and returns the stack pointer to start with. Errors: arguments too long for the stack.
  [[nodiscard]] Result<Gva> build_initial_stack(const LoadPlan& plan, std::uint32_t hwcap);

  /// Serves one system call.
  [[nodiscard]] SyscallOutcome serve(const SyscallRequest& request);

  /// FS and GS base as set by arch_prctl; the machine loads them at the next entry.
  [[nodiscard]] std::uint64_t fs_base() const { return fs_base_; }
  [[nodiscard]] std::uint64_t gs_base() const { return gs_base_; }
  [[nodiscard]] std::uint64_t calls() const { return calls_; }

  /// What a fork takes over and a reset restores: everything but descriptors and random numbers.
  struct Book {
    Heap heap;
    std::uint64_t fs_base = 0;
    std::uint64_t gs_base = 0;
    Gva random_bytes;  // of AT_RANDOM
  };
  [[nodiscard]] Book book() const { return {heap_, fs_base_, gs_base_, random_bytes_}; }
  /// Takes `book` over. Costs an allocation only if the heap's book has changed since it was last taken over.
  void restore(const Book& book);
  /// Random numbers start anew: from `seed`, or from the host's entropy.
  void reseed(std::optional<std::uint64_t> seed);
  /// The guest's heap may not grow past `bytes` in all.
  void limit_heap(std::uint64_t bytes) { heap_.limit(bytes); }
  /// Calls `trace` after every system call from now on; an empty function: no more.
  void set_trace(std::function<void(const SyscallRecord&)> trace) { config_.trace = std::move(trace); }
  /// For a master: generation 0 and random bytes.
  [[nodiscard]] ForkInfo fork_info();
  /// Fills `out` with random bytes, from the seed if one was given.
  void fill_random(std::span<std::byte> out);

 private:
  friend struct Handlers;
  [[nodiscard]] Status scrub_freed();

  AddressSpace& space_;
  GuestIo& io_;
  ProcessConfig config_;
  Heap heap_;
  std::unique_ptr<std::mt19937_64> seeded_;  // large, and most guests have none
  std::uint64_t fs_base_ = 0;
  std::uint64_t gs_base_ = 0;
  Gva random_bytes_;
  std::uint64_t calls_ = 0;
};

}  // namespace warmfork::linux_abi
