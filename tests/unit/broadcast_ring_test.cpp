// The ring of one writer and many readers (warmfork/ring/broadcast.hpp): its rules one by one, threads, and writers
// that write what they like.
#include "random.hpp"
#include "scale.hpp"
#include "warmfork/ring/broadcast.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace warmfork::ring {
namespace {

using test::Random;
using test::scaled;

constexpr std::uint64_t kCapacity = 4096;

struct Memory {
  struct Part {
    BroadcastPage page;
    alignas(kPageBytes) std::array<std::byte, kCapacity> data;
  };
  explicit Memory(std::uint64_t start_position = 0) : start(start_position) {
    format_broadcast(part->page, kCapacity, start);
  }

  [[nodiscard]] BroadcastWriter writer() const { return {part->page, kCapacity, start}; }
  template <class Policy>
  [[nodiscard]] BroadcastReader<Policy> reader(BroadcastReaderPage* own = nullptr) const {
    return {part->page, kCapacity, start, own};
  }
  [[nodiscard]] std::uint64_t& word(std::uint64_t at) const {
    return *reinterpret_cast<std::uint64_t*>(part->data.data() + at);
  }

  std::uint64_t start;
  std::unique_ptr<Part> part = std::make_unique<Part>();
};

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

template <class Reader>
std::string read_text(Reader& reader) {
  std::array<char, kCapacity> out{};
  BroadcastRecord record;
  switch (reader.read(std::as_writable_bytes(std::span(out)), record)) {
    case Found::kNothing: return "(nothing)";
    case Found::kRecord: return std::to_string(record.sequence) + ":" + std::string(out.data(), record.size);
    case Found::kOverrun: return "(overrun)";
    case Found::kViolation: return "(violation)";
  }
  return "?";
}

template <class Policy>
class BroadcastRing : public ::testing::Test {};
struct PolicyName {
  template <class Policy>
  static std::string GetName(int) {
    return Policy::kTrustsPeer ? "Trusted" : "Hostile";
  }
};
using Policies = ::testing::Types<Trusted, Hostile>;
TYPED_TEST_SUITE(BroadcastRing, Policies, PolicyName);

TYPED_TEST(BroadcastRing, EveryReaderGetsEveryRecordInOrder) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto one = memory.reader<TypeParam>();
  auto other = memory.reader<TypeParam>();
  EXPECT_EQ(read_text(one), "(nothing)");
  ASSERT_TRUE(writer.push(bytes("a"), 5) && writer.push(bytes("")) && writer.push(bytes("ccc")));
  for (const char* text : {"0:a", "1:", "2:ccc", "(nothing)"}) EXPECT_EQ(read_text(one), text);
  for (const char* text : {"0:a", "1:", "2:ccc", "(nothing)"}) EXPECT_EQ(read_text(other), text);
  EXPECT_EQ(one.lost() + other.lost(), 0U);
}

TYPED_TEST(BroadcastRing, NothingIsSeenBeforeItIsPublished) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<TypeParam>();
  ASSERT_TRUE(writer.put(bytes("a")) && writer.put(bytes("b")));
  EXPECT_EQ(read_text(reader), "(nothing)");
  writer.publish();
  EXPECT_EQ(read_text(reader) + read_text(reader), "0:a1:b");
}

TYPED_TEST(BroadcastRing, AReaderThatWasOverrunGoesOnAtTheLatestAndKnowsWhatItLost) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<TypeParam>();
  ASSERT_TRUE(writer.push(bytes("first")));
  EXPECT_EQ(read_text(reader), "0:first");
  for (int i = 1; i <= 1000; ++i) ASSERT_TRUE(writer.push(bytes("text")));
  EXPECT_EQ(read_text(reader), "(overrun)");
  EXPECT_EQ(read_text(reader), "1000:text");
  EXPECT_EQ(reader.lost(), 999U);
  EXPECT_EQ(read_text(reader), "(nothing)");
  ASSERT_TRUE(writer.push(bytes("next")));
  EXPECT_EQ(read_text(reader), "1001:next");
  EXPECT_EQ(reader.lost(), 999U);
  EXPECT_FALSE(reader.violation());
}

TYPED_TEST(BroadcastRing, WhatIsExactlyAsOldAsTheRingIsStillThereAndOneByteMoreIsNot) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<TypeParam>();
  auto late = memory.reader<TypeParam>();
  const std::string text(1008, 'x');  // four fill the ring
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(writer.push(bytes(text)));
  EXPECT_EQ(read_text(reader), "0:" + text);
  ASSERT_NE(writer.claim(0), nullptr);  // intent is enough: the bytes may be half written
  EXPECT_EQ(read_text(late), "(overrun)");
  EXPECT_EQ(read_text(late), "3:" + text);
  EXPECT_EQ(late.lost(), 3U);
  EXPECT_EQ(read_text(reader), "1:" + text);
}

TYPED_TEST(BroadcastRing, AClaimThatWasForgottenStillCountsAsOverwritten) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<TypeParam>();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(writer.push(bytes(std::string(1008, 'x'))));
  EXPECT_EQ(read_text(reader).substr(0, 2), "0:");
  std::byte* room = writer.claim(1008);
  ASSERT_NE(room, nullptr);
  std::memset(room, 'y', 1008);
  room = writer.claim(8);
  ASSERT_NE(room, nullptr);
  std::memset(room, 'z', 8);
  writer.commit(8);
  writer.publish();
  EXPECT_EQ(memory.part->page.intent, memory.start + kCapacity + 1024) << "not back to the shorter claim's";
}

TYPED_TEST(BroadcastRing, WhatIsAnnouncedAheadCountsAsOverwrittenAndIsAnnouncedOnceForMany) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  writer.announce_ahead(512);
  auto reader = memory.reader<TypeParam>();
  auto late = memory.reader<TypeParam>();
  const std::string text(48, 'x');  // 64 bytes a record
  std::vector<std::uint64_t> announced;
  for (int i = 0; i < 18; ++i) {
    ASSERT_TRUE(writer.push(bytes(text)));
    if (announced.empty() || announced.back() != memory.part->page.intent) {
      announced.push_back(memory.part->page.intent);
    }
  }
  const std::uint64_t start = memory.start;
  EXPECT_EQ(announced, (std::vector<std::uint64_t>{start + 64 + 512, start + 640 + 512})) << "nine records each";
  for (int i = 18; i < 63; ++i) ASSERT_TRUE(writer.push(bytes(text)));
  EXPECT_EQ(read_text(reader), "0:" + text) << "4,032 bytes are announced";
  ASSERT_TRUE(writer.push(bytes(text)));
  EXPECT_EQ(read_text(late), "(overrun)") << "64 records fill the ring, but it is promised to what comes";
  EXPECT_EQ(read_text(late), "63:" + text);
  EXPECT_EQ(late.lost(), 63U);
}

TYPED_TEST(BroadcastRing, TheLatestRecordIsNeverPromisedToWhatComes) {
  // Wherever the last announcement ended: as much as can be is written behind the latest record, and announced.
  for (int before = 0; before < 130; ++before) {
    const Memory memory;
    BroadcastWriter writer = memory.writer();
    writer.announce_ahead(~std::uint64_t{15});
    for (int i = 0; i < before; ++i) ASSERT_TRUE(writer.push({}));
    ASSERT_TRUE(writer.push(bytes(std::string(writer.longest(), 'x'))));
    while (writer.put({})) {
    }
    auto reader = memory.reader<TypeParam>();
    ASSERT_EQ(reader.join(), Found::kRecord) << before;
    ASSERT_EQ(reader.sequence(), static_cast<std::uint64_t>(before));
  }
}

TYPED_TEST(BroadcastRing, AReaderThatJoinsBeginsWithTheLatestOrAfterItAndHasLostNothing) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto early = memory.reader<TypeParam>();
  EXPECT_EQ(early.join(), Found::kNothing);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(writer.push(bytes("old")));
  auto at_latest = memory.reader<TypeParam>();
  auto after = memory.reader<TypeParam>();
  EXPECT_EQ(at_latest.join(), Found::kRecord);
  EXPECT_EQ(after.join(true), Found::kRecord);
  EXPECT_EQ(read_text(after), "(nothing)");
  ASSERT_TRUE(writer.push(bytes("new")));
  EXPECT_EQ(read_text(at_latest), "999:old");
  EXPECT_EQ(read_text(at_latest), "1000:new");
  EXPECT_EQ(read_text(after), "1000:new");
  EXPECT_EQ(at_latest.lost() + after.lost(), 0U);
  auto from_start = memory.reader<TypeParam>();
  EXPECT_EQ(read_text(from_start), "(overrun)");
  EXPECT_EQ(read_text(from_start), "1000:new");
  EXPECT_EQ(from_start.lost(), 1000U);
}

TYPED_TEST(BroadcastRing, PositionsWrapAroundAt64Bits) {
  const Memory memory(std::uint64_t{0} - 3 * kCapacity);
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<TypeParam>();
  auto slow = memory.reader<TypeParam>();
  std::uint64_t got = 0;
  std::string last;
  for (std::uint64_t n = 0; n < 2000; ++n) {
    const std::string text(n % 500, '.');
    ASSERT_TRUE(writer.push(bytes(text)));
    ASSERT_EQ(read_text(reader), std::to_string(n) + ":" + text);
    if (n % 100 != 99) continue;
    for (last = read_text(slow); last != "(nothing)"; last = read_text(slow)) {
      if (last != "(overrun)") ++got;
    }
    ASSERT_EQ(got + slow.lost(), n + 1);
  }
  EXPECT_LT(memory.part->page.tail, std::uint64_t{1} << 32) << "it has wrapped";
  EXPECT_EQ(reader.lost(), 0U);
  EXPECT_FALSE(reader.violation() || slow.violation());
}

TYPED_TEST(BroadcastRing, TheWriterRefusesWhatNobodyCouldRead) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  EXPECT_EQ(writer.longest(), kCapacity / 4 - 16);
  EXPECT_EQ(writer.claim(writer.longest() + 1), nullptr);
  EXPECT_FALSE(writer.push(bytes(std::string(writer.longest() + 1, 'x'))));
  const std::string longest(writer.longest(), 'x');
  ASSERT_TRUE(writer.put(bytes(longest)) && writer.put(bytes(longest)));
  EXPECT_FALSE(writer.put(bytes(""))) << "half of the ring waits for publish()";
  EXPECT_TRUE(writer.push(bytes(longest))) << "which this does";
  auto reader = memory.reader<TypeParam>();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(read_text(reader), std::to_string(i) + ":" + longest);
}

TYPED_TEST(BroadcastRing, AReadersPageShowsItsCursor) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  const auto page = std::make_unique<BroadcastReaderPage>();
  auto reader = memory.reader<TypeParam>(page.get());
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(writer.push(bytes("x")));
  while (read_text(reader) != "(nothing)") {
  }
  EXPECT_EQ(page->magic, 0U);
  reader.publish_cursor();
  EXPECT_EQ(page->magic, kBroadcastReaderMagic);
  EXPECT_EQ(page->position, memory.part->page.tail);
  EXPECT_EQ(page->sequence, 300U);
  EXPECT_EQ(page->lost, 299U);
}

TEST(TrustedBroadcast, WhatIsReadInPlaceIsBelievedOnlyIfItWasNotOverwrittenMeanwhile) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<Trusted>();
  ASSERT_TRUE(writer.push(bytes("good")) && writer.push(bytes("bad")));
  std::span<const std::byte> payload;
  BroadcastRecord record;
  ASSERT_EQ(reader.peek(payload, record), Found::kRecord);
  EXPECT_EQ(std::memcmp(payload.data(), "good", 4), 0);
  EXPECT_TRUE(reader.still_there() && reader.advance());
  ASSERT_EQ(reader.peek(payload, record), Found::kRecord);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(writer.push(bytes("new")));
  EXPECT_FALSE(reader.still_there());
  EXPECT_FALSE(reader.advance());
  ASSERT_EQ(reader.peek(payload, record), Found::kRecord);
  EXPECT_EQ(record.sequence, 301U);
  EXPECT_TRUE(reader.advance());
  EXPECT_EQ(reader.lost(), 300U) << "the one that was overwritten under the reader among them";
}

// A policy that lets the writer go on in the middle of a copy.
BroadcastWriter* overtaking = nullptr;
struct Overtaken : Trusted {
  static void copy_racing(void* to, const void* from, std::size_t size) {
    copy_once(to, from, size / 2);
    for (int i = 0; overtaking != nullptr && i < 300; ++i) (void)overtaking->push(bytes("overtaking"));
    copy_once(static_cast<std::byte*>(to) + size / 2, static_cast<const std::byte*>(from) + size / 2, size - size / 2);
  }
};

TEST(TrustedBroadcast, WhatIsOverwrittenWhileItIsCopiedIsNotAccepted) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<Overtaken>();
  ASSERT_TRUE(writer.push(bytes("one that will be torn")));
  overtaking = &writer;
  EXPECT_EQ(read_text(reader), "(overrun)");
  overtaking = nullptr;
  EXPECT_EQ(read_text(reader), "300:overtaking");
  EXPECT_EQ(reader.lost(), 300U);
}

TEST(TrustedBroadcast, SeveralRecordsAreTakenAtOnceOrNone) {
  const Memory memory;
  BroadcastWriter writer = memory.writer();
  auto reader = memory.reader<Trusted>();
  std::uint32_t taken = 1;
  std::string seen;
  const auto take = [&](const BroadcastRecord& record, const std::byte* payload) {
    if (record.type == 7) return false;
    seen += std::to_string(record.sequence) + ":" +
            std::string(reinterpret_cast<const char*>(payload), std::size_t{record.size}) + " ";
    return true;
  };
  EXPECT_EQ(reader.read_some(4, taken, take), Found::kNothing);
  EXPECT_EQ(taken, 0U);
  ASSERT_TRUE(writer.push(bytes("a")) && writer.push(bytes("")) && writer.push(bytes("ccc")));
  ASSERT_TRUE(writer.push(bytes("not this"), 7) && writer.push(bytes("e")));
  EXPECT_EQ(reader.read_some(2, taken, take), Found::kRecord);
  EXPECT_EQ(seen, "0:a 1: ");
  EXPECT_EQ(reader.read_some(~0U, taken, take), Found::kRecord);
  EXPECT_EQ(seen, "0:a 1: 2:ccc ");
  EXPECT_EQ(taken, 1U);
  EXPECT_EQ(reader.read_some(~0U, taken, take), Found::kNothing) << "the next one is not wanted";
  EXPECT_EQ(read_text(reader), "3:not this");
  // Across the ring's end, in turns with single reads.
  for (std::uint64_t n = 5; n < 500; n += 4) {
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(writer.push(bytes(std::string(n % 41, 'x'))));
    std::uint32_t got = 0;
    while (reader.read_some(3, taken, take) == Found::kRecord) got += taken;
    ASSERT_EQ(got, n == 5 ? 5U : 4U);
  }
  EXPECT_EQ(reader.lost(), 0U);
  // Overrun before, and overrun while they are copied: none of them counts.
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(writer.push(bytes("lost")));
  EXPECT_EQ(reader.read_some(8, taken, take), Found::kOverrun);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(writer.push(bytes("torn")));
  const std::uint64_t before = reader.sequence();
  EXPECT_EQ(reader.read_some(8, taken,
                             [&](const BroadcastRecord& record, const std::byte* payload) {
                               for (int i = 0; i < 300; ++i) EXPECT_TRUE(writer.push(bytes("new")));
                               return take(record, payload);
                             }),
            Found::kOverrun);
  EXPECT_EQ(taken, 0U);
  EXPECT_EQ(reader.sequence(), before);
  seen.clear();
  EXPECT_EQ(reader.read_some(8, taken, take), Found::kRecord);
  EXPECT_EQ(seen, std::to_string(writer.sequence() - 1) + ":new ");
  EXPECT_EQ(reader.lost(), writer.sequence() - 1 - before);
}

// --- threads -------------------------------------------------------------------------------------------------------

// A payload whose every word says its number, and whose length does too.
std::size_t words_of(std::uint64_t n) { return 1 + (n * 0x9e3779b97f4a7c15 >> 33) % 60; }

// Records that tell by their number what they have to hold; `batch` of them at most are published together.
void write_records(const Memory& memory, std::uint64_t records, std::atomic<bool>& done, std::uint64_t batch = 1,
                   std::uint64_t announced = 0) {
  BroadcastWriter writer = memory.writer();
  writer.announce_ahead(announced);
  std::array<std::uint64_t, 64> payload{};
  for (std::uint64_t n = 0; n < records; ++n) {
    payload.fill(n);
    const auto bytes = std::as_bytes(std::span(payload).first(words_of(n)));
    if (!writer.put(bytes)) {
      writer.publish();
      EXPECT_TRUE(writer.put(bytes));
    }
    if (n % batch == 0) writer.publish();
    if (n % 2000 < 100) std::this_thread::yield();  // now and then slow enough to be followed
  }
  writer.publish();
  done = true;
}

TYPED_TEST(BroadcastRing, NoTornRecordIsAcceptedAndEveryRecordIsGotOrCountedLost) {
  const Memory memory(std::uint64_t{0} - 64 * kCapacity);
  const std::uint64_t records = scaled(100'000);
  std::atomic<bool> done{false};
  const std::jthread other([&] { write_records(memory, records, done); });
  auto reader = memory.reader<TypeParam>();
  std::array<std::uint64_t, 64> payload{};
  std::uint64_t got = 0;
  std::uint64_t next = 0;
  for (bool last = false;;) {
    BroadcastRecord record;
    const Found found = reader.read(std::as_writable_bytes(std::span(payload)), record);
    ASSERT_NE(found, Found::kViolation) << describe(reader.violation().reason);
    if (found == Found::kNothing) {
      if (last) break;
      last = done;  // one more look behind it
      std::this_thread::yield();
    }
    if (found != Found::kRecord) continue;
    ASSERT_GE(record.sequence, next);
    next = record.sequence + 1;
    ASSERT_EQ(record.size, words_of(record.sequence) * 8);
    for (std::size_t i = 0; i < words_of(record.sequence); ++i) ASSERT_EQ(payload[i], record.sequence);
    ++got;
    ASSERT_EQ(got + reader.lost(), next);
  }
  EXPECT_EQ(got + reader.lost(), records);
}

TEST(TrustedBroadcast, NoTornRecordIsAcceptedInPlace) {
  const Memory memory;
  const std::uint64_t records = scaled(100'000);
  std::atomic<bool> done{false};
  const std::jthread other([&] { write_records(memory, records, done); });
  auto reader = memory.reader<Trusted>();
  std::uint64_t got = 0;
  for (bool last = false;;) {
    std::span<const std::byte> payload;
    BroadcastRecord record;
    const Found found = reader.peek(payload, record);
    if (found == Found::kNothing) {
      if (last) break;
      last = done;
      std::this_thread::yield();
    }
    if (found != Found::kRecord) continue;
    bool whole = payload.size() == words_of(record.sequence) * 8;
    for (std::size_t i = 0; i < payload.size(); i += 8) {
      whole &= load_relaxed(reinterpret_cast<const std::uint64_t*>(payload.data() + i)) == record.sequence;
    }
    if (!reader.advance()) continue;
    ASSERT_TRUE(whole) << record.sequence;
    ++got;
  }
  EXPECT_EQ(got + reader.lost(), records);
}

TEST(TrustedBroadcast, NoTornRecordIsAmongSeveral) {
  const Memory memory;
  const std::uint64_t records = scaled(100'000);
  std::atomic<bool> done{false};
  const std::jthread other([&] { write_records(memory, records, done, 5, 256); });
  auto reader = memory.reader<Trusted>();
  std::array<std::uint64_t, 64> payload{};
  std::uint64_t got = 0;
  for (bool last = false;;) {
    bool whole = true;
    std::uint32_t taken = 0;
    const Found found = reader.read_some(20, taken, [&](const BroadcastRecord& record, const std::byte* from) {
      if (record.size > sizeof payload) return whole = false;
      copy_once(payload.data(), from, record.size);
      whole &= record.size == words_of(record.sequence) * 8;
      for (std::size_t i = 0; i < record.size / 8; ++i) whole &= payload[i] == record.sequence;
      return true;
    });
    if (found == Found::kNothing) {
      ASSERT_TRUE(whole);
      if (last) break;
      last = done;
      std::this_thread::yield();
    }
    if (found != Found::kRecord) continue;
    ASSERT_TRUE(whole);
    got += taken;
    ASSERT_EQ(got + reader.lost(), reader.sequence());
  }
  EXPECT_EQ(got + reader.lost(), records);
}

// --- writers that break the rules ----------------------------------------------------------------------------------

void expect_caught(const Memory& memory, BroadcastReader<Hostile>& reader, Reason reason, std::uint64_t value,
                   std::uint64_t limit) {
  EXPECT_EQ(read_text(reader), "(violation)");
  EXPECT_EQ(reader.violation().reason, reason) << describe(reader.violation().reason);
  EXPECT_EQ(reader.violation().value, value);
  EXPECT_EQ(reader.violation().limit, limit);
  format_broadcast(memory.part->page, kCapacity);
  EXPECT_EQ(read_text(reader), "(violation)") << "it stays";
  EXPECT_EQ(reader.join(), Found::kViolation);
}

TEST(HostileBroadcast, ATailThatGoesBackIsCaught) {
  const Memory memory(64);
  auto reader = memory.reader<Hostile>();
  memory.part->page.tail = 48;
  expect_caught(memory, reader, Reason::kIndex, 48, 64);
}

TEST(HostileBroadcast, ATailThatIsNotAlignedIsCaught) {
  const Memory memory;
  auto reader = memory.reader<Hostile>();
  memory.part->page.tail = 24;
  expect_caught(memory, reader, Reason::kAlignment, 24, 16);
}

TEST(HostileBroadcast, ALatestThatIsNotAlignedIsCaught) {
  const Memory memory;
  auto reader = memory.reader<Hostile>();
  memory.part->page.intent = memory.part->page.tail = 3 * kCapacity;
  memory.part->page.latest = 3 * kCapacity - 8;
  expect_caught(memory, reader, Reason::kAlignment, 3 * kCapacity - 8, 16);
}

TEST(HostileBroadcast, ARecordLongerThanWhatIsThereOrAllowedIsCaught) {
  for (const std::uint32_t size : {17U, 4096U, 0xffff'fff0U, 0xffff'ffffU}) {
    const Memory memory;
    auto reader = memory.reader<Hostile>();
    memory.word(0) = BroadcastHeader::make(size, 0);
    memory.part->page.intent = memory.part->page.tail = 32;
    expect_caught(memory, reader, Reason::kLength, BroadcastHeader::record(size), 32);
  }
  const Memory memory;
  auto reader = memory.reader<Hostile>();
  memory.word(0) = BroadcastHeader::make(kCapacity / 2, 0);
  memory.part->page.intent = memory.part->page.tail = kCapacity;
  expect_caught(memory, reader, Reason::kLength, kCapacity / 2 + 16, kCapacity / 4);
}

TEST(HostileBroadcast, PaddingThatDoesNotEndWithTheRingIsCaught) {
  const Memory memory(kCapacity - 32);
  auto reader = memory.reader<Hostile>();
  memory.word(kCapacity - 32) = BroadcastHeader::make(0, 0) | BroadcastHeader::kPadding;
  memory.part->page.intent = memory.part->page.tail = kCapacity + 64;
  expect_caught(memory, reader, Reason::kPadding, 16, 32);
}

TEST(HostileBroadcast, ARingOfPaddingOnlyIsNoEndlessLoop) {
  const Memory memory(kCapacity - 32);
  auto reader = memory.reader<Hostile>();
  memory.word(kCapacity - 32) = BroadcastHeader::make(16, 0) | BroadcastHeader::kPadding;
  memory.word(0) = BroadcastHeader::make(kCapacity - 16, 0) | BroadcastHeader::kPadding;
  memory.part->page.intent = memory.part->page.tail = 2 * kCapacity - 32;
  expect_caught(memory, reader, Reason::kPadding, kCapacity, kCapacity);
}

TEST(HostileBroadcast, ANumberThatIsNotTheNextIsCaught) {
  const Memory memory;
  auto reader = memory.reader<Hostile>();
  memory.word(0) = BroadcastHeader::make(0, 0);
  memory.word(8) = 5;
  memory.part->page.intent = memory.part->page.tail = 16;
  expect_caught(memory, reader, Reason::kSequence, 5, 0);
}

TEST(HostileBroadcast, AMadWriterMakesNoReaderLoopOrLeaveItsBuffer) {
  const Memory memory;
  std::jthread peer([&](const std::stop_token& enough) {
    Random random;
    auto* const words = reinterpret_cast<std::uint64_t*>(memory.part.get());
    while (!enough.stop_requested()) {
      const std::uint64_t where = random.below(4);
      const std::uint64_t at = where == 0   ? 512 + random.below(16)
                               : where == 1 ? 16 + random.below(3)
                                            : random.below(1024);
      // Mostly what could be right: positions, short headers, small numbers.
      const std::uint64_t likely = at < 512 ? random.below(64) * 16 : random.below(at % 2 == 0 ? 64 : 2);
      store_relaxed(words + at, random.one_in(20) ? random.word() : likely);
    }
  });
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::array<std::byte, 2 * kCapacity> out{};
  std::uint64_t got = 0;
  std::uint64_t caught = 0;
  while (got < 20 || caught < 20) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << got << " records, " << caught << " violations";
    out.fill(std::byte{0x5a});
    auto reader = memory.reader<Hostile>();
    for (int i = 0; i < 10; ++i) {
      BroadcastRecord record;
      const Found found = reader.read(std::span(out).first(kCapacity), record);
      if (found == Found::kRecord) ASSERT_LE(record.size, kCapacity / 4 - 16);
      got += found == Found::kRecord ? 1 : 0;
      caught += found == Found::kViolation ? 1 : 0;
    }
    for (std::size_t i = kCapacity / 4; i < out.size(); ++i) ASSERT_EQ(out[i], std::byte{0x5a});
  }
}

TEST(BroadcastSetup, PartsThatAreNotWhatWasAgreedAreRefusedByName) {
  const Memory memory;
  EXPECT_FALSE(check_broadcast(memory.part->page, kCapacity));
  EXPECT_EQ(check_broadcast(memory.part->page, 2 * kCapacity).reason, Reason::kCapacity);
  memory.part->page.magic += std::uint64_t{1} << 48;
  EXPECT_EQ(check_broadcast(memory.part->page, kCapacity).reason, Reason::kMagic);
}

}  // namespace
}  // namespace warmfork::ring
