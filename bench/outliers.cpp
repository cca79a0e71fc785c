#include "bench/outliers.hpp"

#include "base/file.hpp"
#include "bench/figure_text.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <string_view>

namespace warmfork::bench {
namespace {

// The n-th number of a line of them; the words before the first do not count.
Result<std::uint64_t> number_at(std::string_view line, std::size_t index, const char* where) {
  const char* at = line.data();
  const char* end = at + line.size();
  for (std::size_t i = 0;; ++i) {
    while (at != end && *at == ' ') ++at;
    std::uint64_t value = 0;
    const auto [after, error] = std::from_chars(at, end, value);
    if (error != std::errc{}) return fail(ErrorKind::kHost, "{}: no number {} in \"{}\"", where, index, line);
    if (i == index) return value;
    at = after;
  }
}

Result<std::string> read_text(const char* path) {
  constexpr std::size_t kLargest = std::size_t{1} << 20;
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(path, kLargest));
  // SAFETY: bytes viewed as characters, for the lifetime of the vector.
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

void attribute(const TimedCall& call, double mean_ns, double ns_per_tick, Causes& causes) {
  const auto count = [&causes](Cause cause, double ns) {
    CauseCount& entry = causes[static_cast<std::size_t>(cause)];
    ++entry.count;
    entry.worst_ns = std::max(entry.worst_ns, ns);
  };
  std::vector<double> unexplained;
  for (std::size_t i = 0; i < call.runs.size(); ++i) {
    const lc3::TimedRun& run = call.runs[i];
    const double ns = static_cast<double>(run.ticks) * ns_per_tick;
    if (ns <= kOutlierFactor * mean_ns) continue;
    if (run.attached != 0 || (call.compiled && i + 1 == call.runs.size())) {
      count(Cause::kCompile, ns);
    } else if (run.lost != 0) {
      count(Cause::kInvalidation, ns);
    } else if (i == 0) {
      count(Cause::kEntry, ns);
    } else {
      unexplained.push_back(ns);
    }
  }
  std::ranges::sort(unexplained, std::greater{});
  auto stolen = static_cast<double>(call.stolen_ns);
  std::uint64_t exits = call.exits;
  for (const double ns : unexplained) {
    const double excess = ns - mean_ns;
    if (stolen >= excess / 2) {
      stolen = std::max(0.0, stolen - excess);
      count(Cause::kStolen, ns);
    } else if (exits > 0) {
      --exits;
      count(Cause::kExit, ns);
    } else {
      count(Cause::kUnattributed, ns);
    }
  }
}

void add_counters(const Causes& causes, Figure& figure) {
  std::uint64_t outliers = 0;
  for (std::size_t i = 0; i < causes.size(); ++i) {
    outliers += causes[i].count;
    figure.counters[kCauseNames[i]] = static_cast<double>(causes[i].count);
    figure.counters[std::string(kCauseNames[i]) + "_worst_ns"] = causes[i].worst_ns;
  }
  figure.counters["outliers"] = static_cast<double>(outliers);
}

std::string outlier_table(const std::vector<Figure>& figures) {
  constexpr std::string_view kTitle = "runs longer than 3 x mean";
  std::size_t width = kTitle.size();
  for (const Figure& figure : figures) {
    if (figure.counters.contains("outliers")) width = std::max(width, figure.name.size());
  }
  std::string text;
  for (const Figure& figure : figures) {
    if (!figure.counters.contains("outliers")) continue;
    if (text.empty()) {
      text = fmt::format("{:<{}}  {:>10} {:>9}", kTitle, width, "of runs", "outliers");
      for (const char* cause : kCauseNames) text += fmt::format(" {:>18}", cause);
      text += "  (how many, the longest)\n";
    }
    text += fmt::format("{:<{}}  {:>10} {:>9}", figure.name, width, figure.samples, figure.counters.at("outliers"));
    for (const char* cause : kCauseNames) {
      const double count = figure.counters.at(cause);
      std::string cell = "-";
      std::size_t extra = 0;
      if (count > 0) {
        cell = fmt::format("{}, {}", count, format_value(figure.counters.at(std::string(cause) + "_worst_ns"), "ns"));
        extra = cell.find("µ") == std::string::npos ? 0 : 1;  // two bytes, one column
      }
      text += fmt::format(" {:>{}}", cell, 18 + extra);
    }
    text += "\n";
  }
  return text;
}

Result<Interruptions> Interruptions::now(const kvm::VcpuFd& vcpu, int cpu) {
  Interruptions counted;
  WARMFORK_TRY_ASSIGN(const std::string schedstat, read_text("/proc/thread-self/schedstat"));
  WARMFORK_TRY_ASSIGN(counted.stolen_ns, number_at(schedstat, 1, "/proc/thread-self/schedstat"));
  WARMFORK_TRY_ASSIGN(const std::string stat, read_text("/proc/stat"));
  const std::string name = fmt::format("\ncpu{} ", cpu);
  const std::size_t at = stat.find(name);
  if (at == std::string::npos) return fail(ErrorKind::kHost, "/proc/stat: no CPU {}", cpu);
  const std::string_view line = std::string_view(stat).substr(at + name.size());
  constexpr std::size_t kSteal = 7;  // proc_stat(5)
  WARMFORK_TRY_ASSIGN(const std::uint64_t steal, number_at(line.substr(0, line.find('\n')), kSteal, "/proc/stat"));
  counted.stolen_ns += steal * (1'000'000'000U / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)));
  counted.exits = vcpu.statistic("irq_exits").value_or(0);
  return counted;
}

}  // namespace warmfork::bench
