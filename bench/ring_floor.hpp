// What a ring costs between two threads of one process that trust each other.
#pragma once

#include "base/histogram.hpp"
#include "base/result.hpp"

#include <cstdint>

namespace warmfork::bench {

/// A message of 8 bytes to a thread on `other_cpu`, which must not be the caller's, and back: `round_trips` times.
[[nodiscard]] Status host_thread_round_trips(int other_cpu, std::uint64_t round_trips, Histogram& ticks);

}  // namespace warmfork::bench
