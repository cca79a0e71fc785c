#include "bench/readme_tables.hpp"

#include "base/printable.hpp"
#include "bench/figure_text.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

namespace warmfork::bench {
namespace {

constexpr std::string_view kMark = "<!-- bench-";
constexpr std::string_view kTable = "table: ";
constexpr std::string_view kMatrix = "matrix: ";
constexpr std::string_view kMarkEnd = " -->\n";
constexpr std::string_view kEnd = "<!-- bench-table end -->";
constexpr std::string_view kMean = "geometric mean of ";
constexpr std::string_view kPlace = "{}";

std::string_view trimmed(std::string_view part) {
  while (!part.empty() && (part.front() == ' ' || part.front() == '\n')) part.remove_prefix(1);
  while (!part.empty() && (part.back() == ' ' || part.back() == '\n')) part.remove_suffix(1);
  return part;
}

// Of a file that anyone may have written: what would end the cell, the table or the line is a question mark.
std::string cell(const std::string& value) {
  std::string text = printable(value);
  for (char& c : text) {
    if (c == '|' || c == '<' || c == '>') c = '?';
  }
  return text;
}

std::vector<std::string> split(std::string_view list, char separator) {
  std::vector<std::string> parts;
  while (!trimmed(list).empty()) {
    const std::size_t end = std::min(list.find(separator), list.size());
    parts.emplace_back(trimmed(list.substr(0, end)));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return parts;
}

/// LABEL = VALUE.
using Entry = std::pair<std::string, std::string>;

class Filler {
 public:
  Filler(const ResultFile& result, int section) : result_(result), section_(section) {}

  [[nodiscard]] Result<std::string> table(std::string_view list) {
    WARMFORK_TRY_ASSIGN(const std::vector<Entry> entries, entries_of(list));
    std::string text = "| what | p50 | 95 % | p99 | of its floor (p50) |\n|---|---|---|---|---|\n";
    for (const auto& [label, name] : entries) {
      const Figure* const figure = find(name);
      if (figure == nullptr) continue;
      const auto interval = figure->intervals.find("p50");
      const auto shown = [figure](double value) { return cell(format_value(value, figure->unit)); };
      text += fmt::format("| {} | {} | {} | {} | {} |\n", label, shown(figure->p50),
                          interval == figure->intervals.end()
                              ? "too few samples"
                              : fmt::format("{} … {}", shown(interval->second.low), shown(interval->second.high)),
                          figure->unit == "ns" ? shown(figure->p99) : "",
                          figure->ratio_to_floor_p50 ? fmt::format("{:.3f}", *figure->ratio_to_floor_p50) : "");
    }
    return text;
  }

  [[nodiscard]] Result<std::string> matrix(std::string_view list) {
    WARMFORK_TRY_ASSIGN(std::vector<Entry> columns, entries_of(list));
    if (columns.size() < 2) return fail(ErrorKind::kInput, "table {}: rows and a column are needed", section_);
    const Entry rows = columns.front();
    columns.erase(columns.begin());
    std::optional<Entry> mean;
    if (columns.back().second.starts_with(kMean)) {
      mean = columns.back();
      mean->second.erase(0, kMean.size());
      columns.pop_back();
    }
    std::string head = fmt::format("| {} |", rows.first), rule = "|---|";
    for (const Entry& column : columns) {
      if (column.second.find(kPlace) == std::string::npos) {
        return fail(ErrorKind::kInput, "table {}: \"{}\" has no {} for the row", section_, printable(column.second),
                    kPlace);
      }
      head += fmt::format(" {} |", column.first);
      rule += "---|";
    }
    std::string text = head + "\n" + rule + "\n";
    for (const std::string& row : split(rows.second, ',')) {
      text += fmt::format("| {} |", row);
      for (const Entry& column : columns) {
        const Figure* const figure = find(place(column.second, row));
        text += fmt::format(" {} |", figure == nullptr ? "" : short_value(figure->p50, *figure));
      }
      text += "\n";
    }
    if (!mean) return text;
    text += fmt::format("| {} |", mean->first);
    for (const Entry& column : columns) {
      double logarithms = 0, count = 0;
      const Figure* figure = nullptr;
      for (const std::string& row : split(mean->second, ',')) {
        figure = find(place(column.second, row));
        if (figure == nullptr || figure->p50 <= 0) continue;
        logarithms += std::log(figure->p50);
        ++count;
      }
      text += fmt::format(" {} |", figure == nullptr ? "" : short_value(std::exp(logarithms / count), *figure));
    }
    return text + "\n";
  }

  [[nodiscard]] std::vector<std::string> take_missing() { return std::exchange(missing_, {}); }

 private:
  [[nodiscard]] Result<std::vector<Entry>> entries_of(std::string_view list) const {
    std::vector<Entry> entries;
    for (const std::string& entry : split(list, ';')) {
      const std::size_t equals = entry.find('=');
      if (equals == std::string::npos)
        return fail(ErrorKind::kInput, "table {}: \"{}\" is not LABEL = NAME", section_, printable(entry));
      entries.emplace_back(trimmed(std::string_view(entry).substr(0, equals)),
                           trimmed(std::string_view(entry).substr(equals + 1)));
    }
    return entries;
  }
  static std::string place(std::string pattern, const std::string& row) {
    pattern.replace(pattern.find(kPlace), kPlace.size(), row);
    return pattern;
  }
  static std::string short_value(double value, const Figure& figure) {
    std::string text = format_value(value, figure.unit);
    if (is_rate(figure) && text.ends_with(figure.unit)) text.resize(text.size() - figure.unit.size());
    return cell(std::string(trimmed(text)));
  }
  const Figure* find(const std::string& name) {
    const auto found = std::ranges::find_if(result_.figures, [&](const Figure& one) { return full_name(one) == name; });
    if (found != result_.figures.end()) return &*found;
    if (std::ranges::find(missing_, printable(name)) == missing_.end()) missing_.push_back(printable(name));
    return nullptr;
  }

  const ResultFile& result_;
  int section_;
  std::vector<std::string> missing_;
};

}  // namespace

Result<std::string> fill_readme(const std::string& text, const ResultFile& result) {
  std::string out;
  std::vector<std::string> missing;
  std::size_t at = 0;
  for (int section = 1;; ++section) {
    const auto next = [&](std::string_view kind) { return text.find(std::string(kMark).append(kind), at); };
    const std::size_t begin = std::min(next(kTable), next(kMatrix));
    if (begin == std::string::npos) {
      if (section == 1) return fail(ErrorKind::kInput, "no line \"{}{}LABEL = NAME; … -->\"", kMark, kTable);
      break;
    }
    const bool matrix = text.compare(begin + kMark.size(), kMatrix.size(), kMatrix) == 0;
    const std::size_t list = begin + kMark.size() + (matrix ? kMatrix : kTable).size();
    const std::size_t list_end = text.find(kMarkEnd, list);
    const std::size_t end = list_end == std::string::npos ? list_end : text.find(kEnd, list_end);
    if (end == std::string::npos) return fail(ErrorKind::kInput, "table {} has no line \"{}\"", section, kEnd);
    out += text.substr(at, list_end + kMarkEnd.size() - at);
    const std::string_view entries = std::string_view(text).substr(list, list_end - list);
    Filler filler(result, section);
    WARMFORK_TRY_ASSIGN(const std::string table, matrix ? filler.matrix(entries) : filler.table(entries));
    for (std::string& name : filler.take_missing()) missing.push_back(std::move(name));
    out += "\n" + table + "\n";
    at = end;
  }
  if (!missing.empty()) return fail(ErrorKind::kInput, "the result file lacks {}", fmt::join(missing, "; "));
  return out + text.substr(at);
}

Status check_readme(const std::string& text, const ResultFile& result) {
  WARMFORK_TRY_ASSIGN(const std::string filled, fill_readme(text, result));
  // What must not change: of a row its label and number of cells, of any other line all of it.
  const auto shape = [](const std::string& line, bool row) {
    if (!row) return line;
    return fmt::format("{}… with {} cells", line.substr(0, line.find('|', 1)), std::ranges::count(line, '|') - 1);
  };
  std::istringstream are(text), should_be(filled);
  bool table = false, rows = false;  // inside a table; below its head
  std::string is, expected;
  for (int number = 1;; ++number) {
    const bool more = static_cast<bool>(std::getline(are, is));
    if (static_cast<bool>(std::getline(should_be, expected)) != more) {
      return fail(ErrorKind::kInput, "line {}: the tables have more or fewer rows than they should", number);
    }
    if (!more) return {};
    if (expected.starts_with(kMark)) rows = false;
    table = expected.starts_with("|");
    const bool row = table && rows;
    if (shape(is, row) != shape(expected, row)) {
      return fail(ErrorKind::kInput, "line {} is \"{}\", and should be \"{}\"", number, printable(shape(is, row)),
                  printable(shape(expected, row)));
    }
    if (expected.starts_with("|---")) rows = true;
    if (!table) rows = false;
  }
}

}  // namespace warmfork::bench
