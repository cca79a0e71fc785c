// The host's side of a call ring (abi/call_ring.hpp): requests go in, answers come out, in order. Only the protocol: no
// thread, no KVM, no clock. CallChannel puts those around it.
//
// The other side is hostile. Everything that decides what happens next (which request is the oldest, how many are in
// flight) lies in this object and never in the ring. Of the ring nothing is read but the two words of the answer that
// is waited for, each once: its sequence number, which must be exactly the expected one, and then its result. A guest
// can answer before it was asked, or answer nonsense; that is the same as a function that returns nonsense, and only
// its own caller sees it.
//
// Threads: one at a time; the guest at the same time.
#pragma once

#include "warmfork/abi/call_ring.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace warmfork {

class CallRingClient {
 public:
  static constexpr std::uint64_t kSlots = WARMFORK_CALL_RING_SLOTS;

  /// On `ring`, shared with the guest: at least sizeof(CallRing) bytes, aligned as it, which outlive the client.
  explicit CallRingClient(std::span<std::byte> ring) : ring_(ring.data()) {}

  /// Empties the ring: nothing of an earlier service is taken for a request. Before the guest begins to serve.
  void clear() {
    for (std::uint64_t slot = 0; slot < kSlots; ++slot) {
      for (std::size_t at = 0; at < sizeof(CallSlot); at += 8) word(slot, at).store(0, std::memory_order_relaxed);
    }
    posted_ = taken_ = 0;
  }

  [[nodiscard]] std::uint64_t in_flight() const { return posted_ - taken_; }
  [[nodiscard]] bool full() const { return in_flight() == kSlots; }
  /// Sequence numbers of the last request, and of the oldest one in flight.
  [[nodiscard]] std::uint64_t posted() const { return posted_; }
  [[nodiscard]] std::uint64_t oldest() const { return taken_ + 1; }

  /// Writes a request; at most six arguments, and not full(). Function 0 ends the service and is not answered.
  void post(std::uint64_t function, std::span<const std::uint64_t> arguments) {
    const std::uint64_t sequence = ++posted_;
    word(sequence, offsetof(CallSlot, request.function)).store(function, std::memory_order_relaxed);
    for (std::size_t i = 0; i < 6; ++i) {
      word(sequence, offsetof(CallSlot, request.arguments) + 8 * i)
          .store(i < arguments.size() ? arguments[i] : 0, std::memory_order_relaxed);
    }
    // What makes it a request, so last: whoever sees the number sees the rest.
    word(sequence, offsetof(CallSlot, request.sequence)).store(sequence, std::memory_order_release);
  }

  /// The answer to the oldest request in flight, if it is there.
  [[nodiscard]] std::optional<std::uint64_t> take() {
    if (word(oldest(), offsetof(CallSlot, response.sequence)).load(std::memory_order_acquire) != oldest()) return {};
    const std::uint64_t result = word(oldest(), offsetof(CallSlot, response.result)).load(std::memory_order_relaxed);
    ++taken_;
    return result;
  }

 private:
  // SAFETY: the slot number is masked and `offset` one of CallSlot's words, so this lies in the ring. The guest may
  // write the word at any time: it is only ever loaded and stored whole, as an atomic.
  [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::uint64_t sequence, std::size_t offset) const {
    return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(ring_ + sequence % kSlots * sizeof(CallSlot) + offset));
  }

  std::byte* ring_;
  std::uint64_t posted_ = 0;
  std::uint64_t taken_ = 0;  // answers; never more than posted_
};

}  // namespace warmfork
