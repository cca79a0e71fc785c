// Who plays the guest in a study: a guest of this hypervisor, a thread of this process (the floor), or somebody else
// who has the same memory (a process, a program in another hypervisor's guest).
//
//   start ──> the guest takes part in one session ──> finish
//
// Threads: start, finish and waiting() by the host's side; a runner has at most one thread of its own.
#pragma once

#include "base/result.hpp"
#include "ivshmem/host/counters.hpp"
#include "ivshmem/host/host_side.hpp"
#include "machine/doorbell.hpp"
#include "machine/guest.hpp"

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>

namespace warmfork::ivshmem {

enum class Wake : std::uint8_t {
  kPolling,   // both look at each other's state without a pause
  kDoorbell,  // the guest returns from its call when there is nothing to do; the host sleeps on its doorbell
};

class Runner {
 public:
  virtual ~Runner() = default;
  Runner() = default;
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  /// Begins to take part; only guests of this hypervisor know doorbells (the others: kUsage). Errors: kHost,
  /// kGuestFault.
  [[nodiscard]] virtual Status start(Wake wake) = 0;
  /// Waits until it has seen the end of the session, or ends it if `abandon`. Errors: how the guest has failed.
  [[nodiscard]] virtual Status finish(bool abandon) = 0;
  /// For the host's side, between start() and finish().
  [[nodiscard]] virtual Waiting waiting() = 0;
  /// What its thread has used since start(), once it has finished; nothing: it has no thread of this process.
  [[nodiscard]] virtual std::optional<std::uint64_t> cpu_ns() const = 0;
  [[nodiscard]] virtual Counts counts() const = 0;
  [[nodiscard]] virtual std::string why_not_counted() const = 0;
};

struct RunnerOptions {
  int cpu = -1;  // for its thread; -1: any
  std::uint64_t timeout_ns = 10'000'000'000;
};

/// The guest of payloads/ivshmem, in a machine that was booted with guest_elf(), or a fork of it. `host_address`,
/// `guest_address`: where it has the host's part and its own page.
/// Errors: kInput (another program), kGuestFault, kLimit (the guest has no memory for a copy of the frame).
[[nodiscard]] Result<std::unique_ptr<Runner>> make_guest_runner(Guest& guest, Gva host_address, Gva guest_address,
                                                                std::uint64_t frame_capacity,
                                                                const RunnerOptions& options);
/// A thread that runs the guest's code on the same memory. It polls.
[[nodiscard]] Result<std::unique_ptr<Runner>> make_thread_runner(const Meeting& meeting, GuestPage& guest_page,
                                                                 const RunnerOptions& options);
/// Nobody of this process.
[[nodiscard]] std::unique_ptr<Runner> make_remote_runner(const RunnerOptions& options);

/// The guest program, as a static ELF.
[[nodiscard]] std::span<const std::byte> guest_elf();
/// The regions such a guest is made with: the host's part, read-only, and the guest's page.
inline constexpr std::string_view kHostRegion = "ivshmem-host";
inline constexpr std::string_view kGuestRegion = "ivshmem-guest";
/// What the guest needs beside them for a frame of so many bytes.
[[nodiscard]] constexpr std::uint64_t guest_memory_bytes(std::uint64_t frame_capacity) {
  return frame_capacity + (std::uint64_t{8} << 20);
}

/// Takes part as the guest in sessions of whoever is the host of `memory` (a file in the layout of protocol.hpp), until
/// `sessions` of them have been completed, `cancelled` says so (kCancelled), or nothing has happened for `timeout_ns`
/// (kDeadline). However it ends, it says so to a host that waits. `name`: what it calls itself. Errors also: kUsage,
/// memory too small.
struct PeerEnd {
  std::uint64_t sessions = 0, frames = 0, verified = 0;
  Status why;  // success: as many sessions as it should
};
[[nodiscard]] Result<PeerEnd> run_peer(std::span<std::byte> memory, const std::string& name, std::uint64_t sessions,
                                       std::uint64_t timeout_ns, const std::function<bool()>& cancelled);

}  // namespace warmfork::ivshmem
