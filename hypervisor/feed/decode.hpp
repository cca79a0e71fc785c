// Frames of an ITCH feed to records (itch_record.hpp): what arrived, what is missing, what came twice.
//
//   frame ─parse_udp─> datagram ─parse_mold─> packet ─SequenceTracker─> new messages ─parse_itch─> records
//
// One stream: a MoldUDP64 session follows another, but two that alternate are not told apart. One thread per object.
#pragma once

#include "feed/itch.hpp"
#include "feed/itch_record.hpp"
#include "feed/tape.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace warmfork::feed {

/// Which messages of a stream are new. The first packet of a session says where it begins.
class SequenceTracker {
 public:
  struct Arrival {
    std::uint64_t missing = 0;  // messages before this packet's that have not come
    std::uint16_t known = 0;    // how many of its messages, from the first, have come before
  };
  [[nodiscard]] Arrival arrive(const MoldPacket& packet);

  /// The sequence number of the message that comes next; nothing before the first packet.
  [[nodiscard]] std::optional<std::uint64_t> expected() const {
    return started_ ? std::optional(expected_) : std::nullopt;
  }
  [[nodiscard]] std::uint64_t sessions() const { return sessions_; }

 private:
  bool started_ = false;
  std::array<char, 10> session_{};
  std::uint64_t expected_ = 0;
  std::uint64_t sessions_ = 0;
};

struct DecodeCounters {
  std::uint64_t frames = 0;
  std::uint64_t other = 0;      // frames of something else (ARP, TCP, …)
  std::uint64_t malformed = 0;  // frames, and messages of sound frames, that are not what they say
  std::uint64_t messages = 0;   // new ones; each gave a record
  std::uint64_t heartbeats = 0;
  std::uint64_t ends_of_session = 0;
  std::uint64_t sessions = 0;
  std::uint64_t gaps = 0;        // places where messages are missing
  std::uint64_t missing = 0;     // messages
  std::uint64_t duplicates = 0;  // messages that had come before
  std::array<std::uint64_t, 128> by_type{};
};

class ItchDecoder {
 public:
  /// Decodes a frame. `put(const ItchRecord&)` is called for every new message, and for the first end of a session.
  template <class Put>
  void decode(std::span<const std::byte> frame, Put&& put) {
    ++counters_.frames;
    const std::optional<MoldPacket> packet = open(frame);
    if (!packet) return;
    const SequenceTracker::Arrival arrival = note(*packet);
    std::span<const std::byte> messages = packet->messages;
    for (std::uint16_t i = 0; i < packet->count; ++i) {
      const auto message = take_message(messages);
      if (i < arrival.known) continue;
      if (const auto record = convert(message, packet->sequence + i)) put(*record);
    }
    if (packet->end_of_session && !ended_) {
      ended_ = true;
      put(end_record(packet->sequence));
    }
  }

  [[nodiscard]] const DecodeCounters& counters() const { return counters_; }
  /// What was wrong with the first that was malformed, and in which frame (from 1).
  [[nodiscard]] const std::string& first_malformed() const { return first_malformed_; }

 private:
  [[nodiscard]] std::optional<MoldPacket> open(std::span<const std::byte> frame);
  [[nodiscard]] SequenceTracker::Arrival note(const MoldPacket& packet);
  [[nodiscard]] std::optional<ItchRecord> convert(std::span<const std::byte> message, std::uint64_t sequence);
  [[nodiscard]] ItchRecord end_record(std::uint64_t sequence);
  void count_malformed(const Malformed& malformed);
  [[nodiscard]] std::uint16_t take_missing();

  SequenceTracker tracker_;
  DecodeCounters counters_;
  std::string first_malformed_;
  std::uint64_t pending_missing_ = 0;  // not yet in a record
  bool ended_ = false;
};

/// The record of a message.
[[nodiscard]] ItchRecord to_record(const ItchMessage& message, std::uint64_t sequence, std::uint16_t missing);

struct DecodedTape {
  Tape tape;  // packet by packet; each payload is records, one after the other, or empty
  DecodeCounters counters;
  std::string first_malformed;
  double decode_ns = 0;  // of all frames, memory for records included
};

/// Decodes a tape of frames ahead of its replay. Errors: kLimit, the records take more than `memory_bytes`; kHost.
[[nodiscard]] Result<DecodedTape> decode_itch(const Tape& frames, std::size_t memory_bytes);

}  // namespace warmfork::feed
