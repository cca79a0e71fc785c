// warmfork replay on a terminal: progress once a second, Ctrl-C.
#include "terminal_session.hpp"

#include <gmock/gmock.h>
#include <sys/wait.h>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;

class FeedTerminalTest : public CliTest {
 protected:
  void SetUp() override {
    if (!TerminalSession::available()) GTEST_SKIP() << "no pseudo terminals here";
  }
};

TEST_F(FeedTerminalTest, ShowsHowFarItIsAndCtrlCEndsItWithACertificate) {
  const std::string feed = path("feed.pcap");
  ASSERT_EQ(run_cli({"feed", "generate", feed, "--packets", "1000", "--rate", "10k"}).code, 0);
  TerminalSession session({"replay", feed, "--seconds", "1m"});
  ASSERT_TRUE(session.wait_for(" packets, ")) << session.shown();
  session.type("\x03");
  ASSERT_TRUE(session.wait_for("interrupted\r\n")) << session.shown();
  EXPECT_THAT(session.shown(), HasSubstr("as captured"));
  const auto status = session.wait_for_event();
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status));
  EXPECT_EQ(WEXITSTATUS(*status), 130);
  EXPECT_TRUE(session.is_restored());
}

}  // namespace
}  // namespace warmfork::test
