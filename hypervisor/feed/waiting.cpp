#include "feed/waiting.hpp"

namespace warmfork::feed {

double Waiting::lateness(double fraction) const {
  const double budget = (1 - fraction) * static_cast<double>(ticks_);
  double low = kShortestStall, high = static_cast<double>(stalls_.max());
  if (stalls_.count() == 0 || stalls_.sum_beyond(low) <= budget) return 0;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (stalls_.sum_beyond(middle) > budget ? low : high) = middle;
  }
  return high;
}

}  // namespace warmfork::feed
