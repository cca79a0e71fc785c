// The guest's side of the study: joins the host's session, measures what each message costs it, acknowledges. The same
// code runs as a guest of this hypervisor, as a thread of the host (the floor) and as a process or a program in another
// hypervisor's guest (`warmfork ivshmem --peer`, peer/program.cpp): one inline definition, so the loops that are
// compared are the same.
//
// It trusts the host no further than needed: each word is read once, the frame's size is checked against its own
// memory. Freestanding but for memcpy. Threads: one.
#pragma once

#include "ivshmem/protocol.hpp"
#include "ivshmem/sha256.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace warmfork::ivshmem {

/// A processor waits for earlier loads before it reads the counter, and later ones wait for that (Intel SDM vol. 2,
/// RDTSC; AMD APM vol. 3: LFENCE is dispatch serialising where the kernel has made it so).
[[nodiscard]] inline std::uint64_t ticks() {
  asm volatile("mfence\n\tlfence" : : : "memory");
  const std::uint64_t now = __builtin_ia32_rdtsc();
  asm volatile("lfence" : : : "memory");
  return now;
}

/// Whether there is CLFLUSHOPT, which flushes many lines at a time (CPUID leaf 7, EBX bit 23).
[[nodiscard]] inline bool has_clflushopt() {
  std::uint32_t a = 7, b = 0, c = 0, d = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (b >> 23 & 1) != 0;
}

/// Writes every line of the range back and drops it from all caches, of all processors.
inline void flush(const unsigned char* data, std::size_t bytes, bool clflushopt) {
  if (clflushopt) {
    for (std::size_t i = 0; i < bytes; i += 64) asm volatile("clflushopt %0" : : "m"(data[i]));
  } else {
    for (std::size_t i = 0; i < bytes; i += 64) asm volatile("clflush %0" : : "m"(data[i]));
  }
  asm volatile("mfence" : : : "memory");
}

/// One word of every line.
[[nodiscard]] inline std::uint64_t read_lines(const unsigned char* data, std::size_t bytes) {
  std::uint64_t sum = 0;
  // SAFETY: a frame is page aligned, and whole words of it are read.
  for (std::size_t i = 0; i + 8 <= bytes; i += 64) {
    std::uint64_t word;
    asm volatile("movq %1, %0" : "=r"(word) : "m"(*reinterpret_cast<const std::uint64_t*>(data + i)));
    sum ^= word;
  }
  return sum;
}

/// A copy whose time includes the stores' way out of the processor. By one instruction and not by memcpy: host and
/// guest have different ones, which differ by up to a sixth. Of words, as uncached memory takes as long for a byte.
inline void copy_frame(unsigned char* to, const unsigned char* from, std::size_t bytes) {
  std::size_t words = bytes / 8;
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
  std::size_t rest = bytes % 8;
  asm volatile("rep movsb\n\tsfence" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
}

class Peer {
 public:
  struct Memory {
    const HostPage* host;
    GuestPage* guest;
    const unsigned char* frame;
    std::uint64_t frame_capacity;  // what is mapped there
    unsigned char* copy;           // memory of its own, as large
    const char* name = "";         // what it calls itself, for the host's report; cut where the page has no room
  };
  enum class Step : std::uint8_t {
    kNothing,    // there was nothing to do
    kChanged,    // it has changed its state: the host may want to know
    kCompleted,  // the host has ended the session
  };

  explicit Peer(const Memory& memory) : memory_(memory) {}

  /// Announces itself, whatever an earlier run has left. Called once, before step().
  void begin() {
    store(&memory_.guest->magic, kMagic);
    store(&memory_.guest->version, kVersion);
    leave();
  }

  /// Says that it takes no part any more: a host that waits for it need not wait on.
  void leave() {
    session_ = 0;
    message_ = 0;
    (void)move(GuestState::kWaitingHostInit);
  }

  /// Looks at the host once and does what is to be done.
  Step step() {
    const std::uint64_t magic = load(&memory_.host->magic);
    const StateWord host = decode(load(&memory_.host->state));
    const auto host_state = static_cast<HostState>(host.state);
    const bool valid =
        magic == kMagic && host.session != 0 && __atomic_load_n(&memory_.host->version, __ATOMIC_RELAXED) == kVersion;
    if (state_ == GuestState::kWaitingHostInit) {
      // Only a host that is ready is joined: what a dead one has left in another state is not waited for.
      if (!valid || host_state != HostState::kReady || host.message != 0) return Step::kNothing;
      const std::uint64_t capacity = load_once(&memory_.host->frame_capacity);
      if (load_once(&memory_.host->frame_offset) != kFrameOffset || capacity > memory_.frame_capacity) {
        return Step::kNothing;
      }
      session_ = host.session;
      message_ = 0;
      // For each session anew: others may take turns in the same memory.
      std::memset(memory_.guest->name, 0, kNameBytes);
      for (std::size_t i = 0; i + 1 < kNameBytes && memory_.name[i] != 0; ++i) memory_.guest->name[i] = memory_.name[i];
      return move(GuestState::kReady);
    }
    if (!valid || host.session != session_) {  // the host begins anew, or a new one does
      // One that begins its next session at once may have overwritten the end of this one before it was seen here.
      if (message_ != 0) ++sessions_;
      leave();
      return Step::kChanged;
    }
    if (host_state == HostState::kCompleted && host.message == message_) {
      ++sessions_;
      leave();
      return Step::kCompleted;
    }
    if (state_ == GuestState::kReady && host_state == HostState::kSending && host.message == message_ + 1) {
      process(host.message);
      return Step::kChanged;
    }
    if (state_ == GuestState::kAcknowledged && host_state == HostState::kReady && host.message == message_) {
      return move(GuestState::kReady);
    }
    return Step::kNothing;
  }

  [[nodiscard]] GuestState state() const { return state_; }
  [[nodiscard]] std::uint32_t session() const { return session_; }
  /// The last message of the session; 0: there was none yet.
  [[nodiscard]] std::uint32_t message() const { return message_; }
  /// Of all sessions: how many have ended, how many frames came, and how many of them with the hash they should.
  [[nodiscard]] std::uint64_t sessions() const { return sessions_; }
  [[nodiscard]] std::uint64_t frames() const { return frames_; }
  [[nodiscard]] std::uint64_t verified() const { return verified_; }

 private:
  Step move(GuestState to) {
    state_ = to;
    store(&memory_.guest->state,
          encode({.state = static_cast<std::uint8_t>(to), .message = message_, .session = session_}));
    return Step::kChanged;
  }
  void process(std::uint32_t message) {
    const std::uint64_t begin = ticks();
    message_ = message;
    (void)move(GuestState::kProcessing);
    const std::uint64_t bytes = load_once(&memory_.host->frame_bytes);
    GuestTimes times;
    auto error = GuestError::kNone;
    std::uint64_t sum = 0;
    if (bytes == 0 || bytes > memory_.frame_capacity) {
      error = GuestError::kFrameBytes;
    } else {
      const auto size = static_cast<std::size_t>(bytes);
      std::uint64_t start = ticks();
      sum = read_lines(memory_.frame, size);
      times.hot = ticks() - start;
      flush(memory_.frame, size, clflushopt_);
      start = ticks();
      sum += read_lines(memory_.frame, size);
      times.cold = ticks() - start;
      flush(memory_.frame, size, clflushopt_);
      start = ticks();
      copy_frame(memory_.copy, memory_.frame, size);
      times.copy = ticks() - start;
      start = ticks();
      unsigned char digest[kHashBytes];
      sha256(memory_.copy, size, digest);
      times.verify = ticks() - start;
      unsigned char expected[kHashBytes];
      std::memcpy(expected, memory_.host->sha256, sizeof expected);
      if (std::memcmp(digest, expected, sizeof digest) != 0) error = GuestError::kHash;
    }
    ++frames_;
    if (error == GuestError::kNone) ++verified_;
    GuestPage& page = *memory_.guest;
    page.error = static_cast<std::uint64_t>(error);
    page.checksum = sum;
    times.total = ticks() - begin;
    page.times = times;
    (void)move(GuestState::kAcknowledged);
  }

  Memory memory_;
  bool clflushopt_ = has_clflushopt();
  GuestState state_ = GuestState::kUninitialized;
  std::uint32_t session_ = 0;
  std::uint32_t message_ = 0;
  std::uint64_t sessions_ = 0;
  std::uint64_t frames_ = 0;
  std::uint64_t verified_ = 0;
};

}  // namespace warmfork::ivshmem
