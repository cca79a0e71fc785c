// How figures are written down, and read back from a file that anyone may have written. The JSON names are stable: a
// renamed one is a breaking change for everything that reads result files.
#pragma once

#include "base/result.hpp"
#include "bench/context.hpp"
#include "bench/figure.hpp"

#include <string>
#include <vector>

namespace warmfork::bench {

/// Of a run, and of a figure in a result file: a comparison takes the square of them in time and memory.
inline constexpr unsigned kMostRounds = 1000;

/// The result file (one JSON object).
[[nodiscard]] std::string to_json(const Context& context, const std::vector<Figure>& figures);

/// A result file, read back. Every number in it is finite; strings are as they are in the file.
struct ResultFile {
  Context context;
  std::vector<Figure> figures;
};
/// `source` is named in errors (kInput): not JSON, not of this form, a value out of range.
[[nodiscard]] Result<ResultFile> parse_result(const std::string& text, const std::string& source);
/// The same of a file of at most 64 MiB.
[[nodiscard]] Result<ResultFile> read_result(const std::string& path);

}  // namespace warmfork::bench
