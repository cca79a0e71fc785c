#include "base/tsc_clock.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <set>
#include <vector>

namespace warmfork {
namespace {

std::int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct Sample {
  std::int64_t ns;
  std::uint64_t ticks;
};

// The pair whose two TSC reads lie closest together is the least disturbed one.
Sample sample() {
  Sample best{};
  std::uint64_t best_gap = ~std::uint64_t{0};
  for (int i = 0; i < 16; ++i) {
    const std::uint64_t before = tsc_now_ordered();
    const std::int64_t ns = monotonic_ns();
    const std::uint64_t after = tsc_now_ordered();
    if (after - before < best_gap) {
      best_gap = after - before;
      best = {ns, before + (after - before) / 2};
    }
  }
  return best;
}

// When the process began. Who asks for the first time has usually done something else for as long as calibrating takes,
// and need not wait: the first call with a deadline would.
const Sample process_start = sample();

double calibrate() {
  constexpr std::int64_t kSpanNs = 10'000'000, kLongestNs = 1'000'000'000;
  // A clock that was asked before this file's statics were there, or long after: suspended machines stop one of both.
  const std::int64_t age = monotonic_ns() - process_start.ns;
  const Sample start = process_start.ticks != 0 && age < kLongestNs ? process_start : sample();
  while (monotonic_ns() - start.ns < kSpanNs) _mm_pause();
  const Sample end = sample();
  return static_cast<double>(end.ns - start.ns) / static_cast<double>(end.ticks - start.ticks);
}

double find_step() {
  // Distances of some ten to a thousand ticks. Of a counter that advances by single ticks they take any value.
  constexpr std::size_t kReadings = 2000, kWaits = 61, kLoops = 8;
  std::vector<std::uint64_t> readings(kReadings);
  for (std::size_t i = 0; i < kReadings; ++i) {
    readings[i] = tsc_now_ordered();
    // SAFETY: no instruction; the loop is not to be optimised away.
    for (std::size_t wait = i % kWaits * kLoops; wait > 0; --wait) asm volatile("" : "+r"(wait));
  }
  return step_of(readings);
}

}  // namespace

double step_of(std::span<const std::uint64_t> readings) {
  // More than so many times the shortest distance: an interruption, or too far to tell one step from another by.
  constexpr std::uint64_t kFar = 32;
  std::map<std::uint64_t, std::size_t> distances;
  for (std::size_t i = 1; i < readings.size(); ++i) {
    if (readings[i] > readings[i - 1]) ++distances[readings[i] - readings[i - 1]];
  }
  if (distances.empty()) return 1;
  const std::uint64_t shortest = distances.begin()->first;
  distances.erase(distances.upper_bound(kFar * shortest), distances.end());
  std::size_t all = 0;
  for (const auto& [distance, count] : distances) all += count;
  // Readings are whole numbers: a distance of two is off its multiple by less than one tick, and by what the step that
  // is tried is off, half of kResolution in each of at most kFar steps.
  constexpr double kResolution = 1.0 / 64, kOff = 1 + kFar * kResolution / 2;
  constexpr double kLeastStep = 5;  // below, chance is enough for most
  constexpr std::size_t kLeastMultiples = 4;
  double longest = 0, step = 0;  // those that will do follow each other
  for (double tried = static_cast<double>(shortest) + 1; tried >= kLeastStep; tried -= kResolution) {
    std::size_t misses = 0;
    std::set<double> multiples;
    for (const auto& [distance, count] : distances) {
      const double steps = std::round(static_cast<double>(distance) / tried);
      multiples.insert(steps);
      if (std::abs(static_cast<double>(distance) - steps * tried) <= kOff) continue;
      if ((misses += count) * 100 > all) break;
    }
    const bool fits = misses * 100 <= all && multiples.size() >= kLeastMultiples;
    if (!fits && longest != 0) break;
    if (!fits) continue;
    if (longest == 0) longest = tried;
    step = tried;
  }
  return longest == 0 ? 1 : (longest + step) / 2;
}

double tsc_step_ticks() {
  static const double step = find_step();
  return step;
}

double tsc_ns_per_tick() {
  static const double ns_per_tick = calibrate();
  return ns_per_tick;
}

}  // namespace warmfork
