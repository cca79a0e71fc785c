#include "bench/lifecycle_report.hpp"

#include "bench/figure_text.hpp"
#include "bench/plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>

namespace warmfork::bench {
namespace {

constexpr const char* kResetPrefix = "lifecycle/reset/";
constexpr const char* kRequestPrefix = "lifecycle/request/reset_";

// "µ" is two bytes and one column: padding counts columns.
std::string padded(const std::string& text, std::size_t width) {
  const auto columns = static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  return std::string(columns < width ? width - columns : 0, ' ') + text;
}
std::string time_cell(double ns, std::size_t width = 11) { return padded(format_value(ns, "ns"), width); }

double param(const Figure& figure, const char* name) {
  const auto found = figure.params.find(name);
  return found == figure.params.end() ? 0 : found->second;
}

// A row of the first table: which figure, and what of its parameters.
struct Row {
  const char* label;
  const char* figure;
  std::optional<double> dirty_pages = std::nullopt;
  const char* word = nullptr;  // one of the figure's labels
};

const Figure* find(const std::vector<Figure>& figures, const Row& row) {
  const auto found = std::ranges::find_if(figures, [&](const Figure& figure) {
    const bool word = row.word == nullptr ||
                      std::ranges::any_of(figure.labels, [&](const auto& label) { return label.second == row.word; });
    return figure.name == row.figure && word && (!row.dirty_pages || param(figure, "dirty_pages") == *row.dirty_pages);
  });
  return found == figures.end() ? nullptr : &*found;
}

constexpr std::array kRows{
    Row{"construct the master", "lifecycle/construct"},
    Row{"boot it until it waits", "lifecycle/boot"},
    Row{"first vmcall in it", "lifecycle/vmcall/first"},
    Row{"later vmcalls", "lifecycle/vmcall/warm"},
    Row{"destruct it", "lifecycle/destruct"},
    Row{"new vm fork: make", "lifecycle/fork_call_destroy/vm/make"},
    Row{"  first vmcall", "lifecycle/fork_call_destroy/vm/first_call"},
    Row{"  destroy", "lifecycle/fork_call_destroy/vm/destroy"},
    Row{"  make + vmcall + destroy", "lifecycle/fork_call_destroy/vm"},
    Row{"new space fork: make", "lifecycle/fork_call_destroy/space/make"},
    Row{"  of it, filling the window", "lifecycle/fork_new/space", std::nullopt, "copy"},
    Row{"  first vmcall", "lifecycle/fork_call_destroy/space/first_call"},
    Row{"  destroy", "lifecycle/fork_call_destroy/space/destroy"},
    Row{"  make + vmcall + destroy", "lifecycle/fork_call_destroy/space"},
    Row{"fork from the pool: space", "lifecycle/fork/space", std::nullopt, "strict"},
    Row{"  reset when taken", "lifecycle/fork/space", std::nullopt, "deferred"},
    Row{"fork from the pool: vm", "lifecycle/fork/vm", std::nullopt, "strict"},
    Row{"  reset when taken", "lifecycle/fork/vm", std::nullopt, "deferred"},
    Row{"fork + vmcall + release: space", "lifecycle/request/fork_space"},
    Row{"fork + vmcall + release: vm", "lifecycle/request/fork_vm"},
    Row{"reset, 8 dirty pages", "lifecycle/reset/auto", 8},
    Row{"vmcall + reset", "lifecycle/request/reset_auto", 8},
    Row{"call without exit, no reset", "lifecycle/request/exitless"},
    Row{"floor: one exit", "floors/cpl3_exit"},
    Row{"floor: copy of a cold window", "floors/memcpy_window", std::nullopt, "cold"},
    Row{"floor: create + close a VM", "floors/create_destroy_vm"},
    Row{"floor: cache line there + back", "floors/cacheline_pingpong"},
};

std::string first_table(const std::vector<Figure>& figures) {
  std::string text = fmt::format("{:<31}{:>11}{:>11}{:>11}{:>11}{:>11}  {}\n", "", "p50", "p90", "p99", "p99.9", "max",
                                 "of its floor (p50)");
  for (const Row& row : kRows) {
    const Figure* figure = find(figures, row);
    if (figure == nullptr) continue;
    text += fmt::format("{:<31}{}{}{}{}{}", row.label, time_cell(figure->p50), time_cell(figure->p90),
                        time_cell(figure->p99), time_cell(figure->p999), time_cell(figure->max));
    if (figure->ratio_to_floor_p50) text += fmt::format("  {:.3f} x {}", *figure->ratio_to_floor_p50, *figure->floor);
    text += "\n";
  }
  return text;
}

// One window size: mode -> dirty pages -> figure.
using Sweep = std::map<std::string, std::map<double, const Figure*>>;

std::map<double, Sweep> sweeps(const std::vector<Figure>& figures, const std::string& prefix) {
  std::map<double, Sweep> found;
  for (const Figure& figure : figures) {
    if (!figure.name.starts_with(prefix)) continue;
    found[param(figure, "window_bytes")][figure.name.substr(prefix.size())][param(figure, "dirty_pages")] = &figure;
  }
  return found;
}

std::string sweep_table(const std::vector<Figure>& figures, const std::string& prefix, const char* what) {
  std::string text;
  for (const auto& [window, sweep] : sweeps(figures, prefix)) {
    std::set<double> columns;
    for (const auto& [mode, points] : sweep) {
      for (const auto& [pages, figure] : points) columns.insert(pages);
    }
    text += fmt::format("\n{}, window of {:.0f} KiB: p50 (p99) by dirty pages\n{:<12}", what, window / 1024, "");
    for (const double pages : columns) text += padded(fmt::format("{:.0f}", pages), 23);
    text += "\n";
    for (const auto& [mode, points] : sweep) {
      text += fmt::format("{:<12}", mode);
      for (const double pages : columns) {
        const auto point = points.find(pages);
        text += padded(point == points.end() ? "-"
                                             : fmt::format("{} ({})", format_value(point->second->p50, "ns"),
                                                           format_value(point->second->p99, "ns")),
                       23);
      }
      text += "\n";
    }
  }
  return text;
}

std::string scaling_and_density(const std::vector<Figure>& figures) {
  std::string text;
  for (const Figure& figure : figures) {
    if (figure.name.starts_with("lifecycle/scaling/") && param(figure, "threads") == 2) {
      text += fmt::format("\n{}: two threads serve {} ({:.2f} x one thread; an empty loop reaches {:.2f} x)",
                          figure.name, format_value(figure.p50, figure.unit), figure.counters.at("ratio_to_one_thread"),
                          figure.counters.at("ratio_of_an_empty_loop"));
    }
    if (figure.name == "lifecycle/density") {
      text += fmt::format(
          "\n{:.0f} {} forks alive at once, each has answered: {:.1f} KiB of this process each, {:.1f} KiB of the "
          "kernel",
          param(figure, "forks"), figure.labels.at("kind"), figure.counters.at("bytes_per_fork") / 1024,
          figure.counters.at("kernel_bytes_per_fork") / 1024);
    }
  }
  return text.empty() ? text : text + "\n";
}

}  // namespace

std::string lifecycle_advice(const std::vector<Figure>& figures) {
  std::string text;
  for (const auto& [window, sweep] : sweeps(figures, kRequestPrefix)) {
    const auto automatic = sweep.find("auto");
    if (automatic == sweep.end()) continue;
    for (const auto& [pages, figure] : automatic->second) {
      std::string best;
      double best_p50 = 0;
      for (const auto& [mode, points] : sweep) {
        const auto point = points.find(pages);
        if (mode == "auto" || point == points.end()) continue;
        if (best.empty() || point->second->p50 < best_p50) {
          best = mode;
          best_p50 = point->second->p50;
        }
      }
      if (best.empty()) continue;
      text +=
          fmt::format("  {:>5.0f} KiB window, {:>4.0f} dirty pages: {} is fastest ({}); auto takes {:.2f} x as long\n",
                      window / 1024, pages, best, format_value(best_p50, "ns"), figure->p50 / best_p50);
    }
  }
  if (text.empty()) return text;
  text =
      "What to choose here, by whole requests (call, reset, and the faults a reset leaves to the next call):\n" + text;
  const Figure* vm = find(figures, {"", "lifecycle/request/fork_vm"});
  const Figure* space = find(figures, {"", "lifecycle/request/fork_space"});
  if (vm != nullptr && space != nullptr && space->p50 > 0) {
    text += fmt::format(
        "  A vm fork's request takes {:.2f} x a space fork's: choose by isolation (SECURITY.md) and by memory, not by "
        "speed.\n",
        vm->p50 / space->p50);
  }
  const Figure* exitless = find(figures, {"", "lifecycle/request/exitless"});
  const Figure* exit = find(figures, {"", "floors/cpl3_exit"});
  if (exitless != nullptr && exit != nullptr && exitless->p50 > 0) {
    text += fmt::format(
        "  If requests of one tenant may see each other and a CPU may poll: a call without exit costs 1/{:.0f} of a "
        "bare exit.\n",
        exit->p50 / exitless->p50);
  }
  return text;
}

std::string lifecycle_report(const std::vector<Figure>& figures) {
  if (find(figures, {"", "lifecycle/construct"}) == nullptr) return {};
  return first_table(figures) + sweep_table(figures, kResetPrefix, "reset alone") +
         sweep_table(figures, kRequestPrefix, "vmcall + reset") + scaling_and_density(figures) + "\n" +
         lifecycle_advice(figures);
}

Status plot_lifecycle(const std::vector<Figure>& figures, const std::string& base) {
  struct Kind {
    const char* prefix;
    const char* suffix;
    const char* title;
  };
  bool any = false;
  for (const Kind& kind : {Kind{kResetPrefix, "-reset", "reset"}, Kind{kRequestPrefix, "-request", "vmcall + reset"}}) {
    const auto found = sweeps(figures, kind.prefix);
    if (found.empty()) continue;
    const auto& [window, sweep] = *found.rbegin();  // the largest window has the longest sweep
    Plot plot{.title = fmt::format("{}, window of {:.0f} KiB (median; bar: to the 99th percentile)", kind.title,
                                   window / 1024),
              .x_label = "dirty pages",
              .y_label = "time [µs]",
              .log_x = true,
              .log_y = true,
              .series = {}};
    for (const auto& [mode, points] : sweep) {
      PlotSeries series{.name = mode, .points = {}};
      for (const auto& [pages, figure] : points) {
        series.points.push_back({pages, figure->p50 / 1000, figure->p50 / 1000, figure->p99 / 1000});
      }
      plot.series.push_back(std::move(series));
    }
    WARMFORK_TRY(write_plot(plot, base + kind.suffix));
    any = true;
  }
  if (!any) {
    return fail(ErrorKind::kUsage, "there is no {}… and no {}… among the results; the suite lifecycle gives both",
                kResetPrefix, kRequestPrefix);
  }
  return {};
}

}  // namespace warmfork::bench
