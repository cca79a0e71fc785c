#include "feed/decode.hpp"

#include "base/tsc_clock.hpp"

#include <cstring>
#include <vector>

namespace warmfork::feed {
namespace {

constexpr std::uint16_t low_word(std::uint64_t value) { return static_cast<std::uint16_t>(value & 0xffff); }
constexpr std::uint16_t high_word(std::uint64_t value) { return static_cast<std::uint16_t>(value >> 16 & 0xffff); }

}  // namespace

SequenceTracker::Arrival SequenceTracker::arrive(const MoldPacket& packet) {
  if (!started_ || packet.session != session_) {
    started_ = true;
    session_ = packet.session;
    expected_ = packet.sequence;
    ++sessions_;
  }
  const std::uint64_t end = packet.sequence + packet.count;  // parse_mold() has checked that it fits
  Arrival arrival;
  if (packet.sequence > expected_) arrival.missing = packet.sequence - expected_;
  if (packet.sequence < expected_) {
    arrival.known = static_cast<std::uint16_t>(std::min<std::uint64_t>(packet.count, expected_ - packet.sequence));
  }
  expected_ = std::max(expected_, end);
  return arrival;
}

ItchRecord to_record(const ItchMessage& message, std::uint64_t sequence, std::uint16_t missing) {
  return {.type = static_cast<std::uint16_t>(static_cast<unsigned char>(message.type)),
          .locate = message.locate,
          .side = message.type == 'S' ? static_cast<std::uint16_t>(static_cast<unsigned char>(message.event))
                                      : static_cast<std::uint16_t>(message.side),
          .price_low = low_word(message.price),
          .price_high = high_word(message.price),
          .shares_low = low_word(message.shares),
          .shares_high = high_word(message.shares),
          .reference_low = low_word(message.reference),
          .reference_high = high_word(message.reference),
          .new_reference_low = low_word(message.new_reference),
          .new_reference_high = high_word(message.new_reference),
          .sequence_low = low_word(sequence),
          .sequence_high = high_word(sequence),
          .missing = missing,
          .time_low = low_word(message.time_ns),
          .time_high = high_word(message.time_ns)};
}

std::optional<MoldPacket> ItchDecoder::open(std::span<const std::byte> frame) {
  const auto datagram = parse_udp(frame);
  if (!datagram) {
    datagram.error().other ? void(++counters_.other) : count_malformed(datagram.error());
    return std::nullopt;
  }
  const auto packet = parse_mold(datagram->payload);
  if (!packet) {
    count_malformed(packet.error());
    return std::nullopt;
  }
  return *packet;
}

SequenceTracker::Arrival ItchDecoder::note(const MoldPacket& packet) {
  const std::uint64_t sessions = tracker_.sessions();
  const SequenceTracker::Arrival arrival = tracker_.arrive(packet);
  counters_.sessions = tracker_.sessions();
  if (counters_.sessions != sessions) ended_ = false;
  if (arrival.missing != 0) {
    ++counters_.gaps;
    counters_.missing += arrival.missing;
    pending_missing_ += arrival.missing;
  }
  counters_.duplicates += arrival.known;
  if (packet.end_of_session) {
    ++counters_.ends_of_session;
  } else if (packet.count == 0) {
    ++counters_.heartbeats;
  }
  return arrival;
}

std::optional<ItchRecord> ItchDecoder::convert(std::span<const std::byte> bytes, std::uint64_t sequence) {
  const auto message = parse_itch(bytes);
  if (!message) {
    count_malformed(message.error());
    return std::nullopt;
  }
  ++counters_.messages;
  ++counters_.by_type[static_cast<unsigned char>(message->type)];  // a known type is ASCII
  return to_record(*message, sequence, take_missing());
}

ItchRecord ItchDecoder::end_record(std::uint64_t sequence) {
  ItchRecord record = to_record(ItchMessage{}, sequence, take_missing());
  record.type = kRecordEndOfSession;
  return record;
}

void ItchDecoder::count_malformed(const Malformed& malformed) {
  if (counters_.malformed++ == 0) {
    first_malformed_ = fmt::format("packet {}: {}", counters_.frames, malformed.to_text());
  }
}

std::uint16_t ItchDecoder::take_missing() {
  return static_cast<std::uint16_t>(std::min<std::uint64_t>(std::exchange(pending_missing_, 0), 0xffff));
}

Result<DecodedTape> decode_itch(const Tape& frames, std::size_t memory_bytes) {
  // A message takes two bytes of length and twelve of its own at least, and then 32 as a record; an end of session
  // takes 62 and becomes 32.
  WARMFORK_TRY_ASSIGN(TapeBuilder builder, TapeBuilder::create(std::min(memory_bytes, frames.size() * 3 + 64)));
  ItchDecoder decoder;
  std::vector<ItchRecord> records;
  const std::uint64_t begin = tsc_now();
  for (const Packet& packet : frames) {
    records.clear();
    decoder.decode(packet.payload(), [&](const ItchRecord& record) { records.push_back(record); });
    const auto bytes = std::as_bytes(std::span(records));
    auto room = builder.add(packet.time_ns, packet.wire_bytes, static_cast<std::uint32_t>(bytes.size()));
    if (!room) return with_context(room.error(), fmt::format("records of packet {}", builder.packets() + 1));
    if (!bytes.empty()) std::memcpy(room->data(), bytes.data(), bytes.size());
  }
  DecodedTape decoded;
  decoded.decode_ns = tsc_to_ns(tsc_now() - begin);
  decoded.tape = builder.finish();
  decoded.counters = decoder.counters();
  decoded.first_malformed = decoder.first_malformed();
  return decoded;
}

}  // namespace warmfork::feed
