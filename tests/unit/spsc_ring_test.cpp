// The ring of one producer and one consumer (warmfork/ring/spsc.hpp, slots.hpp): its rules one by one, two threads, and
// peers that write what they like.
#include "random.hpp"
#include "scale.hpp"
#include "warmfork/ring/slots.hpp"
#include "warmfork/ring/spsc.hpp"

#include <gtest/gtest.h>
#include <semaphore.h>

#include <algorithm>
#include <array>
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

// A ring's memory, with pages before and behind that nobody writes.
struct Memory {
  struct Pages {
    std::array<std::byte, kPageBytes> before;
    SpscProducerPage producer;
    alignas(kPageBytes) std::array<std::byte, kCapacity> data;
    std::array<std::byte, kPageBytes> between;
    SpscConsumerPage consumer;
    std::array<std::byte, kPageBytes> after;
  };
  static_assert(offsetof(Pages, data) == offsetof(Pages, producer) + kPageBytes);

  explicit Memory(std::uint64_t start_index = 0, std::uint64_t slot_bytes = 0) : start(start_index) {
    std::memset(static_cast<void*>(pages.get()), 0x5a, sizeof(Pages));
    format_spsc(pages->producer, pages->consumer, kCapacity, slot_bytes, start);
  }
  ~Memory() {
    for (const auto* page : {&pages->before, &pages->between, &pages->after}) {
      EXPECT_TRUE(std::ranges::all_of(*page, [](std::byte byte) { return byte == std::byte{0x5a}; }));
    }
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  [[nodiscard]] SpscProducerView for_producer() const {
    return {.own = &pages->producer, .peer = &pages->consumer, .capacity = kCapacity, .start = start};
  }
  [[nodiscard]] SpscConsumerView for_consumer() const {
    return {.own = &pages->consumer, .peer = &pages->producer, .capacity = kCapacity, .start = start};
  }
  [[nodiscard]] std::uint64_t& word(std::uint64_t at) const {
    return *reinterpret_cast<std::uint64_t*>(pages->data.data() + at);
  }

  std::uint64_t start;
  std::unique_ptr<Pages> pages = std::make_unique<Pages>();
};

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

template <class Consumer>
std::string pop_text(Consumer& consumer) {
  std::array<char, kCapacity> out{};
  const auto size = consumer.pop(std::as_writable_bytes(std::span(out)));
  return size ? std::string(out.data(), *size) : "(nothing)";
}

template <class Policy>
class SpscRing : public ::testing::Test {};
struct PolicyName {
  template <class Policy>
  static std::string GetName(int) {
    return Policy::kTrustsPeer ? "Trusted" : "Hostile";
  }
};
using Policies = ::testing::Types<Trusted, Hostile>;
TYPED_TEST_SUITE(SpscRing, Policies, PolicyName);

TYPED_TEST(SpscRing, RecordsComeOutAsTheyWentIn) {
  const Memory memory;
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  EXPECT_FALSE(consumer.peek());
  ASSERT_TRUE(producer.push(bytes("one"), 7));
  ASSERT_TRUE(producer.push(bytes("")));
  ASSERT_TRUE(producer.push(bytes("a longer one")));
  EXPECT_EQ(consumer.peek()->type(), 7);
  EXPECT_EQ(pop_text(consumer), "one");
  EXPECT_EQ(pop_text(consumer), "");
  EXPECT_EQ(pop_text(consumer), "a longer one");
  EXPECT_EQ(pop_text(consumer), "(nothing)");
}

TYPED_TEST(SpscRing, NothingIsSeenBeforeItIsPublishedAndThenAllOfIt) {
  const Memory memory;
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  ASSERT_TRUE(producer.put(bytes("a")));
  ASSERT_TRUE(producer.put(bytes("b")));
  EXPECT_FALSE(consumer.peek());
  producer.publish();
  EXPECT_EQ(pop_text(consumer) + pop_text(consumer), "ab");
}

TYPED_TEST(SpscRing, RoomComesBackWithTheReleaseAndNotBefore) {
  const Memory memory;
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  const std::string text(1016, 'x');  // four fill the ring exactly
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(producer.push(bytes(text)));
  EXPECT_EQ(producer.claim(0), nullptr);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(consumer.peek());
    consumer.advance();
    EXPECT_EQ(producer.claim(0), nullptr);
  }
  consumer.release();
  EXPECT_NE(producer.claim(2 * 1024 - 64), nullptr);
  EXPECT_EQ(producer.claim(2 * 1024 - 63), nullptr);
}

TYPED_TEST(SpscRing, PeekShowsTheSameRecordUntilAdvance) {
  const Memory memory;
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  ASSERT_TRUE(producer.push(bytes("first")) && producer.push(bytes("second!")));
  EXPECT_EQ(consumer.peek()->size(), 5U);
  EXPECT_EQ(consumer.peek()->size(), 5U);
  consumer.advance();
  consumer.advance();  // nothing was peeked at: nothing is stepped over
  EXPECT_EQ(consumer.peek()->size(), 7U);
}

TYPED_TEST(SpscRing, AClaimCanBeShortenedOrForgotten) {
  const Memory memory;
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  ASSERT_NE(producer.claim(1900), nullptr);
  std::byte* const room = producer.claim(1900);
  ASSERT_NE(room, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(room) % 8, 0U);
  std::memcpy(room, "short", 5);
  producer.commit(5);
  producer.publish();
  EXPECT_EQ(pop_text(consumer), "short");
  EXPECT_EQ(pop_text(consumer), "(nothing)");
}

TYPED_TEST(SpscRing, TheLongestRecordFitsIntoAnEmptyRingWhereverItsIndicesStand) {
  for (std::uint64_t start = 0; start < kCapacity; start += 8) {
    const Memory memory(start);
    SpscProducer<TypeParam> producer(memory.for_producer());
    SpscConsumer<TypeParam> consumer(memory.for_consumer());
    const std::string text(producer.longest(), 'y');
    ASSERT_EQ(text.size(), kCapacity / 2 - 64);
    ASSERT_TRUE(producer.push(bytes(text))) << start;
    ASSERT_EQ(pop_text(consumer), text) << start;
    ASSERT_EQ(producer.claim(producer.longest() + 1), nullptr);
    ASSERT_EQ(producer.claim(~std::uint32_t{0}), nullptr);
  }
}

TYPED_TEST(SpscRing, AForgottenClaimAtTheEndLeavesOnlyPadding) {
  const Memory memory(kCapacity - 64);
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  ASSERT_NE(producer.claim(100), nullptr);
  producer.publish();
  EXPECT_FALSE(consumer.peek());
  EXPECT_FALSE(consumer.violation());
  ASSERT_TRUE(producer.push(bytes("behind it")));
  EXPECT_EQ(pop_text(consumer), "behind it");
}

TYPED_TEST(SpscRing, IndicesWrapAroundAt64Bits) {
  const Memory memory(std::uint64_t{0} - 3 * kCapacity);
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  while (out < 2000) {
    const std::string text = std::to_string(in) + std::string(in % 97, '.');
    if (producer.push(bytes(text))) {
      ++in;
      continue;
    }
    while (consumer.peek()) {
      ASSERT_EQ(pop_text(consumer), std::to_string(out) + std::string(out % 97, '.'));
      ++out;
    }
  }
  EXPECT_LT(memory.pages->producer.tail, std::uint64_t{1} << 32) << "it has wrapped";
  EXPECT_FALSE(producer.violation() || consumer.violation());
}

TYPED_TEST(SpscRing, APeerIsRungOncePerSleepAndNotWhileItIsAwake) {
  const Memory memory(std::uint64_t{0} - 24);
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  ASSERT_TRUE(producer.push(bytes("a")));
  EXPECT_FALSE(producer.needs_wake());
  EXPECT_FALSE(consumer.prepare_sleep()) << "there is a record";
  EXPECT_EQ(pop_text(consumer), "a");
  EXPECT_TRUE(consumer.prepare_sleep());
  EXPECT_FALSE(producer.needs_wake()) << "nothing new";
  ASSERT_TRUE(producer.push(bytes("b")) && producer.push(bytes("c")));
  EXPECT_TRUE(producer.needs_wake());
  ASSERT_TRUE(producer.push(bytes("d")));
  EXPECT_FALSE(producer.needs_wake()) << "rung for already";
  for (const char* text : {"b", "c", "d"}) EXPECT_EQ(pop_text(consumer), text);
  EXPECT_TRUE(consumer.prepare_sleep());
  ASSERT_TRUE(producer.push(bytes("e")));
  EXPECT_TRUE(producer.needs_wake());
}

TYPED_TEST(SpscRing, AProducerWithoutRoomIsRungByTheRelease) {
  const Memory memory;
  SpscProducer<TypeParam> producer(memory.for_producer());
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  while (producer.put(bytes("0123456789"))) {
  }
  EXPECT_TRUE(producer.prepare_sleep()) << "and it has published what it had";
  EXPECT_FALSE(consumer.needs_wake());
  EXPECT_EQ(pop_text(consumer), "0123456789");
  EXPECT_TRUE(consumer.needs_wake());
  EXPECT_FALSE(consumer.needs_wake());
  EXPECT_TRUE(producer.push(bytes("x")));
}

TYPED_TEST(SpscRing, SlotsComeOutAsTheyWentInAcrossTheEnd) {
  const Memory memory(std::uint64_t{0} - 700, 8);
  SlotProducer<std::uint64_t, TypeParam> producer(memory.for_producer());
  SlotConsumer<std::uint64_t, TypeParam> consumer(memory.for_consumer());
  Random random;
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  std::array<std::uint64_t, 600> got{};
  while (out < 20'000) {
    if (random.one_in(2)) {
      const auto room = producer.claim(random.below(400));
      for (std::uint64_t& slot : room) slot = in++;
      producer.commit(room.size());
      while (random.one_in(2) && producer.put(in)) ++in;
      producer.publish();
      ASSERT_LE(in - out, kCapacity / 8);
    } else {
      const std::size_t count = consumer.take(std::span(got).first(random.below(got.size())));
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(got[i], out++);
      consumer.release();
      for (std::uint64_t one = 0; random.one_in(2) && consumer.pop(one);) ASSERT_EQ(one, out++);
    }
  }
  while (producer.push(in)) ++in;
  EXPECT_TRUE(producer.prepare_sleep());
  std::uint64_t one = 0;
  while (consumer.pop(one)) ASSERT_EQ(one, out++);
  EXPECT_TRUE(consumer.needs_wake());
  EXPECT_EQ(in, out);
  EXPECT_FALSE(producer.violation() || consumer.violation());
}

// --- two threads ---------------------------------------------------------------------------------------------------

TYPED_TEST(SpscRing, NothingIsLostDoubledOrTornBetweenTwoThreadsThatSleep) {
  const Memory memory(std::uint64_t{0} - 64 * kCapacity);
  const std::uint64_t records = scaled(30'000);
  sem_t more{};
  sem_t room{};
  ASSERT_EQ(::sem_init(&more, 0, 0), 0);
  ASSERT_EQ(::sem_init(&room, 0, 0), 0);
  const std::uint64_t seed = Random().word();
  // The length of record n, from both sides the same; now and then a long one.
  const auto length = [seed](std::uint64_t n) {
    const std::uint64_t mixed = (n + seed) * 0x9e3779b97f4a7c15 >> 40;
    return 8 + mixed % (n % 64 == 0 ? 1900 : 90);
  };
  // A thread that would wait for ever has met a lost wake-up: ctest's limit ends it.
  std::jthread other([&] {
    SpscProducer<TypeParam> producer(memory.for_producer());
    for (std::uint64_t n = 0; n < records;) {
      const auto size = static_cast<std::uint32_t>(length(n));
      std::byte* const to = producer.claim(size);
      if (to == nullptr) {
        const bool sleep = producer.prepare_sleep();
        if (producer.needs_wake()) ::sem_post(&more);
        if (sleep) ::sem_wait(&room);
        continue;
      }
      std::memset(to, static_cast<int>(n), size);
      std::memcpy(to, &n, 8);
      producer.commit(size);
      if (++n % 5 != 0 && n != records) continue;
      producer.publish();
      if (producer.needs_wake()) ::sem_post(&more);
    }
    EXPECT_FALSE(producer.violation());
  });
  SpscConsumer<TypeParam> consumer(memory.for_consumer());
  std::vector<std::byte> copy(kCapacity);
  for (std::uint64_t n = 0; n < records;) {
    const auto record = consumer.peek();
    if (!record) {
      ASSERT_FALSE(consumer.violation());
      const bool sleep = consumer.prepare_sleep();
      if (consumer.needs_wake()) ::sem_post(&room);
      if (sleep) ::sem_wait(&more);
      continue;
    }
    ASSERT_EQ(record->size(), length(n));
    record->copy_to(copy);
    std::uint64_t number = 0;
    std::memcpy(&number, copy.data(), 8);
    ASSERT_EQ(number, n);
    for (std::size_t i = 8; i < record->size(); ++i) ASSERT_EQ(copy[i], static_cast<std::byte>(n));
    consumer.advance();
    if (++n % 3 != 0) continue;
    consumer.release();
    if (consumer.needs_wake()) ::sem_post(&room);
  }
  other.join();
  ::sem_destroy(&more);
  ::sem_destroy(&room);
}

TYPED_TEST(SpscRing, SlotsPassBetweenTwoThreadsInOrder) {
  const Memory memory(0, 8);
  const std::uint64_t messages = scaled(200'000);
  std::jthread other([&] {
    SlotProducer<std::uint64_t, TypeParam> producer(memory.for_producer());
    for (std::uint64_t n = 0; n < messages;) {
      while (n < messages && n % 50 != 49 && producer.put(n)) ++n;
      const bool more = n < messages && producer.push(n);
      if (more) ++n;
      producer.publish();
      if (!more) std::this_thread::yield();
    }
  });
  SlotConsumer<std::uint64_t, TypeParam> consumer(memory.for_consumer());
  std::array<std::uint64_t, 64> got{};
  for (std::uint64_t n = 0; n < messages;) {
    const std::size_t count = consumer.take(got);
    if (count == 0) std::this_thread::yield();
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(got[i], n++);
    consumer.release();
  }
}

// --- peers that break the rules ------------------------------------------------------------------------------------

// Expects a violation, and that it stays though the peer mends its ways.
void expect_caught(SpscConsumer<Hostile>& consumer, const Memory& memory, Reason reason, std::uint64_t value,
                   std::uint64_t limit) {
  EXPECT_FALSE(consumer.peek());
  EXPECT_EQ(consumer.violation().reason, reason) << describe(consumer.violation().reason);
  EXPECT_EQ(consumer.violation().value, value);
  EXPECT_EQ(consumer.violation().limit, limit);
  memory.word(0) = SpscHeader::make(8, 0);
  store_release(&memory.pages->producer.tail, 16);
  EXPECT_FALSE(consumer.peek());
  EXPECT_FALSE(consumer.prepare_sleep());
  EXPECT_EQ(consumer.violation().reason, reason);
}

TEST(HostileSpsc, ATailFurtherThanTheRingIsCaught) {
  const Memory memory;
  SpscConsumer<Hostile> consumer(memory.for_consumer());
  memory.pages->producer.tail = kCapacity + 8;
  expect_caught(consumer, memory, Reason::kIndex, kCapacity + 8, kCapacity);
}

TEST(HostileSpsc, ATailThatGoesBackIsCaught) {
  const Memory memory;
  SpscConsumer<Hostile> consumer(memory.for_consumer());
  memory.word(0) = SpscHeader::make(8, 0);
  memory.pages->producer.tail = 16;
  ASSERT_TRUE(consumer.peek());
  consumer.advance();
  memory.pages->producer.tail = 8;
  expect_caught(consumer, memory, Reason::kIndex, 8, kCapacity);
}

TEST(HostileSpsc, ATailThatIsNotAlignedIsCaught) {
  const Memory memory;
  SpscConsumer<Hostile> consumer(memory.for_consumer());
  memory.pages->producer.tail = 12;
  expect_caught(consumer, memory, Reason::kAlignment, 12, 8);
}

TEST(HostileSpsc, ARecordLongerThanWhatIsThereIsCaught) {
  for (const std::uint32_t size : {9U, 4000U, 4096U, 0x7fff'ffffU, 0xffff'fff9U, 0xffff'ffffU}) {
    const Memory memory;
    SpscConsumer<Hostile> consumer(memory.for_consumer());
    memory.word(0) = SpscHeader::make(size, 0);
    memory.pages->producer.tail = 16;
    expect_caught(consumer, memory, Reason::kLength, SpscHeader::record(8, size), 16);
  }
}

TEST(HostileSpsc, ARecordAcrossTheEndIsCaught) {
  const Memory memory(kCapacity - 16);
  SpscConsumer<Hostile> consumer(memory.for_consumer());
  memory.word(kCapacity - 16) = SpscHeader::make(9, 0);
  memory.pages->producer.tail = kCapacity + 64;
  expect_caught(consumer, memory, Reason::kLength, 24, 16);
}

TEST(HostileSpsc, PaddingThatDoesNotEndWithTheRingIsCaught) {
  for (const std::uint32_t size : {0U, 16U, 0xffff'ffffU}) {
    const Memory memory(kCapacity - 16);
    SpscConsumer<Hostile> consumer(memory.for_consumer());
    memory.word(kCapacity - 16) = SpscHeader::make(size, 0) | SpscHeader::kPadding;
    memory.pages->producer.tail = kCapacity + 64;
    expect_caught(consumer, memory, Reason::kPadding, SpscHeader::record(8, size), 16);
  }
}

TEST(HostileSpsc, PaddingThatIsNotWhollyThereIsCaught) {
  const Memory memory(kCapacity - 16);
  SpscConsumer<Hostile> consumer(memory.for_consumer());
  memory.word(kCapacity - 16) = SpscHeader::make(8, 0) | SpscHeader::kPadding;
  memory.pages->producer.tail = kCapacity - 8;
  expect_caught(consumer, memory, Reason::kLength, 16, 8);
}

TEST(HostileSpsc, ARingOfPaddingOnlyIsNoEndlessLoop) {
  const Memory memory(kCapacity - 16);
  SpscConsumer<Hostile> consumer(memory.for_consumer());
  memory.word(kCapacity - 16) = SpscHeader::make(8, 0) | SpscHeader::kPadding;
  memory.word(0) = SpscHeader::make(kCapacity - 8, 0) | SpscHeader::kPadding;
  memory.pages->producer.tail = 2 * kCapacity - 16;
  expect_caught(consumer, memory, Reason::kPadding, kCapacity, kCapacity);
}

TEST(HostileSpsc, AHeaderThatChangesAfterTheCheckChangesNothing) {
  const Memory memory;
  SpscConsumer<Hostile> consumer(memory.for_consumer());
  memory.word(0) = SpscHeader::make(8, 0);
  memory.word(16) = SpscHeader::make(8, 3);
  memory.pages->producer.tail = 32;
  const auto record = consumer.peek();
  ASSERT_TRUE(record);
  memory.word(0) = SpscHeader::make(0x7fff'ffff, 0);
  std::array<std::byte, 64> out{};
  EXPECT_EQ(record->copy_to(out), 8U);
  consumer.advance();
  EXPECT_EQ(consumer.peek()->type(), 3);
}

TEST(HostileSpsc, AHeadFurtherThanWhatWasPublishedIsCaught) {
  for (const std::uint64_t head : {std::uint64_t{kCapacity + 8}, ~std::uint64_t{7}, std::uint64_t{1} << 63}) {
    const Memory memory;
    SpscProducer<Hostile> producer(memory.for_producer());
    while (producer.push(bytes("12345678"))) {
    }
    ASSERT_FALSE(producer.violation());
    memory.pages->consumer.head = head;
    EXPECT_EQ(producer.claim(8), nullptr);
    EXPECT_EQ(producer.violation().reason, Reason::kIndex);
    EXPECT_EQ(producer.violation().value, head);
    EXPECT_EQ(producer.violation().limit, kCapacity);
    memory.pages->consumer.head = 64;
    EXPECT_EQ(producer.claim(8), nullptr) << "it stays";
    EXPECT_FALSE(producer.prepare_sleep());
  }
}

TEST(HostileSpsc, AHeadThatGoesBackIsCaught) {
  const Memory memory;
  SpscProducer<Hostile> producer(memory.for_producer());
  while (producer.push(bytes("12345678"))) {
  }
  memory.pages->consumer.head = 64;
  while (producer.push(bytes("12345678"))) {
  }
  ASSERT_FALSE(producer.violation());
  memory.pages->consumer.head = 56;
  EXPECT_EQ(producer.claim(8), nullptr);
  EXPECT_EQ(producer.violation().reason, Reason::kIndex);
  EXPECT_EQ(producer.violation().value, 56U);
}

TEST(HostileSpsc, SlotsOfACaughtPeerAreNotTaken) {
  const Memory memory(0, 8);
  SlotConsumer<std::uint64_t, Hostile> consumer(memory.for_consumer());
  SlotProducer<std::uint64_t, Hostile> producer(memory.for_producer());
  memory.pages->producer.tail = kCapacity / 8 + 1;
  std::array<std::uint64_t, 8> out{};
  EXPECT_EQ(consumer.take(out), 0U);
  EXPECT_EQ(consumer.violation().reason, Reason::kIndex);
  EXPECT_FALSE(consumer.pop(out[0]));
  EXPECT_EQ(producer.claim(1'000'000).size(), kCapacity / 8);
  producer.commit(kCapacity / 8);
  producer.publish();
  memory.pages->consumer.head = kCapacity / 8 + 1;
  EXPECT_FALSE(producer.put(1));
  EXPECT_EQ(producer.violation().reason, Reason::kIndex);
  memory.pages->consumer.head = 8;
  EXPECT_TRUE(producer.claim(1).empty()) << "it stays";
}

TEST(HostileSpsc, AWishToBeWokenIsGrantedAtMostOncePerQuestion) {
  const Memory memory;
  SpscProducer<Hostile> producer(memory.for_producer());
  for (const std::uint64_t wake_at : {std::uint64_t{0}, std::uint64_t{16}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    memory.pages->consumer.wake_at = wake_at;
    const bool passed = producer.push(bytes("12345678")) && producer.needs_wake();
    EXPECT_EQ(passed, wake_at < 17);
    EXPECT_FALSE(producer.needs_wake());
  }
}

TEST(HostileSpsc, AMadPeerNeverHarmsAnHonestRingBesideIt) {
  const Memory mad;
  const Memory honest;
  std::jthread peer([&](const std::stop_token& enough) {
    Random random;
    auto* const words = reinterpret_cast<std::uint64_t*>(&mad.pages->producer);
    while (!enough.stop_requested()) {
      const std::uint64_t value = random.word();
      const std::uint64_t at = value % 4 == 0 ? offsetof(SpscProducerPage, tail) / 8 : random.below(1024);
      store_relaxed(words + at, value % 3 == 0 ? random.word() : random.below(64) * 8);
    }
  });
  SpscProducer<Hostile> producer(honest.for_producer());
  SpscConsumer<Hostile> consumer(honest.for_consumer());
  std::array<std::byte, kCapacity> out{};
  std::uint64_t seen = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (std::uint64_t n = 0; n < scaled(20'000) || seen < 100; ++n) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "the victim has not got past the first check: " << seen;
    // A host would give up such a peer; here it gets a new chance each time.
    SpscConsumer<Hostile> victim(mad.for_consumer());
    for (int i = 0; i < 10; ++i) {
      const auto size = victim.pop(out);
      if (size) ++seen;
      if (size) ASSERT_LE(*size, kCapacity - 8);
    }
    const std::string text = std::to_string(n);
    ASSERT_TRUE(producer.push(bytes(text)));
    ASSERT_EQ(pop_text(consumer), text);
  }
}

TEST(SpscSetup, PartsThatAreNotWhatWasAgreedAreRefusedByName) {
  const Memory memory;
  SpscProducerPage& producer = memory.pages->producer;
  SpscConsumerPage& consumer = memory.pages->consumer;
  EXPECT_FALSE(check_spsc(producer, consumer, kCapacity));
  EXPECT_EQ(check_spsc(producer, consumer, 2 * kCapacity).reason, Reason::kCapacity);
  EXPECT_EQ(check_spsc(producer, consumer, kCapacity, 8).reason, Reason::kCapacity);
  consumer.magic += std::uint64_t{1} << 48;  // the next version
  EXPECT_EQ(check_spsc(producer, consumer, kCapacity).reason, Reason::kMagic);
  EXPECT_EQ(check_spsc(producer, consumer, kCapacity).limit, kSpscConsumerMagic);
  producer.magic = 0;
  EXPECT_EQ(check_spsc(producer, consumer, kCapacity).limit, kSpscMagic);
  EXPECT_TRUE(valid_capacity(4096) && valid_capacity(kMostCapacity));
  EXPECT_FALSE(valid_capacity(0) || valid_capacity(2048) || valid_capacity(12288) || valid_capacity(2 * kMostCapacity));
}

}  // namespace
}  // namespace warmfork::ring
