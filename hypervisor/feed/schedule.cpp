#include "feed/schedule.hpp"

#include <cmath>

namespace warmfork::feed {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kMostTicks = std::uint64_t{1} << 62;

// value · numerator / denominator, rounded down; kMostTicks and more come out as kMostTicks.
std::uint64_t scale(std::uint64_t value, std::uint64_t numerator, std::uint64_t denominator) {
  const Wide scaled = Wide{value} * numerator / denominator;
  return scaled < kMostTicks ? static_cast<std::uint64_t>(scaled) : kMostTicks;
}

std::uint64_t at_speed(std::uint64_t ns, double speed, std::uint64_t ticks_per_second) {
  // A long double has 64 bits of mantissa: exact to the tick.
  const long double ticks = static_cast<long double>(ns) * static_cast<long double>(ticks_per_second) /
                            (1e9L * static_cast<long double>(speed));
  return ticks < static_cast<long double>(kMostTicks) ? static_cast<std::uint64_t>(ticks) : kMostTicks;
}

std::string rate_text(std::uint64_t rate) {
  if (rate % 1'000'000'000 == 0) return fmt::format("{} G", rate / 1'000'000'000);
  if (rate % 1'000'000 == 0) return fmt::format("{} M", rate / 1'000'000);
  if (rate % 1'000 == 0) return fmt::format("{} k", rate / 1'000);
  return fmt::format("{} ", rate);
}

}  // namespace

std::string Pace::to_text() const {
  switch (kind) {
    case Kind::kCaptured: return speed == 1 ? "as captured" : fmt::format("{} times as fast as captured", speed);
    case Kind::kBits: return fmt::format("{}bps on the wire", rate_text(per_second));
    case Kind::kPackets: return fmt::format("{} packets/s", per_second);
    case Kind::kUnpaced: return "as fast as possible";
  }
  return "";
}

Result<Schedule> Schedule::make(const Tape& tape, const Pace& pace, std::uint64_t ticks_per_second) {
  Schedule schedule;
  if (pace.kind == Pace::Kind::kUnpaced || tape.empty()) return schedule;
  const bool captured = pace.kind == Pace::Kind::kCaptured;
  if (captured && !(pace.speed > 0 && std::isfinite(pace.speed))) {
    return fail(ErrorKind::kUsage, "a speed of {}; more than 0 is needed", pace.speed);
  }
  if (!captured && pace.per_second == 0) return fail(ErrorKind::kUsage, "a rate of 0; at least 1 is needed");
  schedule.paced_ = true;
  schedule.due_.reserve(tape.totals().packets);
  // Every time is made from a sum that is exact, so nothing adds up.
  std::uint64_t bits = 0;
  std::uint64_t packets = 0;
  for (const Packet& packet : tape) {
    switch (pace.kind) {
      case Pace::Kind::kCaptured:
        schedule.due_.push_back(at_speed(packet.time_ns, pace.speed, ticks_per_second));
        break;
      case Pace::Kind::kBits: schedule.due_.push_back(scale(bits, ticks_per_second, pace.per_second)); break;
      default: schedule.due_.push_back(scale(packets, ticks_per_second, pace.per_second)); break;
    }
    bits += wire_bits(packet.wire_bytes);
    ++packets;
  }
  switch (pace.kind) {
    case Pace::Kind::kCaptured: {
      const std::uint64_t gap = packets > 1 ? tape.duration_ns() / (packets - 1) : 0;
      schedule.period_ = at_speed(tape.duration_ns() + gap, pace.speed, ticks_per_second);
      break;
    }
    case Pace::Kind::kBits: schedule.period_ = scale(bits, ticks_per_second, pace.per_second); break;
    default: schedule.period_ = scale(packets, ticks_per_second, pace.per_second); break;
  }
  if (schedule.period_ >= kMostTicks) {
    return fail(ErrorKind::kUsage, "at this pace ({}) the last packet leaves after more than {} s", pace.to_text(),
                kMostTicks / std::max<std::uint64_t>(ticks_per_second, 1));
  }
  return schedule;
}

}  // namespace warmfork::feed
