// What a study's messages amount to: statistics of each phase, how they compare, and what bounds the transport.
//
// Threads: any.
#pragma once

#include "ivshmem/host/study.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::ivshmem {

inline constexpr double kMega = 1 << 20;

/// The messages of one part and mode, and of one frame or all; they live as long as `result`.
[[nodiscard]] std::vector<const Row*> rows_of(const StudyResult& result, Part part, Mode mode,
                                              std::optional<std::size_t> frame = {});

/// Of a list of values: percentiles by nearest rank, the sample's standard deviation. All 0 without values.
struct Statistics {
  std::size_t count = 0;
  double min = 0, max = 0, mean = 0, stddev = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0;
};
[[nodiscard]] Statistics statistics_of(std::vector<double> values);

/// The parts of a message's way.
enum class Phase : std::uint8_t { kHostWrite, kHot, kCold, kCopy, kVerify, kRoundTrip, kNotification, kTotal };
inline constexpr Phase kPhases[] = {Phase::kHostWrite, Phase::kHot,       Phase::kCold,         Phase::kCopy,
                                    Phase::kVerify,    Phase::kRoundTrip, Phase::kNotification, Phase::kTotal};
[[nodiscard]] std::string_view name_of(Phase phase);  // "host write", "pure read, hot", …
[[nodiscard]] std::string_view key_of(Phase phase);   // "host_write_ns", …
[[nodiscard]] double value_of(const Row& row, Phase phase);

/// Successful rows of one part, mode and frame; all statistics in ns.
[[nodiscard]] Statistics phase_statistics(const StudyResult& result, Part part, Mode mode, std::size_t frame,
                                          Phase phase);

/// How a guest compares with the threads: in each round the ratio of the medians, of these the median, so that what
/// changes slowly on the machine changes both. Empty: no round has both.
[[nodiscard]] std::optional<double> ratio_to_threads(const StudyResult& result, Part part, Mode mode, std::size_t frame,
                                                     Phase phase);

/// What takes the most of a frame's way through the memory in this mode, by the medians of the latency part: one
/// sentence with its figures. The verification is left out, being no part of a transport. Empty without rows.
[[nodiscard]] std::string bottleneck(const StudyResult& result, const StudyOptions& options, Mode mode);

}  // namespace warmfork::ivshmem
