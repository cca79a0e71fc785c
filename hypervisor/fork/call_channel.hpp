// Calls without exits: a thread of its own keeps the guest polling the call ring in its window, and a call is one cache
// line to it and one back. For a guest that answers many requests of one tenant.
//
//   caller                     ring (shared memory)          server thread
//   call ── request ─────────────────>──────────────────────  KVM_RUN … guest polls, calls the function
//        <──────────────────────────<───────────── answer ──
//                                                 (idle)      guest parks: the thread sleeps until the next request
//
// NO RESET BETWEEN REQUESTS: what one request leaves in the guest's memory and registers the next one finds, and a
// request can go on running after it has answered. Of the host the guest sees as little as ever. So all requests of a
// channel must be of one tenant; close it and reset the fork before another one's.
//
// While the channel is open the guest belongs to it: nothing of the Guest may be used but its const properties, not
// even its memory, which the server thread may be changing the protection of (mprotect). Data goes through the
// channel's put_buffer() and get_buffer(); GuestIo is used by the server thread. A `space` fork's vCPU is the channel's
// as well.
//
//   open ──> serving ──close──> closed (the guest is ready: for calls, a reset, another channel)
//               └── fault, exit, deadline, cancel ──> failed: every later call says so, until close() and a reset
//
// Waiting for an answer spins for ChannelOptions::spin_ns, then yields the processor between looks, then sleeps for an
// eighth of what it has waited (at most 1 ms): a slow call costs no processor, and is late by an eighth at most.
//
// Threads: one caller at a time; cancel() from any. The destructor may run while another thread is in a call: that call
// fails with kCancelled.
#pragma once

#include "base/result.hpp"
#include "fork/call_ring_client.hpp"
#include "machine/guest.hpp"
#include "memory/page_set.hpp"

#include <semaphore.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>

namespace warmfork {

struct ChannelOptions {
  std::uint64_t polls_before_parking = 1 << 18;  // of an idle guest, about a nanosecond each; 0: it never parks
  std::uint64_t spin_ns = 20'000;                // a caller spins for as long before it yields; 0 with one processor
  std::optional<int> cpu;                        // the server thread is pinned there
  std::uint64_t timeout_ns = 0;                  // deadline of every call that gives none of its own; 0: none
};

class CallChannel {
 public:
  /// Begins the service. `guest` is ready and, if a fork, bound; it outlives the channel, and all requests until the
  /// channel is closed are of one tenant. Errors: kUsage (not ready), kHost (no thread, no such CPU).
  [[nodiscard]] static Result<std::unique_ptr<CallChannel>> open_for_one_tenant(Guest& guest,
                                                                                const ChannelOptions& options = {});
  ~CallChannel();
  CallChannel(const CallChannel&) = delete;
  CallChannel& operator=(const CallChannel&) = delete;

  /// Calls a function of the guest with up to six integers and returns what it returns; nothing else may be in flight.
  /// No system call while the guest polls. Errors: kUsage; kDeadline, kCancelled, kGuestFault, kHost: the channel has
  /// failed, and every later call gets the same error (Guest::fault() has the report).
  [[nodiscard]] Result<std::uint64_t> call(Gva function, std::span<const std::uint64_t> arguments,
                                           CallOptions options = {});

  /// The two halves of call(), for several requests in flight, which the guest answers in their order. The deadline
  /// counts from post(); it is looked at while the answer is waited for. Errors of post(): kLimit (as many in flight
  /// as the ring has slots), kUsage, and the channel's failure.
  [[nodiscard]] Status post(Gva function, std::span<const std::uint64_t> arguments, CallOptions options = {});
  /// The answer to the oldest request in flight, if it is there. Errors: as call(), kUsage (none is in flight).
  [[nodiscard]] Result<std::optional<std::uint64_t>> poll();
  /// Waits for it.
  [[nodiscard]] Result<std::uint64_t> wait();
  [[nodiscard]] std::uint64_t in_flight() const { return ring_.in_flight(); }

  /// As Guest::put_buffer: copies `bytes` into the call area and returns their guest address. Errors (kLimit): no room.
  [[nodiscard]] Result<Gva> put_buffer(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Copies out of the call area. The guest may be writing there: what is copied is what has to be checked.
  [[nodiscard]] Status get_buffer(std::uint64_t offset, std::span<std::byte> out) const;

  /// Stops whatever the guest does; the channel has failed with kCancelled. Any thread; async-signal-safe.
  void cancel();

  /// Ends the service once the guest has answered what is in flight (nobody gets the answers), and gives the guest
  /// back. Waits for that until the last one's deadline, and for an idle guest a second: then it is stopped. Errors:
  /// the channel's failure, after which the guest has to be reset.
  Status close();

  /// How often the guest has parked: each is an exit. Any thread.
  [[nodiscard]] std::uint64_t parks() const { return parks_.load(std::memory_order_relaxed); }

 private:
  CallChannel(Guest& guest, const ChannelOptions& options);
  void serve();
  void sleep_until_posted(std::uint64_t seen);
  void wake();
  [[nodiscard]] Status check_request(Gva function, std::span<const std::uint64_t> arguments) const;
  void post_now(std::uint64_t function, std::span<const std::uint64_t> arguments, std::uint64_t timeout_ns);
  [[nodiscard]] Result<std::uint64_t> take_patiently();
  [[nodiscard]] Failure expire();
  void note(std::uint64_t sequence, const Result<std::uint64_t>& answer);
  [[nodiscard]] Failure failure() const;
  [[nodiscard]] bool ended() const { return ended_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t deadline_after(std::uint64_t timeout_ns) const;

  // The caller's.
  CallRingClient ring_;
  std::array<std::uint64_t, CallRingClient::kSlots> deadlines_{};  // TSC; of requests in flight, by slot
  std::uint64_t spin_ticks_ = 0;
  std::uint64_t timeout_ns_ = 0;
  double ticks_per_ns_ = 0;
  std::array<std::uint64_t, CallRingClient::kSlots> begun_{};  // TSC; of requests in flight while metrics are on; or 0
  std::atomic<bool> busy_{false};                              // a caller is inside; for the destructor
  bool closed_ = false;
  PageSet put_;  // pages of the window that put_buffer() has written

  // Both threads'. The caller writes the first line with every request, the other only changes when something happens.
  alignas(64) std::atomic<std::uint64_t> posted_{0};  // sequence number of the last request
  alignas(64) std::atomic<bool> parked_{false};       // the server thread sleeps, or is about to
  std::atomic<bool> stopping_{false};                 // it must not sleep any more
  std::atomic<bool> closing_{false};                  // the end of the service has been asked for
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> ended_{false};  // the server thread is done with the guest; outcome_ is written
  std::atomic<std::uint64_t> parks_{0};
  sem_t wakeup_{};  // one post for each time parked_ is taken back by somebody else

  Guest& guest_;
  ChannelOptions options_;
  Status outcome_;
  std::jthread thread_;
};

}  // namespace warmfork
