// What the rings of this folder share: how memory that another side writes is read, what is done about a peer that
// breaks the rules, and one side's index with its way to sleep and to be woken. Freestanding but for memcpy: guests and
// the host use the same code.
//
// A ring has two kinds of memory for each side: its own part, which it alone writes, and the peer's, which it only
// reads; a hypervisor can map them with exactly these rights. What each side believes about the ring (addresses,
// capacity, its own index) lies in its own object and is never read back from shared memory.
//
// A memory policy says what the peer is worth:
//   Trusted   it keeps the rules. Nothing is checked; payload is used where it lies. (A guest and its host; two
//   threads.) Hostile   it writes anything at any time. Every word of its part is read once, by an atomic load, and
//   checked against
//             the own view before it is used; payload is only ever copied out. A peer that is caught leaves a
//             Violation, which stays: the side does nothing more with the ring, while its other rings are as they were.
//
// Threads: an object belongs to one thread at a time; the peer runs at the same time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace warmfork::ring {

inline constexpr std::size_t kPageBytes = 4096;

/// Where fields of different use begin: two cache lines apart, because some processors fetch lines in pairs (Intel:
/// "spatial prefetcher", Optimization Reference Manual, 2.1.5.4). On the AMD processor this was measured on,
/// neighbouring lines of two writers disturb each other no more than distant ones; a page has the room, so it costs
/// nothing.
inline constexpr std::size_t kApart = 128;

/// Smallest and largest ring, in bytes of data. A length is 32 bits wide, and a record takes at most half of the ring.
inline constexpr std::uint64_t kLeastCapacity = 4096;
inline constexpr std::uint64_t kMostCapacity = std::uint64_t{1} << 32;
[[nodiscard]] constexpr bool valid_capacity(std::uint64_t bytes) {
  return bytes >= kLeastCapacity && bytes <= kMostCapacity && (bytes & (bytes - 1)) == 0;
}

// --- words that two sides share ------------------------------------------------------------------------------------

// Builtins, because std::atomic_ref<const T> comes only with C++26, and a read-only mapping deserves a pointer to
// const.

[[nodiscard]] inline std::uint64_t load_relaxed(const std::uint64_t* word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}
[[nodiscard]] inline std::uint64_t load_acquire(const std::uint64_t* word) {
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
inline void store_relaxed(std::uint64_t* word, std::uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
inline void store_release(std::uint64_t* word, std::uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

/// Orders a store before it against a load behind it, the one thing that x86 does not do by itself. A locked
/// instruction is a full barrier for ordinary memory (Intel SDM vol. 3, "Memory Ordering"; AMD APM vol. 2). Measured
/// behind a store: 4.9 ns, where MFENCE, which is what __atomic_thread_fence makes, takes 19.6 ns.
inline void full_fence() { asm volatile("lock orl $0, -4(%%rsp)" : : : "memory", "cc"); }

/// Between two looks at a word that another processor will write.
inline void pause() { __builtin_ia32_pause(); }

/// Looks until `ready()` says yes, at most `looks` times; true if it did.
template <class Ready>
[[nodiscard]] bool poll(std::uint64_t looks, Ready&& ready) {
  for (; looks != 0; --looks) {
    if (ready()) return true;
    pause();
  }
  return false;
}

/// Copies of at most so many bytes are made in place: what a short one costs is the call and, in guests, how long
/// musl's memcpy takes to begin (up to seven single bytes, then "rep movsq").
inline constexpr std::size_t kShortCopy = 256;

template <class Word>
inline void move_word(std::byte* to, const std::byte* from) {
  struct [[gnu::packed, gnu::may_alias]] Unaligned {
    Word word;
  };
  // SAFETY: the caller has so many bytes at both ends; no alignment is assumed.
  reinterpret_cast<Unaligned*>(to)->word = reinterpret_cast<const Unaligned*>(from)->word;
}

/// memcpy. The last bytes may be copied twice: what counts is what has arrived.
inline void copy_bytes(void* to_bytes, const void* from_bytes, std::size_t size) {
  using Vector [[gnu::vector_size(16)]] = long long;
  auto* const to = static_cast<std::byte*>(to_bytes);
  const auto* const from = static_cast<const std::byte*>(from_bytes);
  if (__builtin_constant_p(size) || size > kShortCopy) {
    __builtin_memcpy(to, from, size);
  } else if (size >= sizeof(Vector)) {
    const std::size_t last = size - sizeof(Vector);
    for (std::size_t at = 0; at < last; at += sizeof(Vector)) {
      move_word<Vector>(to + at, from + at);
      asm volatile("" : "+r"(at));  // or the compiler sees that this is a memcpy, and calls it
    }
    move_word<Vector>(to + last, from + last);
  } else if (size >= 8) {
    move_word<std::uint64_t>(to, from);
    move_word<std::uint64_t>(to + size - 8, from + size - 8);
  } else if (size >= 4) {
    move_word<std::uint32_t>(to, from);
    move_word<std::uint32_t>(to + size - 4, from + size - 4);
  } else if (size != 0) {
    to[0] = from[0];
    if (size >= 2) move_word<std::uint16_t>(to + size - 2, from + size - 2);
  }
}

/// copy_bytes from or to memory that another side may be writing: the compiler can neither repeat it nor split it into
/// a second read, so what was copied is what gets checked. Either pointer may be null if `size` is 0.
inline void copy_once(void* to, const void* from, std::size_t size) {
  if (size == 0) return;
#if __has_feature(thread_sanitizer)
  // Bytes that change meanwhile are no race here but what the check behind the copy is for; the sanitizer cannot know.
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
#else
  asm volatile("" : : "r"(from) : "memory");
  copy_bytes(to, from, size);
  asm volatile("" : : "r"(to) : "memory");
#endif
}

// --- what a peer can do wrong --------------------------------------------------------------------------------------

enum class Reason : std::uint32_t {
  kNone,
  kMagic,      // a part is not of this kind or version; value: its magic; limit: the one expected
  kCapacity,   // a header names another size than agreed; value: it; limit: the one agreed
  kIndex,      // the peer's index went back, or further than it may; value: the index; limit: the most it can be
  kAlignment,  // an index is no multiple of the unit; value: the index; limit: the unit
  kLength,     // a record is longer than what is there; value: its bytes; limit: those there
  kPadding,    // padding that does not end with the ring; value: its bytes; limit: those up to the end
  kSequence,   // a record's number is not the next one; value: it; limit: the one expected
};

/// The first rule a peer has broken. Text for people: describe().
struct Violation {
  Reason reason = Reason::kNone;
  std::uint64_t value = 0;
  std::uint64_t limit = 0;
  explicit operator bool() const { return reason != Reason::kNone; }
};

[[nodiscard]] constexpr const char* describe(Reason reason) {
  switch (reason) {
    case Reason::kNone: return "no rule of the ring was broken";
    case Reason::kMagic: return "the ring's magic is not the one expected";
    case Reason::kCapacity: return "the ring's size is not the one agreed";
    case Reason::kIndex: return "the peer's index went back or too far";
    case Reason::kAlignment: return "the peer's index is not aligned";
    case Reason::kLength: return "a record is longer than what is in the ring";
    case Reason::kPadding: return "padding does not end where the ring does";
    case Reason::kSequence: return "a record's number is not the next one";
  }
  return "unknown";
}

struct Trusted {
  static constexpr bool kTrustsPeer = true;
  static void copy(void* to, const void* from, std::size_t size) {
    if (size != 0) copy_bytes(to, from, size);
  }
  // Of bytes that even an honest peer may be overwriting; whether it was is checked afterwards.
  static void copy_racing(void* to, const void* from, std::size_t size) { copy_once(to, from, size); }
};

struct Hostile {
  static constexpr bool kTrustsPeer = false;
  static void copy(void* to, const void* from, std::size_t size) { copy_once(to, from, size); }
  static void copy_racing(void* to, const void* from, std::size_t size) { copy_once(to, from, size); }
};

// --- one side of a ring with two -----------------------------------------------------------------------------------

/// Where one side's two words lie in shared memory, and the peer's two.
struct SideWords {
  std::uint64_t* own;         // the own index: up to where this side has written (producer) or read (consumer)
  std::uint64_t* own_wake;    // wake me when your index passes this
  const std::uint64_t* peer;  // the peer's index
  const std::uint64_t* peer_wake;
};

/// An index that is published to the peer, the last one seen of the peer, and the doorbell between the two. Indices run
/// freely through all 64 bits and are only ever subtracted.
///
/// Sleeping. A side that finds nothing to do writes the peer's index, as it last saw it, into its own page (`wake_at`:
/// wake me when you pass this), and looks once more; the other one, after it has published, looks whether it has just
/// passed what the page says. Both put a full fence between their store and their load, so at least one of the two sees
/// the other's store (Dekker): a wake-up may be in vain, none is lost. An index instead of a flag (virtio's event
/// index) is what makes it one doorbell for each sleep, though the one who rings cannot write to the sleeper's page,
/// and spares the sleeper a second store: an index that was passed stays passed. model/spsc.pml has this and its proof.
template <class Policy>
class Side {
 public:
  /// What the peer was caught at; it stays, and from then on nothing comes out of the ring or goes in.
  [[nodiscard]] const Violation& violation() const { return violation_; }

  /// After publishing: whether the peer sleeps and has to be woken now (a doorbell, by whatever means). Costs a full
  /// fence: once per batch is enough. A hostile peer can ask for a doorbell in vain, at most one per call.
  [[nodiscard]] bool needs_wake() {
    // The store of the own index before it, the load of the peer's wish behind it; see above.
    full_fence();
    const std::uint64_t wake_at = load_relaxed(words_.peer_wake);
    const bool passed = wake_at - asked_ < published_ - asked_;  // asked_ <= wake_at < published_
    asked_ = published_;
    return passed;
  }

 protected:
  Side(const SideWords& words, std::uint64_t start, std::uint64_t slack, std::uint64_t unit)
      : words_(words), next_(start), published_(start), seen_(start), asked_(start), slack_(slack), unit_(unit) {}

  // Looks at the peer's index. False: the peer is caught, now or before.
  bool refresh() {
    // Acquire: what the peer wrote before it published its index (records; for a producer: that it has read them) has
    // happened before anything that follows.
    const std::uint64_t value = load_acquire(words_.peer);
    if constexpr (!Policy::kTrustsPeer) {
      if (violation_) return false;
      const std::uint64_t most = published_ + slack_;
      if (value - seen_ > most - seen_) return caught(Reason::kIndex, value, most);
      if (value % unit_ != 0) return caught(Reason::kAlignment, value, unit_);
    }
    seen_ = value;
    return true;
  }

  void publish_index() {
    if (published_ == next_) return;
    published_ = next_;
    // Release: what this side has written to the ring (or read from it) is done before the index says so.
    store_release(words_.own, next_);
  }

  // Writes down where to be woken and looks again; true: the peer has not moved, sleep.
  [[nodiscard]] bool announce_sleep() {
    if (violation_) return false;
    store_relaxed(words_.own_wake, seen_);
    full_fence();
    return load_relaxed(words_.peer) == seen_;
  }

  bool caught(Reason reason, std::uint64_t value, std::uint64_t limit) {
    if (!violation_) violation_ = {reason, value, limit};
    return false;
  }

  SideWords words_;
  std::uint64_t next_;       // where this side goes on
  std::uint64_t published_;  // up to where the peer has been told; never ahead of next_
  std::uint64_t seen_;   // the peer's index when it was last looked at: it is only looked at when that is not enough
  std::uint64_t asked_;  // published_ when needs_wake() was last asked
  std::uint64_t slack_;  // how far the peer can be ahead of published_: 0 for a producer, the capacity for a consumer
  std::uint64_t unit_;
  Violation violation_;
};

}  // namespace warmfork::ring
