// warmfork feed and replay.
#include "process.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace warmfork::test {
namespace {

using nlohmann::json;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class FeedTest : public CliTest {
 protected:
  // A feed of 2,000 packets in 20 ms.
  std::string make_feed(const Arguments& more = {}) {
    const std::string name = path("feed.pcap");
    Arguments words{"feed", "generate", name, "--packets", "2000", "--rate", "100k"};
    words.insert(words.end(), more.begin(), more.end());
    const Ended ended = run_cli(words);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return name;
  }
};

TEST_F(FeedTest, GenerateIsReproducibleAndInspectFindsWhatIsInIt) {
  const std::string feed = make_feed({"--gap-every", "500", "--heartbeat-every", "100", "--messages", "3"});
  const std::string content = read_text(feed);
  make_feed({"--gap-every", "500", "--heartbeat-every", "100", "--messages", "3"});
  EXPECT_EQ(read_text(feed), content);
  const Ended ended = run_cli({"feed", "inspect", feed, "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json result = json::parse(ended.out);
  const json& decoded = result.at("decoded");
  EXPECT_EQ(decoded.at("messages"), 6 + 3 * (1998 - 3));
  EXPECT_EQ(decoded.at("missing"), 9);
  EXPECT_EQ(decoded.at("heartbeats"), 20);
  EXPECT_EQ(decoded.at("malformed"), 0);
  EXPECT_EQ(decoded.at("by_type").at("S"), 6);
  EXPECT_EQ(result.at("captured").at("packets"), 2000 - 3 + 20 + 1);
  EXPECT_THAT(run_cli({"feed", "inspect", feed}).out, HasSubstr("missing 9 in 3 gaps"));
}

TEST_F(FeedTest, ReplayCertifiesWhatWasSent) {
  const std::string feed = make_feed({"--content", "raw"});
  const Ended ended = run_cli({"replay", feed, "--rate", "200k", "--loop", "3", "--json", "--max-late", "10s"});
  ASSERT_EQ(ended.code, 0) << ended.err << ended.out;
  const json certificate = json::parse(ended.out);
  EXPECT_EQ(certificate.at("verdict"), "passed");
  EXPECT_EQ(certificate.at("sent").at("packets"), 6000);
  EXPECT_EQ(certificate.at("sent").at("wire_bits"), 6000 * 672);
  EXPECT_EQ(certificate.at("late"), 0);
  EXPECT_GE(certificate.at("seconds").get<double>(), 5999 / 200e3) << "no packet is early";
  EXPECT_NEAR(certificate.at("wanted_packets_per_second").get<double>(), 200e3, 1);
  double previous = 0;
  for (const char* quantile : {"p50", "p90", "p99", "p999", "max"}) {
    EXPECT_GE(certificate.at("lateness_ns").at(quantile).get<double>(), previous) << quantile;
    previous = certificate.at("lateness_ns").at(quantile);
  }
  // 30 ms, in which it had to wait for most packets.
  const json& floor = certificate.at("lateness_floor_ns");
  EXPECT_LE(floor.at("p99"), floor.at("p999"));
  EXPECT_LE(floor.at("p999"), floor.at("max"));
  EXPECT_GT(certificate.at("waiting").at("seconds"), 0);
  EXPECT_LE(certificate.at("waiting").at("seconds"), certificate.at("seconds"));
  EXPECT_LE(certificate.at("waiting").at("stalled_seconds"), certificate.at("waiting").at("seconds"));
  const json& reader = certificate.at("readers").at(0);
  EXPECT_EQ(reader.at("received"), 6000);
  EXPECT_EQ(reader.at("bytes"), 6000 * 60);
  EXPECT_TRUE(certificate.at("disturbances").contains("involuntary_switches"));
}

TEST_F(FeedTest, ReplayAtEveryPace) {
  const std::string feed = make_feed();
  for (const Arguments& pace : std::vector<Arguments>{{},
                                                      {"--speed", "2"},
                                                      {"--line-rate", "1G"},
                                                      {"--rate", "50Mbps"},
                                                      {"--rate", "100kpps"},
                                                      {"--decode", "itch", "--readers", "2"},
                                                      {"--seconds", "50ms", "--readers", "0"}}) {
    Arguments words{"replay", feed};
    words.insert(words.end(), pace.begin(), pace.end());
    SCOPED_TRACE(testing::PrintToString(pace));
    const Ended ended = run_cli(words);
    EXPECT_EQ(ended.code, 0) << ended.err << ended.out;
    EXPECT_THAT(ended.out, EndsWith("passed\n"));
  }
  const json fastest = json::parse(run_cli({"replay", feed, "--max", "--readers", "0", "--json"}).out);
  EXPECT_EQ(fastest.at("sent").at("packets"), 2001);
  EXPECT_FALSE(fastest.contains("lateness_ns"));
  EXPECT_FALSE(fastest.contains("lateness_floor_ns"));
}

TEST_F(FeedTest, LatePacketsFailTheReplay) {
  const Ended ended = run_cli({"replay", make_feed(), "--max-late", "1ns"});
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("were late by more than 1 ns"));
  EXPECT_THAT(ended.out, EndsWith("failed\n"));
}

TEST_F(FeedTest, InterruptedReplaysHaveACertificate) {
  const std::string feed = make_feed();
  // It says nothing while it runs, and a signal before it is a replay ends it at once: then again, with more time.
  Ended ended;
  for (unsigned milliseconds = 500; milliseconds < 10'000; milliseconds *= 2) {
    Process process({"replay", feed, "--rate", "1k", "--seconds", "1m", "--json"});
    ::usleep(milliseconds * 1000);
    process.send(SIGINT);
    ended = process.wait();
    if (ended.code != -SIGINT) break;
  }
  ASSERT_EQ(ended.code, 130) << ended.err;
  EXPECT_LT(ended.seconds, 30);
  const json certificate = json::parse(ended.out);
  EXPECT_EQ(certificate.at("verdict"), "interrupted");
  EXPECT_EQ(certificate.at("exit_code"), 130);
  EXPECT_TRUE(certificate.at("failures").empty()) << certificate.at("failures");
  const auto packets = certificate.at("sent").at("packets").get<std::uint64_t>();
  EXPECT_GT(packets, 0u);
  EXPECT_EQ(certificate.at("readers").at(0).at("received").get<std::uint64_t>(), packets);
}

TEST_F(FeedTest, BadFilesAreNamed) {
  const std::string feed = make_feed();
  const std::string content = read_text(feed);
  const std::string cut = file("cut.pcap", std::string_view(content).substr(0, content.size() - 1));
  const Ended truncated = run_cli({"replay", cut, "--json"});
  EXPECT_EQ(truncated.code, 0) << truncated.err;
  const json certificate = json::parse(truncated.out);
  EXPECT_EQ(certificate.at("truncated_packets"), 1);
  EXPECT_EQ(certificate.at("sent").at("packets"), 2000);
  EXPECT_THAT(certificate.at("truncated").get<std::string>(), HasSubstr(cut + ": packet 2001: truncated"));

  std::string backwards = content;
  backwards.replace(24, 4, "\xff\xff\xff\x7f", 4);  // the first packet's seconds
  const std::string text = file("text.pcap", "this is no capture file, but a text of some length");
  for (const auto& [name, says] :
       std::vector<std::pair<std::string, std::string>>{{file("backwards.pcap", backwards), "packet 2: its time is "},
                                                        {text, "unknown file format"},
                                                        {file("empty.pcap", ""), "truncated"},
                                                        {file("none.pcap", content.substr(0, 24)), "no packets"},
                                                        {path("missing.pcap"), "No such file"}}) {
    for (const Arguments& words : {Arguments{"replay", name}, Arguments{"feed", "inspect", name}}) {
      const Ended ended = run_cli(words);
      EXPECT_EQ(ended.code, 3) << name << ended.out;
      EXPECT_THAT(ended.err, HasSubstr(name + ": "));
      EXPECT_THAT(ended.err, HasSubstr(says));
      EXPECT_EQ(ended.out, "");
    }
  }
  const Ended small = run_cli({"replay", feed, "--memory", "8K"});
  EXPECT_EQ(small.code, 3);
  EXPECT_THAT(small.err, HasSubstr("the limit is 8192"));
  const Ended raw = run_cli({"replay", make_feed({"--content", "raw"}), "--decode", "itch"});
  EXPECT_EQ(raw.code, 3);
  EXPECT_THAT(raw.err, HasSubstr("no ITCH message in 2000 packets; packet 1: MoldUDP64 header shorter than 20 (18)"));
}

TEST_F(FeedTest, AFeedIsNotWrittenWhereItsSummaryIsPrinted) {
  for (const char* name : {"/dev/stdout", "/dev/stderr", "/proc/self/fd/1"}) {
    const Ended ended = run_cli({"feed", "generate", name, "--packets", "10"});
    EXPECT_EQ(ended.code, 2) << name;
    EXPECT_EQ(ended.out, "") << name;
    EXPECT_EQ(ended.err, std::string("warmfork: ") + name + ": what is printed goes there\n");
  }
}

TEST_F(FeedTest, ALimitForFilesIsAFullDisk) {
  const Ended ended = run_cli({"feed", "generate", path("x.pcap"), "--packets", "1000"}, {.file_bytes = 4096});
  EXPECT_EQ(ended.code, 4);
  EXPECT_EQ(ended.err, "warmfork: " + path("x.pcap") + ": File too large\n");
  EXPECT_FALSE(std::filesystem::exists(path("x.pcap")));
}

TEST_F(FeedTest, WrongUsageIsRefused) {
  const std::string feed = make_feed();
  for (const Arguments& words :
       std::vector<Arguments>{{"replay"},
                              {"replay", feed, "--speed", "0"},
                              {"replay", feed, "--speed", "1", "--max"},
                              {"replay", feed, "--rate", "fast"},
                              {"replay", feed, "--rate", "0"},
                              {"replay", feed, "--line-rate", "10 parsecs"},
                              {"replay", feed, "--max", "--max-late", "1ms"},
                              {"replay", feed, "--decode", "fix"},
                              {"replay", feed, "--loop", "0"},
                              {"replay", feed, "--seconds", "0"},
                              {"replay", feed, "--memory", "0"},
                              {"replay", feed, "--transmit", path("x.pcap")},
                              {"replay", feed, "--program", "a.asm", "--readers", "0"},
                              {"replay", feed, "--program", "a.asm", "--program", "b.asm", "--readers", "2"},
                              {"replay", feed, "--program", "a.asm", "--engine", "steam"},
                              {"replay", feed, "--program", "a.asm", "--fork", "spoon"},
                              {"replay", feed, "--program", "a.asm", "--ring", "many"},
                              {"feed"},
                              {"feed", "generate"},
                              {"feed", "generate", path("x.pcap"), "--packets", "0"},
                              {"feed", "generate", path("x.pcap"), "--size", "63", "--content", "raw"},
                              {"feed", "generate", path("x.pcap"), "--seed", "-1"},
                              {"feed", "generate", path("x.pcap"), "--gap-every", "-1"},
                              {"feed", "generate", path("x.pcap"), "--heartbeat-every", "18446744073709551616"},
                              {"feed", "generate", path("x.pcap"), "--pattern", "random"}}) {
    const Ended ended = run_cli(words);
    EXPECT_EQ(ended.code, 2) << testing::PrintToString(words) << ended.out << ended.err;
    EXPECT_FALSE(ended.err.empty());
  }
  EXPECT_EQ(run_cli({"feed", "generate", path("x.pcap"), "--memory", "4K"}).code, 6);
  EXPECT_EQ(run_cli({"feed", "generate", "/nonexistent/x.pcap"}).code, 4);
  const Ended cpu = run_cli({"replay", feed, "--cpu", "1000"});
  EXPECT_EQ(cpu.code, 4);
  EXPECT_THAT(cpu.err, HasSubstr("CPU 1000 cannot be used"));
}

}  // namespace
}  // namespace warmfork::test
