// When each packet of a tape has to leave: made ahead, in ticks of a clock, from the start of the replay. Nothing in it
// depends on when packets do leave, so a late one does not move those behind it.
//
// Threads: a Schedule is constant.
#pragma once

#include "base/result.hpp"
#include "feed/tape.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace warmfork::feed {

struct Pace {
  enum class Kind : std::uint8_t {
    kCaptured,  // as the packets' times say, `speed` times as fast
    kBits,      // `per_second` bits on the wire (wire_bits()), without a pause: 10'000'000'000 is a full 10 Gbps line
    kPackets,   // `per_second` packets, evenly
    kUnpaced,   // as fast as possible; nothing is late
  };
  Kind kind = Kind::kCaptured;
  double speed = 1;
  std::uint64_t per_second = 0;

  /// "as captured", "10 Gbps on the wire", …
  [[nodiscard]] std::string to_text() const;
};

class Schedule {
 public:
  /// Errors (kUsage): a speed or rate that is not positive or makes ticks go beyond 2^62.
  [[nodiscard]] static Result<Schedule> make(const Tape& tape, const Pace& pace, std::uint64_t ticks_per_second);

  [[nodiscard]] bool paced() const { return paced_; }
  /// Ticks from the start, by packet, each at least the one before; nothing if unpaced.
  [[nodiscard]] std::span<const std::uint64_t> due() const { return due_; }
  /// Ticks from the start of the tape to its next start: for rates, when the packet after the last would leave; for
  /// times as captured, the mean distance of packets after the last. 0 if unpaced, or if all packets have one time.
  [[nodiscard]] std::uint64_t period() const { return period_; }

 private:
  std::vector<std::uint64_t> due_;
  std::uint64_t period_ = 0;
  bool paced_ = false;
};

}  // namespace warmfork::feed
