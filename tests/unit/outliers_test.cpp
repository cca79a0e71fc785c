// What outliers are put down to, with clocks that say what the test wants, and what a started process reports.
#include "bench/outliers.hpp"

#include "bench/lc3_start.hpp"

#include <gmock/gmock.h>

namespace warmfork::bench {
namespace {

using ::testing::HasSubstr;

constexpr double kMean = 10;  // ns, and ticks

Causes causes_of(const TimedCall& call) {
  Causes causes{};
  attribute(call, kMean, 1, causes);
  return causes;
}
const CauseCount& of(const Causes& causes, Cause cause) { return causes[static_cast<std::size_t>(cause)]; }

// Ordinary runs around the ones given, the first of all among them.
TimedCall call_with(std::initializer_list<lc3::TimedRun> runs) {
  TimedCall call;
  call.runs.push_back({.ticks = 10, .attached = 0, .lost = 0});
  call.runs.insert(call.runs.end(), runs);
  call.runs.push_back({.ticks = 30, .attached = 1, .lost = 1});  // three times the mean is not more than that
  return call;
}

TEST(Outliers, WhatARunReportsOfItselfComesFirst) {
  TimedCall call = call_with({{.ticks = 500, .attached = 1, .lost = 1}, {.ticks = 70, .attached = 0, .lost = 2}});
  call.stolen_ns = 1'000'000;
  call.exits = 10;
  const Causes causes = causes_of(call);
  EXPECT_EQ(of(causes, Cause::kCompile).count, 1U);
  EXPECT_EQ(of(causes, Cause::kCompile).worst_ns, 500);
  EXPECT_EQ(of(causes, Cause::kInvalidation).count, 1U);
  EXPECT_EQ(of(causes, Cause::kInvalidation).worst_ns, 70);
  EXPECT_EQ(of(causes, Cause::kStolen).count + of(causes, Cause::kExit).count, 0U);
}

TEST(Outliers, TheLastRunOfACallThatCompiledAndTheFirstAfterAnEntry) {
  TimedCall call{.runs = {{.ticks = 40, .attached = 0, .lost = 0}, {.ticks = 90, .attached = 0, .lost = 0}}};
  EXPECT_EQ(of(causes_of(call), Cause::kEntry).count, 1U);
  EXPECT_EQ(of(causes_of(call), Cause::kUnattributed).count, 1U);
  call.compiled = true;
  EXPECT_EQ(of(causes_of(call), Cause::kCompile).worst_ns, 90);
  EXPECT_EQ(of(causes_of(call), Cause::kUnattributed).count, 0U);
}

TEST(Outliers, StolenTimeExplainsNoMoreThanThereWas) {
  TimedCall call = call_with({{.ticks = 1010, .attached = 0, .lost = 0}, {.ticks = 2010, .attached = 0, .lost = 0}});
  call.stolen_ns = 999;
  EXPECT_EQ(of(causes_of(call), Cause::kStolen).count, 1U) << "less than half of the longest, enough for the other";
  EXPECT_EQ(of(causes_of(call), Cause::kStolen).worst_ns, 1010);
  EXPECT_EQ(of(causes_of(call), Cause::kUnattributed).worst_ns, 2010);
  call.stolen_ns = 2100;
  EXPECT_EQ(of(causes_of(call), Cause::kStolen).worst_ns, 2010) << "what is left is not half of the other";
  EXPECT_EQ(of(causes_of(call), Cause::kUnattributed).worst_ns, 1010);
  call.stolen_ns = 2500;
  EXPECT_EQ(of(causes_of(call), Cause::kStolen).count, 2U);
}

TEST(Outliers, AnExitExplainsOne) {
  TimedCall call = call_with({{.ticks = 50, .attached = 0, .lost = 0}, {.ticks = 80, .attached = 0, .lost = 0}});
  call.exits = 1;
  EXPECT_EQ(of(causes_of(call), Cause::kExit).count, 1U);
  EXPECT_EQ(of(causes_of(call), Cause::kExit).worst_ns, 80);
  EXPECT_EQ(of(causes_of(call), Cause::kUnattributed).worst_ns, 50);
}

TEST(Outliers, TheTableHasALineForEachFigureThatCountsThem) {
  Figure figure = from_values("lc3/instr_latency/orc", "ns/instr", {1, 2, 3});
  EXPECT_EQ(outlier_table({figure}), "");
  Causes causes{};
  causes[static_cast<std::size_t>(Cause::kStolen)] = {.count = 7, .worst_ns = 4000};
  add_counters(causes, figure);
  EXPECT_EQ(figure.counters.at("outliers"), 7);
  EXPECT_EQ(figure.counters.at("stolen"), 7);
  EXPECT_EQ(figure.counters.at("stolen_worst_ns"), 4000);
  EXPECT_EQ(figure.counters.at("exit"), 0);
  const std::string table = outlier_table({figure, from_values("other", "ns", {1})});
  EXPECT_THAT(table, HasSubstr("lc3/instr_latency/orc"));
  EXPECT_THAT(table, HasSubstr("7, 4 µs"));
  EXPECT_EQ(std::ranges::count(table, '\n'), 2);
}

TEST(Starts, ALineOfFourNumbersAndNothingElse) {
  const StartSample sample{.first_ns = 12, .reached_ns = 345, .peak = 6.7e9, .disk_hits = 2};
  const auto back = parse_start(to_line(sample));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->first_ns, 12U);
  EXPECT_EQ(back->reached_ns, 345U);
  EXPECT_EQ(back->peak, 6.7e9);
  EXPECT_EQ(back->disk_hits, 2U);
  for (const char* wrong : {"", "\n", "1 2 3\n", "1 2 x 4\n", "-1 2 3 4\n", "99999999999999999999999 1 1 1"}) {
    EXPECT_FALSE(parse_start(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace warmfork::bench
