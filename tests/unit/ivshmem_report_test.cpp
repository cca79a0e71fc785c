// What is made of a study: statistics, the tables and files of a report, what it says is slow.
#include "ivshmem/host/report.hpp"
#include "ivshmem/host/statistics.hpp"
#include "ivshmem/host/study.hpp"

#include <gmock/gmock.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace warmfork::ivshmem {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(IvshmemStatistics, OfKnownValues) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Statistics all = statistics_of(values);
  EXPECT_EQ(all.count, 100U);
  EXPECT_EQ(all.p50, 50);
  EXPECT_EQ(all.p90, 90);
  EXPECT_EQ(all.p95, 95);
  EXPECT_EQ(all.p99, 99);
  EXPECT_EQ(all.min, 1);
  EXPECT_EQ(all.max, 100);
  EXPECT_DOUBLE_EQ(all.mean, 50.5);
  EXPECT_NEAR(all.stddev, 29.011491975882016, 1e-9);
  EXPECT_EQ(statistics_of({7}).p99, 7);
  EXPECT_EQ(statistics_of({7}).stddev, 0);
  EXPECT_EQ(statistics_of({}).count, 0U);
}

StudyResult known_result() {
  StudyResult result;
  for (const Mode mode : {Mode::kThreads, Mode::kPolling}) {
    for (const Part part : {Part::kLatency, Part::kBandwidth}) {
      Row row{.part = part, .mode = mode, .iteration = 1};
      row.host_write = 1000;
      row.hot = 2000;
      row.cold = mode == Mode::kPolling ? 3000 : 2500;
      row.copy = 9000;
      row.verify = 4000;
      row.guest_total = 20000;
      row.round_trip = 20500;
      row.success = true;
      row.host_counts.values[static_cast<std::size_t>(Counter::kCycles)] = 5000;
      row.host_counts.values[static_cast<std::size_t>(Counter::kInstructions)] = 10000;
      result.rows.push_back(row);
    }
  }
  return result;
}
StudyOptions known_options() {
  StudyOptions options;
  options.frames = {{.name = "small", .width = 64, .height = 32}};
  options.latency_frame = 0;
  options.modes = {Mode::kThreads, Mode::kPolling};
  return options;
}

TEST(IvshmemReport, ColumnsAndValues) {
  const StudyResult result = known_result();
  const StudyOptions options = known_options();
  EXPECT_EQ(latency_csv(result, Mode::kPolling),
            "iteration,host_memcpy_ns,host_memcpy_us,roundtrip_ns,roundtrip_us,guest_memcpy_ns,guest_memcpy_us,"
            "guest_verify_ns,guest_verify_us,guest_hot_cache_ns,guest_hot_cache_us,guest_cold_cache_ns,"
            "guest_cold_cache_us,guest_second_pass_ns,guest_second_pass_us,guest_cached_verify_ns,"
            "guest_cached_verify_us,notification_est_ns,notification_est_us,total_ns,total_us,success\n"
            "1,1000,1.000,20500,20.500,9000,9.000,4000,4.000,2000,2.000,3000,3.000,9000,9.000,4000,4.000,500,0.500,"
            "21500,21.500,1\n");
  EXPECT_EQ(bandwidth_csv(result, options, Mode::kPolling),
            "iteration,frame_type,width,height,bpp,size_bytes,size_mb,host_memcpy_ns,host_memcpy_ms,host_memcpy_mbps,"
            "roundtrip_ns,roundtrip_ms,guest_memcpy_ns,guest_memcpy_ms,guest_memcpy_mbps,guest_verify_ns,"
            "guest_verify_ms,total_ns,total_ms,total_mbps,success\n"
            "1,small,64,32,24,6144,0.01,1000,0.001000,5859.38,20500,0.020500,9000,0.009000,651.04,4000,0.004000,21500,"
            "0.021500,272.53,1\n");
  const std::string counters =
      "host_l1_cache_misses,host_l1_cache_references,host_l1_miss_rate,host_llc_misses,host_llc_references,"
      "host_llc_miss_rate,host_tlb_misses,host_cpu_cycles,host_instructions,host_ipc,host_cycles_per_byte,"
      "host_context_switches,guest_l1_cache_misses,guest_l1_cache_references,guest_l1_miss_rate,guest_llc_misses,"
      "guest_llc_references,guest_llc_miss_rate,guest_tlb_misses,guest_cpu_cycles,guest_instructions,guest_ipc,"
      "guest_cycles_per_byte,guest_context_switches\n";
  EXPECT_EQ(latency_counters_csv(result, options, Mode::kPolling),
            "iteration," + counters + "1,,,,,,,,5000,10000,2.000000,0.813802,,,,,,,,,,,,,\n");
  EXPECT_EQ(bandwidth_counters_csv(result, options, Mode::kPolling),
            "iteration,frame_type," + counters + "1,small,,,,,,,,5000,10000,2.000000,0.813802,,,,,,,,,,,,,\n");
}

TEST(IvshmemReport, NamesTheBottleneckAndTheFloor) {
  StudyResult result = known_result();
  const StudyOptions options = known_options();
  EXPECT_THAT(bottleneck(result, options, Mode::kPolling),
              StartsWith("the guest's writing of its own memory takes the most: 6.0 us of 10.5 us (57 %)"));
  EXPECT_DOUBLE_EQ(*ratio_to_threads(result, Part::kLatency, Mode::kPolling, 0, Phase::kCold), 1.2);
  EXPECT_THAT(to_text(result, options),
              HasSubstr("polling, small, pure read, cold: 1.200 times the floor, not within"));
  EXPECT_THAT(to_text(result, options), HasSubstr("polling, small, host write: 1.000 times the floor, within 5 %"));
  for (Row& row : result.rows) row.host_write = 50000;
  EXPECT_THAT(bottleneck(result, options, Mode::kPolling), StartsWith("the host's write into the shared memory"));
  EXPECT_EQ(bottleneck(result, options, Mode::kDoorbell), "");
}

TEST(IvshmemReport, AGuestIsComparedWithTheThreadsOfTheSameRound) {
  StudyResult result;
  // The machine becomes slower; most of the guest's messages are of the slow time, most of the threads' of the fast
  // one.
  const auto add = [&](Mode mode, std::uint64_t round, double ns, int messages) {
    for (int i = 0; i < messages; ++i) {
      Row row{.part = Part::kLatency, .mode = mode, .round = round, .success = true};
      row.hot = ns;
      result.rows.push_back(row);
    }
  };
  for (const auto& [round, speed] : {std::pair{0U, 100.0}, std::pair{1U, 200.0}, std::pair{2U, 1000.0}}) {
    add(Mode::kThreads, round, speed, round == 0 ? 9 : 1);
    add(Mode::kPolling, round, speed * 1.25, round == 2 ? 9 : 1);
  }
  add(Mode::kPolling, 3, 1, 100);  // without its floor, a round says nothing
  EXPECT_DOUBLE_EQ(*ratio_to_threads(result, Part::kLatency, Mode::kPolling, 0, Phase::kHot), 1.25);
  EXPECT_FALSE(ratio_to_threads(result, Part::kLatency, Mode::kDoorbell, 0, Phase::kHot));
}

TEST(IvshmemReport, WhatIsNotCompleteSaysSo) {
  std::string directory = ::testing::TempDir() + "/warmfork-ivshmem-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  StudyResult result = known_result();
  result.ended = Error{ErrorKind::kCancelled, "interrupted"};
  result.ended_where = "polling, small, message 2";
  ASSERT_TRUE(write_report(result, known_options(), directory, false));
  const auto text = [&](const std::string& name) {
    std::ifstream in(directory + "/" + name);
    std::stringstream all;
    all << in.rdbuf();
    return all.str();
  };
  EXPECT_EQ(text("INCOMPLETE"), "polling, small, message 2: interrupted\n");
  EXPECT_THAT(text("performance_report.txt"), StartsWith("INCOMPLETE: polling, small, message 2: interrupted\n"));
  EXPECT_EQ(text("latency_results.csv"), latency_csv(result, Mode::kPolling));
  EXPECT_EQ(text("latency_results.threads.csv"), latency_csv(result, Mode::kThreads));
  EXPECT_THAT(to_json(result, known_options(), 130), HasSubstr("\"complete\": false"));
  result.ended.reset();
  ASSERT_TRUE(write_report(result, known_options(), directory, false));
  EXPECT_FALSE(std::filesystem::exists(directory + "/INCOMPLETE"));
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
}

}  // namespace
}  // namespace warmfork::ivshmem
