// What is recorded, by whichever threads, is what a scrape says: nothing lost, nothing twice.
#include "metrics/metrics.hpp"

#include "metrics/vm_watch.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <random>
#include <thread>

namespace warmfork::test {
namespace {

using namespace metrics;

const Sample* find(const Scrape& scrape, Family family, const std::vector<std::string>& labels) {
  for (const FamilySamples& one : scrape.families) {
    if (one.family != family) continue;
    for (const Sample& sample : one.samples) {
      if (sample.labels == labels) return &sample;
    }
  }
  return nullptr;
}

std::uint64_t counted(Family family, const std::vector<std::string>& labels) {
  const Scrape now = scrape();
  const Sample* const sample = find(now, family, labels);
  return sample == nullptr ? 0 : sample->whole.value_or(0);
}

TEST(MetricsBuckets, EveryDurationLiesBetweenTheBordersOfItsBucket) {
  EXPECT_EQ(bucket_of(0), 0U);
  EXPECT_EQ(bucket_of(16), 0U);  // 2^-30 s
  EXPECT_EQ(bucket_of(17), 3U);  // 2^-30 * 17/16 s: 2^(2/32) < 1.0625 < 2^(3/32)
  EXPECT_EQ(bucket_of(std::uint64_t{1} << 34), 30U * 32);
  EXPECT_EQ(bucket_of((std::uint64_t{1} << 34) + 1), 30U * 32 + 1);
  EXPECT_EQ(bucket_of(~std::uint64_t{0}), kBuckets - 1);
  EXPECT_EQ(upper_seconds(30 * 32), 1);
  EXPECT_EQ(upper_seconds(classic_end(0)), std::ldexp(1, kFirstClassic));
  EXPECT_EQ(upper_seconds(classic_end(kClassicBuckets - 1)), std::ldexp(1, kLastClassic));
  std::mt19937_64 random(7);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t units = (random() >> (random() % 48)) & ((std::uint64_t{1} << 51) - 1);
    const std::size_t bucket = bucket_of(units);
    const double seconds = units_to_seconds(static_cast<double>(units));
    ASSERT_LE(seconds, upper_seconds(bucket)) << units;
    if (bucket != 0) ASSERT_GT(seconds, upper_seconds(bucket - 1)) << units;
  }
}

TEST(MetricsBuckets, BordersAreHitExactly) {
  // The whole numbers next to every border that has some.
  for (std::size_t bucket = 10 * kPerOctave; bucket + 1 < kBuckets; ++bucket) {
    const double border = std::ldexp(upper_seconds(bucket), kUnitBits);
    const auto below = static_cast<std::uint64_t>(std::floor(border));
    if (border - std::floor(border) < 1e-3 && bucket % kPerOctave != 0) continue;  // as near as a double can tell
    EXPECT_EQ(bucket_of(below), bucket);
    EXPECT_EQ(bucket_of(below + 1), bucket + 1);
  }
}

TEST(Metrics, NothingIsRecordedUntilSomebodyAsks) {
  enable(false);
  const Counter counter = metrics::counter(Family::kExits, {"test off"});
  counter.add(3);
  EXPECT_EQ(counted(Family::kExits, {"test off"}), 0U);
  enable();
  counter.add(3);
  EXPECT_EQ(counted(Family::kExits, {"test off"}), 3U);
}

TEST(Metrics, ThreadsAddUpToTheLastOneAndSurviveTheirEnd) {
  enable();
  const Counter counter = metrics::counter(Family::kResets, {"test threads"});
  const Histogram histogram = metrics::histogram(Family::kResetDuration, {"test threads"});
  constexpr unsigned kThreads = 6, kRounds = 3;
  constexpr std::uint64_t kEach = 20'000;
  std::atomic<bool> over{false};
  // Counts never go back, whoever looks.
  std::thread reader([&] {
    std::uint64_t last = 0;
    while (!over.load()) {
      const Scrape now = scrape();
      const std::uint64_t count = find(now, Family::kResets, {"test threads"})->whole.value();
      EXPECT_GE(count, last);
      last = count;
    }
  });
  for (unsigned round = 0; round < kRounds; ++round) {
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (std::uint64_t i = 0; i < kEach; ++i) {
          counter.add();
          histogram.record_units((i + thread) << 10);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  over.store(true);
  reader.join();
  const Scrape now = scrape();
  EXPECT_EQ(find(now, Family::kResets, {"test threads"})->whole, kThreads * kRounds * kEach);
  const HistogramValue& value = find(now, Family::kResetDuration, {"test threads"})->histogram;
  EXPECT_EQ(value.count, kThreads * kRounds * kEach);
  std::uint64_t sum = 0;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    for (std::uint64_t i = 0; i < kEach; ++i) sum += (i + thread) << 10;
  }
  EXPECT_EQ(value.sum, sum * kRounds);
}

TEST(Metrics, TheSameLabelsAreTheSameSeries) {
  enable();
  metrics::counter(Family::kForks, {"test same"}).add(2);
  metrics::counter(Family::kForks, {"test same"}).add(3);
  EXPECT_EQ(counted(Family::kForks, {"test same"}), 5U);
}

TEST(Metrics, ASourceHasTheLastWord) {
  enable();
  const Counter counter = metrics::counter(Family::kResetPages, {"test source"});
  const Gauge gauge = metrics::gauge(Family::kPoolForks, {"test source"});
  Cell cell(7);
  {
    const Source source([&](Collector& collector) {
      collector.add(counter, cell);
      collector.add(gauge, 4);
      collector.count(Family::kLinkMessages, {"test source"}, cell);
    });
    const Scrape now = scrape();
    EXPECT_EQ(find(now, Family::kResetPages, {"test source"})->whole, 7U);
    EXPECT_EQ(find(now, Family::kPoolForks, {"test source"})->number, 4);
    cell.add(1);
  }
  const Scrape after = scrape();
  EXPECT_EQ(find(after, Family::kResetPages, {"test source"})->whole, 8U);
  EXPECT_EQ(find(after, Family::kPoolForks, {"test source"})->number, 0) << "what is gone has no forks";
  EXPECT_EQ(find(after, Family::kLinkMessages, {"test source"})->whole, 8U);
}

TEST(Metrics, AMachineIsInOneState) {
  enable();
  VmWatch watch({.vm = "a", .program = "p.asm", .kind = "vm", .engine = "auto", .instruction_budget = 5});
  watch.state(VmState::kRunning);
  watch.instructions(12);
  watch.fault("divided by zero");
  const Scrape now = scrape();
  double states = 0;
  for (const char* const state : {"waiting", "running", "done", "faulted", "stopped"}) {
    states += find(now, Family::kVmState, {"a", state})->number;
  }
  EXPECT_EQ(states, 1);
  EXPECT_EQ(find(now, Family::kVmState, {"a", "faulted"})->number, 1);
  EXPECT_EQ(find(now, Family::kVmInstructions, {"a"})->whole, 12U);
  EXPECT_EQ(find(now, Family::kGuestBudget, {"a"})->number, 5);
  EXPECT_EQ(find(now, Family::kGuestDeadline, {"a"}), nullptr);
  ASSERT_NE(find(now, Family::kVmLastFault, {"a", "divided by zero"}), nullptr);
}

TEST(Metrics, LabelsAreCutAndCannotBeMisread) {
  enable();
  const std::string hostile = "\x1b[2J\xff" + std::string(1000, 'x');
  const Source source([&](Collector& collector) { collector.count(Family::kVmFaults, {hostile}, 1); });
  const Scrape now = scrape();
  for (const FamilySamples& one : now.families) {
    if (one.family != Family::kVmFaults) continue;
    for (const Sample& sample : one.samples) {
      if (!sample.labels[0].starts_with("?[2J?")) continue;
      EXPECT_EQ(sample.labels[0].size(), kMostLabelBytes);
      return;
    }
  }
  FAIL();
}

TEST(Metrics, TooManySamplesAreLeftOutAndCounted) {
  enable();
  {
    const Source source([](Collector& collector) {
      for (std::size_t i = 0; i < kMostSamples + 10; ++i) collector.set(Family::kLinkFill, {std::to_string(i)}, 1);
    });
    const Scrape now = scrape();
    EXPECT_GE(find(now, Family::kDroppedSamples, {})->whole, 10U);
  }
}

}  // namespace
}  // namespace warmfork::test
