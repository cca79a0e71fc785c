// Where a result goes: to standard output, into reports, into the README's tables.
//
// Threads: the verb's.
#pragma once

#include "bench/baseline.hpp"
#include "bench/report.hpp"
#include "bench/verdict.hpp"
#include "bench_options.hpp"

namespace warmfork::cli {

/// The tables, to standard output.
void print_result(const BenchOptions& options, const bench::ResultFile& result);

/// Says before minutes are spent measuring what cannot be written after them.
[[nodiscard]] Status check_report_files(const BenchOptions& options);

/// Writes what was asked for, as much of it as can be: a report that fails is no reason to lose the others. The first
/// error; others are reported. `comparison` and `baselines` (for the history) may be null.
[[nodiscard]] Status write_reports(const BenchOptions& options, const bench::ResultFile& result,
                                   const bench::Comparison* comparison, const bench::Baselines* baselines);

/// The tables of the README: filled from a result file, or compared with what it gives. Returns the exit code.
[[nodiscard]] int fill_tables(const BenchOptions& options);

}  // namespace warmfork::cli
