// Sessions with the real program: commands through a pipe or --command, plain output, exit codes.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Ended {
  int code = -1;
  std::string output;
};

class DebugSession : public ::testing::Test {
 protected:
  void SetUp() override {
    const int kvm = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) GTEST_SKIP() << "no /dev/kvm";
    ::close(kvm);
  }

  static std::string program(const char* name) { return std::string(WARMFORK_LC3_PROGRAMS "/") + name; }

  /// Standard output and error together. `interrupt`: SIGINT when the output first holds this text.
  static Ended debug(std::vector<std::string> arguments, const std::string& script, const char* interrupt = nullptr) {
    arguments.insert(arguments.begin(), {WARMFORK_BINARY, "debug"});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::array<int, 2> in{}, out{};
    EXPECT_EQ(::pipe2(in.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::dup2(out[1], 2);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    EXPECT_EQ(::write(in[1], script.data(), script.size()), static_cast<ssize_t>(script.size()));
    ::close(in[1]);
    Ended ended;
    std::array<char, 4096> buffer;
    bool sent = interrupt == nullptr;
    for (ssize_t count = 0; (count = ::read(out[0], buffer.data(), buffer.size())) > 0;) {
      ended.output.append(buffer.data(), static_cast<std::size_t>(count));
      if (!sent && ended.output.find(interrupt) != std::string::npos) {
        ::usleep(50'000);
        ::kill(child, SIGINT);
        sent = true;
      }
    }
    ::close(out[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ended;
  }
};

TEST_F(DebugSession, ScriptFromAPipe) {
  const Ended ended =
      debug({program("hanoi.asm")}, "b HANOI if R0 == 1\nc\nfinish\np R6\nrc\ninfo breakpoints\noutput\n");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("[0] x3000"));
  EXPECT_THAT(ended.output, HasSubstr("* breakpoint 1: HANOI\n[44] x300A"));
  EXPECT_THAT(ended.output, HasSubstr("| A->B\n[86] x3017"));
  EXPECT_THAT(ended.output, HasSubstr("5 characters of output taken back"));
  EXPECT_THAT(ended.output, HasSubstr("(nothing printed)"));
  EXPECT_THAT(ended.output, Not(HasSubstr("\033")));
}

TEST_F(DebugSession, CommandsFromTheCommandLine) {
  const Ended ended = debug({program("hello.asm"), "--command", "continue", "--command", "info devices"}, "garbage\n");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("the program has halted"));
  EXPECT_THAT(ended.output, HasSubstr("MCR   xFFFE  x0000"));
}

TEST_F(DebugSession, InputIsAskedForAndTyped) {
  const Ended ended = debug({program("calculator.asm")}, "c\ntype 12+30\nc\nquit\nstep\n");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("the program waits for input"));
  EXPECT_THAT(ended.output, HasSubstr("| = 42"));
}

TEST_F(DebugSession, OptionsOfRun) {
  const Ended ended = debug({program("echo.asm"), "--input", program("echo.in"), "--edition", "2", "--traps", "os",
                             "--seed", "5", "--command", "step 5", "--command", "p R1", "--command", "continue"},
                            "");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("the program has halted"));
}

TEST_F(DebugSession, WrongCommandsGoOnAndCount) {
  const Ended ended = debug({program("hello.asm")}, "frobnicate\np R0 +\nc\n");
  EXPECT_EQ(ended.code, 1) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("no command \"frobnicate\""));
  EXPECT_THAT(ended.output, HasSubstr("      ^"));
  EXPECT_THAT(ended.output, HasSubstr("halted"));
}

TEST_F(DebugSession, ExitCodesOfBadStarts) {
  EXPECT_EQ(debug({"/nonexistent.asm"}, "").code, 3);
  EXPECT_EQ(debug({program("hello.asm"), "--edition", "4"}, "").code, 2);
}

TEST_F(DebugSession, EveryHelpPageIsThere) {
  const Ended ended =
      debug({program("hello.asm")}, "help\nhelp break\nhelp print\nhelp rc\nlist\ndis\nmem x3000 20\nstack\n");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("reverse-continue (rc)"));
  EXPECT_THAT(ended.output, HasSubstr("FILE:LINE"));
}

TEST_F(DebugSession, CtrlCEndsAScript) {
  const Ended ended = debug({program("hello.asm")}, "set mem[x3000] = x0FFF\np 7\nc\np 9\n", "x0007");
  EXPECT_EQ(ended.code, 130) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("* interrupted"));
  EXPECT_THAT(ended.output, Not(HasSubstr("x0009")));
}

}  // namespace
