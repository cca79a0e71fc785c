#include "ivshmem/host/report.hpp"

#include "base/file.hpp"
#include "bench/plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

namespace warmfork::ivshmem {
namespace {

constexpr double kMega = 1 << 20;

std::vector<const Row*> rows_of(const StudyResult& result, Part part, Mode mode,
                                std::optional<std::size_t> frame = {}) {
  std::vector<const Row*> rows;
  for (const Row& row : result.rows) {
    if (row.part == part && row.mode == mode && (!frame || row.frame == *frame)) rows.push_back(&row);
  }
  return rows;
}

// MB/s with a mebibyte for MB, as size_mb has it.
double bandwidth(double bytes, double ns) { return ns > 0 ? bytes / kMega / (ns / 1e9) : 0; }

constexpr std::string_view kCounterColumns =
    "host_l1_cache_misses,host_l1_cache_references,host_l1_miss_rate,host_llc_misses,host_llc_references,"
    "host_llc_miss_rate,host_tlb_misses,host_cpu_cycles,host_instructions,host_ipc,host_cycles_per_byte,"
    "host_context_switches,guest_l1_cache_misses,guest_l1_cache_references,guest_l1_miss_rate,guest_llc_misses,"
    "guest_llc_references,guest_llc_miss_rate,guest_tlb_misses,guest_cpu_cycles,guest_instructions,guest_ipc,"
    "guest_cycles_per_byte,guest_context_switches";

std::string counter_fields(const Counts& counts, std::uint64_t bytes) {
  const auto count = [&](Counter counter) {
    const auto& value = counts.of(counter);
    return value ? fmt::format("{}", *value) : std::string();
  };
  const auto ratio = [&](Counter counter, std::optional<double> by) {
    const auto& value = counts.of(counter);
    return value && by && *by > 0 ? fmt::format("{:.6f}", static_cast<double>(*value) / *by) : std::string();
  };
  const auto number = [&](Counter counter) {
    const auto& value = counts.of(counter);
    return value ? std::optional(static_cast<double>(*value)) : std::nullopt;
  };
  using enum Counter;
  return fmt::format("{},{},{},{},{},{},{},{},{},{},{},{}", count(kL1Misses), count(kL1References),
                     ratio(kL1Misses, number(kL1References)), count(kLlcMisses), count(kLlcReferences),
                     ratio(kLlcMisses, number(kLlcReferences)), count(kTlbMisses), count(kCycles), count(kInstructions),
                     ratio(kInstructions, number(kCycles)), ratio(kCycles, static_cast<double>(bytes)),
                     count(kContextSwitches));
}

std::string ns_and_us(double ns) { return fmt::format("{:.0f},{:.3f}", ns, ns / 1e3); }

const char* part_name(Part part) { return part == Part::kLatency ? "latency" : "bandwidth"; }

std::string share(std::uint64_t used, std::uint64_t wall) {
  return wall == 0 ? "-" : fmt::format("{:.1f} %", 100.0 * static_cast<double>(used) / static_cast<double>(wall));
}

std::size_t failed(const StudyResult& result) {
  return static_cast<std::size_t>(std::ranges::count_if(result.rows, [](const Row& row) { return !row.success; }));
}

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

}  // namespace

Statistics statistics_of(std::vector<double> values) {
  Statistics out;
  if (values.empty()) return out;
  std::ranges::sort(values);
  const auto count = static_cast<double>(values.size());
  const auto at = [&](double fraction) {
    const auto rank = static_cast<std::size_t>(std::ceil(fraction * count - 1e-9));
    return values[std::clamp<std::size_t>(rank, 1, values.size()) - 1];
  };
  out.count = values.size();
  out.min = values.front();
  out.max = values.back();
  double sum = 0;
  for (const double value : values) sum += value;
  out.mean = sum / count;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  out.stddev = values.size() < 2 ? 0 : std::sqrt(squares / (count - 1));
  out.p50 = at(0.50);
  out.p90 = at(0.90);
  out.p95 = at(0.95);
  out.p99 = at(0.99);
  return out;
}

std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::kHostWrite: return "host write";
    case Phase::kHot: return "pure read, hot";
    case Phase::kCold: return "pure read, cold";
    case Phase::kCopy: return "read+write copy";
    case Phase::kVerify: return "SHA-256";
    case Phase::kRoundTrip: return "round trip";
    case Phase::kNotification: return "notification (est.)";
    case Phase::kTotal: return "host write + round trip";
  }
  return "unknown";
}

std::string_view key_of(Phase phase) {
  switch (phase) {
    case Phase::kHostWrite: return "host_write_ns";
    case Phase::kHot: return "read_hot_ns";
    case Phase::kCold: return "read_cold_ns";
    case Phase::kCopy: return "read_write_ns";
    case Phase::kVerify: return "verify_ns";
    case Phase::kRoundTrip: return "round_trip_ns";
    case Phase::kNotification: return "notification_est_ns";
    case Phase::kTotal: return "total_ns";
  }
  return "unknown";
}

double value_of(const Row& row, Phase phase) {
  switch (phase) {
    case Phase::kHostWrite: return row.host_write;
    case Phase::kHot: return row.hot;
    case Phase::kCold: return row.cold;
    case Phase::kCopy: return row.copy;
    case Phase::kVerify: return row.verify;
    case Phase::kRoundTrip: return row.round_trip;
    case Phase::kNotification: return row.notification();
    case Phase::kTotal: return row.total();
  }
  return 0;
}

Statistics phase_statistics(const StudyResult& result, Part part, Mode mode, std::size_t frame, Phase phase) {
  std::vector<double> values;
  for (const Row* row : rows_of(result, part, mode, frame)) {
    if (row->success) values.push_back(value_of(*row, phase));
  }
  return statistics_of(std::move(values));
}

std::optional<double> ratio_to_threads(const StudyResult& result, Part part, Mode mode, std::size_t frame,
                                       Phase phase) {
  const Statistics floor = phase_statistics(result, part, Mode::kThreads, frame, phase);
  const Statistics own = phase_statistics(result, part, mode, frame, phase);
  if (floor.count == 0 || own.count == 0 || floor.p50 <= 0) return {};
  return own.p50 / floor.p50;
}

std::string bottleneck(const StudyResult& result, const StudyOptions& options, Mode mode) {
  const auto median = [&](Phase phase) {
    return phase_statistics(result, Part::kLatency, mode, options.latency_frame, phase);
  };
  const Statistics write = median(Phase::kHostWrite), read = median(Phase::kCold), copy = median(Phase::kCopy),
                   notification = median(Phase::kNotification);
  if (write.count == 0) return {};
  // The copy reads, too: what its reading costs is what the pure read has shown.
  const double local_write = std::max(0.0, copy.p50 - read.p50);
  struct Suspect {
    const char* name;
    double ns;
  };
  std::array<Suspect, 4> suspects{{{"the host's write into the shared memory", write.p50},
                                   {"the guest's reading of the shared memory", std::min(read.p50, copy.p50)},
                                   {"the guest's writing of its own memory", local_write},
                                   {"the notification", notification.p50}}};
  double sum = 0;
  for (const Suspect& suspect : suspects) sum += suspect.ns;
  std::ranges::sort(suspects, std::ranges::greater{}, &Suspect::ns);
  if (sum <= 0) return {};
  return fmt::format(
      "{} takes the most: {:.1f} us of {:.1f} us ({:.0f} %), then {} with {:.1f} us. The copy takes {:.2f} times as "
      "long as "
      "the pure read.",
      suspects[0].name, suspects[0].ns / 1e3, sum / 1e3, 100 * suspects[0].ns / sum, suspects[1].name,
      suspects[1].ns / 1e3, read.p50 > 0 ? copy.p50 / read.p50 : 0);
}

std::string latency_csv(const StudyResult& result, Mode mode) {
  std::string text =
      "iteration,host_memcpy_ns,host_memcpy_us,roundtrip_ns,roundtrip_us,guest_memcpy_ns,guest_memcpy_us,"
      "guest_verify_ns,guest_verify_us,guest_hot_cache_ns,guest_hot_cache_us,guest_cold_cache_ns,guest_cold_cache_us,"
      "guest_second_pass_ns,guest_second_pass_us,guest_cached_verify_ns,guest_cached_verify_us,notification_est_ns,"
      "notification_est_us,total_ns,total_us,success\n";
  for (const Row* row : rows_of(result, Part::kLatency, mode)) {
    text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{}\n", row->iteration, ns_and_us(row->host_write),
                        ns_and_us(row->round_trip), ns_and_us(row->copy), ns_and_us(row->verify), ns_and_us(row->hot),
                        ns_and_us(row->cold), ns_and_us(row->copy), ns_and_us(row->verify),
                        ns_and_us(row->notification()), ns_and_us(row->total()), row->success ? 1 : 0);
  }
  return text;
}

std::string latency_counters_csv(const StudyResult& result, const StudyOptions& options, Mode mode) {
  std::string text = fmt::format("iteration,{}\n", kCounterColumns);
  for (const Row* row : rows_of(result, Part::kLatency, mode)) {
    const std::uint64_t bytes = options.frames[row->frame].bytes();
    text += fmt::format("{},{},{}\n", row->iteration, counter_fields(row->host_counts, bytes),
                        counter_fields(row->guest_counts, bytes));
  }
  return text;
}

std::string bandwidth_csv(const StudyResult& result, const StudyOptions& options, Mode mode) {
  std::string text =
      "iteration,frame_type,width,height,bpp,size_bytes,size_mb,host_memcpy_ns,host_memcpy_ms,host_memcpy_mbps,"
      "roundtrip_ns,roundtrip_ms,guest_memcpy_ns,guest_memcpy_ms,guest_memcpy_mbps,guest_verify_ns,guest_verify_ms,"
      "total_ns,total_ms,total_mbps,success\n";
  const auto ns_and_ms = [](double ns) { return fmt::format("{:.0f},{:.6f}", ns, ns / 1e6); };
  for (const Row* row : rows_of(result, Part::kBandwidth, mode)) {
    const Frame& frame = options.frames[row->frame];
    const auto bytes = static_cast<double>(frame.bytes());
    text += fmt::format("{},{},{},{},{},{},{:.2f},{},{:.2f},{},{},{:.2f},{},{},{:.2f},{}\n", row->iteration, frame.name,
                        frame.width, frame.height, frame.bits, frame.bytes(), bytes / kMega, ns_and_ms(row->host_write),
                        bandwidth(bytes, row->host_write), ns_and_ms(row->round_trip), ns_and_ms(row->copy),
                        bandwidth(bytes, row->copy), ns_and_ms(row->verify), ns_and_ms(row->total()),
                        bandwidth(bytes, row->total()), row->success ? 1 : 0);
  }
  return text;
}

std::string bandwidth_counters_csv(const StudyResult& result, const StudyOptions& options, Mode mode) {
  std::string text = fmt::format("iteration,frame_type,{}\n", kCounterColumns);
  for (const Row* row : rows_of(result, Part::kBandwidth, mode)) {
    const Frame& frame = options.frames[row->frame];
    text += fmt::format("{},{},{},{}\n", row->iteration, frame.name, counter_fields(row->host_counts, frame.bytes()),
                        counter_fields(row->guest_counts, frame.bytes()));
  }
  return text;
}

std::string to_text(const StudyResult& result, const StudyOptions& options) {
  std::string text;
  if (result.ended) {
    text += fmt::format("INCOMPLETE: {}: {}\nWhat follows is of the messages before that.\n\n", result.ended_where,
                        result.ended->message);
  }
  const Frame& latency = options.frames[options.latency_frame];
  for (const Part part : {Part::kLatency, Part::kBandwidth}) {
    for (std::size_t frame = 0; frame < options.frames.size(); ++frame) {
      if (part == Part::kLatency && frame != options.latency_frame) continue;
      const Frame& what = options.frames[frame];
      for (const Mode mode : options.modes) {
        const auto rows = rows_of(result, part, mode, frame);
        if (rows.empty()) continue;
        const auto right = std::ranges::count_if(rows, [](const Row* row) { return row->success; });
        text += fmt::format("{}, {}: {} ({}x{}, {} bits, {:.2f} MB), {} of {} messages verified\n", part_name(part),
                            name_of(mode), what.name, what.width, what.height, what.bits,
                            static_cast<double>(what.bytes()) / kMega, right, rows.size());
        text += fmt::format("  {:<24}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}{:>10}{:>10}{:>9}\n", "us", "p50", "p90",
                            "p95", "p99", "min", "max", "mean", "stddev", "GB/s", "floor");
        for (const Phase phase : kPhases) {
          const Statistics all = phase_statistics(result, part, mode, frame, phase);
          if (all.count == 0) continue;
          const bool moves = phase != Phase::kNotification;
          const auto ratio = mode == Mode::kThreads ? std::nullopt : ratio_to_threads(result, part, mode, frame, phase);
          text += fmt::format(
              "  {:<24}{:>11.1f}{:>11.1f}{:>11.1f}{:>11.1f}{:>11.1f}{:>11.1f}{:>11.1f}{:>10.1f}{:>10}{:>9}\n",
              name_of(phase), all.p50 / 1e3, all.p90 / 1e3, all.p95 / 1e3, all.p99 / 1e3, all.min / 1e3, all.max / 1e3,
              all.mean / 1e3, all.stddev / 1e3,
              moves && all.p50 > 0 ? fmt::format("{:.2f}", static_cast<double>(what.bytes()) / all.p50) : "",
              ratio ? fmt::format("{:.3f}x", *ratio) : "");
        }
        text += '\n';
      }
    }
  }
  text += "Floor: the same loops between two threads of the host on the same memory, in the same run (medians).\n";
  for (const Mode mode : options.modes) {
    if (mode == Mode::kThreads) continue;
    for (const Phase phase : {Phase::kHostWrite, Phase::kHot, Phase::kCold}) {
      const auto ratio = ratio_to_threads(result, Part::kLatency, mode, options.latency_frame, phase);
      if (!ratio) continue;
      constexpr double kTarget = 1.05;
      text += fmt::format("  {}, {}, {}: {:.3f} times the floor, {} 5 %\n", name_of(mode), latency.name, name_of(phase),
                          *ratio, *ratio <= kTarget ? "within" : "not within");
    }
  }
  text += "\nWaking each other\n";
  for (const Mode mode : options.modes) {
    const CpuUse& cpu = result.cpu[static_cast<std::size_t>(mode)];
    const Statistics notification =
        phase_statistics(result, Part::kLatency, mode, options.latency_frame, Phase::kNotification);
    if (notification.count == 0) continue;
    text += fmt::format("  {:<10} notification p50 {:.1f} us, p99 {:.1f} us; processor: host {}, guest {}\n",
                        name_of(mode), notification.p50 / 1e3, notification.p99 / 1e3, share(cpu.host_ns, cpu.wall_ns),
                        cpu.guest_ns ? share(*cpu.guest_ns, cpu.wall_ns) : "not known");
  }
  text += "\nBottleneck\n";
  for (const Mode mode : options.modes) {
    if (const std::string what = bottleneck(result, options, mode); !what.empty()) {
      text += fmt::format("  {}: {}\n", name_of(mode), what);
    }
  }
  text += fmt::format("\nCounters: {}\n", result.why_not_counted.empty()
                                              ? "all of them were counted"
                                              : "empty where there is none; " + result.why_not_counted);
  if (const std::size_t bad = failed(result); bad != 0)
    text += fmt::format("{} frames arrived with a wrong hash.\n", bad);
  return text;
}

std::string to_json(const StudyResult& result, const StudyOptions& options, int exit_code) {
  using nlohmann::json;
  json blocks = json::array();
  for (const Part part : {Part::kLatency, Part::kBandwidth}) {
    for (std::size_t frame = 0; frame < options.frames.size(); ++frame) {
      for (const Mode mode : options.modes) {
        const auto rows = rows_of(result, part, mode, frame);
        if (rows.empty()) continue;
        json block{{"part", part_name(part)},
                   {"mode", name_of(mode)},
                   {"frame", options.frames[frame].name},
                   {"frame_bytes", options.frames[frame].bytes()},
                   {"messages", rows.size()},
                   {"verified", std::ranges::count_if(rows, [](const Row* row) { return row->success; })}};
        for (const Phase phase : kPhases) {
          const Statistics all = phase_statistics(result, part, mode, frame, phase);
          json& one = block["phases"][std::string(key_of(phase))];
          one = {{"p50", all.p50}, {"p90", all.p90}, {"p95", all.p95},   {"p99", all.p99},
                 {"min", all.min}, {"max", all.max}, {"mean", all.mean}, {"stddev", all.stddev}};
          if (const auto ratio = ratio_to_threads(result, part, mode, frame, phase)) one["ratio_to_threads"] = *ratio;
        }
        blocks.push_back(std::move(block));
      }
    }
  }
  json modes = json::object();
  for (const Mode mode : options.modes) {
    const CpuUse& cpu = result.cpu[static_cast<std::size_t>(mode)];
    modes[std::string(name_of(mode))] = {{"wall_ns", cpu.wall_ns},
                                         {"host_cpu_ns", cpu.host_ns},
                                         {"guest_cpu_ns", cpu.guest_ns ? json(*cpu.guest_ns) : json()},
                                         {"bottleneck", bottleneck(result, options, mode)}};
  }
  return json{{"exit_code", exit_code},
              {"complete", !result.ended},
              {"ended", result.ended ? json(fmt::format("{}: {}", result.ended_where, result.ended->message)) : json()},
              {"wrong_hashes", failed(result)},
              {"counters_missing", result.why_not_counted.empty() ? json() : json(result.why_not_counted)},
              {"modes", std::move(modes)},
              {"blocks", std::move(blocks)}}
      .dump(2);
}

namespace {

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
