// The study for people and for programs: text and JSON.
#include "ivshmem/host/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace warmfork::ivshmem {
namespace {

const char* part_name(Part part) { return part == Part::kLatency ? "latency" : "bandwidth"; }

std::string share(std::uint64_t used, std::uint64_t wall) {
  return wall == 0 ? "-" : fmt::format("{:.1f} %", 100.0 * static_cast<double>(used) / static_cast<double>(wall));
}

std::size_t failed(const StudyResult& result) {
  return static_cast<std::size_t>(std::ranges::count_if(result.rows, [](const Row& row) { return !row.success; }));
}

}  // namespace

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
  text +=
      "Floor: the same loops between two threads of the host on the same memory, in the same run; the median of the "
      "rounds.\n";
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
  text += "\nGuests, by the names that they give themselves\n";
  for (const Mode mode : options.modes) {
    const std::string& guest = result.guests[static_cast<std::size_t>(mode)];
    if (!guest.empty()) text += fmt::format("  {}: {}\n", name_of(mode), guest);
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
    const std::string& guest = result.guests[static_cast<std::size_t>(mode)];
    modes[std::string(name_of(mode))] = {{"guest", guest.empty() ? json() : json(guest)},
                                         {"wall_ns", cpu.wall_ns},
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

}  // namespace warmfork::ivshmem
