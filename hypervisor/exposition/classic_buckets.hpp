// A histogram's classic buckets, for every format that has them.
#pragma once

#include "metrics/metrics.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace warmfork::exposition {

/// Calls `put(border in seconds, durations up to it)` for each, ascending; the last border is infinity.
template <class Put>
void for_each_classic(const metrics::HistogramValue& histogram, Put&& put) {
  std::uint64_t below = 0;
  std::size_t next = 0;
  for (std::size_t i = 0; i < metrics::kClassicBuckets; ++i) {
    const std::size_t end = metrics::classic_end(i);
    for (; next < histogram.buckets.size() && histogram.buckets[next].first <= end; ++next) {
      below += histogram.buckets[next].second;
    }
    put(metrics::upper_seconds(end), below);
  }
  put(HUGE_VAL, histogram.count);
}

}  // namespace warmfork::exposition
