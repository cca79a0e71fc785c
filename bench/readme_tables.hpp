// Tables of a Markdown file that are filled from a result file, and the check that they still are.
//
//   <!-- bench-table: LABEL = FIGURE; LABEL = FIGURE; … -->
//       a row for each figure: p50, its interval, p99 (of times; a rate's p99 is its best repetition), the ratio to the
//       floor
//   <!-- bench-matrix: HEAD = ROW, ROW, …; COLUMN = FIGURE WITH {}; …; LABEL = geometric mean of ROW, ROW, … -->
//       p50 by row and column: the row's name stands for {} in the column's figure. Without the word after its number's
//       unit, where a unit is a rate ("3.51 G")
//
// up to the next line `<!-- bench-table end -->`. FIGURE is a full name (full_name()).
//
// Threads: any; no state.
#pragma once

#include "base/result.hpp"
#include "bench/result_file.hpp"

#include <string>

namespace warmfork::bench {

/// Errors (kInput): no such table, one without an end, an entry that is none, a figure that the result lacks (all of
/// them are named).
[[nodiscard]] Result<std::string> fill_readme(const std::string& text, const ResultFile& result);

/// Are the tables of `text` still those fill_readme() would make of `result`: the same lines, columns and labels,
/// whatever the numbers? Errors (kInput): as fill_readme(), and the first line that is not (with what it should be
/// like).
[[nodiscard]] Status check_readme(const std::string& text, const ResultFile& result);

}  // namespace warmfork::bench
