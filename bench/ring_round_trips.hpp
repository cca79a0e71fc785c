// How long a message takes to the other CPU and back, over a ring each way.
#pragma once

#include "base/histogram.hpp"
#include "base/result.hpp"
#include "bench/suites.hpp"

#include <cstdint>
#include <vector>

namespace warmfork::bench {

/// ring/rtt/…: between threads and guests, beside a cache line that goes there and back.
[[nodiscard]] Status measure_ring_round_trips(const SuiteOptions& options, std::vector<Figure>& out);

/// Between two threads of one process that trust each other: a message of 8 bytes to a thread on `other_cpu`, which
/// must not be the caller's, and back: `round_trips` times.
[[nodiscard]] Status host_thread_round_trips(int other_cpu, std::uint64_t round_trips, Histogram& ticks);

}  // namespace warmfork::bench
