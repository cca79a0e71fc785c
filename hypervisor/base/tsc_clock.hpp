// Time by the time stamp counter: about 10 ns to read, no system call. Calibrated once against CLOCK_MONOTONIC.
// Assumes an invariant TSC (Intel SDM vol. 3, "Invariant TSC"; AMD APM vol. 2, "TSC Invariant"), as Linux KVM hosts
// have.
#pragma once

#include <x86intrin.h>

#include <cstdint>
#include <span>

namespace warmfork {

/// Ticks now. Not ordered against surrounding loads.
[[nodiscard]] inline std::uint64_t tsc_now() { return __rdtsc(); }

/// Ticks now, after all earlier instructions have executed (RDTSCP waits for them): the end of a measured interval.
[[nodiscard]] inline std::uint64_t tsc_now_ordered() {
  unsigned int aux;
  return __rdtscp(&aux);
}

/// Nanoseconds per tick. Calibrated on first use, which waits until the process is 10 ms old (or for 10 ms, if it is
/// older than a second); thread-safe.
[[nodiscard]] double tsc_ns_per_tick();

[[nodiscard]] inline double tsc_to_ns(std::uint64_t ticks) { return static_cast<double>(ticks) * tsc_ns_per_tick(); }
/// Saturates far beyond any uptime.
[[nodiscard]] inline std::uint64_t ns_to_tsc(double ns) {
  constexpr double kMost = 9e18;
  const double ticks = ns / tsc_ns_per_tick();
  return ticks < kMost ? static_cast<std::uint64_t>(ticks) : static_cast<std::uint64_t>(kMost);
}

/// By how many ticks the counter advances when it advances, not always a whole number: 1 on most processors. On some
/// the counter is that of a slower clock, multiplied (100 MHz is usual: steps of 10 ns), and so is every difference of
/// two readings. Found on first use, in less than a millisecond; thread-safe.
[[nodiscard]] double tsc_step_ticks();

/// The same of any counter, from consecutive readings at varying distances: the longest step of which nearly all
/// distances are multiples (to within the rounding of both readings). 1 if there is none of 5 or more, or if the
/// readings do not tell.
[[nodiscard]] double step_of(std::span<const std::uint64_t> readings);

}  // namespace warmfork
