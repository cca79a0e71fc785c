#include "bench/figure_text.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstddef>

namespace warmfork::bench {

std::string format_value(double value, const std::string& unit) {
  struct Scale {
    double factor;
    const char* prefix;
  };
  if (unit == "ns") {
    static constexpr std::array<Scale, 3> kTimes{{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}}};
    for (const Scale& scale : kTimes) {
      if (value >= scale.factor) return fmt::format("{:.4g} {}", value / scale.factor, scale.prefix);
    }
    return fmt::format("{:.4g} ns", value);
  }
  static constexpr std::array<Scale, 4> kRates{{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}};
  for (const Scale& scale : kRates) {
    if (value >= scale.factor) return fmt::format("{:.4g} {} {}", value / scale.factor, scale.prefix, unit);
  }
  return fmt::format("{:.4g} {}", value, unit);
}

std::string full_name(const Figure& figure) {
  std::string name = figure.name;
  for (const auto& [key, value] : figure.labels) name += fmt::format(" {}", value);
  if (const auto pages = figure.params.find("dirty_pages"); pages != figure.params.end()) {
    name += fmt::format(" {} dirty", pages->second);
  }
  return name;
}

std::string to_table(const std::vector<Figure>& figures) {
  std::size_t width = 6;
  for (const Figure& figure : figures) width = std::max(width, full_name(figure).size());
  std::string text = fmt::format("{:<{}}  {:>16} {:>16} {:>16} {:>16}  {}\n", "figure", width, "p50", "p99", "p99.9",
                                 "max", "of its floor (p50)");
  for (const Figure& figure : figures) {
    // "µ" is two bytes and one column: pad by columns.
    const auto cell = [&](double value) {
      std::string shown = format_value(value, figure.unit);
      const std::size_t columns = shown.size() - (shown.find("µ") != std::string::npos ? 1 : 0);
      return std::string(columns < 16 ? 16 - columns : 0, ' ') + shown;
    };
    text += fmt::format("{:<{}}  {} {} {} {}", full_name(figure), width, cell(figure.p50), cell(figure.p99),
                        cell(figure.p999), cell(figure.max));
    if (figure.ratio_to_floor_p50) text += fmt::format("  {:.3f} x {}", *figure.ratio_to_floor_p50, *figure.floor);
    if (figure.noise.noisy()) text += fmt::format("  NOISY: {}", fmt::join(figure.noise.why, ", "));
    text += "\n";
  }
  return text;
}

}  // namespace warmfork::bench
