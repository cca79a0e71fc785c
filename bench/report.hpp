// A result file in forms for others: Markdown, CSV, HTML, Google Benchmark's JSON. All return whole documents; names
// and labels in them are escaped for the form, whatever they are.
//
// Threads: any; no state. HTML starts gnuplot.
#pragma once

#include "base/result.hpp"
#include "bench/result_file.hpp"
#include "bench/verdict.hpp"

#include <string>
#include <utility>
#include <vector>

namespace warmfork::bench {

/// Context, a table of all figures with the interval of p50, and the verdicts if there is a comparison.
[[nodiscard]] std::string to_markdown(const ResultFile& result, const Comparison* comparison);

/// RFC 4180, a line per figure, the first with the names of the columns:
/// name,labels,unit,samples,mean,stddev,min,p50,p50_low,p50_high,p90,p99,p99_low,p99_high,p999,max,floor,
/// ratio_to_floor_p50,outliers_mild,outliers_severe,noisy,rounds. Numbers have all their digits; what is not known is
/// empty.
[[nodiscard]] std::string to_csv(const ResultFile& result);

/// The JSON that `compare.py benchmarks A B` of Google Benchmark reads: an "iteration" for each round (real_time: its
/// p50) and the aggregates mean, median and stddev. Rates have items_per_second, and the time of one item.
[[nodiscard]] std::string to_google_benchmark(const ResultFile& result);

/// One self-contained page, for light and dark: tables, and plots by gnuplot as embedded SVG: percentiles and
/// distributions, reset modes side by side, and how medians went over `history` (name and run, any order; `result`
/// comes last). Where gnuplot is missing the page says so. Errors (kHost): gnuplot fails.
[[nodiscard]] Result<std::string> to_html(const ResultFile& result, const Comparison* comparison,
                                          const std::vector<std::pair<std::string, ResultFile>>& history);

}  // namespace warmfork::bench
