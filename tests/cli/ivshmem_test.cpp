// warmfork ivshmem: the study of shared memory, its files, and a guest that is another process.
#include "process.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class IvshmemCli : public CliKvmTest {};

TEST_F(IvshmemCli, WritesItsFiles) {
  const std::string out = path("results");
  const Ended ended =
      run_cli({"ivshmem", "--frame", "1080p", "--messages", "2", "--iterations", "1", "--out", out, "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto json = nlohmann::json::parse(ended.out);
  EXPECT_TRUE(json["complete"]);
  EXPECT_EQ(json["blocks"].size(), 6U);
  EXPECT_EQ(json["blocks"][0]["mode"], "threads");
  EXPECT_TRUE(json["blocks"][1]["phases"]["read_cold_ns"].contains("ratio_to_threads"));
  for (const std::string end : {".csv", ".threads.csv", ".doorbell.csv"}) {
    for (const std::string name :
         {"latency_results", "latency_performance", "bandwidth_results", "bandwidth_performance"}) {
      EXPECT_THAT(read_text(out + "/" + name + end), StartsWith("iteration,")) << name << end;
    }
  }
  EXPECT_THAT(read_text(out + "/performance_report.txt"), HasSubstr("Bottleneck\n"));
  EXPECT_FALSE(std::filesystem::exists(out + "/INCOMPLETE"));
  if (ended.err.find("gnuplot") != std::string::npos) return;  // it is not installed, and it was said
  for (const std::string name :
       {"latency_histogram", "latency_over_time", "latency_percentiles", "bandwidth_analysis"}) {
    EXPECT_GT(std::filesystem::file_size(out + "/" + name + ".png"), 0U);
    EXPECT_GT(std::filesystem::file_size(out + "/" + name + ".svg"), 0U);
  }
}

class IvshmemFileCli : public CliTest {};

TEST_F(IvshmemFileCli, TheGuestIsAnotherProcess) {
  for (const bool peer_first : {true, false}) {
    const std::string file = path(peer_first ? "a" : "b");
    const Arguments peer_arguments{"ivshmem", "--peer", file, "--memory", "16M", "--sessions", "2"};
    const Arguments host_arguments{"ivshmem", "--attach",      file,         "--memory", "16M",
                                   "--frame", "1080p",         "--messages", "1",        "--iterations",
                                   "1",       "--no-baseline", "--json"};
    Process first(peer_first ? peer_arguments : host_arguments);
    for (int i = 0; i < 1000 && !std::filesystem::exists(file); ++i) ::usleep(1000);
    Process second(peer_first ? host_arguments : peer_arguments);
    const Ended one = first.wait(), other = second.wait();
    EXPECT_EQ(one.code, 0) << one.err;
    EXPECT_EQ(other.code, 0) << other.err;
    const auto json = nlohmann::json::parse(peer_first ? other.out : one.out);
    EXPECT_EQ(json["blocks"].size(), 2U);
    EXPECT_EQ(json["wrong_hashes"], 0);
  }
}

TEST_F(IvshmemFileCli, CtrlCLeavesFilesThatSayTheyAreNotComplete) {
  const std::string file_path = path("memory"), out = path("results");
  Process host(
      {"ivshmem", "--attach", file_path, "--memory", "16M", "--frame", "1080p", "--no-baseline", "--out", out});
  for (int i = 0; i < 1000 && !std::filesystem::exists(file_path); ++i) ::usleep(1000);
  ::usleep(50'000);
  host.send(SIGINT);
  EXPECT_EQ(host.wait().code, 130);
  EXPECT_THAT(read_text(out + "/INCOMPLETE"), HasSubstr("interrupted"));
  EXPECT_THAT(read_text(out + "/performance_report.txt"), StartsWith("INCOMPLETE: "));
  EXPECT_THAT(read_text(out + "/latency_results.csv"), StartsWith("iteration,"));
}

TEST_F(IvshmemFileCli, BadInputIsRefusedByName) {
  const auto refused = [&](Arguments arguments, int code, const std::string& why) {
    arguments.insert(arguments.begin(), "ivshmem");
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, code) << why;
    EXPECT_THAT(ended.err + ended.out, HasSubstr(why));
  };
  refused({"--frame", "8k"}, 2, "8k");
  refused({"--messages", "0"}, 2, "0");
  refused({"--wake", "bell"}, 2, "bell");
  refused({"--guest", "qemu"}, 2, "qemu");
  refused({"--timeout", "0"}, 2, "no time at all");
  refused({"--attach", path("x"), "--wake", "doorbell"}, 2, "ivshmem-plain has none");
  refused({"--attach", path("x"), "--peer", path("y")}, 2, "excludes");
  refused({"--out", file("plain", "")}, 2, "cannot be a directory");
  refused({"--attach", path("x"), "--memory", "4M"}, 2, "a frame of 24883200 needs at least 26980352");
  EXPECT_FALSE(std::filesystem::exists(path("x"))) << "it is not made for nothing";
  refused({"--peer", path("no/such")}, 3, "No such file");
  refused({"--peer", file("empty", "")}, 3, "an empty file");
  refused({"--peer", file("odd", "12345")}, 3, "5 bytes are not whole pages");
  refused({"--peer", path("z"), "--memory", "4M", "--timeout", "20ms"}, 7, "nothing has come from a host for 20 ms");
  refused({"--attach", path("w"), "--frame", "1080p", "--memory", "16M", "--timeout", "20ms", "--no-baseline"}, 7,
          "no guest has joined within 20 ms");
}

}  // namespace
}  // namespace warmfork::test
