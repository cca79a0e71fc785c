// A study as CSV (tables.cpp), text and JSON (report.cpp), and as a directory of files with plots (files.cpp).
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "ivshmem/host/statistics.hpp"
#include "ivshmem/host/study.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace warmfork::ivshmem {

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
