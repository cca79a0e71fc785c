#include "terminal_session.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

namespace warmfork::test {
namespace {

// The master of a new pseudo terminal. Some containers come without a working /dev/ptmx: root mounts an instance of its
// own, seen by this process only and gone with the descriptor.
UniqueFd open_master() {
  UniqueFd master(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  std::string directory = ::testing::TempDir() + "/warmfork-pts-XXXXXX";
  if (master || ::mkdtemp(directory.data()) == nullptr) return master;
  if (::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
      ::mount("devpts", directory.c_str(), "devpts", 0, "newinstance,ptmxmode=0666") == 0) {
    master = UniqueFd(::open((directory + "/ptmx").c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ::umount2(directory.c_str(), MNT_DETACH);
  }
  ::rmdir(directory.c_str());
  return master;
}

// The session leader: a shell with one job. Never returns.
[[noreturn]] void lead(char* const* argv, int events, int control) {
  ::signal(SIGTTOU, SIG_IGN);  // it hands the terminal about from the background
  ::signal(SIGPIPE, SIG_IGN);
  const pid_t job = ::fork();
  if (job == 0) {
    ::setpgid(0, 0);
    ::tcsetpgrp(STDIN_FILENO, ::getpid());
    ::signal(SIGTTOU, SIG_DFL);
    ::signal(SIGPIPE, SIG_DFL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::execv(argv[0], argv);
    ::_exit(127);
  }
  ::setpgid(job, job);
  if (::write(events, &job, sizeof job) != sizeof job) ::_exit(1);
  for (;;) {
    int status = 0;
    if (::waitpid(job, &status, WUNTRACED) != job) ::_exit(1);
    ::tcsetpgrp(STDIN_FILENO, ::getpgrp());
    if (::write(events, &status, sizeof status) != sizeof status) ::_exit(1);
    char command = 0;
    if (::read(control, &command, 1) != 1) ::_exit(0);
    ::tcsetpgrp(STDIN_FILENO, job);
    ::kill(-job, SIGCONT);
  }
}

}  // namespace

bool TerminalSession::available() { return static_cast<bool>(open_master()); }

TerminalSession::TerminalSession(const Arguments& arguments) {
  std::vector<char*> argv;
  std::string binary = WARMFORK_BINARY;
  argv.push_back(binary.data());
  Arguments words = arguments;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::array<int, 2> events{};
  std::array<int, 2> control{};
  if (::pipe2(events.data(), O_CLOEXEC) != 0 || ::pipe2(control.data(), O_CLOEXEC) != 0) std::abort();
  master_ = open_master();
  const int unlock = 0;
  if (::ioctl(master_.get(), TIOCSPTLCK, &unlock) != 0) std::abort();
  const UniqueFd terminal(::ioctl(master_.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY));
  leader_ = ::fork();
  if (leader_ == 0) {
    ::close(control[1]);
    ::setsid();
    ::ioctl(terminal.get(), TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; ++fd) ::dup2(terminal.get(), fd);
    ::close(terminal.get());
    ::tcgetattr(STDIN_FILENO, &before_);
    before_.c_cc[VERASE] = 'Z' - '@' + 7;  // something that nobody would restore by chance
    before_.c_iflag |= IXANY;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    if (::write(events[1], &before_, sizeof before_) != sizeof before_) ::_exit(1);
    lead(argv.data(), events[1], control[0]);
  }
  ::close(events[1]);
  ::close(control[0]);
  events_ = UniqueFd(events[0]);
  control_ = UniqueFd(control[1]);
  if (::read(events_.get(), &before_, sizeof before_) != sizeof before_) std::abort();
  if (::read(events_.get(), &job_, sizeof job_) != sizeof job_) std::abort();
}

TerminalSession::~TerminalSession() {
  ::kill(-job_, SIGKILL);
  ::kill(leader_, SIGKILL);
  ::waitpid(leader_, nullptr, 0);
}

void TerminalSession::type(std::string_view keys) const {
  EXPECT_EQ(::write(master_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

void TerminalSession::send(int signal) const { ::kill(job_, signal); }

void TerminalSession::read_some(double seconds) {
  pollfd ready{.fd = master_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, static_cast<int>(seconds * 1000) + 1) <= 0) return;
  std::array<char, 65536> bytes{};
  const ssize_t got = ::read(master_.get(), bytes.data(), bytes.size());
  if (got > 0) shown_.append(bytes.data(), static_cast<std::size_t>(got));
}

bool TerminalSession::wait_for(std::string_view text, double seconds) {
  const double deadline = seconds_now() + seconds;
  while (shown_.find(text) == std::string::npos && seconds_now() < deadline) read_some(deadline - seconds_now());
  return shown_.find(text) != std::string::npos;
}

std::optional<int> TerminalSession::wait_for_event(double seconds) {
  const double deadline = seconds_now() + seconds;
  while (seconds_now() < deadline) {
    std::array<pollfd, 2> ready{pollfd{.fd = events_.get(), .events = POLLIN, .revents = 0},
                                pollfd{.fd = master_.get(), .events = POLLIN, .revents = 0}};
    ::poll(ready.data(), 2, 100);
    if (ready[1].revents != 0) read_some(0);
    if (ready[0].revents == 0) continue;
    int status = 0;
    if (::read(events_.get(), &status, sizeof status) != sizeof status) return std::nullopt;
    read_some(0);
    return status;
  }
  return std::nullopt;
}

void TerminalSession::resume() const { EXPECT_EQ(::write(control_.get(), "c", 1), 1); }

termios TerminalSession::mode() const {
  termios mode{};
  EXPECT_EQ(::tcgetattr(master_.get(), &mode), 0);
  return mode;
}

bool TerminalSession::is_raw() const { return (mode().c_lflag & static_cast<tcflag_t>(ICANON | ECHO)) == 0; }

bool TerminalSession::wait_for_raw(bool raw) const {
  for (const double deadline = seconds_now() + 10; seconds_now() < deadline;) {
    if (is_raw() == raw) return true;
    ::usleep(1000);
  }
  return false;
}

bool TerminalSession::is_restored() const {
  const termios now = mode();
  return now.c_lflag == before_.c_lflag && now.c_iflag == before_.c_iflag && now.c_oflag == before_.c_oflag &&
         std::memcmp(now.c_cc, before_.c_cc, sizeof now.c_cc) == 0;
}

}  // namespace warmfork::test
