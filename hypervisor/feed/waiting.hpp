// What a thread sees of the machine while it only waits: it looks at the clock and does nothing else, so when two looks
// are far apart, its processor did something else. Packets due in such a stall are late whatever sends them: this is
// the floor of every lateness (and what jHiccup measures of an idle thread).
//
// Threads: one writer; reading needs the writer to have stopped.
#pragma once

#include "base/histogram.hpp"

#include <cstdint>

namespace warmfork::feed {

class Waiting {
 public:
  /// Two looks at the clock that are further apart are a stall: some 800 ns, which is many looks, and no interrupt.
  static constexpr std::uint64_t kShortestStall = 2'000;  // ticks

  /// From one look at the clock to the next.
  void record(std::uint64_t ticks) {
    ticks_ += ticks;
    if (ticks > kShortestStall) [[unlikely]]
      stalls_.record(ticks);
  }

  /// All that was waited, stalls included.
  [[nodiscard]] std::uint64_t ticks() const { return ticks_; }
  [[nodiscard]] const Histogram& stalls() const { return stalls_; }
  /// By how much no more than 1 - `fraction` of all packets would be late if they were due at any moment of the waiting
  /// and sending them took no time. A packet is late by more than x if it is due before the last x of a stall: this
  /// solves  sum of max(0, stall - x) = (1 - fraction) * ticks. 0: by less than kShortestStall, which is not known.
  [[nodiscard]] double lateness(double fraction) const;

 private:
  std::uint64_t ticks_ = 0;
  Histogram stalls_;
};

}  // namespace warmfork::feed
