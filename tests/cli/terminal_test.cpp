// warmfork run on a terminal: keys, modes, signals, job control.
#include "terminal_session.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>

namespace warmfork::test {
namespace {

// A game: never waits, counts, and shows each key as soon as it polls it; q ends it.
constexpr std::string_view kGame = R"(
        .ORIG x3000
        LEA R0, READY
        PUTS
LOOP    ADD R1, R1, #1
        LDI R0, KBSR
        BRzp LOOP
        LDI R0, KBDR
        OUT
        LD R2, Q
        ADD R2, R2, R0
        BRnp LOOP
        HALT
KBSR    .FILL xFE00
KBDR    .FILL xFE02
Q       .FILL #-113
READY   .STRINGZ "ready\n"
        .END
)";

// Shows what it reads, each key in brackets.
constexpr std::string_view kWaiter = R"(
        .ORIG x3000
        LEA R0, READY
        PUTS
LOOP    GETC
        ADD R1, R0, #0
        LD R0, OPEN
        OUT
        ADD R0, R1, #0
        OUT
        LD R0, CLOSE
        OUT
        BR LOOP
OPEN    .FILL x5B
CLOSE   .FILL x5D
READY   .STRINGZ "ready\n"
        .END
)";

constexpr std::string_view kHello = ".ORIG x3000\nLEA R0, T\nPUTS\nHALT\nT .STRINGZ \"hello\"\n.END\n";

class TerminalTest : public CliKvmTest {
 protected:
  void SetUp() override {
    CliKvmTest::SetUp();
    ::setenv("TERM", "xterm", 1);  // whatever runs the tests
    ::unsetenv("NO_COLOR");
    if (!IsSkipped() && !TerminalSession::available()) GTEST_SKIP() << "no pseudo terminals here";
  }
};

TEST_F(TerminalTest, KeysReachAPollingProgramAtOnce) {
  TerminalSession session({"run", file("game.asm", kGame)});
  ASSERT_TRUE(session.wait_for("ready\r\n"));
  EXPECT_TRUE(session.is_raw());
  double best = 1e9;
  for (const char key : std::string("abcdefghij")) {
    const double begin = seconds_now();
    session.type(std::string(1, key));
    ASSERT_TRUE(session.wait_for(std::string(1, key), 2)) << session.shown();
    best = std::min(best, seconds_now() - begin);
  }
  EXPECT_LT(best, 0.02);
  session.type("q");
  const auto status = session.wait_for_event();
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status));
  EXPECT_EQ(WEXITSTATUS(*status), 0);
  EXPECT_EQ(session.shown(), "ready\r\nabcdefghijq");  // nothing echoed, nothing added
  EXPECT_TRUE(session.is_restored());
}

TEST_F(TerminalTest, EnterIsANewlineAndCtrlDEndsTheInput) {
  TerminalSession session({"run", file("waiter.asm", kWaiter)});
  ASSERT_TRUE(session.wait_for("ready\r\n"));
  session.type("x\r");
  ASSERT_TRUE(session.wait_for("[x][\r\n]")) << session.shown();
  session.type("\x04");
  const auto status = session.wait_for_event();
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 8);
  EXPECT_TRUE(session.wait_for("waits for input")) << session.shown();
  EXPECT_TRUE(session.is_restored());
}

TEST_F(TerminalTest, AWaitingProgramUsesNoProcessorAndObeysItsTimeout) {
  for (const std::string_view program : {kWaiter, kGame}) {
    TerminalSession session({"run", "--timeout", "400ms", file("program.asm", program)});
    ASSERT_TRUE(session.wait_for("ready"));
    const double begin = seconds_now();
    const auto status = session.wait_for_event();
    ASSERT_TRUE(status);
    EXPECT_EQ(WEXITSTATUS(*status), 7);
    EXPECT_LT(seconds_now() - begin, 2);
    EXPECT_TRUE(session.is_restored());
  }
  Process process({"run", "--timeout", "1s", file("waiter.asm", kWaiter)}, {.input = "", .keep_input_open = true});
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 7);
  EXPECT_GE(ended.seconds, 1);
  EXPECT_LT(ended.cpu_seconds, 0.3);
}

TEST_F(TerminalTest, CtrlCEndsAWaitingAndARunningProgramAndRestoresTheTerminal) {
  for (const std::string_view program : {kWaiter, kGame}) {
    TerminalSession session({"run", file("program.asm", program)});
    ASSERT_TRUE(session.wait_for("ready"));
    session.type("\x03");
    const auto status = session.wait_for_event();
    ASSERT_TRUE(status);
    EXPECT_TRUE(WIFEXITED(*status));
    EXPECT_EQ(WEXITSTATUS(*status), 130);
    EXPECT_TRUE(session.wait_for("interrupted after")) << session.shown();
    EXPECT_TRUE(session.is_restored());
  }
}

TEST_F(TerminalTest, ALongStudyShowsHowFarItIsAndCtrlCPrintsWhatThereIs) {
  const std::string program = file("endless.asm", ".ORIG x3000\nLOOP ADD R0, R0, #1\nBRnzp LOOP\n.END\n");
  TerminalSession session({"study", "branches", "--budget", "100G", program});
  ASSERT_TRUE(session.wait_for(" of at most 100000000000 instructions")) << session.shown();
  session.type("\x03");
  const std::optional<int> status = session.wait_for_event();
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 130);
  ASSERT_TRUE(session.wait_for(" unconditional (not predicted)"));
  const std::string shown = session.shown().substr(0, session.shown().find(" instructions, 0 conditional"));
  const std::size_t last = shown.find_last_not_of("0123456789");
  ASSERT_NE(last, std::string::npos);
  EXPECT_THAT(shown.substr(0, last + 1), ::testing::EndsWith(" instructions\r\x1B[K"))
      << "the line of progress is gone";
  EXPECT_TRUE(session.is_restored());
}

TEST_F(TerminalTest, EveryEndingSignalRestoresTheTerminal) {
  for (const int signal : {SIGTERM, SIGHUP}) {
    TerminalSession session({"run", file("waiter.asm", kWaiter)});
    ASSERT_TRUE(session.wait_for("ready"));
    session.send(signal);
    const auto status = session.wait_for_event();
    ASSERT_TRUE(status);
    EXPECT_EQ(WEXITSTATUS(*status), 128 + signal);
    EXPECT_TRUE(session.is_restored()) << signal;
  }
  for (const int signal : {SIGQUIT, SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE}) {
    TerminalSession session({"run", file("waiter.asm", kWaiter)});
    ASSERT_TRUE(session.wait_for("ready"));
    ASSERT_TRUE(session.is_raw());
    session.send(signal);
    const auto status = session.wait_for_event();
    ASSERT_TRUE(status);
    EXPECT_TRUE(WIFSIGNALED(*status)) << signal;
    EXPECT_EQ(WTERMSIG(*status), signal);
    EXPECT_TRUE(session.is_restored()) << signal;
  }
}

TEST_F(TerminalTest, CtrlZGivesTheTerminalBackAndForegroundTakesItAgain) {
  TerminalSession session({"run", file("waiter.asm", kWaiter)});
  ASSERT_TRUE(session.wait_for("ready"));
  for (const char key : std::string("ab")) {
    session.type("\x1a");
    const auto stopped = session.wait_for_event();
    ASSERT_TRUE(stopped);
    ASSERT_TRUE(WIFSTOPPED(*stopped));
    EXPECT_EQ(WSTOPSIG(*stopped), SIGTSTP);
    EXPECT_TRUE(session.is_restored());
    session.resume();
    ASSERT_TRUE(session.wait_for_raw(true));
    session.type(std::string(1, key));
    ASSERT_TRUE(session.wait_for("[" + std::string(1, key) + "]")) << session.shown();
  }
  session.type("\x03");
  const auto ended = session.wait_for_event();
  ASSERT_TRUE(ended);
  EXPECT_EQ(WEXITSTATUS(*ended), 130);
  EXPECT_TRUE(session.is_restored());
}

TEST_F(TerminalTest, AStopThatCannotBeCaughtIsRecoveredFrom) {
  TerminalSession session({"run", file("waiter.asm", kWaiter)});
  ASSERT_TRUE(session.wait_for("ready"));
  session.send(SIGSTOP);
  ASSERT_TRUE(session.wait_for_event());
  session.resume();
  session.type("k");
  ASSERT_TRUE(session.wait_for("[k]")) << session.shown();
  EXPECT_TRUE(session.is_raw());
}

TEST_F(TerminalTest, AnEndedDebuggerLeavesTheTerminalAsItWas) {
  for (const int signal : {SIGTERM, SIGHUP, SIGQUIT}) {
    TerminalSession session({"debug", file("hello.asm", kHello)});
    ASSERT_TRUE(session.wait_for("(debug) ")) << session.shown();
    ASSERT_TRUE(session.wait_for_raw(true));
    session.send(signal);
    const auto status = session.wait_for_event();
    ASSERT_TRUE(status) << signal;
    EXPECT_TRUE(WIFSIGNALED(*status));
    EXPECT_EQ(WTERMSIG(*status), signal);
    EXPECT_TRUE(session.is_restored()) << signal;
  }
}

TEST_F(TerminalTest, ColoursOnlyWhereTheyAreWanted) {
  const auto shown = [&](const char* term, const char* no_colour) {
    ::setenv("TERM", term, 1);
    no_colour == nullptr ? ::unsetenv("NO_COLOR") : ::setenv("NO_COLOR", no_colour, 1);
    TerminalSession session({"run", path("missing.asm")});
    EXPECT_TRUE(session.wait_for("No such file"));
    return session.shown();
  };
  const auto has_colour = ::testing::HasSubstr("\033[");
  EXPECT_THAT(shown("xterm", nullptr), has_colour);
  EXPECT_THAT(shown("xterm", ""), has_colour);
  EXPECT_THAT(shown("xterm", "1"), ::testing::Not(has_colour));
  EXPECT_THAT(shown("dumb", nullptr), ::testing::Not(has_colour));
}

TEST_F(TerminalTest, ErrorsAndPlainEndsLeaveTheTerminalAsItWas) {
  TerminalSession plain({"run", file("hello.asm", kHello)});
  const auto status = plain.wait_for_event();
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 0);
  EXPECT_EQ(plain.shown(), "hello");
  EXPECT_TRUE(plain.is_restored());

  TerminalSession bad({"run", file("bad.asm", ".ORIG x3000\nADD R0, R0, #99\n.END\n")});
  const auto error = bad.wait_for_event();
  ASSERT_TRUE(error);
  EXPECT_EQ(WEXITSTATUS(*error), 3);
  EXPECT_TRUE(bad.is_restored());

  TerminalSession colours({"asm", path("bad.asm")});
  ASSERT_TRUE(colours.wait_for_event());
  EXPECT_NE(colours.shown().find("\033[1;31m            ^\033[0m"), std::string::npos) << colours.shown();

  // After an unfinished line the message starts on a line of its own.
  TerminalSession budget({"run", "--budget", "2", file("hello.asm", kHello)});
  ASSERT_TRUE(budget.wait_for_event());
  EXPECT_TRUE(budget.shown().starts_with("hello\r\n")) << budget.shown();
  EXPECT_TRUE(budget.is_restored());
}

}  // namespace
}  // namespace warmfork::test
