// Packets in one piece of memory, ready to be replayed: nothing has to be parsed, allocated or read any more.
//
//   ┌ Packet ────────────────────┬ payload ──────┬ padding ┐┌ Packet ─ …
//   │ time_ns  bytes  wire_bytes │ `bytes` bytes │ to 16   ││
//   └ 16 bytes ──────────────────┴───────────────┴─────────┘└
//
// The payload is the frame as it was captured, or what decode_itch() (decode.hpp) made of it. Walking a tape reads
// memory in order, which processors prefetch.
//
// Threads: a Tape is constant; any number may read it. A TapeBuilder is for one.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

namespace warmfork::feed {

/// Bits that a frame of `frame_bytes` (without its check sequence, as captures have it) takes on an Ethernet: preamble
/// and start of frame 8 bytes, frame padded to 64 with its check sequence of 4, gap 12 (IEEE 802.3, clauses 3 and 4).
[[nodiscard]] constexpr std::uint64_t wire_bits(std::uint64_t frame_bytes) {
  return 8 * (8 + std::max<std::uint64_t>(frame_bytes + 4, 64) + 12);
}
static_assert(wire_bits(60) == 672, "the shortest frame: 67.2 ns at 10 Gbps");

/// One packet on a tape; its payload follows it in memory.
struct alignas(16) Packet {
  std::uint64_t time_ns;     // since the tape's first packet; never less than the packet before
  std::uint32_t bytes;       // of payload; 0 if a decoder found nothing in the frame
  std::uint32_t wire_bytes;  // of the frame, without its check sequence; more than were captured if it was cut

  [[nodiscard]] std::span<const std::byte> payload() const {
    // SAFETY: only TapeBuilder makes packets, each with its payload behind it.
    return {reinterpret_cast<const std::byte*>(this + 1), bytes};
  }
  /// What follows it: another packet, or the tape's end.
  [[nodiscard]] const Packet* next() const { return this + footprint(bytes) / sizeof(Packet); }

  /// Bytes that a packet with such a payload takes on a tape.
  [[nodiscard]] static constexpr std::size_t footprint(std::size_t payload_bytes) {
    return sizeof(Packet) + (payload_bytes + 15) / 16 * 16;
  }
};
static_assert(sizeof(Packet) == 16);

/// Sums over packets.
struct TapeTotals {
  std::uint64_t packets = 0;
  std::uint64_t frame_bytes = 0;    // as on the wire, without check sequences
  std::uint64_t payload_bytes = 0;  // as published
  std::uint64_t wire_bits = 0;      // with all that a frame takes on the wire

  void add(const Packet& packet) {
    ++packets;
    frame_bytes += packet.wire_bytes;
    payload_bytes += packet.bytes;
    wire_bits += feed::wire_bits(packet.wire_bytes);
  }
  bool operator==(const TapeTotals&) const = default;
};

class Tape {
 public:
  class Iterator {
   public:
    using value_type = Packet;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    explicit Iterator(const Packet* packet) : packet_(packet) {}
    const Packet& operator*() const { return *packet_; }
    const Packet* operator->() const { return packet_; }
    Iterator& operator++() {
      packet_ = packet_->next();
      return *this;
    }
    Iterator operator++(int) {
      const Iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const Iterator&) const = default;

   private:
    const Packet* packet_ = nullptr;
  };

  Tape() = default;
  /// Packets in the order of their times.
  [[nodiscard]] Iterator begin() const { return Iterator(first()); }
  [[nodiscard]] Iterator end() const { return Iterator(first() + used_ / sizeof(Packet)); }
  [[nodiscard]] bool empty() const { return used_ == 0; }
  /// Of all packets.
  [[nodiscard]] const TapeTotals& totals() const { return totals_; }
  /// Bytes of the longest payload.
  [[nodiscard]] std::size_t longest() const { return longest_; }
  /// Of the last packet, since the first.
  [[nodiscard]] std::uint64_t duration_ns() const { return duration_ns_; }
  /// Memory that the packets take.
  [[nodiscard]] std::size_t size() const { return used_; }

 private:
  friend class TapeBuilder;
  [[nodiscard]] const Packet* first() const {
    // SAFETY: whole pages, in which TapeBuilder has made packets.
    return reinterpret_cast<const Packet*>(memory_.data());
  }

  Mapping memory_;
  std::size_t used_ = 0;
  TapeTotals totals_;
  std::size_t longest_ = 0;
  std::uint64_t duration_ns_ = 0;
};

class TapeBuilder {
 public:
  /// Room for packets whose footprints add up to `capacity` bytes. Pages appear as they are written, so a finished
  /// tape is all in memory. Errors: kUsage (0 bytes), kHost (no address space).
  [[nodiscard]] static Result<TapeBuilder> create(std::size_t capacity);

  /// Adds a packet and returns where its payload has to be written, all of it, before the next one is added.
  /// `time_ns` counts from anywhere; the first packet's becomes 0. Errors: kInput, earlier than the packet before (says
  /// by how much); kLimit, no room (names the limit).
  [[nodiscard]] Result<std::span<std::byte>> add(std::uint64_t time_ns, std::uint32_t wire_bytes,
                                                 std::uint32_t payload_bytes);

  [[nodiscard]] std::uint64_t packets() const { return tape_.totals_.packets; }
  /// The tape; the builder is empty afterwards.
  [[nodiscard]] Tape finish() { return std::exchange(tape_, Tape{}); }

 private:
  Tape tape_;
  std::uint64_t start_ns_ = 0;
};

}  // namespace warmfork::feed
