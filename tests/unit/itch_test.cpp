// The decoder, on bytes that are written by hand from the specifications (NASDAQ TotalView-ITCH 5.0, MoldUDP64 1.00).
#include "feed/itch.hpp"

#include "feed/decode.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::feed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::string_literals;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

// Type, locate 0x0102, tracking 0x0304, time 0x060708090a0b.
std::string begin(char type) { return type + "\x01\x02\x03\x04\x06\x07\x08\x09\x0a\x0b"s; }
const std::string kReference = "\x11\x12\x13\x14\x15\x16\x17\x18"s;
const std::string kShares = "\x00\x00\x01\x2c"s;                 // 300
const std::string kPrice = "\x00\x12\xd6\x87"s;                  // 123.4567
const std::string kMatch = "\x00\x00\x00\x00\x00\x00\x30\x39"s;  // 12345
const std::string kNewReference = "\x21\x22\x23\x24\x25\x26\x27\x28"s;

ItchMessage base(char type) {
  ItchMessage message;
  message.type = type;
  message.locate = 0x0102;
  message.tracking = 0x0304;
  message.time_ns = 0x060708090a0b;
  return message;
}

struct Example {
  std::string bytes;
  ItchMessage message;
};

std::vector<Example> examples() {
  constexpr std::array kStock{'Z', 'V', 'Z', 'Z', 'T', ' ', ' ', ' '};
  std::vector<Example> all;
  const auto add = [&](const std::string& bytes, auto&& set) {
    ItchMessage message = base(bytes[0]);
    set(message);
    all.push_back({bytes, message});
  };
  const auto order = [&](ItchMessage& message) {
    message.reference = 0x1112131415161718;
    message.shares = 300;
  };
  add(begin('S') + "Q", [](ItchMessage& message) { message.event = 'Q'; });
  add(begin('A') + kReference + "B" + kShares + "ZVZZT   " + kPrice, [&](ItchMessage& message) {
    order(message);
    message.side = Side::kBuy;
    message.stock = kStock;
    message.price = 1'234'567;
  });
  add(begin('F') + kReference + "S" + kShares + "ZVZZT   " + kPrice + "WARM", [&](ItchMessage& message) {
    order(message);
    message.side = Side::kSell;
    message.stock = kStock;
    message.price = 1'234'567;
    message.participant = {'W', 'A', 'R', 'M'};
  });
  add(begin('E') + kReference + kShares + kMatch, [&](ItchMessage& message) {
    order(message);
    message.match = 12345;
  });
  add(begin('C') + kReference + kShares + kMatch + "N" + kPrice, [&](ItchMessage& message) {
    order(message);
    message.match = 12345;
    message.printable = 'N';
    message.price = 1'234'567;
  });
  add(begin('X') + kReference + kShares, [&](ItchMessage& message) { order(message); });
  add(begin('D') + kReference, [](ItchMessage& message) { message.reference = 0x1112131415161718; });
  add(begin('U') + kReference + kNewReference + kShares + kPrice, [&](ItchMessage& message) {
    order(message);
    message.new_reference = 0x2122232425262728;
    message.price = 1'234'567;
  });
  add(begin('P') + kReference + "S" + kShares + "ZVZZT   " + kPrice + kMatch, [&](ItchMessage& message) {
    order(message);
    message.side = Side::kSell;
    message.stock = kStock;
    message.price = 1'234'567;
    message.match = 12345;
  });
  return all;
}

TEST(ItchTest, EveryTypeIsParsedAndWritten) {
  for (const Example& example : examples()) {
    SCOPED_TRACE(example.bytes[0]);
    ASSERT_EQ(example.bytes.size(), itch_length(example.bytes[0])) << "the example is as the specification says";
    const auto message = parse_itch(bytes_of(example.bytes));
    ASSERT_TRUE(message) << message.error().to_text();
    EXPECT_EQ(*message, example.message);
    std::string written(kLongestWrittenItch, '?');
    written.resize(write_itch(std::as_writable_bytes(std::span(written)), example.message));
    EXPECT_EQ(written, example.bytes);
  }
}

TEST(ItchTest, LengthsAndTypesAreChecked) {
  for (const Example& example : examples()) {
    SCOPED_TRACE(example.bytes[0]);
    for (std::size_t size = 0; size < example.bytes.size(); ++size) {
      EXPECT_FALSE(parse_itch(bytes_of(example.bytes).first(size)));
    }
    EXPECT_FALSE(parse_itch(bytes_of(example.bytes + "x")));
  }
  unsigned known = 0;
  for (int type = 0; type < 256; ++type) {
    const std::size_t length = itch_length(static_cast<char>(type));
    const auto message = parse_itch(bytes_of(std::string(std::max<std::size_t>(length, 12), static_cast<char>(type))));
    const bool has_side = type == 'A' || type == 'F' || type == 'P';  // and theirs is not a side here
    EXPECT_EQ(message.has_value(), length != 0 && !has_side) << type;
    known += length != 0 ? 1 : 0;
  }
  EXPECT_EQ(known, 23u);
  std::string add = begin('A') + kReference + "X" + kShares + "ZVZZT   " + kPrice;
  EXPECT_THAT(parse_itch(bytes_of(add)).error().to_text(), HasSubstr("neither B nor"));
}

std::string number(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

std::string mold(std::uint64_t sequence, const std::vector<std::string>& messages, std::optional<int> count = {},
                 const std::string& session = "SESSION001") {
  std::string packet = session + number(sequence, 8) +
                       number(static_cast<std::uint64_t>(count.value_or(static_cast<int>(messages.size()))), 2);
  for (const std::string& message : messages) packet += number(message.size(), 2) + message;
  return packet;
}

std::string frame(const std::string& payload, bool vlan = false) {
  const std::string macs = "\x01\x00\x5e\x00\x00\x01\x02\x00\x00\x00\x00\x01"s;
  return macs + (vlan ? "\x81\x00\x00\x2a"s : ""s) + "\x08\x00\x45\x00"s + number(28 + payload.size(), 2) +
         "\x00\x00\x40\x00\x10\x11\x00\x00\xc0\x00\x02\x01\xe9\x36\x0c\x6f\x67\x6d\x67\x6e"s +
         number(8 + payload.size(), 2) + "\x00\x00"s + payload;
}

TEST(NetworkTest, ADatagramIsFound) {
  for (const bool vlan : {false, true}) {
    const std::string whole = frame("payload", vlan) + "padding";
    const auto udp = parse_udp(bytes_of(whole));
    ASSERT_TRUE(udp) << udp.error().to_text();
    EXPECT_EQ(udp->source, 0xc0000201u);
    EXPECT_EQ(udp->destination, 0xe9360c6fu);
    EXPECT_EQ(udp->source_port, 0x676d);
    EXPECT_EQ(udp->destination_port, 0x676e);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(udp->payload.data()), udp->payload.size()), "payload");
    for (std::size_t size = 0; size + 7 < whole.size(); ++size) {
      const auto cut = parse_udp(bytes_of(whole).first(size));
      ASSERT_FALSE(cut) << size;
      EXPECT_FALSE(cut.error().other) << size;
    }
  }
}

TEST(NetworkTest, OtherThingsAndContradictionsAreToldApart) {
  const auto with = [](std::size_t at, const std::string& bytes) {
    std::string changed = frame("payload");
    changed.replace(at, bytes.size(), bytes);
    const auto udp = parse_udp(bytes_of(changed));
    return udp ? "fine" : (udp.error().other ? "other: " : "malformed: ") + udp.error().to_text();
  };
  EXPECT_THAT(with(12, "\x08\x06"s), HasSubstr("other: EtherType is not 2048 (2054)"));
  EXPECT_THAT(with(14, "\x65"s), HasSubstr("malformed: IP version"));
  EXPECT_THAT(with(14, "\x44"s), HasSubstr("malformed: IPv4 header length less than 20 (16)"));
  EXPECT_THAT(with(14, "\x4f"s), HasSubstr("malformed: IPv4 total length less than its header's 60 (35)"));
  EXPECT_THAT(with(16, "\x00\x24"s), HasSubstr("malformed: IPv4 total length more than the frame's 35 (36)"));
  EXPECT_THAT(with(20, "\x20\x00"s), HasSubstr("other: IPv4 fragment"));
  EXPECT_THAT(with(20, "\x00\x01"s), HasSubstr("other: IPv4 fragment"));
  EXPECT_THAT(with(23, "\x06"s), HasSubstr("other: IPv4 protocol is not 17 (6)"));
  EXPECT_THAT(with(38, "\x00\x07"s), HasSubstr("malformed: UDP length less than 8 (7)"));
  EXPECT_THAT(with(38, "\x00\x10"s), HasSubstr("malformed: UDP length more than IPv4's 15 (16)"));
  EXPECT_EQ(with(38, "\x00\x08"s), "fine") << "shorter than IPv4 says: the rest is nobody's";
}

TEST(MoldTest, LengthsAreChecked) {
  const std::string packet = mold(7, {"abc", "", "defg"});
  const auto parsed = parse_mold(bytes_of(packet));
  ASSERT_TRUE(parsed) << parsed.error().to_text();
  EXPECT_EQ(parsed->sequence, 7u);
  EXPECT_EQ(parsed->count, 3);
  EXPECT_EQ(std::string(parsed->session.data(), parsed->session.size()), "SESSION001");
  auto rest = parsed->messages;
  EXPECT_EQ(take_message(rest).size(), 3u);
  EXPECT_EQ(take_message(rest).size(), 0u);
  EXPECT_EQ(take_message(rest).size(), 4u);
  EXPECT_TRUE(rest.empty());
  for (std::size_t size = 0; size < packet.size(); ++size)
    EXPECT_FALSE(parse_mold(bytes_of(packet).first(size))) << size;
  EXPECT_THAT(parse_mold(bytes_of(packet + "x")).error().to_text(), HasSubstr("bytes behind its messages"));
  EXPECT_THAT(parse_mold(bytes_of(mold(7, {"abc"}, 2))).error().to_text(), HasSubstr("messages fewer than 2 (1)"));
  EXPECT_FALSE(parse_mold(bytes_of(mold(~std::uint64_t{0}, {"abc"})))) << "its number would be beyond 64 bits";
  EXPECT_TRUE(parse_mold(bytes_of(mold(~std::uint64_t{0}, {}))));
  const auto end = parse_mold(bytes_of(mold(9, {}, 0xffff)));
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->end_of_session);
  EXPECT_EQ(end->count, 0);
}

// The decoder's records as text: type, sequence number, and how many are missing before it.
class DecoderTest : public ::testing::Test {
 protected:
  std::vector<std::string> feed(const std::string& payload) {
    std::vector<std::string> seen;
    const std::string bytes = frame(payload);
    decoder_.decode(bytes_of(bytes), [&](const ItchRecord& record) {
      seen.push_back(fmt::format("{} {} {}", record.type == kRecordEndOfSession ? '$' : static_cast<char>(record.type),
                                 record.sequence(), record.missing));
    });
    return seen;
  }
  const std::string delete_ = begin('D') + kReference;
  ItchDecoder decoder_;
};

TEST_F(DecoderTest, GapsDuplicatesHeartbeatsAndTheEnd) {
  EXPECT_THAT(feed(mold(100, {delete_, delete_})), ElementsAre("D 100 0", "D 101 0")) << "may be joined anywhere";
  EXPECT_THAT(feed(mold(102, {})), ElementsAre());
  EXPECT_THAT(feed(mold(105, {delete_})), ElementsAre("D 105 3"));
  EXPECT_THAT(feed(mold(104, {delete_, delete_, delete_})), ElementsAre("D 106 0")) << "two of them again";
  EXPECT_THAT(feed(mold(100, {delete_})), ElementsAre()) << "long known";
  EXPECT_THAT(feed(mold(110, {})), ElementsAre()) << "a heartbeat tells of a gap, too";
  EXPECT_THAT(feed(mold(110, {delete_})), ElementsAre("D 110 3"));
  EXPECT_THAT(feed(mold(100'000, {delete_})), ElementsAre("D 100000 65535"));
  EXPECT_THAT(feed(mold(100'002, {}, 0xffff)), ElementsAre("$ 100002 1"));
  EXPECT_THAT(feed(mold(100'002, {}, 0xffff)), ElementsAre()) << "once is enough";
  EXPECT_THAT(feed(mold(1, {delete_}, {}, "SESSION002")), ElementsAre("D 1 0"));
  EXPECT_THAT(feed(mold(2, {}, 0xffff, "SESSION002")), ElementsAre("$ 2 0"));
  const DecodeCounters& counters = decoder_.counters();
  EXPECT_EQ(counters.frames, 12u);
  EXPECT_EQ(counters.messages, 7u);
  EXPECT_EQ(counters.by_type['D'], 7u);
  EXPECT_EQ(counters.heartbeats, 2u);
  EXPECT_EQ(counters.ends_of_session, 3u);
  EXPECT_EQ(counters.sessions, 2u);
  EXPECT_EQ(counters.gaps, 4u);
  EXPECT_EQ(counters.missing, 3u + 3u + 99'889u + 1u);
  EXPECT_EQ(counters.duplicates, 3u);
  EXPECT_EQ(counters.malformed, 0u);
}

TEST_F(DecoderTest, WhatIsMalformedIsCountedAndSkipped) {
  EXPECT_THAT(feed(mold(1, {delete_ + "x", delete_})), ElementsAre("D 2 0"))
      << "the number of a bad message is used up";
  EXPECT_THAT(feed(mold(3, {delete_}, 2)), ElementsAre()) << "nothing of a packet that contradicts itself";
  EXPECT_THAT(feed(mold(3, {delete_})), ElementsAre("D 3 0"));
  decoder_.decode({}, [](const ItchRecord&) { FAIL(); });
  EXPECT_EQ(decoder_.counters().malformed, 3u);
  EXPECT_THAT(decoder_.first_malformed(),
              HasSubstr("packet 1: ITCH message of another length than its type's 19 (20)"));
}

TEST(RecordTest, WordsAreWhereTheHeaderSays) {
  ItchMessage message = base('U');
  message.reference = 0xaaaa'bbbb'1111'2222;
  message.new_reference = 0xcccc'dddd'3333'4444;
  message.side = Side::kSell;
  message.shares = 0x5555'6666;
  message.price = 0x7777'8888;
  const ItchRecord record = to_record(message, 0xeeee'9999'aaaa, 5);
  std::array<std::uint16_t, 16> words{};
  static_assert(sizeof words == sizeof record);
  std::memcpy(words.data(), &record, sizeof record);
  EXPECT_THAT(words, ElementsAre('U', 0x0102, 2, 0x8888, 0x7777, 0x6666, 0x5555, 0x2222, 0x1111, 0x4444, 0x3333, 0xaaaa,
                                 0x9999, 5, 0x0a0b, 0x0809));
  ItchMessage event = base('S');
  event.event = 'C';
  EXPECT_EQ(to_record(event, 1, 0).side, 'C');
}

}  // namespace
}  // namespace warmfork::feed
