// What a study's messages amount to: statistics, what bounds the transport, and all of it as CSV, text, JSON and plots.
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "ivshmem/host/study.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::ivshmem {

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

/// How the medians of a guest compare with those of the threads on the same memory; empty: one of the two is missing.
[[nodiscard]] std::optional<double> ratio_to_threads(const StudyResult& result, Part part, Mode mode, std::size_t frame,
                                                     Phase phase);

/// What takes the most of a frame's way through the memory in this mode, by the medians of the latency part: one
/// sentence with its figures. The verification is left out, being no part of a transport. Empty without rows.
[[nodiscard]] std::string bottleneck(const StudyResult& result, const StudyOptions& options, Mode mode);

/// The four files' contents, of one mode. Counters that were not counted are empty.
[[nodiscard]] std::string latency_csv(const StudyResult& result, Mode mode);
[[nodiscard]] std::string latency_counters_csv(const StudyResult& result, const StudyOptions& options, Mode mode);
[[nodiscard]] std::string bandwidth_csv(const StudyResult& result, const StudyOptions& options, Mode mode);
[[nodiscard]] std::string bandwidth_counters_csv(const StudyResult& result, const StudyOptions& options, Mode mode);

[[nodiscard]] std::string to_text(const StudyResult& result, const StudyOptions& options);
/// One JSON object.
[[nodiscard]] std::string to_json(const StudyResult& result, const StudyOptions& options, int exit_code);

/// Makes the directory `path` if it is missing, to find out before a study whether it can be. Errors (kUsage).
[[nodiscard]] Status prepare_directory(const std::string& path);

/// Writes everything into the directory `path`, which is made if it is missing: the files of the first mode that is not
/// kThreads under their plain names, those of other modes as NAME.MODE.csv. If the study is not complete, the report
/// says so and there is a file INCOMPLETE with the reason; else one of an earlier run is removed. Each file appears
/// whole or not at all. Without `plots`, only text; a part without messages is not drawn. Returns what could not be
/// drawn and why, as sentences. Errors: kHost, kUsage (not a directory).
[[nodiscard]] Result<std::vector<std::string>> write_report(const StudyResult& result, const StudyOptions& options,
                                                            const std::string& path, bool plots = true);

}  // namespace warmfork::ivshmem
