// Hands the packets of a tape to a sink, each when its schedule says, and measures how late it was.
//
// Lateness counts from the scheduled time to the moment the sink has the packet, never from when the packet before it
// was sent: time that is lost shows in every packet that it delays ("coordinated omission" would hide all but one). A
// replay that is behind hands over one packet after the other until it has caught up, several at a time if the sink can
// do that; it leaves none out.
//
// The loop allocates, locks, calls and logs nothing but the sink's publish().
#pragma once

#include "base/histogram.hpp"
#include "base/tsc_clock.hpp"
#include "feed/schedule.hpp"
#include "feed/tape.hpp"
#include "feed/waiting.hpp"
#include "metrics/metrics.hpp"

#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

namespace warmfork::feed {

/// Where packets go: a ring that readers follow, as a network card's. publish() takes a copy, never waits for a reader
/// and never fails; readers that are too slow lose packets, and the sink knows how many. `timestamp` is when the packet
/// was due, in ticks (unpaced: now), for readers that measure as well. An empty payload (a frame in which a decoder
/// found nothing) may be left out by sinks that number records. A sink with an idle() is asked to do a little of its
/// other work while the replay waits for the next packet's time; what that takes is the packet's lateness.
template <class Sink>
concept FeedSink = requires(Sink& sink, std::span<const std::byte> payload, std::uint64_t timestamp) {
  { sink.publish(payload, timestamp) } noexcept -> std::same_as<void>;
};

/// One that shows several packets for the price of one: put() may leave a packet unseen until flush(). A ring whose
/// readers all look at one cache line costs its writer that line for each flush, and some 100 ns with it: packets that
/// are due already would only be later if each had its own.
template <class Sink>
concept BatchSink =
    FeedSink<Sink> && requires(Sink& sink, std::span<const std::byte> payload, std::uint64_t timestamp) {
      { sink.put(payload, timestamp) } noexcept -> std::same_as<void>;
      { sink.flush() } noexcept -> std::same_as<void>;
    };

/// Ticks that never go back, of the frequency that the schedule was made for.
template <class Clock>
concept TickClock = requires(Clock& clock) {
  { clock.now() } -> std::same_as<std::uint64_t>;
};

struct TscTicks {
  [[nodiscard]] static std::uint64_t now() { return tsc_now(); }
};

struct ReplayLimits {
  std::uint64_t loops = 1;                                          // of the tape; at least 1
  std::uint64_t ticks = std::numeric_limits<std::uint64_t>::max();  // packets due later are not sent
  std::uint64_t max_late = std::numeric_limits<std::uint64_t>::max();
};

/// What other threads may see and do while a replay runs. The replay writes one, others write the other: each on a
/// cache line of its own.
struct ReplayControl {
  alignas(64) std::atomic<bool> stop{false};
  alignas(64) std::atomic<std::uint64_t> published{0};
  std::atomic<std::uint64_t> bytes{0};  // of their payloads
};

struct ReplayCounters {
  std::uint64_t packets = 0;
  std::uint64_t begin = 0, end = 0;  // ticks; end: the sink had the last packet
  std::uint64_t late = 0;            // packets by more than max_late
  bool interrupted = false;          // by ReplayControl::stop
  Histogram lateness;                // ticks, of all packets; nothing if unpaced
  Waiting waiting;                   // for packets' times
};

/// Where the lateness of packets goes, if anybody wants metrics.
[[nodiscard]] const metrics::Histogram& lateness_metric();

/// Replays a tape that is not empty, into counters that are new (so that making them is no part of the replay).
/// Threads: the caller's, for the whole time; `control` may be used by others.
template <FeedSink Sink, TickClock Clock>
void replay(const Tape& tape, const Schedule& schedule, Sink& sink, Clock& clock, const ReplayLimits& limits,
            ReplayControl& control, ReplayCounters& counters) {
  const std::span<const std::uint64_t> due = schedule.due();
  const metrics::Histogram lateness_of_all = lateness_metric();
  // Beyond this a processor may rest between two looks at the clock; below, PAUSE would itself make packets late.
  constexpr std::uint64_t kRest = 2'000;
  // Packets that wait for each other at most, and the bytes of all but the last of them: a few hundred nanoseconds.
  constexpr std::size_t kMostUnseen = BatchSink<Sink> ? 64 : 1, kMostUnseenBytes = 4'096;
  std::array<std::uint64_t, kMostUnseen> unseen;  // when they were due, and then how late they are
  std::size_t count = 0;
  std::uint64_t bytes = 0, shown_bytes = 0;
  std::uint64_t now = clock.now();
  counters.begin = now;
  std::uint64_t base = now;
  const std::uint64_t last =
      limits.ticks < std::numeric_limits<std::uint64_t>::max() - now ? now + limits.ticks : ~std::uint64_t{0};
  const auto show = [&] {
    if (count == 0) return;
    if constexpr (BatchSink<Sink>) sink.flush();
    now = clock.now();
    if (schedule.paced()) {
      std::uint64_t late = 0;
      for (std::size_t i = 0; i < count; ++i) {
        unseen[i] = now - unseen[i];
        late += unseen[i] > limits.max_late ? 1 : 0;
      }
      const std::span lateness(unseen.data(), count);
      counters.lateness.record_each(lateness);
      counters.late += late;
      if (metrics::on()) {
        for (const std::uint64_t ticks : lateness) lateness_of_all.record_ticks(ticks);
      }
    }
    counters.packets += count;
    count = 0;
    shown_bytes = bytes;
    control.published.store(counters.packets, std::memory_order_relaxed);
    control.bytes.store(bytes, std::memory_order_relaxed);
  };
  bool more = true;
  for (std::uint64_t loop = 0; more && loop < limits.loops; ++loop) {
    std::size_t i = 0;
    for (const Packet& packet : tape) {
      if (count == kMostUnseen || bytes - shown_bytes >= kMostUnseenBytes) show();
      const std::uint64_t when = schedule.paced() ? base + due[i++] : now;
      // If this one was due when the clock was last looked at, those before it may wait for it.
      if (now < when || when >= last) show();
      if (when >= last) {
        more = false;
        break;
      }
      while (now < when && !control.stop.load(std::memory_order_relaxed)) {
        if constexpr (requires { sink.idle(); }) {
          sink.idle();
        } else if (when - now > kRest) {
          _mm_pause();
        }
        const std::uint64_t before = std::exchange(now, clock.now());
        counters.waiting.record(now - before);
      }
      if (control.stop.load(std::memory_order_relaxed)) {
        counters.interrupted = true;
        more = false;
        break;
      }
      if constexpr (BatchSink<Sink>) {
        sink.put(packet.payload(), when);
      } else {
        sink.publish(packet.payload(), when);
      }
      unseen[count++] = when;
      bytes += packet.bytes;
    }
    base += schedule.period();
  }
  show();
  counters.end = now;
}

/// The sums over the first `packets` packets of a tape that is repeated. 0 for an empty one.
[[nodiscard]] TapeTotals totals_of(const Tape& tape, std::uint64_t packets);

}  // namespace warmfork::feed
