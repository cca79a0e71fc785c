// LC-3 programs in forks that read a feed: what they make of it, what is counted, and what goes wrong with one of them
// without harm to the others.
#include "feed/decode.hpp"
#include "feed/generator.hpp"
#include "feed/pcap.hpp"
#include "feed/replay.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/feed/feed_readers.hpp"
#include "lc3/feed/words.hpp"
#include "lc3_fixture.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::test {
namespace {

using lc3::account_for;
using lc3::FeedReaders;
using ::testing::HasSubstr;

constexpr std::size_t kMemory = 16 << 20;

ring::BroadcastReaderPage cursor(std::uint64_t sequence, std::uint64_t lost,
                                 std::uint64_t magic = ring::kBroadcastReaderMagic) {
  ring::BroadcastReaderPage page{};
  page.magic = magic;
  page.sequence = sequence;
  page.lost = lost;
  return page;
}

TEST(FeedCursor, IsBelievedAsFarAsItCanBeTrue) {
  const auto expect = [](const ring::BroadcastReaderPage& page, std::uint64_t received, bool sound) {
    const auto account = account_for(page, 100);
    EXPECT_EQ(account.received, received);
    EXPECT_EQ(account.received + account.lost, 100U);
    EXPECT_EQ(account.sound, sound);
  };
  expect(cursor(0, 0, 0), 0, true);
  expect(cursor(100, 0), 100, true);
  expect(cursor(101, 30), 70, true);  // with the record that ends the stream
  expect(cursor(40, 10), 30, true);
  expect(cursor(100, 100), 0, true);
  expect(cursor(102, 0), 0, false);
  expect(cursor(50, 51), 0, false);
  expect(cursor(~0ULL, ~0ULL), 0, false);
  expect(cursor(50, 0, 1), 0, false);
  expect(cursor(50, 0, 0), 0, false);
}

TEST(FeedCursor, AnswersNameOneOfTheLastMessages) {
  EXPECT_EQ(lc3::named_message(7, 8, 4), 7U);
  EXPECT_EQ(lc3::named_message(4, 8, 4), 4U);
  EXPECT_EQ(lc3::named_message(3, 8, 4), 8U) << "too long ago";
  EXPECT_EQ(lc3::named_message(8, 8, 4), 8U) << "not yet published";
  EXPECT_EQ(lc3::named_message(~0U, 8, ~0ULL), 8U);
  EXPECT_EQ(lc3::named_message(0, 0, 4), 0U) << "nothing is";
  const std::uint64_t many = (std::uint64_t{1} << 32) + 2;
  EXPECT_EQ(lc3::named_message(0xffffffff, many, 4), many - 3) << "across the low half's end";
}

TEST(FeedWords, AreInNetworkByteOrder) {
  auto builder = feed::TapeBuilder::create(1 << 16);
  ASSERT_TRUE(builder);
  const auto add = [&](std::size_t bytes) {
    auto room = builder->add(5, static_cast<std::uint32_t>(bytes), static_cast<std::uint32_t>(bytes));
    ASSERT_TRUE(room);
    for (std::size_t i = 0; i < bytes; ++i) (*room)[i] = static_cast<std::byte>(i + 1);
  };
  add(5);
  add(9000);
  const auto words = lc3::frames_to_words(builder->finish(), 1 << 16);
  ASSERT_TRUE(words) << words.error().message;
  auto packet = words->begin();
  const std::array<std::uint16_t, 3> expected{0x0102, 0x0304, 0x0500};
  ASSERT_EQ(packet->bytes, 6U);
  EXPECT_EQ(packet->wire_bytes, 5U);
  EXPECT_EQ(std::memcmp(packet->payload().data(), expected.data(), 6), 0);
  ++packet;
  EXPECT_EQ(packet->bytes, 2048U);
  EXPECT_EQ(packet->wire_bytes, 9000U);
}

class Lc3Feed : public Lc3Test, public ::testing::WithParamInterface<ForkKind> {
 protected:
  static lc3::Program file(const std::string& name) {
    const std::string path = test_data("lc3_programs/" + name);
    auto loaded = lc3::load_program(std::span(&path, 1));
    EXPECT_TRUE(loaded) << loaded.error().message;
    return loaded ? std::move(*loaded) : lc3::Program{};
  }
  static feed::Tape tape(const feed::GeneratorOptions& options) {
    auto made = feed::generate_feed(options, kMemory);
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(*made) : feed::Tape{};
  }
  std::unique_ptr<FeedReaders> start(const std::vector<lc3::Program>& programs, const feed::Tape& tape,
                                     lc3::FeedReaderOptions options = {}) {
    options.fork = GetParam();
    options.engine = lc3::Engine::kXbyak;
    auto readers = FeedReaders::start(system(), programs, tape, options);
    EXPECT_TRUE(readers) << readers.error().message;
    return readers ? std::move(*readers) : nullptr;
  }
  /// Publishes a tape, never more than `ahead` messages before a reader: at the rate that this one can take.
  static void publish(FeedReaders& readers, const feed::Tape& tape, std::size_t with, std::uint64_t ahead) {
    const auto& page = *reinterpret_cast<const ring::BroadcastReaderPage*>(readers.cursor_page(with).bytes().data());
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (const feed::Packet& packet : tape) {
      while (readers.published() > ring::load_acquire(&page.sequence) + ahead && !readers.ended(with)) {
        readers.idle();
        std::this_thread::yield();
        ASSERT_LT(std::chrono::steady_clock::now(), give_up);
      }
      readers.publish(packet.payload(), tsc_now());
    }
  }
  static void expect_lossless(const feed::ReaderReport& report, std::uint64_t messages) {
    ASSERT_TRUE(report.program);
    EXPECT_EQ(report.program->published, messages);
    EXPECT_EQ(report.received, messages);
    EXPECT_EQ(report.dropped, 0U);
    EXPECT_EQ(report.program->failure, "");
    EXPECT_EQ(report.program->end, "halted");
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, Lc3Feed, ::testing::Values(ForkKind::kVm, ForkKind::kSpace),
                         [](const auto& kind) { return kind.param == ForkKind::kVm ? "vm" : "space"; });

TEST_P(Lc3Feed, TwoReadersCountAndSumUpAllPackets) {
  const auto words = lc3::frames_to_words(tape({.packets = 5000, .content = feed::Content::kRaw}), kMemory);
  ASSERT_TRUE(words);
  std::uint16_t sum = 0;
  for (const feed::Packet& packet : *words) {
    for (std::uint32_t i = 0; i + 1 < packet.bytes; i += 2) {
      std::uint16_t word = 0;
      std::memcpy(&word, packet.payload().data() + i, 2);
      sum = static_cast<std::uint16_t>(sum + word);
    }
  }
  const auto readers = start({file("feed_count.asm"), file("feed_count.asm")}, *words);
  ASSERT_NE(readers, nullptr);
  // All that both execute, in rehearsals and after, is one version of compiled code.
  EXPECT_EQ(readers->code_counters(0).versions, 1U);
  EXPECT_GT(readers->code_counters(0).instructions, 20U);
  publish(*readers, *words, 0, 2000);
  for (const feed::ReaderReport& report : readers->finish()) {
    expect_lossless(report, 5000);
    ASSERT_TRUE(report.program->registers);
    EXPECT_EQ((*report.program->registers)[1], 5000);
    EXPECT_EQ((*report.program->registers)[2], sum);
    EXPECT_EQ((*report.program->registers)[3], 0);
    EXPECT_TRUE(report.program->ns_per_message);
  }
}

// Somebody who wants to see the end need not wait for what only measures; nothing else is different then.
TEST_P(Lc3Feed, WarmingUpEndsWhenAskedTo) {
  const auto words = lc3::frames_to_words(tape({.packets = 2000, .content = feed::Content::kRaw}), kMemory);
  ASSERT_TRUE(words);
  int asked = 0;
  // Of the first reader's rehearsals there is one piece at most, and none of the second's.
  const auto readers =
      start({file("feed_count.asm"), file("feed_count.asm")}, *words, {.hurry = [&] { return ++asked > 1; }});
  ASSERT_NE(readers, nullptr);
  EXPECT_GT(asked, 1);
  publish(*readers, *words, 0, 1000);
  const auto& reports = readers->finish();
  for (const feed::ReaderReport& report : reports) expect_lossless(report, 2000);
  EXPECT_FALSE(reports[1].program->ns_per_message) << "it was not timed";
}

TEST_P(Lc3Feed, AnInspectorFindsWhatIsMissingOnTheWay) {
  const auto words =
      lc3::frames_to_words(tape({.packets = 3000, .content = feed::Content::kRaw, .gap_every = 1000}), kMemory);
  ASSERT_TRUE(words);
  const auto readers = start({file("feed_inspect.asm"), file("feed_count.asm")}, *words);
  ASSERT_NE(readers, nullptr);
  publish(*readers, *words, 0, 2000);
  const feed::ReaderReport& report = readers->finish().front();
  expect_lossless(report, words->totals().packets);
  ASSERT_TRUE(report.program->registers);
  const auto& r = *report.program->registers;
  EXPECT_EQ(r[5], words->totals().packets);
  EXPECT_EQ(r[2], 2) << "packets 999 and 1999 are missing";
  EXPECT_EQ(r[3], 0);
  EXPECT_EQ(r[4], 0);
  EXPECT_EQ(r[1], static_cast<std::uint16_t>(r[5] * (64U - 4 - 14 - 20)));
}

TEST_P(Lc3Feed, TopOfBookIsTheHosts) {
  const auto decoded = feed::decode_itch(tape({.packets = 1500, .messages = 3}), kMemory);
  ASSERT_TRUE(decoded);
  struct Order {
    std::uint16_t locate, side;
    std::uint32_t price, shares;
  };
  std::map<std::uint32_t, Order> book;
  std::uint64_t messages = 0;
  for (const feed::Packet& packet : decoded->tape) {
    for (std::size_t at = 0; at < packet.bytes; at += sizeof(feed::ItchRecord), ++messages) {
      feed::ItchRecord record{};
      std::memcpy(&record, packet.payload().data() + at, sizeof record);
      const auto old = book.find(record.reference());
      switch (record.type) {
        case 'A': book[record.reference()] = {record.locate, record.side, record.price(), record.shares()}; break;
        case 'D': book.erase(record.reference()); break;
        case 'E':
        case 'X':
          ASSERT_NE(old, book.end());
          old->second.shares -= record.shares();
          if (old->second.shares == 0) book.erase(old);
          break;
        case 'U': {
          ASSERT_NE(old, book.end());
          const Order next{old->second.locate, old->second.side, record.price(), record.shares()};
          book.erase(old);
          book[record.new_reference()] = next;
          break;
        }
        default: break;
      }
    }
  }
  std::string expected;
  for (unsigned symbol = 1; symbol <= 8; ++symbol) {
    std::uint32_t bid = 0, ask = ~0U;
    for (const auto& [reference, order] : book) {
      if (order.locate != symbol) continue;
      if (order.side == 1) bid = std::max(bid, order.price);
      if (order.side == 2) ask = std::min(ask, order.price);
    }
    EXPECT_TRUE(bid != 0 && ask != ~0U) << "a poor test";
    expected += fmt::format("{} {:08X} {:08X}\n", symbol, bid, ask);
  }
  const auto readers = start({file("feed_top_of_book.asm")}, decoded->tape, {.record_bytes = sizeof(feed::ItchRecord)});
  ASSERT_NE(readers, nullptr);
  publish(*readers, decoded->tape, 0, 2000);
  const feed::ReaderReport& report = readers->finish().front();
  expect_lossless(report, messages);
  EXPECT_EQ(report.program->output, expected);
}

TEST_P(Lc3Feed, AnswersComeBackAndAreTimed) {
  const auto decoded = feed::decode_itch(tape({.packets = 2000, .messages = 2}), kMemory);
  ASSERT_TRUE(decoded);
  constexpr std::uint32_t kLimit = 0x23a500;
  std::vector<std::vector<std::uint8_t>> expected;
  std::uint64_t number = 0;
  bool was_above = false;
  for (const feed::Packet& packet : decoded->tape) {
    for (std::size_t at = 0; at < packet.bytes; at += sizeof(feed::ItchRecord), ++number) {
      feed::ItchRecord record{};
      std::memcpy(&record, packet.payload().data() + at, sizeof record);
      if (record.type != 'A' || record.side != 2 || record.locate != 1) continue;
      if (record.price() > kLimit) {
        was_above = true;
      } else if (std::exchange(was_above, false)) {
        std::vector<std::uint8_t> bytes{2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0x88, 0xb5};
        for (const unsigned word : {unsigned(number & 0xffff), unsigned(number >> 16), unsigned{'B'}, 1U,
                                    unsigned{record.price_low}, unsigned{record.price_high}}) {
          bytes.push_back(static_cast<std::uint8_t>(word >> 8));
          bytes.push_back(static_cast<std::uint8_t>(word));
        }
        expected.push_back(bytes);
      }
    }
  }
  ASSERT_GT(expected.size(), 5U) << "a poor test";
  const auto readers =
      start({file("feed_trigger.asm")}, decoded->tape, {.record_bytes = sizeof(feed::ItchRecord), .answers = true});
  ASSERT_NE(readers, nullptr);
  const std::uint64_t epoch = tsc_now();
  publish(*readers, decoded->tape, 0, 100);
  expect_lossless(readers->finish().front(), number);
  const lc3::Answers& answers = readers->answers().counts();
  EXPECT_EQ(answers.count, expected.size());
  EXPECT_EQ(answers.unnamed, 0U);
  EXPECT_EQ(answers.unkept, 0U);
  EXPECT_EQ(answers.ticks.count(), expected.size());
  EXPECT_GT(answers.ticks.min(), 0U);
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("warmfork-answers-{}.pcap", ::getpid())).string();
  auto file = feed::PcapWriter::create(path);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE(readers->answers().write(std::move(*file), epoch, 1'000'000'000));
  const auto written = feed::read_pcap(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(written) << written.error().message;
  std::vector<std::vector<std::uint8_t>> got;
  for (const feed::Packet& packet : written->tape) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(packet.payload().data());
    got.emplace_back(bytes, bytes + packet.bytes);
  }
  EXPECT_EQ(got, expected);
}

constexpr const char* kRegisters = R"(
IN_STATUS  .FILL xFE20
IN_DATA    .FILL xFE22
IN_NEXT    .FILL xFE26
IN_RECEIVE .FILL xFE27
IN_COUNT   .FILL xFE2A
IN_WAIT    .FILL xFE2E
OUT_SEND   .FILL xFE3B
BUFFER     .FILL x4000
           .END
)";

// Takes its time for every message.
const std::string kSlow = std::string(R"(
        .ORIG x3000
NEXT    STI R0, IN_WAIT
        LD  R1, BUFFER
        STI R1, IN_RECEIVE
        LDI R0, IN_COUNT
        BRz DONE
        ADD R3, R3, #1
        AND R4, R4, #0
        ADD R4, R4, #8
AGAIN   LD  R2, TIME
WORK    ADD R2, R2, #-1
        BRnp WORK
        ADD R4, R4, #-1
        BRp AGAIN
        BR  NEXT
DONE    HALT
TIME    .FILL x4000
)") + kRegisters;

// Reads ten messages, and then what `then` says.
std::string ten_and(const char* then) {
  return std::string(R"(
        .ORIG x3000
        AND R3, R3, #0
        ADD R3, R3, #10
NEXT    STI R0, IN_WAIT
        STI R0, IN_NEXT
        ADD R3, R3, #-1
        BRp NEXT
)") + then +
         kRegisters;
}

TEST_P(Lc3Feed, EveryMessageIsReceivedOrLostWhateverReadersDo) {
  const auto first = lc3::frames_to_words(tape({.packets = 50, .content = feed::Content::kRaw}), kMemory);
  const auto words = lc3::frames_to_words(tape({.packets = 3950, .content = feed::Content::kRaw}), kMemory);
  ASSERT_TRUE(first && words);
  const auto halts = ten_and("HALT\n"), dies = ten_and(".FILL xD000\n"), hangs = ten_and("HERE BR HERE\n");
  const auto readers = start({file("feed_count.asm"), program(kSlow.c_str()), program(halts.c_str()),
                              program(dies.c_str()), program(halts.c_str()), program(hangs.c_str())},
                             *first, {.feed_bytes = 16384, .grace_ns = 3'000'000'000 / scaled(10), .warm_up = false});
  ASSERT_NE(readers, nullptr);
  // All fit into the ring: also who begins late finds the ten that it wants.
  publish(*readers, *first, 0, 100);
  for (const std::size_t one : {2U, 3U, 4U}) {
    for (int i = 0; i < 10'000 && !readers->ended(one); ++i) ::usleep(1000);
    ASSERT_TRUE(readers->ended(one)) << one;
  }
  // One whose page cannot be true: as its guest, not its program, could write it.
  std::memset(readers->cursor_page(4).bytes().data(), 0xa5, ring::kPageBytes);
  publish(*readers, *words, 0, 100);
  const std::vector<feed::ReaderReport>& reports = readers->finish();
  ASSERT_EQ(reports.size(), 6U);
  for (const feed::ReaderReport& report : reports) {
    EXPECT_EQ(report.received + report.dropped, 4000U) << report.name;
    EXPECT_EQ(report.program->published, 4000U) << report.name;
  }
  expect_lossless(reports[0], 4000);
  EXPECT_EQ(reports[1].program->failure, "");
  EXPECT_GT(reports[1].dropped, 0U);
  ASSERT_TRUE(reports[1].program->registers);
  EXPECT_EQ((*reports[1].program->registers)[3], reports[1].received) << "what the program has counted itself";
  EXPECT_EQ(reports[2].program->failure, "");
  EXPECT_EQ(reports[2].received, 10U) << "after " << reports[2].program->instructions << " instructions";
  EXPECT_EQ(reports[2].program->end, "halted");
  EXPECT_LE(reports[3].received, 10U);
  EXPECT_THAT(reports[3].program->failure, HasSubstr("illegal opcode"));
  EXPECT_EQ(reports[4].received, 0U);
  EXPECT_THAT(reports[4].program->failure, HasSubstr("cursor page cannot be true"));
  EXPECT_LE(reports[5].received, 10U);
  EXPECT_EQ(reports[5].program->end, "stopped");
}

TEST_P(Lc3Feed, APageThatIsNotWhatItsReaderHasWrittenIsReported) {
  const auto words = lc3::frames_to_words(tape({.packets = 10, .content = feed::Content::kRaw}), kMemory);
  ASSERT_TRUE(words);
  // The end of the stream lets it halt: by then its page has lost what it wrote.
  const auto readers = start({program(ten_and("STI R0, IN_WAIT\nHALT\n").c_str())}, *words, {.warm_up = false});
  ASSERT_NE(readers, nullptr);
  publish(*readers, *words, 0, 100);
  auto& page = *reinterpret_cast<ring::BroadcastReaderPage*>(readers->cursor_page(0).bytes().data());
  for (int i = 0; i < 10'000 && ring::load_acquire(&page.sequence) != 10; ++i) ::usleep(1000);
  ASSERT_EQ(ring::load_acquire(&page.sequence), 10U);
  for (std::uint64_t* word : {&page.magic, &page.position, &page.sequence, &page.lost}) ring::store_relaxed(word, 0);
  const feed::ReaderReport& report = readers->finish().front();
  EXPECT_EQ(report.received, 0U);
  EXPECT_EQ(report.program->end, "halted");
  EXPECT_EQ(report.program->failure, "it has read 11 records, and its cursor page says 0");
}

TEST_P(Lc3Feed, AProgramThatIsInterruptedForEveryMessage) {
  const auto words = lc3::frames_to_words(tape({.packets = 500, .content = feed::Content::kRaw}), kMemory);
  ASSERT_TRUE(words);
  std::uint16_t sum = 0;
  for (const feed::Packet& packet : *words) {
    std::uint16_t word = 0;
    std::memcpy(&word, packet.payload().data(), 2);
    sum = static_cast<std::uint16_t>(sum + word);
  }
  const auto source = std::string(R"(
        .ORIG x3000
        AND R2, R2, #0
        AND R3, R3, #0
        AND R4, R4, #0
        LEA R0, HANDLER
        STI R0, VECTOR
        LD  R0, ENABLE
        STI R0, IN_STATUS
WORK    ADD R4, R4, #1          ; the program's own work, which knows of no messages
        LDI R0, IN_STATUS
        ADD R0, R0, R0
        ADD R0, R0, R0
        ADD R0, R0, R0          ; bit 12, the end, is the sign now
        BRzp WORK
        HALT
HANDLER ADD R6, R6, #-1
        STR R0, R6, #0
        LDI R0, IN_DATA
        ADD R2, R2, R0
        ADD R3, R3, #1
        STI R0, IN_NEXT
        LDR R0, R6, #0
        ADD R6, R6, #1
        RTI
VECTOR  .FILL x0181
ENABLE  .FILL x4000
)") + kRegisters;
  const auto readers = start({program(source.c_str())}, *words, {.warm_up = false});
  ASSERT_NE(readers, nullptr);
  publish(*readers, *words, 0, 100);
  const feed::ReaderReport& report = readers->finish().front();
  expect_lossless(report, 500);
  ASSERT_TRUE(report.program->registers);
  EXPECT_EQ((*report.program->registers)[2], sum);
  EXPECT_EQ((*report.program->registers)[3], 500);
  EXPECT_GT((*report.program->registers)[4], 0);
}

// Answers as fast as it can, whatever they name: the host keeps what it has room for, and counts all.
TEST_P(Lc3Feed, AFloodOfAnswersIsCounted) {
  const auto words = lc3::frames_to_words(tape({.packets = 300, .content = feed::Content::kRaw}), kMemory);
  ASSERT_TRUE(words);
  const auto source = std::string(R"(
        .ORIG x3000
        LD  R1, BUFFER
NEXT    STI R1, IN_WAIT
        STI R1, IN_RECEIVE
        LDI R0, IN_COUNT
        BRz DONE
        LEA R2, NOBODY
        STI R2, OUT_SEND
        LEA R2, SHORT
        STI R2, OUT_SEND
        BR  NEXT
DONE    HALT
NOBODY  .FILL #2
        .FILL xFFFF
        .FILL xFFFF
SHORT   .FILL #1
        .FILL #0
)") + kRegisters;
  const auto readers = start({program(source.c_str())}, *words, {.answers = true, .answer_bytes = 1000});
  ASSERT_NE(readers, nullptr);
  publish(*readers, *words, 0, 100);
  expect_lossless(readers->finish().front(), 300);
  EXPECT_EQ(readers->answers().counts().count, 600U);
  EXPECT_EQ(readers->answers().counts().unnamed, 600U);
  EXPECT_EQ(readers->answers().counts().unkept, 600U - 2 * (1000 / (20 + 18)));
  EXPECT_EQ(readers->answers().counts().broken, 0U);
  EXPECT_EQ(readers->answers().counts().ticks.count(), 0U);
}

TEST_P(Lc3Feed, WhatCannotBeIsRefused) {
  const feed::Tape frames = tape({.packets = 10, .content = feed::Content::kRaw});
  const auto refused = [&](const std::vector<lc3::Program>& programs, lc3::FeedReaderOptions options) {
    options.fork = GetParam();
    options.engine = lc3::Engine::kInterpreter;
    const auto readers = FeedReaders::start(system(), programs, frames, options);
    return !readers && readers.error().kind == ErrorKind::kUsage;
  };
  const lc3::Program halt = program(".ORIG x3000\nHALT\n.END");
  EXPECT_TRUE(refused({}, {}));
  EXPECT_TRUE(refused({halt}, {.feed_bytes = 5000}));
  EXPECT_TRUE(refused({halt}, {.feed_bytes = 4096, .record_bytes = 1024}));
  EXPECT_TRUE(refused({halt}, {.cpus = {CPU_SETSIZE}}));
}

}  // namespace
}  // namespace warmfork::test
