#include "feed/replay.hpp"

namespace warmfork::feed {

namespace {
const metrics::Histogram lateness = metrics::histogram(metrics::Family::kFeedLateness);
}  // namespace

const metrics::Histogram& lateness_metric() { return lateness; }

TapeTotals totals_of(const Tape& tape, std::uint64_t packets) {
  if (tape.empty()) return {};
  const TapeTotals& all = tape.totals();
  const std::uint64_t loops = packets / all.packets;
  TapeTotals totals{all.packets * loops, all.frame_bytes * loops, all.payload_bytes * loops, all.wire_bits * loops};
  for (const Packet& packet : tape) {
    if (totals.packets == packets) break;
    totals.add(packet);
  }
  return totals;
}

}  // namespace warmfork::feed
