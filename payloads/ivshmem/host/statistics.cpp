#include "ivshmem/host/statistics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

namespace warmfork::ivshmem {

std::vector<const Row*> rows_of(const StudyResult& result, Part part, Mode mode, std::optional<std::size_t> frame) {
  std::vector<const Row*> rows;
  for (const Row& row : result.rows) {
    if (row.part == part && row.mode == mode && (!frame || row.frame == *frame)) rows.push_back(&row);
  }
  return rows;
}

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
  std::map<std::uint64_t, std::array<std::vector<double>, 2>> rounds;  // the threads', its own
  for (const bool own : {false, true}) {
    for (const Row* row : rows_of(result, part, own ? mode : Mode::kThreads, frame)) {
      if (row->success) rounds[row->round][own ? 1 : 0].push_back(value_of(*row, phase));
    }
  }
  std::vector<double> ratios;
  for (auto& [round, values] : rounds) {
    const double floor = statistics_of(std::move(values[0])).p50;
    const Statistics own = statistics_of(std::move(values[1]));
    if (floor > 0 && own.count != 0) ratios.push_back(own.p50 / floor);
  }
  if (ratios.empty()) return {};
  return statistics_of(std::move(ratios)).p50;
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

}  // namespace warmfork::ivshmem
