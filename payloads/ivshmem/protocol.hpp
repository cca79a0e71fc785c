// What host and guest of the shared-memory study say to each other: two pages, a frame, two state machines.
//
//   offset 0        HostPage    written by the host only; for a guest of this hypervisor read-only by its page tables
//   offset 4096     GuestPage   written by the guest only. A guest has it as memory of its own, at offset 0
//   offset 2 MiB    the frame   written by the host only
//
// In a file (QEMU's ivshmem-plain: BAR 2 is the file) all three follow each other as shown.
//
//   host    uninitialized ─> initializing ─> ready ⇄ sending; ready ─> completed ─> initializing: the next session
//
//   guest   uninitialized ─> waiting ─> ready ─> processing ─> acknowledged ─> ready …; any ─> waiting: a new session
//
// A side's state, the number of the message and the session it belongs to are one word, which is written by one store:
// nobody ever sees a part of it. What an earlier run has left behind has another session, or a host page without magic.
//
// Freestanding: guests, other processes and the host use the same code. Threads: each side is one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace warmfork::ivshmem {

inline constexpr std::uint64_t kMagic = 0x31304d5348534657;  // "WFSHSM01", little endian
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kGuestPageOffset = kPageBytes;
inline constexpr std::uint64_t kFrameOffset = std::uint64_t{2} << 20;
inline constexpr std::uint64_t kDefaultBytes = std::uint64_t{64} << 20;
inline constexpr std::size_t kHashBytes = 32;      // SHA-256
inline constexpr std::size_t kNameBytes = 128;     // of the guest's name, the zero behind it included
inline constexpr std::uint8_t kGuestDoorbell = 0;  // the number a guest rings when it has changed its state

enum class HostState : std::uint8_t { kUninitialized, kInitializing, kReady, kSending, kCompleted };
enum class GuestState : std::uint8_t { kUninitialized, kWaitingHostInit, kReady, kProcessing, kAcknowledged };
inline constexpr std::uint8_t kStates = 5;  // of each

[[nodiscard]] constexpr const char* name_of(HostState state) {
  constexpr const char* kNames[] = {"uninitialized", "initializing", "ready", "sending", "completed"};
  return static_cast<std::uint8_t>(state) < kStates ? kNames[static_cast<std::uint8_t>(state)] : "unknown";
}
[[nodiscard]] constexpr const char* name_of(GuestState state) {
  constexpr const char* kNames[] = {"uninitialized", "waiting for the host", "ready", "processing", "acknowledged"};
  return static_cast<std::uint8_t>(state) < kStates ? kNames[static_cast<std::uint8_t>(state)] : "unknown";
}

/// Whether a machine may go from one state to the other.
[[nodiscard]] constexpr bool may_follow(HostState from, HostState to) {
  using enum HostState;
  switch (to) {
    case kUninitialized: return false;
    case kInitializing: return true;  // a host may be restarted at any time
    case kReady: return from == kInitializing || from == kSending;
    case kSending: return from == kReady;
    case kCompleted: return from == kReady;
  }
  return false;
}
[[nodiscard]] constexpr bool may_follow(GuestState from, GuestState to) {
  using enum GuestState;
  switch (to) {
    case kUninitialized: return false;
    case kWaitingHostInit: return true;  // a guest may be restarted at any time, and a host may begin a new session
    case kReady: return from == kWaitingHostInit || from == kAcknowledged;
    case kProcessing: return from == kReady;
    case kAcknowledged: return from == kProcessing;
  }
  return false;
}

/// A state word: session in the upper half, then 24 bits of message number, then the state.
struct StateWord {
  std::uint8_t state = 0;     // as found: 0 … 255
  std::uint32_t message = 0;  // 0: none yet; the first is 1
  std::uint32_t session = 0;  // 0 is no session
  friend constexpr bool operator==(const StateWord&, const StateWord&) = default;
};
inline constexpr std::uint32_t kMostMessages = (1U << 24) - 1;

[[nodiscard]] constexpr std::uint64_t encode(const StateWord& word) {
  return std::uint64_t{word.session} << 32 | std::uint64_t{word.message & kMostMessages} << 8 | word.state;
}
[[nodiscard]] constexpr StateWord decode(std::uint64_t word) {
  return {.state = static_cast<std::uint8_t>(word),
          .message = static_cast<std::uint32_t>(word >> 8) & kMostMessages,
          .session = static_cast<std::uint32_t>(word >> 32)};
}

/// Fields of different use are 128 bytes apart: see warmfork/ring/memory.hpp.
inline constexpr std::size_t kApart = 128;

/// Everything but `state` is written before the state that announces it.
struct HostPage {
  alignas(kApart) std::uint64_t magic;  // 0 while it is being initialised; the last word to be written
  std::uint32_t version;
  std::uint32_t page_bytes;
  std::uint64_t frame_offset;
  std::uint64_t frame_capacity;
  alignas(kApart) std::uint64_t state;                          // of a StateWord
  alignas(kApart) std::uint64_t frame_bytes;                    // of this message
  unsigned char sha256[kHashBytes];                             // of the frame, as the host made it
  alignas(kApart) unsigned char rest[kPageBytes - 3 * kApart];  // 0
};
static_assert(sizeof(HostPage) == kPageBytes && alignof(HostPage) == kApart);

enum class GuestError : std::uint64_t { kNone, kHash, kFrameBytes };

/// What a guest has measured, in ticks of its time stamp counter.
struct GuestTimes {
  std::uint64_t hot = 0;     // reads one word of each cache line of the frame, in whatever cache it is
  std::uint64_t cold = 0;    // the same, behind CLFLUSHOPT of all lines
  std::uint64_t copy = 0;    // copies the frame to memory of its own, behind CLFLUSHOPT
  std::uint64_t verify = 0;  // SHA-256 of the copy
  std::uint64_t total = 0;   // from finding the message to acknowledging it
  friend bool operator==(const GuestTimes&, const GuestTimes&) = default;
};

/// Results are written before the state that announces them.
struct GuestPage {
  alignas(kApart) std::uint64_t magic;  // says nothing but which version wrote it
  std::uint64_t version;
  alignas(kApart) std::uint64_t state;  // of a StateWord
  alignas(kApart) std::uint64_t error;  // a GuestError
  GuestTimes times;
  std::uint64_t checksum;                 // of what the reads have found, so that no compiler leaves them out
  alignas(kApart) char name[kNameBytes];  // who it says it is, for reports; written before it joins
  alignas(kApart) unsigned char rest[kPageBytes - 4 * kApart];  // 0
};
static_assert(sizeof(GuestPage) == kPageBytes && alignof(GuestPage) == kApart);

/// Whether a memory may be used for this: it is fresh, or both pages are as an earlier run has left them. Somebody
/// else's data is not to be written over. `memory` has at least two pages.
[[nodiscard]] inline bool is_meeting(const unsigned char* memory) {
  constexpr std::uint64_t kPages[] = {0, kGuestPageOffset};
  for (const std::uint64_t page : kPages) {
    std::uint64_t magic = 0;
    __builtin_memcpy(&magic, memory + page, sizeof magic);
    if (magic != 0 && magic != kMagic) return false;
    const std::size_t rest = page == 0 ? offsetof(HostPage, rest) : offsetof(GuestPage, rest);
    for (std::size_t at = rest; at < kPageBytes; ++at) {
      if (memory[page + at] != 0) return false;
    }
  }
  return true;
}

[[nodiscard]] inline std::uint64_t load(const std::uint64_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
inline void store(std::uint64_t* word, std::uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

/// One look at a word of the peer's without any order: validate, then use.
[[nodiscard]] inline std::uint64_t load_once(const std::uint64_t* word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}
/// A word that the other side may be looking at, and believes by others only.
template <class Word>
void store_once(Word* word, std::type_identity_t<Word> value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

}  // namespace warmfork::ivshmem
