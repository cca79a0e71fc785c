// warmfork replay into LC-3 programs.
#include "process.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace warmfork::test {
namespace {

using nlohmann::json;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class ReplayTest : public CliTest {
 protected:
  std::string make_feed() {
    const std::string name = path("feed.pcap");
    const Ended ended = run_cli({"feed", "generate", name, "--packets", "1000", "--rate", "20k"});
    EXPECT_EQ(ended.code, 0) << ended.err;
    return name;
  }
  static std::string program(const std::string& name) { return WARMFORK_LC3_PROGRAMS "/" + name; }
};

TEST_F(ReplayTest, ProgramsReadAndAnswer) {
  const std::string feed = make_feed(), answers = path("answers.pcap");
  const Ended ended = run_cli({"replay", feed, "--decode", "itch", "--program", program("feed_trigger.asm"),
                               "--program", program("feed_top_of_book.asm"), "--fork", "space", "--engine", "xbyak",
                               "--transmit", answers, "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err << ended.out;
  const json certificate = json::parse(ended.out);
  EXPECT_EQ(certificate.at("sent").at("packets"), 1001);
  ASSERT_EQ(certificate.at("readers").size(), 2U);
  for (const json& reader : certificate.at("readers")) {
    EXPECT_EQ(reader.at("published"), 998 + 6 + 1) << "messages, events of the day, and the end of the session";
    EXPECT_EQ(reader.at("received"), reader.at("published"));
    EXPECT_EQ(reader.at("dropped"), 0);
    EXPECT_EQ(reader.at("end"), "halted");
    EXPECT_GT(reader.at("instructions_per_message").get<double>(), 5);
    EXPECT_GT(reader.at("ns_per_message").get<double>(), 0);
    EXPECT_FALSE(reader.contains("checksum"));
  }
  EXPECT_THAT(certificate.at("readers").at(1).at("output").get<std::string>(), HasSubstr("\n8 "));
  const json& sent = certificate.at("answers");
  EXPECT_EQ(sent.at("count"), certificate.at("readers").at(0).at("registers").at(5));
  EXPECT_GT(sent.at("count"), 0);
  EXPECT_EQ(sent.at("unnamed"), 0);
  EXPECT_GE(sent.at("latency_ns").at("max").get<double>(), sent.at("latency_ns").at("p50").get<double>());
  const json inspected = json::parse(run_cli({"feed", "inspect", answers, "--json"}).out);
  EXPECT_EQ(inspected.at("captured").at("packets"), sent.at("count"));
}

TEST_F(ReplayTest, AProgramThatLosesOrFailsFailsTheReplay) {
  const std::string early = file("early.asm", ".ORIG x3000\nHALT\n.END\n");
  const Ended lost = run_cli({"replay", make_feed(), "--program", early, "--readers", "2"});
  EXPECT_EQ(lost.code, 1) << lost.err;
  EXPECT_THAT(lost.out, HasSubstr("reader lc3-1 lost 1001 of 1001 messages"));
  const std::string illegal = file("illegal.asm", ".ORIG x3000\n.FILL xD000\n.END\n");
  const Ended dead = run_cli({"replay", make_feed(), "--program", illegal, "--json"});
  EXPECT_EQ(dead.code, 1) << dead.err;
  EXPECT_THAT(json::parse(dead.out).at("failures").dump(), HasSubstr("illegal opcode"));
  EXPECT_EQ(run_cli({"replay", make_feed(), "--program", path("missing.asm")}).code, 3);
}

// All packets are sent within a second or so; then programs have five to end.
TEST_F(ReplayTest, CtrlCIsHeededWhileProgramsAreAwaited) {
  const std::string feed = make_feed(), loop = file("loop.asm", ".ORIG x3000\nL BR L\n.END\n");
  Ended ended;
  for (unsigned seconds = 3; seconds < 16; seconds *= 2) {  // a signal before it is a replay ends it at once: again
    Process process({"replay", feed, "--program", loop, "--json"});
    ::sleep(seconds);
    process.send(SIGINT);
    ended = process.wait();
    if (ended.code != -SIGINT) break;
  }
  ASSERT_EQ(ended.code, 130) << ended.out << ended.err;
  const json certificate = json::parse(ended.out);
  EXPECT_EQ(certificate.at("verdict"), "interrupted");
  EXPECT_EQ(certificate.at("readers").at(0).at("end"), "stopped");
}

TEST_F(ReplayTest, AnswersThatCannotBeWrittenCostNeitherTheFeedNorItsCertificate) {
  const std::string feed = make_feed(), trigger = program("feed_trigger.asm");
  const Ended same = run_cli({"replay", feed, "--program", trigger, "--transmit", feed});
  EXPECT_EQ(same.code, 2);
  EXPECT_THAT(same.err, HasSubstr("the file to be replayed"));
  const Ended full = run_cli(
      {"replay", feed, "--decode", "itch", "--program", trigger, "--engine", "interp", "--transmit", "/dev/full"});
  EXPECT_EQ(full.code, 4);
  EXPECT_THAT(full.err, HasSubstr("/dev/full: No space left"));
  EXPECT_THAT(full.out, HasSubstr("sent        1001 packets"));
  // Nor does the certificate say that all is well.
  EXPECT_THAT(full.out, HasSubstr("failed      the answers are not in their file: /dev/full: No space left"));
  EXPECT_THAT(full.out, EndsWith("\nfailed\n"));
}

}  // namespace
}  // namespace warmfork::test
