#include "base/tsc_clock.hpp"

#include <ctime>

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

}  // namespace

double tsc_ns_per_tick() {
  static const double ns_per_tick = calibrate();
  return ns_per_tick;
}

}  // namespace warmfork
