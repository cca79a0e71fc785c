// Schedules, replays by a clock that the test moves, readers, generated feeds.
#include "feed/certificate.hpp"
#include "feed/decode.hpp"
#include "feed/generator.hpp"
#include "feed/pcap.hpp"
#include "feed/replay.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace warmfork::feed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::size_t kMemory = std::size_t{64} << 20;
constexpr std::uint64_t kGHz = 1'000'000'000;

// Packets of one byte, of frames of `wire_bytes`, at these times.
Tape tape_of(const std::vector<std::uint64_t>& times, std::uint32_t wire_bytes = 60) {
  auto builder = TapeBuilder::create(Packet::footprint(1) * times.size());
  for (std::size_t i = 0; i < times.size(); ++i) {
    (*builder->add(times[i], wire_bytes, 1))[0] = static_cast<std::byte>(i);
  }
  return builder->finish();
}

std::vector<std::uint64_t> due_of(const Tape& tape, const Pace& pace, std::uint64_t frequency = kGHz) {
  const auto schedule = Schedule::make(tape, pace, frequency);
  EXPECT_TRUE(schedule) << schedule.error().message;
  return {schedule->due().begin(), schedule->due().end()};
}

TEST(TapeTest, TimesCountFromTheFirstAndNeverBack) {
  auto builder = TapeBuilder::create(4096);
  EXPECT_TRUE(builder->add(500, 60, 3));
  EXPECT_TRUE(builder->add(500, 60, 0));
  EXPECT_THAT(builder->add(499, 60, 1).error().message, HasSubstr("1 ns before"));
  EXPECT_TRUE(builder->add(501, 60, 17));
  const auto full = builder->add(502, 60, 4096);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::kLimit);
  EXPECT_THAT(full.error().message, HasSubstr("the limit is 4096"));
  const Tape tape = builder->finish();
  EXPECT_EQ(tape.totals().packets, 3u);
  EXPECT_EQ(tape.size(), 32u + 16u + 48u);
  EXPECT_EQ(tape.duration_ns(), 1u);
}

TEST(ScheduleTest, AFullLineIsExact) {
  // A tick of 0.1 ns is one bit at 10 Gbps: whatever is wrong shows.
  const Pace line{.kind = Pace::Kind::kBits, .per_second = 10 * kGHz};
  EXPECT_THAT(due_of(tape_of({0, 0, 0}), line, 10 * kGHz), ElementsAre(0, 672, 1344));
  EXPECT_THAT(due_of(tape_of({0, 0, 0}, 20), line, 10 * kGHz), ElementsAre(0, 672, 1344)) << "padded to 64";
  EXPECT_THAT(due_of(tape_of({0, 0}, 1514), line, 10 * kGHz), ElementsAre(0, 12'304)) << "1,538 bytes";
  // At a frequency that divides nothing, too: packet n leaves at floor(n · 67.2 ns), without an error that adds up.
  __extension__ using Wide = unsigned __int128;
  constexpr std::uint64_t kOdd = 2'999'999'977;
  const auto due = due_of(tape_of(std::vector<std::uint64_t>(100'000)), line, kOdd);
  for (std::uint64_t n = 0; n < due.size(); ++n) {
    ASSERT_EQ(due[n], static_cast<std::uint64_t>(Wide{n} * 672 * kOdd / (10 * kGHz))) << n;
  }
  // A second holds 14,880,952 packets and a bit: the last of 14,881 leaves within the millisecond, none after it.
  EXPECT_EQ(due_of(tape_of(std::vector<std::uint64_t>(14'882)), line, kGHz)[14'880], 999'936u);
  EXPECT_GT(due_of(tape_of(std::vector<std::uint64_t>(14'882)), line, kGHz)[14'881], 1'000'000u);
}

TEST(ScheduleTest, PacketsPerSecondAndSpeeds) {
  EXPECT_THAT(due_of(tape_of({0, 5, 9, 9}), {.kind = Pace::Kind::kPackets, .per_second = 3}),
              ElementsAre(0, 333'333'333, 666'666'666, 1'000'000'000));
  EXPECT_THAT(due_of(tape_of({7, 107, 1007}), {}), ElementsAre(0, 100, 1000));
  EXPECT_THAT(due_of(tape_of({7, 107, 1007}), {.speed = 10}), ElementsAre(0, 10, 100));
  EXPECT_THAT(due_of(tape_of({7, 107, 1007}), {.speed = 0.5}, 2 * kGHz), ElementsAre(0, 400, 4000));
  EXPECT_THAT(due_of(tape_of({7, 107}), {.kind = Pace::Kind::kUnpaced}), ElementsAre());
  EXPECT_EQ(Schedule::make(tape_of({0, 100, 200}), {}, kGHz)->period(), 300u);
  EXPECT_EQ(Schedule::make(tape_of({0, 0}), {.kind = Pace::Kind::kPackets, .per_second = 2}, kGHz)->period(), kGHz);
  for (const Pace& pace : {Pace{.speed = 0}, Pace{.speed = -1}, Pace{.speed = 1e-300},
                           Pace{.speed = std::numeric_limits<double>::quiet_NaN()}, Pace{.kind = Pace::Kind::kPackets},
                           Pace{.kind = Pace::Kind::kBits}}) {
    const auto schedule = Schedule::make(tape_of({0, 1'000}), pace, kGHz);
    ASSERT_FALSE(schedule);
    EXPECT_EQ(schedule.error().kind, ErrorKind::kUsage);
  }
}

// Each look at it takes `step` ticks, and a delay comes when it is told to.
struct FakeClock {
  std::uint64_t time = 1'000'000;
  std::uint64_t step = 1;
  std::uint64_t away_at = ~std::uint64_t{0}, away = 0;  // the first look behind that time comes so much later
  std::uint64_t now() {
    time += step;
    if (time > away_at) time += std::exchange(away, 0);
    return time;
  }
};

struct FakeSink {
  struct Sent {
    unsigned packet;
    std::uint64_t due;
  };
  FakeClock& clock;
  std::map<std::size_t, std::uint64_t> stalls = {};  // by packet: ticks that publishing it takes
  std::vector<Sent> sent = {};
  ReplayControl* stop_at_third = nullptr;
  void publish(std::span<const std::byte> payload, std::uint64_t due) noexcept {
    if (const auto stall = stalls.find(sent.size()); stall != stalls.end()) clock.time += stall->second;
    sent.push_back({std::to_integer<unsigned>(payload[0]), due});
    if (stop_at_third != nullptr && sent.size() == 3) stop_at_third->stop.store(true);
  }
};
static_assert(FeedSink<FakeSink> && FeedSink<LocalReaders> && TickClock<FakeClock> && TickClock<TscTicks>);

// Shows packets in batches; what showing them takes is the clock's.
struct FakeBatchSink {
  FakeClock& clock;
  std::uint64_t stall_at_fourth = 0;
  std::uint64_t put_ = 0;
  std::vector<std::uint64_t> batches = {};  // how many packets were shown at once, by flush()
  std::uint64_t shown = 0;
  void put(std::span<const std::byte> /*payload*/, std::uint64_t /*due*/) noexcept { ++put_; }
  void flush() noexcept {
    if (shown < 4 && put_ >= 4) clock.time += stall_at_fourth;
    batches.push_back(put_ - shown);
    shown = put_;
  }
  void publish(std::span<const std::byte> payload, std::uint64_t due) noexcept {
    put(payload, due);
    flush();
  }
};
static_assert(BatchSink<FakeBatchSink> && !BatchSink<FakeSink>);

class ReplayTest : public ::testing::Test {
 protected:
  ReplayCounters run(const Tape& tape, const Pace& pace, const ReplayLimits& limits = {}) {
    schedule_ = *Schedule::make(tape, pace, kGHz);
    ReplayCounters counters;
    replay(tape, schedule_, sink_, clock_, limits, control_, counters);
    EXPECT_EQ(control_.published.load(), counters.packets);
    EXPECT_EQ(sink_.sent.size(), counters.packets);
    return counters;
  }
  FakeClock clock_;
  FakeSink sink_{clock_};
  ReplayControl control_;
  Schedule schedule_;
};

TEST_F(ReplayTest, LatenessCountsFromTheScheduleAndNotFromThePacketBefore) {
  // A packet every 100 ticks; the third takes 1,000. Those behind it leave at once, each 100 less late.
  sink_.stalls[2] = 1'000;
  const Tape tape = tape_of({0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1400});
  const ReplayCounters counters = run(tape, {}, {.max_late = 500});
  EXPECT_EQ(counters.packets, 15u) << "nothing is left out";
  for (unsigned i = 0; i < 15; ++i) {
    EXPECT_EQ(sink_.sent[i].packet, i);
    EXPECT_EQ(sink_.sent[i].due, counters.begin + 100 * i) << "the delay moves no packet's time";
  }
  EXPECT_EQ(counters.lateness.count(), 15u);
  // 1,001 ticks, then 902, 803, 704, 605, 506, 407, …: each look at the clock takes one.
  EXPECT_EQ(counters.late, 6u);
  EXPECT_EQ(counters.lateness.max(), 1'001u);
  EXPECT_EQ(counters.lateness.min(), 1u);
  EXPECT_DOUBLE_EQ(counters.lateness.mean() * 15,
                   1 + 1 + 1001 + 902 + 803 + 704 + 605 + 506 + 407 + 308 + 209 + 110 + 11 + 1 + 1);
}

// A packet every 100 ticks, and each alone as long as the replay is on time; the fourth takes 20,000.
TEST_F(ReplayTest, PacketsThatAreLateAreShownSeveralAtATime) {
  FakeBatchSink sink{.clock = clock_, .stall_at_fourth = 20'000};
  const Tape tape = tape_of({0, 100});
  schedule_ = *Schedule::make(tape, {}, kGHz);
  ReplayCounters counters;
  replay(tape, schedule_, sink, clock_, {.loops = 120, .max_late = 100}, control_, counters);
  EXPECT_EQ(sink.shown, 240u) << "all, at the end";
  EXPECT_EQ(counters.packets, 240u);
  EXPECT_EQ(control_.published.load(), 240u);
  ASSERT_GE(sink.batches.size(), 10u);
  const std::vector<std::uint64_t> begin(sink.batches.begin(), sink.batches.begin() + 8);
  // 20,000 ticks late are 200 packets: three batches of the largest size, and what has become due meanwhile.
  EXPECT_THAT(begin, ElementsAre(1, 1, 1, 1, 64, 64, 64, 8));
  EXPECT_TRUE(std::all_of(sink.batches.begin() + 8, sink.batches.end(), [](auto size) { return size == 1; }));
  EXPECT_EQ(counters.lateness.count(), 240u) << "each has a lateness";
  EXPECT_EQ(counters.lateness.max(), 20'001u);
  EXPECT_EQ(counters.late, 1u + 199u) << "the one that took so long, and those behind it but the last, which is 1 late";
}

// Copying a large packet takes longer than showing it.
TEST_F(ReplayTest, LargePacketsDoNotWaitForManyOthers) {
  FakeBatchSink sink{.clock = clock_};
  auto builder = TapeBuilder::create(10 * Packet::footprint(1'500));
  for (unsigned i = 0; i < 10; ++i) std::ranges::fill(*builder->add(i, 1'500, 1'500), std::byte{0});
  const Tape tape = builder->finish();
  schedule_ = *Schedule::make(tape, {.kind = Pace::Kind::kUnpaced}, kGHz);
  ReplayCounters counters;
  replay(tape, schedule_, sink, clock_, {}, control_, counters);
  EXPECT_THAT(sink.batches, ElementsAre(3, 3, 3, 1)) << "4,096 bytes, and what the last one has beyond";
}

TEST_F(ReplayTest, AStoppedReplayHasShownWhatItCounts) {
  FakeBatchSink sink{.clock = clock_};
  const Tape tape = tape_of({0, 100});
  schedule_ = *Schedule::make(tape, {.kind = Pace::Kind::kUnpaced}, kGHz);
  ReplayCounters counters;
  replay(tape, schedule_, sink, clock_, {.loops = 69}, control_, counters);
  EXPECT_EQ(counters.packets, 138u);
  EXPECT_THAT(sink.batches, ElementsAre(64, 64, 10));
}

TEST_F(ReplayTest, WhatTheProcessorDoesElsewhereIsSeenOnlyWhileTheReplayWaits) {
  sink_.stalls[1] = 30'000;  // the sink's own
  clock_.away_at = clock_.time + 250'000;
  clock_.away = 7'000;
  const ReplayCounters counters = run(tape_of({0, 100'000, 200'000, 300'000}), {});
  EXPECT_EQ(counters.waiting.ticks(), 300'000u - 30'001 - 2) << "all but the sink's, and what two more packets took";
  EXPECT_EQ(counters.waiting.stalls().count(), 1u);
  EXPECT_EQ(counters.waiting.stalls().max(), 7'001u);
}

TEST(WaitingTest, FindsHowLatePacketsWouldBeThatCostNothing) {
  Waiting waiting;
  EXPECT_EQ(waiting.lateness(0.99), 0) << "it never waited";
  for (unsigned i = 0; i < 8'000; ++i) waiting.record(100);
  EXPECT_EQ(waiting.lateness(0.99), 0) << "without a stall";
  for (unsigned i = 0; i < 10; ++i) waiting.record(20'000);
  EXPECT_EQ(waiting.ticks(), 1'000'000u);
  EXPECT_EQ(waiting.stalls().count(), 10u) << "not the short ones";
  // 1 % of all packets are those due in the first 1,000 ticks of each stall; 0.1 %, in the first 100.
  EXPECT_NEAR(waiting.lateness(0.99), 19'000, 20);
  EXPECT_NEAR(waiting.lateness(0.999), 19'900, 20);
  EXPECT_EQ(waiting.lateness(0.5), 0) << "fewer than half are late at all";
}

TEST_F(ReplayTest, LoopsGoOnWithTheSameDistances) {
  const ReplayCounters counters = run(tape_of({50, 150}), {}, {.loops = 3});
  ASSERT_EQ(counters.packets, 6u);
  for (unsigned i = 0; i < 6; ++i) EXPECT_EQ(sink_.sent[i].due, counters.begin + 100 * i);
  EXPECT_FALSE(counters.interrupted);
}

TEST_F(ReplayTest, TimeLimitsWhatIsDueAndNotWhatIsLate) {
  sink_.stalls[0] = 5'000;
  const ReplayLimits limits{.loops = ~std::uint64_t{0}, .ticks = 1'000};
  EXPECT_EQ(run(tape_of({0, 100}), {}, limits).packets, 10u) << "all that are due in it, though they are late";
}

TEST_F(ReplayTest, UnpacedPacketsAreNeverLate) {
  const ReplayLimits limits{.loops = ~std::uint64_t{0}, .ticks = 1'000};
  const ReplayCounters counters = run(tape_of({0, 100}), {.kind = Pace::Kind::kUnpaced}, limits);
  EXPECT_EQ(counters.packets, 1'000u) << "one a tick";
  EXPECT_EQ(counters.lateness.count(), 0u);
}

TEST_F(ReplayTest, StopsBetweenTwoPackets) {
  sink_.stop_at_third = &control_;
  const ReplayCounters counters = run(tape_of({0, 100}), {}, {.loops = 100});
  EXPECT_TRUE(counters.interrupted);
  EXPECT_EQ(counters.packets, 3u);
}

TEST_F(ReplayTest, StopsWhileItWaits) {
  control_.stop.store(true);
  EXPECT_EQ(run(tape_of({0, std::uint64_t{1} << 60}), {}).packets, 0u);
}

TEST_F(ReplayTest, TheCertificateAddsUp) {
  sink_.stalls[3] = 50'000;
  const Tape tape = tape_of({0, 1'000, 2'000}, 60);
  ReplayCounters counters = run(tape, {}, {.loops = 2, .max_late = 10'000});
  counters.waiting.record(4'000);
  const std::uint64_t checksum = expected_checksum(tape, 6);
  const Certificate certificate = make_certificate(
      {.tape = tape,
       .schedule = schedule_,
       .counters = counters,
       .readers = {{"good", 6, 0, 6, checksum}, {"slow", 4, 2, 4, 1}, {"wrong", 6, 0, 6, checksum + 1}},
       .ns_per_tick = 2,
       .max_late_ns = 20'000});
  EXPECT_EQ(certificate.sent, (TapeTotals{6, 360, 6, 6 * 672}));
  EXPECT_EQ(certificate.sent, totals_of(tape, 6));
  EXPECT_EQ(totals_of(tape, 5).packets, 5u);
  EXPECT_NEAR(*certificate.wanted_packets_per_second, 1e9 / 2'000, 0.01);
  EXPECT_NEAR(certificate.seconds, 2e-9 * static_cast<double>(counters.end - counters.begin), 1e-12);
  EXPECT_NEAR(certificate.packets_per_second, 6 / certificate.seconds, 1e-6);
  EXPECT_NEAR(certificate.lateness->max_ns, 2 * 50'001, 2);
  ASSERT_TRUE(certificate.floor);
  EXPECT_EQ(certificate.floor->stalls, 1u);
  EXPECT_NEAR(certificate.floor->stalled_seconds, 2e-9 * 4'000, 2e-11);
  EXPECT_NEAR(certificate.floor->waited_seconds, 2e-9 * static_cast<double>(counters.waiting.ticks()), 1e-15);
  EXPECT_NEAR(certificate.floor->max_ns, 8'000, 20);
  EXPECT_GT(certificate.floor->p99_ns, certificate.floor->resolution_ns);
  EXPECT_EQ(certificate.late, 3u) << "the one, and the two behind it";
  EXPECT_FALSE(certificate.passed());
  EXPECT_THAT(certificate.failures, ElementsAre(HasSubstr("3 packets were late by more than 20.00 µs"),
                                                HasSubstr("reader slow lost 2 of 6"), HasSubstr("reader wrong got 6")));
  EXPECT_THAT(to_text(certificate), HasSubstr("failed"));
}

TEST(LocalReadersTest, ReadersThatKeepUpSeeEverything) {
  GeneratorOptions options{.packets = 3'000, .messages = 3};
  const Tape tape = *generate_feed(options, kMemory);
  auto readers = LocalReaders::start(tape.longest(), {.readers = 2});
  ASSERT_TRUE(readers) << readers.error().message;
  ASSERT_GT((*readers)->slots(), tape.totals().packets) << "so that nobody can be too slow";
  for (const Packet& packet : tape) (*readers)->publish(packet.payload(), packet.time_ns);
  const auto reports = (*readers)->finish();
  ASSERT_EQ(reports.size(), 2u);
  for (const ReaderReport& report : reports) {
    EXPECT_EQ(report.received, tape.totals().packets);
    EXPECT_EQ(report.dropped, 0u);
    EXPECT_EQ(report.bytes, tape.totals().payload_bytes);
    EXPECT_EQ(report.checksum, expected_checksum(tape, tape.totals().packets));
  }
}

TEST(LocalReadersTest, WhatASlowReaderLosesIsCounted) {
  // Two slots: nobody keeps up with that.
  const std::vector<std::byte> payload(3'000, std::byte{7});
  auto readers = LocalReaders::start(payload.size(), {.ring_bytes = 1});
  ASSERT_EQ((*readers)->slots(), 2u);
  constexpr std::uint64_t kPackets = 20'000;
  for (std::uint64_t i = 0; i < kPackets; ++i) (*readers)->publish(payload, i);
  const auto reports = (*readers)->finish();
  EXPECT_EQ(reports[0].received + reports[0].dropped, kPackets);
  EXPECT_EQ(reports[0].bytes, reports[0].received * payload.size());
}

std::vector<std::uint64_t> distances(const Tape& tape) {
  std::vector<std::uint64_t> all;
  for (auto at = tape.begin(), next = std::next(at); next != tape.end(); ++at, ++next) {
    all.push_back(next->time_ns - at->time_ns);
  }
  return all;
}

TEST(GeneratorTest, PatternsHaveTheRateAskedFor) {
  GeneratorOptions options{.packets = 20'001, .rate = 3'000'000, .content = Content::kRaw};
  const Tape constant = *generate_feed(options, kMemory);
  EXPECT_EQ(constant.duration_ns(), 20'000 * 1'000 / 3u);
  for (const std::uint64_t distance : distances(constant)) ASSERT_TRUE(distance == 333 || distance == 334);

  options.pattern = Pattern::kPoisson;
  options.rate = 10'000;
  const auto exponential = distances(*generate_feed(options, kMemory));
  double sum = 0, squares = 0;
  for (const std::uint64_t distance : exponential) {
    sum += static_cast<double>(distance);
    squares += static_cast<double>(distance) * static_cast<double>(distance);
  }
  const double count = static_cast<double>(exponential.size());
  const double mean = sum / count, deviation = std::sqrt(squares / count - mean * mean);
  EXPECT_NEAR(mean, 100'000, 3'000) << "its own deviation is 0.7 %";
  EXPECT_NEAR(deviation, 100'000, 5'000) << "as large as the mean";

  options.pattern = Pattern::kBurst;
  options.burst = 4;
  const auto burst = distances(*generate_feed(options, kMemory));
  for (std::size_t i = 0; i < burst.size(); ++i) {
    if (i % 4 == 3) {
      ASSERT_NEAR(static_cast<double>(burst[i]), 400'000 - 3 * 67.2, 1) << i;
    } else {
      ASSERT_TRUE(burst[i] == 67 || burst[i] == 68) << i;  // 67.2 ns
    }
  }
}

std::string content_of(const Tape& tape) {
  std::string all;
  for (const Packet& packet : tape) {
    all += fmt::format("{} {} ", packet.time_ns, packet.bytes);
    // SAFETY: bytes viewed as characters.
    all.append(reinterpret_cast<const char*>(packet.payload().data()), packet.bytes);
  }
  return all;
}

TEST(GeneratorTest, IsAFunctionOfItsOptions) {
  for (const Content content : {Content::kRaw, Content::kItch}) {
    GeneratorOptions options{.packets = 500, .pattern = Pattern::kPoisson, .content = content, .messages = 3};
    const std::string one = content_of(*generate_feed(options, kMemory));
    EXPECT_EQ(content_of(*generate_feed(options, kMemory)), one);
    options.seed = 2;
    EXPECT_NE(content_of(*generate_feed(options, kMemory)), one);
  }
}

TEST(GeneratorTest, OptionsHaveRanges) {
  for (const GeneratorOptions& options :
       {GeneratorOptions{.packets = 0}, GeneratorOptions{.rate = 0}, GeneratorOptions{.burst = 0},
        GeneratorOptions{.frame_bytes = 63}, GeneratorOptions{.frame_bytes = 9'019}, GeneratorOptions{.messages = 0},
        GeneratorOptions{.messages = 32}, GeneratorOptions{.symbols = 0}, GeneratorOptions{.gap_every = 1}}) {
    EXPECT_EQ(generate_feed(options, kMemory).error().kind, ErrorKind::kUsage);
  }
  EXPECT_EQ(generate_feed({.packets = 1'000}, 4096).error().kind, ErrorKind::kLimit);
}

// Whoever reads the feed keeps this book, and is told if it does not add up.
class Book {
 public:
  void apply(const ItchMessage& message) {
    switch (message.type) {
      case 'A':
        ASSERT_GT(message.shares, 0u);
        ASSERT_TRUE(
            orders_.emplace(message.reference, Order{message.locate, message.side, message.shares, message.price})
                .second);
        check_not_crossed(message.locate);
        return;
      case 'E':
      case 'X': {
        Order* const order = find(message);
        ASSERT_NE(order, nullptr);
        ASSERT_GT(message.shares, 0u);
        ASSERT_LE(message.shares, order->shares);
        order->shares -= message.shares;
        if (order->shares == 0) orders_.erase(message.reference);
        return;
      }
      case 'D':
        ASSERT_NE(find(message), nullptr);
        orders_.erase(message.reference);
        return;
      case 'U': {
        const Order* const order = find(message);
        ASSERT_NE(order, nullptr);
        ASSERT_TRUE(
            orders_.emplace(message.new_reference, Order{order->locate, order->side, message.shares, message.price})
                .second);
        orders_.erase(message.reference);
        check_not_crossed(message.locate);
        return;
      }
      default: ASSERT_TRUE(message.type == 'P' || message.type == 'S') << message.type;
    }
  }

 private:
  struct Order {
    std::uint16_t locate;
    Side side;
    std::uint32_t shares, price;
  };
  Order* find(const ItchMessage& message) {
    const auto at = orders_.find(message.reference);
    return at == orders_.end() || at->second.locate != message.locate ? nullptr : &at->second;
  }
  void check_not_crossed(std::uint16_t locate) {
    std::uint32_t bid = 0, ask = ~std::uint32_t{0};
    for (const auto& [reference, order] : orders_) {
      if (order.locate != locate) continue;
      if (order.side == Side::kBuy) bid = std::max(bid, order.price);
      if (order.side == Side::kSell) ask = std::min(ask, order.price);
    }
    ASSERT_LT(bid, ask);
  }
  std::map<std::uint64_t, Order> orders_;
};

TEST(GeneratorTest, TheBookIsConsistent) {
  const Tape tape = *generate_feed({.packets = 2'000, .messages = 4, .symbols = 3}, kMemory);
  Book book;
  std::map<char, unsigned> types;
  std::string events;
  std::uint64_t time = 0;
  for (const Packet& packet : tape) {
    const auto mold = parse_mold(parse_udp(packet.payload())->payload);
    ASSERT_TRUE(mold) << mold.error().to_text();
    auto messages = mold->messages;
    for (unsigned i = 0; i < mold->count; ++i) {
      const auto message = parse_itch(take_message(messages));
      ASSERT_TRUE(message) << message.error().to_text();
      EXPECT_LE(message->locate, 3);
      EXPECT_GE(message->time_ns, std::max(time, kDayBeginsNs));
      time = message->time_ns;
      ++types[message->type];
      if (message->type == 'S') events += message->event;
      ASSERT_NO_FATAL_FAILURE(book.apply(*message));
    }
  }
  EXPECT_EQ(events, "OSQMEC");
  for (const char type : {'A', 'E', 'X', 'D', 'U', 'P'}) EXPECT_GT(types[type], 100u) << type;
}

TEST(FeedTest, GeneratedWrittenReadAndDecoded) {
  const std::string path = testing::TempDir() + "/warmfork-feed-" + std::to_string(::getpid()) + ".pcap";
  const GeneratorOptions options{
      .packets = 1'000, .pattern = Pattern::kBurst, .messages = 2, .gap_every = 100, .heartbeat_every = 50};
  const Tape generated = *generate_feed(options, kMemory);
  ASSERT_TRUE(write_pcap(path, generated, 1'700'000'000'000'000'007));
  const auto recording = read_pcap(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(recording) << recording.error().message;
  EXPECT_EQ(content_of(recording->tape), content_of(generated));
  const auto decoded = decode_itch(recording->tape, kMemory);
  ASSERT_TRUE(decoded) << decoded.error().message;
  const DecodeCounters& counters = decoded->counters;
  constexpr std::uint64_t kLost = 9;  // 100, 200, … 900; the last arrives
  EXPECT_EQ(counters.messages, 6 + 2 * (998 - kLost));
  EXPECT_EQ(counters.gaps, kLost);
  EXPECT_EQ(counters.missing, 2 * kLost);
  EXPECT_EQ(counters.heartbeats, 20u);
  EXPECT_EQ(counters.ends_of_session, 1u);
  EXPECT_EQ(counters.malformed + counters.other + counters.duplicates, 0u);
  EXPECT_EQ(decoded->tape.totals().packets, generated.totals().packets) << "packet by packet";
  EXPECT_EQ(decoded->tape.totals().wire_bits, generated.totals().wire_bits);
  EXPECT_EQ(decoded->tape.totals().payload_bytes, (counters.messages + 1) * sizeof(ItchRecord));
  std::uint64_t expected = 1, missing = 0;
  for (const Packet& packet : decoded->tape) {
    for (std::size_t at = 0; at < packet.bytes; at += sizeof(ItchRecord)) {
      ItchRecord record;
      std::memcpy(&record, packet.payload().data() + at, sizeof record);
      ASSERT_EQ(record.sequence(), expected + record.missing);
      missing += record.missing;
      expected = record.sequence() + 1;
    }
  }
  EXPECT_EQ(missing, 2 * kLost);
  EXPECT_EQ(decode_itch(recording->tape, 4096).error().kind, ErrorKind::kLimit);
}

}  // namespace
}  // namespace warmfork::feed
