#include "bench/result.hpp"

#include "base/tsc_clock.hpp"
#include "build_info.hpp"

#include <fmt/chrono.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace warmfork::bench {

Figure from_ticks(std::string name, const Histogram& ticks) {
  const double ns = tsc_ns_per_tick();
  Figure figure{.name = std::move(name), .unit = "ns", .samples = ticks.count()};
  figure.mean = ticks.mean() * ns;
  figure.stddev = ticks.stddev() * ns;
  figure.min = static_cast<double>(ticks.min()) * ns;
  figure.p50 = ticks.quantile(0.5) * ns;
  figure.p90 = ticks.quantile(0.9) * ns;
  figure.p99 = ticks.quantile(0.99) * ns;
  figure.p999 = ticks.quantile(0.999) * ns;
  figure.max = static_cast<double>(ticks.max()) * ns;
  return figure;
}

Figure from_values(std::string name, std::string unit, std::vector<double> values) {
  Figure figure{.name = std::move(name), .unit = std::move(unit), .samples = values.size()};
  if (values.empty()) return figure;
  std::ranges::sort(values);
  const double n = static_cast<double>(values.size());
  figure.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - figure.mean) * (value - figure.mean);
  figure.stddev = values.size() > 1 ? std::sqrt(squares / (n - 1)) : 0;
  const auto rank = [&](double fraction) {
    return values[static_cast<std::size_t>(std::max(1.0, std::ceil(fraction * n))) - 1];
  };
  figure.min = values.front();
  figure.p50 = rank(0.5);
  figure.p90 = rank(0.9);
  figure.p99 = rank(0.99);
  figure.p999 = rank(0.999);
  figure.max = values.back();
  return figure;
}

void set_floor(Figure& figure, const Figure& floor) {
  figure.floor = floor.name;
  if (floor.p50 > 0) figure.ratio_to_floor_p50 = figure.p50 / floor.p50;
}

Context make_context(std::string kvm_backend, std::string cpu, std::vector<int> pinned) {
  utsname names{};
  ::uname(&names);
  return {.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::now())),
          .commit = kBuildCommit,
          .cpu = std::move(cpu),
          .kernel = names.release,
          .kvm_backend = std::move(kvm_backend),
          .cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)),
          .pinned = std::move(pinned),
          .build = kBuildDescription};
}

std::string to_json(const Context& context, const std::vector<Figure>& figures) {
  nlohmann::ordered_json file;
  file["context"] = {{"date", context.date},
                     {"commit", context.commit},
                     {"cpu", context.cpu},
                     {"kernel", context.kernel},
                     {"kvm_backend", context.kvm_backend},
                     {"cpus", context.cpus},
                     {"pinned", context.pinned},
                     {"build", context.build}};
  file["results"] = nlohmann::ordered_json::array();
  for (const Figure& figure : figures) {
    nlohmann::ordered_json entry{{"name", figure.name}, {"unit", figure.unit},     {"samples", figure.samples},
                                 {"mean", figure.mean}, {"stddev", figure.stddev}, {"min", figure.min},
                                 {"p50", figure.p50},   {"p90", figure.p90},       {"p99", figure.p99},
                                 {"p999", figure.p999}, {"max", figure.max}};
    entry["floor"] = figure.floor ? nlohmann::ordered_json(*figure.floor) : nullptr;
    entry["ratio_to_floor_p50"] =
        figure.ratio_to_floor_p50 ? nlohmann::ordered_json(*figure.ratio_to_floor_p50) : nullptr;
    entry["params"] = nlohmann::ordered_json(figure.params);
    for (const auto& [name, value] : figure.labels) entry["params"][name] = value;
    entry["counters"] = nlohmann::ordered_json(figure.counters);
    file["results"].push_back(std::move(entry));
  }
  return file.dump(2) + "\n";
}

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
    text += "\n";
  }
  return text;
}

}  // namespace warmfork::bench
