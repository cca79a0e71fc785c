// The host's side of the protocol of the shared-memory study (payloads/ivshmem/protocol.hpp): its state machine, and
// everything it believes of what the guest writes. The guest's page is hostile: each word is read once and checked.
//
// Threads: one.
#pragma once

#include "base/result.hpp"
#include "ivshmem/protocol.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace warmfork::ivshmem {

/// Follows a guest's state words through one session. A word that cannot follow the one before it is a violation, which
/// stays; words of other sessions are what an earlier run has left, until the guest has joined this one.
class GuestWatch {
 public:
  enum class Look : std::uint8_t { kWaiting, kArrived, kBroken };

  explicit GuestWatch(std::uint32_t session) : session_(session) {}

  /// What is waited for next: kReady with the number of the last message (0: that it joins), or kAcknowledged with the
  /// number of the one just sent.
  void expect(GuestState state, std::uint32_t message) {
    wanted_ = state;
    message_ = message;
  }
  /// Judges one word, as it was read from the guest's page.
  [[nodiscard]] Look look(std::uint64_t word);

  [[nodiscard]] bool joined() const { return joined_; }
  /// The last state of this session; kUninitialized before it joins.
  [[nodiscard]] GuestState state() const { return state_; }
  /// What is wrong, with value and limit; empty: nothing is.
  [[nodiscard]] const std::string& violation() const { return violation_; }

 private:
  Look broken(std::string why);

  std::uint32_t session_;
  GuestState wanted_ = GuestState::kReady;
  std::uint32_t message_ = 0;
  GuestState state_ = GuestState::kUninitialized;
  std::uint32_t seen_message_ = 0;
  bool joined_ = false;
  std::string violation_;
};

/// Copies the results out of a guest's page, each word once. Errors (kGuestFault), by name, value and limit: an error
/// code that is none, a phase of no time or of more than the total, a total of more than `round_trip` ticks (which the
/// host has measured around it; `slack` more are borne with, for counters that are not quite in step).
struct GuestResult {
  GuestError error = GuestError::kNone;
  GuestTimes times;
};
[[nodiscard]] Result<GuestResult> read_result(const GuestPage& page, std::uint64_t round_trip, std::uint64_t slack);

/// What the guest calls itself, each byte read once: up to the first zero, '?' for what is not printable ASCII.
[[nodiscard]] std::string read_name(const GuestPage& page);

/// Where both sides meet, as the host sees it. SAFETY: what it refers to must outlive its users.
struct Meeting {
  HostPage* host = nullptr;
  const GuestPage* guest = nullptr;
  std::span<unsigned char> frame;
};
/// The parts of a memory: in one file (`guest_part` empty), or with the guest's page elsewhere. Errors (kUsage): too
/// small for a page of each and `frame_bytes` bytes.
[[nodiscard]] Result<Meeting> meet(std::span<std::byte> memory, std::span<std::byte> guest_part,
                                   std::uint64_t frame_bytes);

/// How a side waits and wakes the other.
struct Waiting {
  std::function<void()> notify = [] {};  // after every change of the host's state
  /// Between two looks, when the last has found nothing: returns when it is time for another, or after `ns`.
  std::function<void(std::uint64_t ns)> rest;
  std::function<bool()> cancelled = [] { return false; };
  /// Why nothing will come any more (the guest has ended); success: it may come.
  std::function<Status()> alive = [] { return Status(); };
  std::uint64_t timeout_ns = 10'000'000'000;
};

/// One session of the host: begin(), then send() for every message, then complete().
/// Errors of all of them: kUsage (out of turn), kDeadline (the guest does not answer; says what it was waited for and
/// what was found), kGuestFault (a violation), kCancelled, and those of Waiting::alive.
class HostSide {
 public:
  HostSide(const Meeting& meeting, Waiting waiting) : meeting_(meeting), waiting_(std::move(waiting)) {}

  [[nodiscard]] HostState state() const { return state_; }
  [[nodiscard]] std::uint32_t session() const { return session_; }
  /// What the guest that has joined calls itself. What it says is not believed but shown.
  [[nodiscard]] const std::string& guest_name() const { return guest_name_; }

  /// Begins a session that is none of those whose traces are in the memory, and waits until the guest has joined.
  [[nodiscard]] Status begin();

  struct Sample {
    std::uint64_t host_write = 0;  // ticks: copying the frame into the shared memory
    std::uint64_t round_trip = 0;  // ticks: from announcing the message to seeing it acknowledged
    GuestResult guest;
  };
  /// Writes `frame` and its hash, announces it and waits for the acknowledgement. What the guest reports of the data
  /// (a wrong hash) is in the sample.
  [[nodiscard]] Result<Sample> send(std::span<const unsigned char> frame, const unsigned char (&hash)[kHashBytes]);

  /// Tells the guest that there are no more messages.
  [[nodiscard]] Status complete();

 private:
  [[nodiscard]] Status move(HostState to);
  [[nodiscard]] Status wait(GuestState state);

  Meeting meeting_;
  Waiting waiting_;
  HostState state_ = HostState::kUninitialized;
  std::uint32_t session_ = 0;
  std::uint32_t message_ = 0;
  std::string guest_name_;
  GuestWatch watch_{0};
};

}  // namespace warmfork::ivshmem
