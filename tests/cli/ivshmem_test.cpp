// warmfork ivshmem: the study of shared memory, its files, and a guest that is another process.
#include "ivshmem/protocol.hpp"
#include "process.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
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

class IvshmemFileCli : public CliTest {
 protected:
  /// Until messages go back and forth: their number is in the host's state word.
  static void wait_for_messages(const std::string& memory) {
    std::uint64_t word = 0;
    for (int i = 0; i < 10'000 && (word >> 8 & 0xffffff) < 2; ++i, ::usleep(1000)) {
      std::ifstream in(memory, std::ios::binary);
      in.seekg(offsetof(ivshmem::HostPage, state));
      in.read(reinterpret_cast<char*>(&word), sizeof word);
    }
  }
};

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
    EXPECT_THAT(json["modes"]["polling"]["guest"].get<std::string>(), StartsWith("process "));
    EXPECT_THAT((peer_first ? one : other).err, HasSubstr("2 sessions, 2 frames, 2 verified"));
    EXPECT_FALSE(std::filesystem::exists(file)) << "the last one removes it";
  }
}

TEST_F(IvshmemFileCli, APeerThatIsStoppedLetsTheHostGoAtOnce) {
  const std::string memory = path("memory");
  Process host({"ivshmem", "--attach", memory, "--memory", "16M", "--frame", "1080p", "--messages", "1000000",
                "--no-baseline", "--timeout", "10m"});
  Process peer({"ivshmem", "--peer", memory, "--memory", "16M"});
  wait_for_messages(memory);
  peer.send(SIGINT);
  EXPECT_EQ(peer.wait().code, 130);
  const Ended ended = host.wait(30);
  EXPECT_EQ(ended.code, 5);
  EXPECT_THAT(ended.err, HasSubstr("the guest has left the session"));
  EXPECT_FALSE(std::filesystem::exists(memory));
}

// Who touches what is gone gets SIGBUS. Cut in the midst of a frame, and behind nothing.
TEST_F(IvshmemFileCli, AFileThatIsShortenedEndsBothSidesWithWhatTheyHave) {
  for (const std::uintmax_t left : {std::uintmax_t{4} << 20, std::uintmax_t{0}}) {
    const std::string memory = path("memory"), out = path("results");
    Process host({"ivshmem", "--attach", memory, "--memory", "16M", "--frame", "1080p", "--messages", "1000000",
                  "--no-baseline", "--timeout", "10m", "--json", "--out", out});
    Process peer({"ivshmem", "--peer", memory, "--memory", "16M", "--timeout", "10m"});
    wait_for_messages(memory);
    std::filesystem::resize_file(memory, left);
    const Ended ended = host.wait(30), other = peer.wait(30);
    EXPECT_EQ(ended.code, 3) << left;
    EXPECT_THAT(ended.err, HasSubstr(memory + ": somebody has shortened it\n"));
    const auto json = nlohmann::json::parse(ended.out, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << ended.out;
    EXPECT_EQ(json["exit_code"], 3);
    EXPECT_FALSE(json["complete"]);
    EXPECT_GE(json["blocks"][0]["messages"], 1);
    EXPECT_THAT(read_text(out + "/INCOMPLETE"), HasSubstr("somebody has shortened it"));
    EXPECT_EQ(other.code, 3) << left << other.err;
    EXPECT_THAT(other.err, HasSubstr("warmfork: " + memory + ": somebody has shortened it\n"));
    std::filesystem::remove(memory);
  }
}

TEST_F(IvshmemFileCli, ASecondHostIsRefused) {
  const std::string memory = path("memory");
  Process host(
      {"ivshmem", "--attach", memory, "--memory", "16M", "--frame", "1080p", "--no-baseline", "--timeout", "1m"});
  // It has its lock once it has written its page.
  std::uint64_t magic = 0;
  for (int i = 0; i < 10'000 && magic != ivshmem::kMagic; ++i, ::usleep(1000)) {
    std::ifstream(memory, std::ios::binary).read(reinterpret_cast<char*>(&magic), sizeof magic);
  }
  const Ended second = run_cli({"ivshmem", "--attach", memory, "--frame", "1080p", "--no-baseline"});
  EXPECT_EQ(second.code, 3);
  EXPECT_THAT(second.err, HasSubstr("another host is using it"));
  host.send(SIGINT);
  EXPECT_EQ(host.wait().code, 130);
  EXPECT_FALSE(std::filesystem::exists(memory)) << "after Ctrl-C, too";
}

TEST_F(IvshmemFileCli, ThePeerForOtherGuestsIsWrittenAndRuns) {
  const std::string program = path("peer"), image = path("image"), memory = path("memory");
  const Ended saved = run_cli({"ivshmem", "--save-peer", program, "--save-initramfs", image});
  ASSERT_EQ(saved.code, 0) << saved.err;
  EXPECT_THAT(read_text(image), StartsWith("070701"));
  // A static program for any Linux: also for this one, in the file itself.
  Process host({"ivshmem", "--attach", memory, "--memory", "16M", "--frame", "1080p", "--messages", "1", "--iterations",
                "1", "--no-baseline", "--json", "--timeout", "1m"});
  for (int i = 0; i < 10'000 && !std::filesystem::exists(memory); ++i) ::usleep(1000);
  for (int i = 0; i < 10'000 && std::filesystem::file_size(memory) == 0; ++i) ::usleep(1000);
  EXPECT_EQ(std::system((program + " --sessions 2 " + memory + " >" + path("said")).c_str()), 0);
  EXPECT_THAT(read_text(path("said")), HasSubstr("ended: 2 sessions, 2 frames, 2 verified"));
  const Ended ended = host.wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(nlohmann::json::parse(ended.out)["modes"]["polling"]["guest"].get<std::string>(), HasSubstr("Linux "));
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
  refused({"--peer", file("other", std::string(4 << 20, 'x'))}, 3, "holds something else");
  refused({"--save-peer", path("p"), "--attach", path("x")}, 2, "excludes");
  refused({"--peer", path("z"), "--memory", "4M", "--timeout", "20ms"}, 7, "nothing has come from a host for 20 ms");
  refused({"--attach", path("w"), "--frame", "1080p", "--memory", "16M", "--timeout", "20ms", "--no-baseline"}, 7,
          "no guest has joined within 20 ms");
  EXPECT_FALSE(std::filesystem::exists(path("z")) || std::filesystem::exists(path("w"))) << "nothing is left behind";
}

}  // namespace
}  // namespace warmfork::test
