// Ports: messages between rings and device registers, on every engine.
#include "lc3/core/ports.hpp"

#include "lc3/asm/assembler.hpp"
#include "machine_fixture.hpp"

#include <atomic>
#include <cstdlib>
#include <thread>

namespace warmfork::lc3 {
namespace {

constexpr std::uint64_t kCapacity = 16384;

/// Pages of shared memory.
struct Pages {
  explicit Pages(std::size_t bytes) : bytes(static_cast<std::byte*>(std::aligned_alloc(4096, bytes))) {
    std::memset(this->bytes, 0, bytes);
  }
  ~Pages() { std::free(bytes); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  template <class T>
  T& as() {
    return *reinterpret_cast<T*>(bytes);
  }
  std::byte* bytes;
};

struct Link {
  Link() { ring::format_spsc(producer.as<ring::SpscProducerPage>(), consumer.as<ring::SpscConsumerPage>(), kCapacity); }
  ring::SpscProducerView producer_view() {
    return {&producer.as<ring::SpscProducerPage>(), &consumer.as<ring::SpscConsumerPage>(), kCapacity};
  }
  ring::SpscConsumerView consumer_view() {
    return {&consumer.as<ring::SpscConsumerPage>(), &producer.as<ring::SpscProducerPage>(), kCapacity};
  }
  Pages producer{ring::spsc_producer_part_bytes(kCapacity)};
  Pages consumer{4096};
};

class PortsTest : public EngineTest {
 protected:
  PortsTest() : m(machine()) {}

  void program(const std::string& source) {
    const std::string text = ".ORIG x3000\n" + source + R"(
        HALT
P0_STATUS   .FILL xFE20
P0_LENGTH   .FILL xFE21
P0_DATA     .FILL xFE22
P0_SEQUENCE .FILL xFE23
P0_LOST     .FILL xFE25
P0_NEXT     .FILL xFE26
P0_RECEIVE  .FILL xFE27
P0_BURST    .FILL xFE28
P0_STRIDE   .FILL xFE29
P0_COUNT    .FILL xFE2A
P0_SEND     .FILL xFE2B
P0_PUT      .FILL xFE2C
P0_FLUSH    .FILL xFE2D
P0_WAIT     .FILL xFE2E
P0_TYPE     .FILL xFE2F
BUFFER      .FILL x4000
            .END
)";
    const auto assembled = assemble(text, "test.asm");
    ASSERT_TRUE(assembled) << assembled.error().message;
    for (const auto& segment : assembled->segments) {
      ASSERT_TRUE(load(*m, segment.origin, segment.words.data(), segment.words.size()));
    }
    m->config |= kNativeTraps;
    capture_trap_vectors(*m);
    m->pc = 0x3000;
  }
  void receives(std::uint32_t port = 0, std::uint32_t looks = 0) {
    ASSERT_TRUE(connect_port(*m, *ports, port, PortKind::kReceive, in.consumer.bytes, in.producer.bytes, kCapacity,
                             port_options(looks)));
  }
  void sends(std::uint32_t port = 0, std::uint32_t looks = 0) {
    ASSERT_TRUE(connect_port(*m, *ports, port, PortKind::kTransmit, out.producer.bytes, out.consumer.bytes, kCapacity,
                             port_options(looks)));
  }
  void give(std::initializer_list<std::uint16_t> words, std::uint16_t type = 0) {
    ASSERT_TRUE(producer.push(std::as_bytes(std::span(words.begin(), words.size())), type));
  }
  std::vector<std::uint16_t> got() {
    std::vector<std::uint16_t> words(kPortMessageWords);
    const auto size = consumer.pop(std::as_writable_bytes(std::span(words)));
    if (!size) return {0xdead};
    words.resize(*size / 2);
    return words;
  }
  const RunResult& finish(std::uint64_t budget = 100'000) {
    const RunResult& result = m.run(budget);
    EXPECT_EQ(result.stop, StopReason::kHalted) << "at " << std::hex << result.pc;
    return result;
  }

  Machine m;
  std::unique_ptr<Ports> ports = std::make_unique<Ports>();
  Link in, out;
  ring::SpscProducer<ring::Trusted> producer{in.producer_view()};
  ring::SpscConsumer<ring::Hostile> consumer{out.consumer_view()};
};
WARMFORK_ON_EVERY_ENGINE(PortsTest);

TEST_P(PortsTest, UnconnectedPortsReadAsZeroAndIgnoreWrites) {
  program(R"(
    LDI R0, P0_STATUS
    LDI R1, P0_DATA
    STI R0, P0_WAIT
    STI R0, P0_SEND
    STI R0, P0_RECEIVE
    STI R0, P0_NEXT)");
  finish();
  EXPECT_EQ(m.r(0), 0);
  // The same after a port was connected and taken away again.
  receives();
  ASSERT_TRUE(connect_port(*m, *ports, 0, PortKind::kNone, nullptr, nullptr, 0, 0));
  m->pc = 0x3000;
  m->mcr = kMcrRun;
  finish();
  EXPECT_EQ(m.r(0), 0);
}

TEST_P(PortsTest, AMessageIsReadWordByWord) {
  receives();
  give({1, 0x8001, 3}, 7);
  give({4});
  program(R"(
    LDI R0, P0_STATUS
    LDI R1, P0_LENGTH
    LDI R2, P0_DATA
    LDI R3, P0_DATA
    LDI R4, P0_DATA
    LDI R5, P0_DATA
    LDI R7, P0_TYPE
    STI R0, P0_NEXT
    LDI R6, P0_DATA
    STI R0, P0_NEXT
    LDI R0, P0_STATUS)");
  finish();
  EXPECT_EQ(m.r(1), 3);
  EXPECT_EQ(m.r(2), 1);
  EXPECT_EQ(m.r(3), 0x8001);
  EXPECT_EQ(m.r(4), 3);
  EXPECT_EQ(m.r(5), 0) << "behind the end";
  EXPECT_EQ(m.r(6), 4);
  EXPECT_EQ(m.r(7), 7);
  EXPECT_EQ(m.r(0), kPortReceives) << "nothing left";
}

TEST_P(PortsTest, StatusSaysWhatIsThere) {
  receives();
  sends();
  program("LDI R0, P0_STATUS");
  finish();
  EXPECT_EQ(m.r(0), kPortReceives | kPortSends | kPortRoom);
  give({1});
  m->pc = 0x3000, m->mcr = kMcrRun;
  finish();
  EXPECT_EQ(m.r(0), kPortReceives | kPortSends | kPortRoom | kPortReady);
}

TEST_P(PortsTest, ReceiveStoresABurst) {
  receives();
  for (std::uint16_t i = 0; i < 5; ++i) give({static_cast<std::uint16_t>(10 + i), static_cast<std::uint16_t>(20 + i)});
  program(R"(
    AND R0, R0, #0
    ADD R0, R0, #3
    STI R0, P0_BURST
    ADD R0, R0, #1
    STI R0, P0_STRIDE
    LD  R1, BUFFER
    STI R1, P0_RECEIVE
    LDI R2, P0_COUNT
    LDI R3, P0_SEQUENCE)");
  finish();
  EXPECT_EQ(m.r(2), 3);
  EXPECT_EQ(m.r(3), 3) << "the fourth is at hand now";
  const std::vector<std::uint16_t> memory(&m.at(0x4000), &m.at(0x4000) + 13);
  EXPECT_EQ(memory, (std::vector<std::uint16_t>{2, 10, 20, 0, 2, 11, 21, 0, 2, 12, 22, 0, 0}));
}

TEST_P(PortsTest, ReceiveCutsOffWhatDoesNotFitAndSaysHowLongItWas) {
  receives();
  give({1, 2, 3, 4, 5});
  program(R"(
    AND R0, R0, #0
    ADD R0, R0, #3
    STI R0, P0_STRIDE
    LD  R1, BUFFER
    STI R1, P0_RECEIVE)");
  m.at(0x4003) = 0x7777;
  finish();
  EXPECT_EQ(m.at(0x4000), 5);
  EXPECT_EQ(m.at(0x4002), 2);
  EXPECT_EQ(m.at(0x4003), 0x7777);
}

TEST_P(PortsTest, ReceiveNeverReachesDeviceSpace) {
  receives();
  give({1, 2});
  give({3, 4});
  program(R"(
    AND R0, R0, #0
    ADD R0, R0, #3
    STI R0, P0_STRIDE
    STI R0, P0_BURST
    LD  R1, LAST
    STI R1, P0_RECEIVE
    LDI R2, P0_COUNT
    STI R1, P0_RECEIVE
    ADD R1, R1, #1
    STI R1, P0_RECEIVE
    LDI R3, P0_COUNT
    HALT
LAST .FILL xFDFD)");
  finish();
  EXPECT_EQ(m.r(2), 1);
  EXPECT_EQ(m.r(3), 0);
  EXPECT_EQ(m.at(0xfdfd), 2);
  EXPECT_EQ(m.at(0xfdff), 4);
  EXPECT_EQ(m.at(0xfe00), kTrapWord);
}

TEST_P(PortsTest, ReceivedWordsCanBeInstructions) {
  receives();
  give({0x1021, 0xc1c0});  // ADD R0, R0, #1; RET
  give({0x1022, 0xc1c0});  // ADD R0, R0, #2; RET
  program(R"(
    AND R0, R0, #0
    LD  R1, BUFFER
    ADD R3, R1, #1
    AND R4, R4, #0
    ADD R4, R4, #10
FIRST JSRR R3
    ADD R4, R4, #-1
    BRp FIRST
    STI R1, P0_RECEIVE
    ADD R4, R4, #10
NEXT JSRR R3
    ADD R4, R4, #-1
    BRp NEXT)");
  m.at(0x4001) = 0x1021, m.at(0x4002) = 0xc1c0;
  ASSERT_EQ(got(), std::vector<std::uint16_t>{0xdead});
  finish();
  EXPECT_EQ(m.r(0), 20) << "the same words again";
  m->pc = 0x3000, m->mcr = kMcrRun;
  finish();
  EXPECT_EQ(m.r(0), 30) << "other words: 10 times the old ones, then 10 times the new";
}

TEST_P(PortsTest, WaitStopsUntilThereIsAMessage) {
  receives();
  program(R"(
    STI R0, P0_WAIT
    LDI R0, P0_DATA)");
  for (int i = 0; i < 2; ++i) {
    const RunResult& result = m.run(1000);
    EXPECT_EQ(result.stop, StopReason::kWaiting);
    EXPECT_EQ(result.executed, 0U);
    EXPECT_EQ(result.pc, 0x3000);
    EXPECT_EQ(result.address, 0xfe2e);
  }
  give({42});
  finish();
  EXPECT_EQ(m.r(0), 42);
}

TEST_P(PortsTest, TheEndOfTheStreamEndsAWait) {
  receives();
  give({42});
  give({}, kEndOfStream);
  program(R"(
    STI R0, P0_WAIT
    LDI R1, P0_DATA
    STI R0, P0_NEXT
    STI R0, P0_WAIT
    LDI R0, P0_STATUS)");
  finish();
  EXPECT_EQ(m.r(1), 42);
  EXPECT_EQ(m.r(0), kPortReceives | kPortEnded);
}

TEST_P(PortsTest, StatusSaysThatThereIsRoomInARingOfTheLeastSize) {
  Pages own(ring::spsc_producer_part_bytes(4096)), peer(4096);
  ring::format_spsc(own.as<ring::SpscProducerPage>(), peer.as<ring::SpscConsumerPage>(), 4096);
  ASSERT_TRUE(connect_port(*m, *ports, 0, PortKind::kTransmit, own.bytes, peer.bytes, 4096, port_options(0)));
  program("LDI R0, P0_STATUS");
  finish();
  EXPECT_EQ(m.r(0), kPortSends | kPortRoom) << "for the longest message that it can take";
}

TEST_P(PortsTest, WhatNobodyWillReadIsThrownAwayWithoutRoom) {
  sends();
  forget_receiver(*ports, 0);
  program(R"(
    LD  R1, BUFFER
    LD  R2, TIMES
SEND  STI R1, P0_SEND
    ADD R2, R2, #-1
    BRp SEND
    LDI R0, P0_STATUS
    HALT
TIMES .FILL #30000)");
  m.words(0x4000, {1, 42});
  finish();
  EXPECT_EQ(m.r(0), kPortSends | kPortRoom);
  EXPECT_EQ(ports->ports[0].sent, 30000U);
  EXPECT_EQ(got(), std::vector<std::uint16_t>{0xdead});
}

TEST_P(PortsTest, ReceiveStoresMessagesOfAllLengthsAndAnOddByteIsHalfAWord) {
  receives();
  std::vector<std::byte> bytes(2100, std::byte{0xa5});
  std::vector<std::size_t> sizes;
  for (std::size_t size = 0; size < 60; ++size) sizes.push_back(size);
  for (const std::size_t size : sizes) ASSERT_TRUE(producer.push(std::span(bytes).first(size)));
  program(R"(
    LD  R0, MANY
    STI R0, P0_BURST
    LD  R0, APART
    STI R0, P0_STRIDE
    LD  R1, BUFFER
    STI R1, P0_RECEIVE
    LDI R2, P0_COUNT
    HALT
MANY  .FILL #100
APART .FILL #25)");
  for (std::uint16_t i = 0; i < 100 * 25; ++i) m.at(static_cast<std::uint16_t>(0x4000 + i)) = 0x1111;
  finish();
  EXPECT_EQ(m.r(2), sizes.size());
  for (const std::size_t size : sizes) {
    const auto first = static_cast<std::uint16_t>(0x4000 + 25 * size);
    EXPECT_EQ(m.at(first), (size + 1) / 2);
    for (std::size_t i = 0; i < 24; ++i) {
      const int expected = 2 * i + 1 < size ? 0xa5a5 : 2 * i < size ? 0xa5 : 0x1111;
      EXPECT_EQ(m.at(static_cast<std::uint16_t>(first + 1 + i)), expected) << size << " bytes, word " << i;
    }
  }
}

TEST_P(PortsTest, AnEndedPortStillGivesWhatItsRingHolds) {
  receives();
  give({42});
  end_port(*ports, 0);
  program(R"(
    STI R0, P0_WAIT
    LDI R1, P0_STATUS
    LDI R2, P0_DATA
    STI R0, P0_NEXT
    STI R0, P0_WAIT
    LDI R0, P0_STATUS)");
  finish();
  EXPECT_EQ(m.r(1), kPortReceives | kPortReady);
  EXPECT_EQ(m.r(2), 42);
  EXPECT_EQ(m.r(0), kPortReceives | kPortEnded);
}

TEST_P(PortsTest, SendTakesAMessageFromMemory) {
  sends();
  program(R"(
    LD  R1, BUFFER
    STI R1, P0_SEND
    LDI R0, P0_STATUS)");
  m.words(0x4000, {3, 7, 8, 9});
  finish();
  EXPECT_EQ(got(), (std::vector<std::uint16_t>{7, 8, 9}));
  EXPECT_EQ(m.r(0), kPortSends | kPortRoom);
}

TEST_P(PortsTest, PutAndFlushMakeAMessage) {
  sends();
  program(R"(
    STI R6, P0_PUT
    STI R5, P0_PUT
    STI R0, P0_FLUSH
    STI R0, P0_FLUSH)");
  m.r(6) = 6, m.r(5) = 5;
  finish();
  EXPECT_EQ(got(), (std::vector<std::uint16_t>{6, 5}));
  EXPECT_EQ(got(), std::vector<std::uint16_t>{}) << "an empty message is one";
  EXPECT_EQ(got(), std::vector<std::uint16_t>{0xdead});
}

TEST_P(PortsTest, WhatCannotBeSentIsRefused) {
  sends();
  program(R"(
    LD  R1, BUFFER
    STI R1, P0_SEND
    LDI R2, P0_STATUS
    LD  R1, HIGH
    STI R1, P0_SEND
    LDI R3, P0_STATUS
    STI R0, P0_FLUSH
    LDI R4, P0_STATUS
    HALT
HIGH .FILL xFDFF)");
  m.at(0x4000) = kPortMessageWords + 1;
  m.at(0xfdff) = 1;
  finish();
  EXPECT_EQ(m.r(2), kPortSends | kPortRoom | kPortRefused);
  EXPECT_EQ(m.r(3), kPortSends | kPortRoom | kPortRefused) << "its word is in device space";
  EXPECT_EQ(m.r(4), kPortSends | kPortRoom);
  EXPECT_EQ(got(), std::vector<std::uint16_t>{});
  EXPECT_EQ(got(), std::vector<std::uint16_t>{0xdead});
}

TEST_P(PortsTest, SendWaitsForRoom) {
  sends();
  program(R"(
    LD  R1, BUFFER
LOOP STI R1, P0_SEND
    ADD R2, R2, #1
    BR  LOOP)");
  m.at(0x4000) = kPortMessageWords;
  const RunResult& result = m.run(1000);
  EXPECT_EQ(result.stop, StopReason::kWaiting);
  EXPECT_EQ(result.pc, 0x3001);
  const std::uint16_t sent = m.r(2);
  EXPECT_GE(sent, 6);
  EXPECT_EQ(got().size(), kPortMessageWords);
  EXPECT_EQ(m.run(1000).stop, StopReason::kWaiting);
  EXPECT_EQ(m.r(2), sent + 1);
}

TEST_P(PortsTest, AMessageInterrupts) {
  receives(2);
  program(R"(
    LD  R1, ENABLE
    STI R1, STATUS
    AND R2, R2, #0
LOOP ADD R2, R2, #0
    BRz LOOP
    HALT
ENABLE .FILL x4000
STATUS .FILL xFE40)");
  m.words(0x0181, {0x1000});
  m.words(0x1000, {0xa402, 0xb402, 0x8000, 0xfe42, 0xfe46});  // LDI R2, DATA; STI R2, NEXT; RTI
  EXPECT_EQ(m.run(5000).stop, StopReason::kBudget);
  give({5});
  finish();
  EXPECT_EQ(m.r(2), 5);
  EXPECT_EQ(m->counters.interrupts, 1U);
}

TEST_P(PortsTest, AnInterruptWithoutARoutineStops) {
  receives();
  program(R"(
    LD  R1, ENABLE
    STI R1, P0_STATUS
LOOP BR LOOP
ENABLE .FILL x4000)");
  give({5});
  const RunResult& result = m.run(5000);
  EXPECT_EQ(result.stop, StopReason::kUnhandledInterrupt);
  EXPECT_EQ(result.vector, kPortInterrupt);
}

TEST_P(PortsTest, APollingLoopIsNotIdle) {
  m->config |= kDetectIdle;
  receives();
  program(R"(
LOOP LDI R0, KBSR
    BRn DONE
    LDI R0, P0_STATUS
    BRzp LOOP
DONE HALT
KBSR .FILL xFE00)");
  EXPECT_EQ(m.run(50'000).stop, StopReason::kBudget);
  give({1});
  finish();
}

TEST_P(PortsTest, AFeedCountsWhatItHasMissed) {
  Pages feed(ring::broadcast_part_bytes(4096)), own(4096);
  ring::format_broadcast(feed.as<ring::BroadcastPage>(), 4096);
  ASSERT_TRUE(connect_port(*m, *ports, 0, PortKind::kFeed, own.bytes, feed.bytes, 4096, 0));
  ring::BroadcastWriter writer(feed.as<ring::BroadcastPage>(), 4096);
  constexpr std::uint16_t kRecords = 1000;
  for (std::uint16_t i = 0; i < kRecords; ++i) {
    const std::array<std::uint16_t, 4> words{i, 1, 2, 3};
    ASSERT_TRUE(writer.push(std::as_bytes(std::span(words))));
  }
  program(R"(
    LDI R0, P0_DATA
    LDI R1, P0_LOST
    LDI R2, P0_SEQUENCE
    STI R0, P0_NEXT
    LDI R3, P0_STATUS)");
  finish();
  EXPECT_EQ(m.r(0), kRecords - 1) << "it goes on with the latest";
  EXPECT_EQ(m.r(1), kRecords - 1);
  EXPECT_EQ(m.r(2), kRecords - 1);
  EXPECT_EQ(m.r(3), kPortReceives);
  EXPECT_EQ(own.as<ring::BroadcastReaderPage>().sequence, kRecords);
  EXPECT_EQ(own.as<ring::BroadcastReaderPage>().lost, kRecords - 1U);
}

TEST_P(PortsTest, APeerThatBreaksTheRulesIsCutOff) {
  receives();
  sends();
  in.producer.as<ring::SpscProducerPage>().tail = 1 << 30;
  program(R"(
    STI R0, P0_WAIT
    LDI R0, P0_STATUS
    LDI R1, P0_DATA)");
  finish();
  EXPECT_EQ(m.r(0), kPortReceives | kPortSends | kPortRoom | kPortBroken);
  EXPECT_EQ(m.r(1), 0);
}

TEST_P(PortsTest, OnlyRingsCanBeConnected) {
  const auto connect = [&](std::uint32_t port, PortKind kind, void* own, const void* peer, std::uint64_t capacity) {
    return connect_port(*m, *ports, port, kind, own, peer, capacity, 0);
  };
  EXPECT_FALSE(connect(kPortCount, PortKind::kReceive, in.consumer.bytes, in.producer.bytes, kCapacity));
  EXPECT_FALSE(connect(0, PortKind::kReceive, in.consumer.bytes, in.producer.bytes, 2 * kCapacity));
  EXPECT_FALSE(connect(0, PortKind::kReceive, in.consumer.bytes, in.producer.bytes, 1000));
  EXPECT_FALSE(connect(0, PortKind::kReceive, in.consumer.bytes, nullptr, kCapacity));
  EXPECT_FALSE(connect(0, PortKind::kReceive, nullptr, in.producer.bytes, kCapacity));
  EXPECT_FALSE(connect(0, PortKind::kReceive, in.producer.bytes, in.consumer.bytes, kCapacity))
      << "the wrong way round";
  EXPECT_FALSE(connect(0, PortKind::kFeed, nullptr, in.producer.bytes, kCapacity));
  EXPECT_EQ(m->ports, 0U);
}

// The whole way, and as fast as it goes: a machine that adds one to each message, a thread on either side.
TEST_P(PortsTest, EveryMessageGoesThroughOnceAndInOrder) {
  constexpr std::uint32_t kLooks = 20'000;
  receives(0, kLooks);
  sends(0, kLooks);
  program(R"(
    LD  R1, BUFFER
LOOP STI R1, P0_WAIT
    STI R1, P0_RECEIVE
    LDI R3, P0_COUNT
    BRz LOOP
    LDR R2, R1, #1
    ADD R2, R2, #1
    STR R2, R1, #1
    STI R1, P0_SEND
    BR  LOOP)");
  constexpr unsigned kMessages = 30'000;
  std::thread sender([&] {
    for (unsigned i = 0; i < kMessages; ++i) {
      const std::array<std::uint16_t, 2> words{static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(i >> 16)};
      while (!producer.push(std::as_bytes(std::span(words)))) std::this_thread::yield();
    }
  });
  std::atomic<bool> stop = false;
  std::thread runner([&] {
    while (!stop) {
      const StopReason why = m.run(100'000).stop;
      if (why != StopReason::kWaiting && why != StopReason::kBudget) break;
      std::this_thread::yield();
    }
  });
  for (unsigned i = 0; i < kMessages; ++i) {
    std::array<std::uint16_t, 2> words{};
    while (!consumer.pop(std::as_writable_bytes(std::span(words)))) {
      if (consumer.violation()) break;
      std::this_thread::yield();
    }
    if (words[0] != static_cast<std::uint16_t>(i + 1) || words[1] != i >> 16) {
      ADD_FAILURE() << "message " << i << " is " << words[0];
      break;
    }
  }
  stop = true;
  sender.join();
  runner.join();
}

}  // namespace
}  // namespace warmfork::lc3
