// The study's messages as CSV.
#include "ivshmem/host/report.hpp"

#include <fmt/format.h>

namespace warmfork::ivshmem {
namespace {

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

}  // namespace

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

}  // namespace warmfork::ivshmem
