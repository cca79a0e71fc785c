// The study as a directory of files, and its plots.
#include "base/file.hpp"
#include "bench/plot.hpp"
#include "ivshmem/host/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

namespace warmfork::ivshmem {
namespace {

Mode primary(const StudyOptions& options) {
  for (const Mode mode : options.modes) {
    if (mode != Mode::kThreads) return mode;
  }
  return options.modes.front();
}

bench::PlotSeries line(std::string name) { return {.name = std::move(name), .points = {}}; }

void keep(std::vector<bench::PlotSeries>& series, bench::PlotSeries one) {
  if (!one.points.empty()) series.push_back(std::move(one));
}

// One line per mode, of how often a round trip took how long.
bench::Plot histogram(const StudyResult& result, const StudyOptions& options) {
  bench::Plot plot{.title = "Round trips of a " + options.frames[options.latency_frame].name + " frame",
                   .x_label = "round trip [ms]",
                   .y_label = "messages",
                   .series = {}};
  constexpr std::size_t kBins = 30;
  double low = 0, high = 0;
  for (const Row& row : result.rows) {
    if (row.part != Part::kLatency) continue;
    low = low == 0 ? row.round_trip : std::min(low, row.round_trip);
    high = std::max(high, row.round_trip);
  }
  const double width = high > low ? (high - low) / kBins : 1;
  for (const Mode mode : options.modes) {
    std::array<std::size_t, kBins> bins{};
    const auto rows = rows_of(result, Part::kLatency, mode);
    for (const Row* row : rows) {
      ++bins[std::min(kBins - 1, static_cast<std::size_t>((row->round_trip - low) / width))];
    }
    bench::PlotSeries series = line(std::string(name_of(mode)));
    for (std::size_t i = 0; i < kBins && !rows.empty(); ++i) {
      series.points.push_back({(low + (static_cast<double>(i) + 0.5) * width) / 1e6, static_cast<double>(bins[i])});
    }
    keep(plot.series, std::move(series));
  }
  return plot;
}

bench::Plot over_time(const StudyResult& result, const StudyOptions& options) {
  bench::Plot plot{.title = "Phases of each message, " + std::string(name_of(primary(options))),
                   .x_label = "message",
                   .y_label = "time [us]",
                   .log_y = true,
                   .series = {}};
  for (const Phase phase :
       {Phase::kRoundTrip, Phase::kHostWrite, Phase::kHot, Phase::kCold, Phase::kCopy, Phase::kVerify}) {
    bench::PlotSeries series = line(std::string(name_of(phase)));
    for (const Row* row : rows_of(result, Part::kLatency, primary(options))) {
      if (const double value = value_of(*row, phase); value > 0) {
        series.points.push_back({static_cast<double>(row->iteration), value / 1e3});
      }
    }
    keep(plot.series, std::move(series));
  }
  return plot;
}

bench::Plot percentiles(const StudyResult& result, const StudyOptions& options) {
  bench::Plot plot{
      .title = "Percentiles of the round trip", .x_label = "percentile", .y_label = "time [ms]", .series = {}};
  for (const Mode mode : options.modes) {
    const Statistics all = phase_statistics(result, Part::kLatency, mode, options.latency_frame, Phase::kRoundTrip);
    bench::PlotSeries series = line(std::string(name_of(mode)));
    if (all.count != 0) {
      series.points = {{0, all.min / 1e6},  {50, all.p50 / 1e6}, {90, all.p90 / 1e6},
                       {95, all.p95 / 1e6}, {99, all.p99 / 1e6}, {100, all.max / 1e6}};
    }
    keep(plot.series, std::move(series));
  }
  return plot;
}

std::vector<bench::Plot> bandwidth_panels(const StudyResult& result, const StudyOptions& options) {
  const Mode mode = primary(options);
  const std::pair<Phase, const char*> shown[] = {{Phase::kHostWrite, "host write"},
                                                 {Phase::kCold, "pure read, cold"},
                                                 {Phase::kCopy, "copy"},
                                                 {Phase::kTotal, "all"}};
  bench::Plot each{.title = "Each frame", .x_label = "frame", .y_label = "GB/s", .series = {}};
  bench::Plot scaling{.title = "By size", .x_label = "frame [MB]", .y_label = "GB/s", .series = {}};
  bench::Plot duration{.title = "Duration", .x_label = "frame [MB]", .y_label = "time [ms]", .series = {}};
  bench::Plot success{.title = "Verified", .x_label = "frame [MB]", .y_label = "%", .series = {}};
  for (const auto& [phase, name] : shown) {
    bench::PlotSeries points = line(name), medians = line(name), times = line(name);
    double x = 0;
    for (std::size_t frame = 0; frame < options.frames.size(); ++frame) {
      const auto bytes = static_cast<double>(options.frames[frame].bytes());
      for (const Row* row : rows_of(result, Part::kBandwidth, mode, frame)) {
        if (const double ns = value_of(*row, phase); ns > 0) points.points.push_back({++x, bytes / ns});
      }
      const Statistics all = phase_statistics(result, Part::kBandwidth, mode, frame, phase);
      if (all.count == 0 || all.min <= 0) continue;
      medians.points.push_back({bytes / kMega, bytes / all.p50, bytes / all.max, bytes / all.min});
      times.points.push_back({bytes / kMega, all.p50 / 1e6, all.min / 1e6, all.max / 1e6});
    }
    keep(each.series, std::move(points));
    keep(scaling.series, std::move(medians));
    keep(duration.series, std::move(times));
  }
  for (const Mode one : options.modes) {
    bench::PlotSeries series = line(std::string(name_of(one)));
    for (std::size_t frame = 0; frame < options.frames.size(); ++frame) {
      const auto rows = rows_of(result, Part::kBandwidth, one, frame);
      if (rows.empty()) continue;
      const auto right = std::ranges::count_if(rows, [](const Row* row) { return row->success; });
      series.points.push_back({static_cast<double>(options.frames[frame].bytes()) / kMega,
                               100.0 * static_cast<double>(right) / static_cast<double>(rows.size())});
    }
    keep(success.series, std::move(series));
  }
  return {std::move(each), std::move(scaling), std::move(duration), std::move(success)};
}

Status put(const std::string& path, std::string_view text) {
  return replace_file(path, [&](int fd) { return write_all(fd, std::as_bytes(std::span(text)), path); });
}

}  // namespace

Status prepare_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (std::filesystem::is_directory(path)) return {};
  return fail(ErrorKind::kUsage, "{}: cannot be a directory{}{}", path, error ? ": " : "",
              error ? error.message() : "");
}

Result<std::vector<std::string>> write_report(const StudyResult& result, const StudyOptions& options,
                                              const std::string& path, bool plots) {
  WARMFORK_TRY(prepare_directory(path));
  std::error_code error;
  const auto in = [&](std::string_view name) { return fmt::format("{}/{}", path, name); };
  // The mark comes before what it speaks of, and goes after it: whoever finds no mark finds whole files.
  WARMFORK_TRY(put(in("INCOMPLETE"), result.ended ? fmt::format("{}: {}\n", result.ended_where, result.ended->message)
                                                  : "the files are being written\n"));
  for (const Mode mode : options.modes) {
    const std::string end = mode == primary(options) ? ".csv" : fmt::format(".{}.csv", name_of(mode));
    WARMFORK_TRY(put(in("latency_results" + end), latency_csv(result, mode)));
    WARMFORK_TRY(put(in("latency_performance" + end), latency_counters_csv(result, options, mode)));
    WARMFORK_TRY(put(in("bandwidth_results" + end), bandwidth_csv(result, options, mode)));
    WARMFORK_TRY(put(in("bandwidth_performance" + end), bandwidth_counters_csv(result, options, mode)));
  }
  WARMFORK_TRY(put(in("performance_report.txt"), to_text(result, options)));
  std::vector<std::string> not_drawn;
  const auto drawn = [&](const Status& status, std::string_view what) {
    if (!status) not_drawn.push_back(fmt::format("{}: {}", what, status.error().message));
  };
  const auto any = [&](Part part) {
    return std::ranges::any_of(result.rows, [&](const Row& row) { return row.part == part; });
  };
  if (plots && any(Part::kLatency)) {
    drawn(bench::write_plot(histogram(result, options), in("latency_histogram")), "latency_histogram");
    // Of a study that was ended early there may be rows of other ways to wait only.
    if (!rows_of(result, Part::kLatency, primary(options)).empty()) {
      drawn(bench::write_plot(over_time(result, options), in("latency_over_time")), "latency_over_time");
    }
    drawn(bench::write_plot(percentiles(result, options), in("latency_percentiles")), "latency_percentiles");
  }
  if (plots && any(Part::kBandwidth)) {
    drawn(bench::write_panels(bandwidth_panels(result, options), in("bandwidth_analysis")), "bandwidth_analysis");
  }
  if (!result.ended) std::filesystem::remove(in("INCOMPLETE"), error);
  return not_drawn;
}

}  // namespace warmfork::ivshmem
