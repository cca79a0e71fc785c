#include "bench/report.hpp"

#include "base/printable.hpp"
#include "bench/figure_text.hpp"
#include "bench/plot.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

namespace warmfork::bench {
namespace {

std::string escaped(std::string_view text, bool markdown) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '|': out += markdown ? "\\|" : "|"; break;
      case '`': out += markdown ? "'" : "`"; break;
      default: out += c;
    }
  }
  return out;
}
std::string html(std::string_view text) { return escaped(text, false); }
std::string markdown(std::string_view text) { return escaped(text, true); }

std::optional<Interval> interval_of(const Figure& figure, const char* quantile) {
  const auto found = figure.intervals.find(quantile);
  if (found == figure.intervals.end()) return std::nullopt;
  return found->second;
}

std::string shown(const std::optional<Interval>& interval, const std::string& unit) {
  if (!interval) return "too few samples";
  return format_value(interval->low, unit) + " … " + format_value(interval->high, unit);
}

std::string floor_of(const Figure& figure) {
  return figure.ratio_to_floor_p50 ? fmt::format("{:.3f} × {}", *figure.ratio_to_floor_p50, *figure.floor)
                                   : std::string();
}

std::string verdict_name(const Judgement& one) {
  return fmt::format("{}{}", kVerdictNames[static_cast<std::size_t>(one.verdict)],
                     one.why.empty() ? "" : " (" + one.why + ")");
}

std::string percent(double ratio) { return fmt::format("{:+.1f} %", (ratio - 1) * 100); }
std::string percent(const std::optional<Interval>& interval) {
  return interval ? percent(interval->low) + " … " + percent(interval->high) : "–";
}

std::string where(const Context& context) {
  return fmt::format("{} · {} · {} CPUs · kernel {} · KVM backend {} · commit {} · {} · {} rounds{}", context.date,
                     context.cpu, context.cpus, context.kernel, context.kvm_backend, context.commit, context.build,
                     context.rounds, context.partial ? " · PARTIAL: interrupted" : "");
}
std::string weather(const Context& context) {
  return fmt::format("load {:.2f} before, {:.2f} after; {:.0f} ms stolen from all CPUs meanwhile", context.before.load,
                     context.after.load, context.after.steal_ms - context.before.steal_ms);
}

std::string csv_field(std::string_view text) {
  // A spreadsheet takes a field that begins like this for a formula.
  std::string field = printable(text);
  if (!field.empty() && std::string_view("=+-@").find(field[0]) != std::string_view::npos) field.insert(0, "'");
  if (field.find_first_of(",\"") == std::string::npos) return field;
  std::string quoted = "\"";
  for (const char c : field) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned group = 0;
    for (std::size_t n = 0; n < 3; ++n) {
      group = group << 8 | (i + n < bytes.size() ? static_cast<unsigned char>(bytes[i + n]) : 0U);
    }
    for (std::size_t n = 0; n < 4; ++n) {
      out += i + n > bytes.size() ? '=' : kDigits[group >> (18 - 6 * n) & 63];
    }
  }
  return out;
}

constexpr std::size_t kMostSeries = 7;  // more cannot be told apart
constexpr std::size_t kMostGroups = 10;

// "lifecycle/reset" of "lifecycle/reset/auto": what belongs into one plot.
std::string group_of(const std::string& name) {
  const std::size_t first = name.find('/');
  const std::size_t second = first == std::string::npos ? first : name.find('/', first + 1);
  return name.substr(0, second == std::string::npos ? first : second);
}

// Latencies in groups, each with the first figures of it.
std::vector<std::pair<std::string, std::vector<const Figure*>>> groups(const std::vector<Figure>& figures) {
  std::vector<std::pair<std::string, std::vector<const Figure*>>> all;
  for (const Figure& figure : figures) {
    if (figure.unit != "ns" || figure.distribution.empty() || figure.min <= 0) continue;
    const std::string name = group_of(figure.name);
    auto at = std::ranges::find(all, name, [](const auto& group) { return group.first; });
    if (at == all.end()) {
      if (all.size() == kMostGroups) continue;
      at = all.insert(all.end(), {name, {}});
    }
    if (at->second.size() < kMostSeries) at->second.push_back(&figure);
  }
  return all;
}

Plot percentiles(const std::string& name, const std::vector<const Figure*>& figures) {
  Plot plot{.title = name + ": percentiles",
            .x_label = "took longer [% of calls]",
            .y_label = "time [µs]",
            .log_x = true,
            .log_y = true,
            .series = {}};
  for (const Figure* figure : figures) {
    PlotSeries series{full_name(*figure), {}};
    for (const auto& [fraction, value] : figure->distribution) {
      if (fraction >= 0.5 && fraction < 1 && value > 0) series.points.push_back({(1 - fraction) * 100, value / 1000});
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

Plot distribution(const std::string& name, const std::vector<const Figure*>& figures) {
  Plot plot{.title = name + ": distribution",
            .x_label = "time [µs]",
            .y_label = "took at most that [% of calls]",
            .log_x = true,
            .log_y = false,
            .series = {}};
  for (const Figure* figure : figures) {
    PlotSeries series{full_name(*figure), {}};
    for (const auto& [fraction, value] : figure->distribution) {
      if (fraction <= 0.99 && value > 0) series.points.push_back({value / 1000, fraction * 100});
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

// Reset modes by how much there is to reset, with the interval of the median as bars.
Plot modes(const std::vector<Figure>& figures) {
  Plot plot{.title = "resets by mode",
            .x_label = "dirty pages",
            .y_label = "p50 [µs]",
            .log_x = true,
            .log_y = true,
            .series = {}};
  std::map<std::string, std::map<double, const Figure*>> found;
  for (const Figure& figure : figures) {
    const auto pages = figure.params.find("dirty_pages");
    const auto window = figure.params.find("window_bytes");
    if (!figure.name.starts_with("lifecycle/reset/") || pages == figure.params.end() || window == figure.params.end())
      continue;
    if (figure.p50 <= 0 || pages->second <= 0 || window->second <= 0) continue;
    found[fmt::format("{} of {} KiB", figure.name.substr(16), window->second / 1024)][pages->second] = &figure;
  }
  for (const auto& [name, points] : found) {
    PlotSeries series{name, {}};
    for (const auto& [pages, figure] : points) {
      PlotPoint point{pages, figure->p50 / 1000};
      if (const auto interval = interval_of(*figure, "p50"); interval && interval->low > 0) {
        point.low = interval->low / 1000;
        point.high = interval->high / 1000;
      }
      series.points.push_back(point);
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

// Medians over the saved runs, each relative to the oldest that has it.
Plot history_plot(const ResultFile& result, std::vector<std::pair<std::string, ResultFile>> history) {
  std::ranges::sort(history, {}, [](const auto& run) { return run.second.context.date; });
  Plot plot{.title = "medians over the saved runs",
            .x_label = "run, oldest first; this one last",
            .y_label = "p50 of the oldest [%]",
            .log_x = false,
            .log_y = false,
            .series = {}};
  const bool any_floor = std::ranges::any_of(result.figures, [](const Figure& one) { return one.floor.has_value(); });
  for (const Figure& figure : result.figures) {
    if (plot.series.size() == kMostSeries) break;
    // Those with a floor are what a reader asks for first.
    if ((any_floor && !figure.ratio_to_floor_p50) || figure.p50 <= 0) continue;
    PlotSeries series{full_name(figure), {}};
    double oldest = 0;
    const auto add = [&](double x, double p50) {
      if (p50 <= 0) return;
      if (oldest == 0) oldest = p50;
      series.points.push_back({x, p50 / oldest * 100});
    };
    for (std::size_t i = 0; i < history.size(); ++i) {
      const auto& figures = history[i].second.figures;
      const auto same =
          std::ranges::find_if(figures, [&](const Figure& other) { return identity(other) == identity(figure); });
      if (same != figures.end()) add(static_cast<double>(i + 1), same->p50);
    }
    add(static_cast<double>(history.size() + 1), figure.p50);
    if (series.points.size() > 1) plot.series.push_back(std::move(series));
  }
  return plot;
}

constexpr std::string_view kStyle =
    R"(:root{color-scheme:light dark;--text:#1a1a1a;--ground:#fff;--line:#ccc;--soft:#f3f3f3}
@media(prefers-color-scheme:dark){:root{--text:#e6e6e6;--ground:#161616;--line:#444;--soft:#222}
img{filter:invert(.91) hue-rotate(180deg)}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--ground);margin:2rem auto;max-width:75rem;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto}th,td{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
td.n{text-align:right;font-variant-numeric:tabular-nums}tr:nth-child(even){background:var(--soft)}img{max-width:100%;height:auto}
.regressed,.severe{color:#d33;font-weight:600}.improved{color:#2a8a4a;font-weight:600}.noisy{color:#b07000})";

}  // namespace

std::string to_markdown(const ResultFile& result, const Comparison* comparison) {
  std::string text = fmt::format("# warmfork bench\n\n{}\n\n{}\n\n", markdown(where(result.context)),
                                 markdown(weather(result.context)));
  text +=
      "| figure | p50 | 95 % | p90 | p99 | p99.9 | max | of its floor (p50) | samples | outliers mild / severe | noise "
      "|\n"
      "|---|--:|---|--:|--:|--:|--:|---|--:|--:|---|\n";
  for (const Figure& figure : result.figures) {
    const auto value = [&](double number) { return markdown(format_value(number, figure.unit)); };
    text += fmt::format(
        "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} / {} | {} |\n", markdown(full_name(figure)),
        value(figure.p50), markdown(shown(interval_of(figure, "p50"), figure.unit)), value(figure.p90),
        value(figure.p99), value(figure.p999), value(figure.max), markdown(floor_of(figure)), figure.samples,
        figure.outliers.mild, figure.outliers.severe, markdown(fmt::format("{}", fmt::join(figure.noise.why, ", "))));
  }
  if (comparison == nullptr) return text;
  text +=
      "\n## Against the baseline\n\n| figure | quantile | before | after | change | interval | verdict |\n"
      "|---|---|--:|--:|--:|---|---|\n";
  for (const Judgement& one : comparison->judgements) {
    text += fmt::format("| `{}` | {} | {} | {} | {} | {} | {} |\n", markdown(one.figure), one.quantile,
                        markdown(format_value(one.before, one.unit)), markdown(format_value(one.after, one.unit)),
                        percent(one.ratio.estimate), percent(one.ratio.interval), markdown(verdict_name(one)));
  }
  for (const std::string& note : comparison->notes) text += fmt::format("\n- {}", markdown(note));
  return text + "\n";
}

std::string to_csv(const ResultFile& result) {
  std::string text =
      "name,labels,unit,samples,mean,stddev,min,p50,p50_low,p50_high,p90,p99,p99_low,p99_high,p999,max,floor,"
      "ratio_to_floor_p50,outliers_mild,outliers_severe,noisy,rounds\r\n";
  const auto ends = [](const std::optional<Interval>& interval) {
    return interval ? fmt::format("{:.17g},{:.17g}", interval->low, interval->high) : std::string(",");
  };
  for (const Figure& figure : result.figures) {
    std::string labels;
    for (const auto& [key, value] : figure.labels)
      labels += fmt::format("{}{}={}", labels.empty() ? "" : " ", key, value);
    for (const auto& [key, value] : figure.params)
      labels += fmt::format("{}{}={}", labels.empty() ? "" : " ", key, value);
    const auto rounds = figure.rounds.find("p50");
    text += fmt::format(
        "{},{},{},{},{:.17g},{:.17g},{:.17g},{:.17g},{},{:.17g},{:.17g},{},{:.17g},{:.17g},{},{},{},{},{},{}\r\n",
        csv_field(figure.name), csv_field(labels), csv_field(figure.unit), figure.samples, figure.mean, figure.stddev,
        figure.min, figure.p50, ends(interval_of(figure, "p50")), figure.p90, figure.p99,
        ends(interval_of(figure, "p99")), figure.p999, figure.max, csv_field(figure.floor.value_or("")),
        figure.ratio_to_floor_p50 ? fmt::format("{:.17g}", *figure.ratio_to_floor_p50) : "", figure.outliers.mild,
        figure.outliers.severe, figure.noise.noisy() ? 1 : 0,
        rounds == figure.rounds.end() ? std::size_t{1} : rounds->second.size());
  }
  return text;
}

std::string to_google_benchmark(const ResultFile& result) {
  nlohmann::ordered_json file;
  const Context& context = result.context;
  file["context"] = {{"date", context.date},
                     {"host_name", ""},
                     {"executable", "warmfork"},
                     {"num_cpus", context.cpus},
                     {"mhz_per_cpu", 0},
                     {"cpu_scaling_enabled", false},
                     {"caches", nlohmann::ordered_json::array()},
                     {"load_avg", {context.before.load}},
                     {"library_build_type", "release"}};
  file["benchmarks"] = nlohmann::ordered_json::array();
  std::map<std::string, int> seen;
  std::size_t family = 0;
  for (const Figure& figure : result.figures) {
    std::string name = identity(figure);
    std::ranges::replace(name, ' ', '/');
    if (const int earlier = seen[name]++; earlier > 0) name += fmt::format("/again:{}", earlier + 1);
    std::vector<double> rounds{figure.p50};
    if (const auto found = figure.rounds.find("p50"); found != figure.rounds.end() && !found->second.empty())
      rounds = found->second;
    const bool rate = is_rate(figure);
    const auto entry = [&](const char* type, double value) {
      const double time = !rate ? value : value > 0 ? 1e9 / value : 0;
      nlohmann::ordered_json one{{"name", name},
                                 {"family_index", family},
                                 {"per_family_instance_index", 0},
                                 {"run_name", name},
                                 {"run_type", type},
                                 {"repetitions", rounds.size()},
                                 {"threads", 1},
                                 {"iterations", figure.samples / rounds.size()},
                                 {"real_time", time},
                                 {"cpu_time", time},
                                 {"time_unit", "ns"}};
      if (rate) one["items_per_second"] = value;
      return one;
    };
    for (std::size_t i = 0; i < rounds.size(); ++i) {
      file["benchmarks"].push_back(entry("iteration", rounds[i]));
      file["benchmarks"].back()["repetition_index"] = i;
    }
    double mean = 0;
    for (const double round : rounds) mean += round / static_cast<double>(rounds.size());
    double squares = 0;
    for (const double round : rounds) squares += (round - mean) * (round - mean);
    const double deviation = rounds.size() > 1 ? std::sqrt(squares / static_cast<double>(rounds.size() - 1)) : 0;
    for (const auto& [aggregate, value] :
         {std::pair{"mean", mean}, std::pair{"median", median(rounds)}, std::pair{"stddev", deviation}}) {
      nlohmann::ordered_json one = entry("aggregate", value);
      one["name"] = name + "_" + aggregate;
      one["aggregate_name"] = aggregate;
      one["aggregate_unit"] = "time";
      file["benchmarks"].push_back(std::move(one));
    }
    ++family;
  }
  return file.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Result<std::string> to_html(const ResultFile& result, const Comparison* comparison,
                            const std::vector<std::pair<std::string, ResultFile>>& history) {
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<meta name=\"viewport\" content=\"width=device-width\"/><title>warmfork bench</title>\n<style>{}</style></head>"
      "<body>\n<h1>warmfork bench</h1>\n<p>{}</p>\n<p>{}</p>\n",
      kStyle, html(where(result.context)), html(weather(result.context)));
  if (comparison != nullptr) {
    page +=
        "<h2>Against the baseline</h2>\n<table><tr><th>figure</th><th>quantile</th><th>before</th><th>after</th>"
        "<th>change</th><th>interval</th><th>verdict</th></tr>\n";
    for (const Judgement& one : comparison->judgements) {
      const std::string name = kVerdictNames[static_cast<std::size_t>(one.verdict)];
      page += fmt::format(
          "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>"
          "<td class=\"n\">{}</td><td class=\"{}\">{}</td></tr>\n",
          html(one.figure), one.quantile, html(format_value(one.before, one.unit)),
          html(format_value(one.after, one.unit)), percent(one.ratio.estimate), percent(one.ratio.interval),
          one.verdict == Verdict::kTooNoisy ? "noisy" : name, html(verdict_name(one)));
    }
    page += "</table>\n";
    for (const std::string& note : comparison->notes) page += fmt::format("<p>Note: {}</p>\n", html(note));
  }
  page +=
      "<h2>Figures</h2>\n<table><tr><th>figure</th><th>p50</th><th>95 %</th><th>p90</th><th>p99</th><th>p99.9</th>"
      "<th>max</th><th>of its floor (p50)</th><th>samples</th><th>outliers mild / severe</th><th>noise</th></tr>\n";
  for (const Figure& figure : result.figures) {
    page +=
        fmt::format("<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>", html(full_name(figure)),
                    html(format_value(figure.p50, figure.unit)), html(shown(interval_of(figure, "p50"), figure.unit)));
    for (const double value : {figure.p90, figure.p99, figure.p999, figure.max}) {
      page += fmt::format("<td class=\"n\">{}</td>", html(format_value(value, figure.unit)));
    }
    page +=
        fmt::format("<td>{}</td><td class=\"n\">{}</td><td class=\"n\">{} / {}</td><td class=\"noisy\">{}</td></tr>\n",
                    html(floor_of(figure)), figure.samples, figure.outliers.mild, figure.outliers.severe,
                    html(fmt::format("{}", fmt::join(figure.noise.why, ", "))));
  }
  page += "</table>\n<h2>Plots</h2>\n";
  std::vector<Plot> plots{modes(result.figures)};
  if (!history.empty()) plots.push_back(history_plot(result, history));
  for (const auto& [name, figures] : groups(result.figures)) {
    plots.push_back(percentiles(name, figures));
    plots.push_back(distribution(name, figures));
  }
  for (const Plot& plot : plots) {
    if (plot.series.empty()) continue;
    const auto svg = draw_svg(plot);
    if (!svg && svg.error().kind == ErrorKind::kUnsupported) {
      page += fmt::format("<p>{}</p>\n", html(svg.error().message));
      break;
    }
    if (!svg) return Failure(svg.error());
    page +=
        fmt::format("<p><img alt=\"{}\" src=\"data:image/svg+xml;base64,{}\"/></p>\n", html(plot.title), base64(*svg));
  }
  return page + "</body></html>\n";
}

}  // namespace warmfork::bench
