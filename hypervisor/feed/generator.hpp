// Feeds that no exchange has sent: frames with a chosen spacing and content, the same for the same options (and the
// same C library, which has the logarithm).
//
// Threads: none of its own; any.
#pragma once

#include "feed/itch.hpp"
#include "feed/tape.hpp"

#include <cstdint>

namespace warmfork::feed {

enum class Pattern : std::uint8_t {
  kConstant,  // evenly
  kPoisson,   // independent of each other: exponential distances, as orders of many traders come
  kBurst,     // several at 10 Gbps without a pause, then silence; the same rate in the mean
};

enum class Content : std::uint8_t {
  kRaw,   // UDP with a number (8 bytes) and random bytes
  kItch,  // MoldUDP64 with ITCH 5.0 messages of a book that is kept
};

struct GeneratorOptions {
  std::uint64_t packets = 100'000;  // sent, those lost included; heartbeats and the end of the session are added
  std::uint64_t rate = 1'000'000;   // packets a second, in the mean
  Pattern pattern = Pattern::kConstant;
  std::uint32_t burst = 16;  // packets of a burst
  Content content = Content::kItch;
  std::uint32_t frame_bytes = 64;  // of raw frames, with the check sequence, which captures do not have: 64 to 9,018
  std::uint32_t messages = 1;      // in a packet, 1 to 31
  std::uint16_t symbols = 8;       // 1 to 1,000
  std::uint64_t seed = 1;
  std::uint64_t gap_every = 0;        // every so many packets one is lost; 0: none
  std::uint64_t heartbeat_every = 0;  // after every so many packets a heartbeat; 0: none
};

/// Makes a feed. With ITCH content the first packet opens the day (system events O, S, Q), the last closes it (M, E,
/// C), and after it the session ends. Orders are only executed, cancelled, deleted and replaced while they live and
/// with shares they still have; bids stay below asks. Errors: kUsage, an option out of its range (names it, value and
/// limits); kLimit, more than `memory_bytes`; kHost.
[[nodiscard]] Result<Tape> generate_feed(const GeneratorOptions& options, std::size_t memory_bytes);

/// Nanoseconds after midnight at which generated days begin: 9:30.
inline constexpr std::uint64_t kDayBeginsNs = std::uint64_t{34'200} * 1'000'000'000;

}  // namespace warmfork::feed
