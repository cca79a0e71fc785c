#include "terminal.hpp"

#include <signal.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

namespace warmfork::cli {
namespace {

constexpr std::array kEndSignals{SIGINT, SIGTERM, SIGHUP};
constexpr std::array kFatalSignals{SIGQUIT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

// What the handlers see. Written before they are installed and after they are removed, but for the atomics.
std::atomic<int> terminal_fd{-1};
termios cooked_mode{};
termios raw_mode{};
std::array<struct sigaction, kFatalSignals.size()> old_fatal{};
struct sigaction old_stop{};
struct sigaction old_continue{};

std::atomic<int> watch_fd{-1};
std::atomic<int> first_signal{0};
std::array<struct sigaction, kEndSignals.size()> old_end{};

static_assert(std::atomic<int>::is_always_lock_free, "used in signal handlers");

// tcsetattr() by a process in the background would stop it (SIGTTOU), so that signal is held back meanwhile.
void set_mode(int fd, const termios& mode) {
  sigset_t ttou{};
  sigset_t before{};
  sigemptyset(&ttou);
  sigaddset(&ttou, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &ttou, &before);
  while (::tcsetattr(fd, TCSANOW, &mode) != 0 && errno == EINTR) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// A terminal that does not control this process has no foreground (ENOTTY): then there is nobody to take it from.
bool is_ours(int fd) {
  const pid_t foreground = ::tcgetpgrp(fd);
  return foreground == ::getpgrp() || (foreground < 0 && errno == ENOTTY);
}

// In the background the terminal is somebody else's, with the modes that they want.
void set_mode_if_ours(const termios& mode) {
  const int fd = terminal_fd.load();
  if (fd >= 0 && is_ours(fd)) set_mode(fd, mode);
}
void restore_terminal() { set_mode_if_ours(cooked_mode); }
void take_terminal() { set_mode_if_ours(raw_mode); }

void end_by(int signal) {
  ::signal(signal, SIG_DFL);
  sigset_t set{};
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::raise(signal);
}

void on_fatal(int signal) {
  restore_terminal();
  end_by(signal);
}

void on_stop(int signal) {
  const int saved = errno;
  restore_terminal();
  struct sigaction ours{};
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, &ours);
  sigset_t set{};
  sigset_t before{};
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, &before);
  ::raise(signal);  // stops here, goes on after SIGCONT
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::sigaction(signal, &ours, nullptr);
  take_terminal();
  errno = saved;
}

void on_continue(int) {
  const int saved = errno;
  take_terminal();
  errno = saved;
}

void on_end(int signal) {
  const int saved = errno;
  int none = 0;
  if (!first_signal.compare_exchange_strong(none, signal)) {
    restore_terminal();
    end_by(signal);
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = ::write(watch_fd.load(), &one, sizeof one);
  errno = saved;
}

struct sigaction action_of(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  sigfillset(&action.sa_mask);  // handlers do not interrupt each other
  return action;
}

}  // namespace

Result<std::unique_ptr<RawTerminal>> RawTerminal::enter(int fd) {
  if (::tcgetattr(fd, &cooked_mode) != 0) return fail_errno("standard input is no terminal");
  raw_mode = cooked_mode;
  raw_mode.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw_mode.c_cc[VMIN] = 1;
  raw_mode.c_cc[VTIME] = 0;
  std::unique_ptr<RawTerminal> terminal(new RawTerminal);
  terminal_fd.store(fd);
  for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
    const auto action = action_of(on_fatal);
    ::sigaction(kFatalSignals[i], &action, &old_fatal[i]);
  }
  const auto stop = action_of(on_stop);
  ::sigaction(SIGTSTP, &stop, &old_stop);
  const auto go_on = action_of(on_continue);
  ::sigaction(SIGCONT, &go_on, &old_continue);
  take_terminal();
  return terminal;
}

RawTerminal::~RawTerminal() {
  // First the mode, then the descriptor: a signal between the two restores it again, which does no harm.
  restore_terminal();
  terminal_fd.store(-1);
  for (std::size_t i = 0; i < kFatalSignals.size(); ++i) ::sigaction(kFatalSignals[i], &old_fatal[i], nullptr);
  ::sigaction(SIGTSTP, &old_stop, nullptr);
  ::sigaction(SIGCONT, &old_continue, nullptr);
}

Result<std::unique_ptr<SignalWatch>> SignalWatch::create() {
  std::unique_ptr<SignalWatch> watch(new SignalWatch);
  watch->event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!watch->event_) return fail_errno("eventfd");
  first_signal.store(0);
  watch_fd.store(watch->event_.get());
  for (std::size_t i = 0; i < kEndSignals.size(); ++i) {
    ::sigaction(kEndSignals[i], nullptr, &old_end[i]);
    if (old_end[i].sa_handler == SIG_IGN) continue;
    const auto action = action_of(on_end);
    ::sigaction(kEndSignals[i], &action, nullptr);
  }
  return watch;
}

SignalWatch::~SignalWatch() {
  for (std::size_t i = 0; i < kEndSignals.size(); ++i) ::sigaction(kEndSignals[i], &old_end[i], nullptr);
  watch_fd.store(-1);
}

int SignalWatch::signal() const { return first_signal.load(); }

void SignalWatch::clear() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof count);
  first_signal.store(0);
}

}  // namespace warmfork::cli
