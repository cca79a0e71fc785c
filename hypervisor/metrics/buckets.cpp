#include "metrics/buckets.hpp"

#include <cmath>

namespace warmfork::metrics {

double upper_seconds(std::size_t bucket) {
  // Borders that are powers of two are exact, whatever the C library makes of others.
  const int index = native_index(bucket);
  constexpr int kPer = static_cast<int>(kPerOctave);
  if (index % kPer == 0) return std::ldexp(1.0, index / kPer);
  return std::exp2(static_cast<double>(index) / kPer);
}

}  // namespace warmfork::metrics
