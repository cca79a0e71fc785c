// Result files of benchmarks, as --baseline, --compare-builds and --readme-tables read them: what is accepted is
// written as it was read, and all that is made of it is well formed; what is not accepted is named in one line. Behind
// the first NUL: a Markdown file whose tables are filled from it.
#include "bench/figure_text.hpp"
#include "bench/readme_tables.hpp"
#include "bench/report.hpp"
#include "bench/result_file.hpp"
#include "bench/rounds.hpp"
#include "bench/verdict.hpp"
#include "require.hpp"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <ranges>
#include <string>
#include <string_view>

using namespace warmfork::bench;

namespace {

// What a terminal would obey. `allowed`: of the form itself.
bool is_plain(std::string_view text, std::string_view allowed) {
  return std::ranges::all_of(text, [&](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte >= 0x20 && byte != 0x7f) || allowed.find(c) != std::string_view::npos;
  });
}

void check_error(const std::string& message) { WARMFORK_REQUIRE(is_plain(message, "") && message.size() < 1000); }

void check_comparison(const ResultFile& before, const ResultFile& after, bool paired) {
  const Comparison comparison = compare_runs(before, after, paired, {});
  (void)precise(comparison, {});
  WARMFORK_REQUIRE(is_plain(to_table(comparison, {}), "\n"));
  WARMFORK_REQUIRE(is_plain(to_markdown(after, &comparison), "\n"));
  WARMFORK_REQUIRE(nlohmann::json::accept(to_json(comparison)));
}

void check_reports(const ResultFile& result) {
  const std::string csv = to_csv(result);
  WARMFORK_REQUIRE(is_plain(csv, "\r\n"));
  WARMFORK_REQUIRE(std::ranges::count(csv, '\n') == static_cast<std::ptrdiff_t>(result.figures.size()) + 1);
  WARMFORK_REQUIRE(nlohmann::json::accept(to_google_benchmark(result)));
  (void)to_table(result.figures);
  RoundSet rounds;
  for (int i = 0; i < 2; ++i) rounds.add(result.figures);
  (void)rounds.merged();
}

// Tables of figures whose names can be written in one can be filled, and again without a change.
void check_own_tables(const ResultFile& result) {
  std::string text = "before\n<!-- bench-table: ";
  for (const Figure& figure : result.figures) {
    const std::string name = full_name(figure);
    const bool fits = !name.empty() && name.front() != ' ' && name.back() != ' ' && is_plain(name, "") &&
                      name.find_first_of("=;|<>") == std::string::npos;
    if (fits) text += "a row = " + name + "; ";
  }
  text += " -->\n<!-- bench-table end -->\nbehind\n";
  const auto filled = fill_readme(text, result);
  WARMFORK_REQUIRE(filled);
  WARMFORK_REQUIRE(is_plain(*filled, "\n"));
  WARMFORK_REQUIRE(filled->ends_with("<!-- bench-table end -->\nbehind\n"));
  const auto again = fill_readme(*filled, result);
  WARMFORK_REQUIRE(again && *again == *filled);
  WARMFORK_REQUIRE(check_readme(*filled, result));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // SAFETY: bytes viewed as characters.
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  const auto result = parse_result(std::string(input.substr(0, end)), "r.json");
  if (!result) {
    WARMFORK_REQUIRE(result.error().message.starts_with("r.json"));
    check_error(result.error().message);
    return 0;
  }
  const std::string written = to_json(result->context, result->figures);
  const auto read = parse_result(written, "r.json");
  WARMFORK_REQUIRE(read);
  WARMFORK_REQUIRE(to_json(read->context, read->figures) == written);
  WARMFORK_REQUIRE(foreign(result->context, read->context).empty());

  ResultFile other = *result;  // slower, and the rounds in another order: any ratios
  for (Figure& figure : other.figures) {
    for (auto& [quantile, rounds] : figure.rounds) {
      WARMFORK_REQUIRE(rounds.size() <= kMostRounds);
      std::ranges::reverse(rounds);
      for (double& value : rounds) value *= value < 1e300 ? 1.5 : 1;
    }
  }
  check_comparison(*result, other, /*paired=*/true);
  check_comparison(other, *result, /*paired=*/false);
  check_reports(*result);
  check_own_tables(*result);
  if (end == input.size()) return 0;
  const std::string text(input.substr(end + 1));
  if (const auto filled = fill_readme(text, *result); filled) (void)check_readme(*filled, *result);
  if (const auto same = check_readme(text, *result); !same) {
    WARMFORK_REQUIRE(is_plain(same.error().message, ""));
  }
  return 0;
}
