// The terminal and the signals around it.
//
// RawTerminal gives a program the keys as they are typed and puts the terminal back however the process ends: by
// return, by an error, by SIGINT, SIGTERM, SIGHUP or SIGQUIT, by a crash (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT),
// and while it is stopped (SIGTSTP; SIGCONT takes the terminal again). SignalWatch turns the signals that ask for an
// end into a file descriptor for poll().
//
// Signals and terminals belong to the process: at most one of each object at a time, made by one thread. The handlers
// do only what is async-signal-safe.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <memory>

namespace warmfork::cli {

/// While it lives, the terminal gives each key at once and unechoed; Enter is a newline, Ctrl-C, Ctrl-Z and Ctrl-\ are
/// signals as ever, output is untouched.
class RawTerminal {
 public:
  /// Errors (kHost): `fd` is no terminal. In a background job the terminal is taken when the job comes to the
  /// foreground.
  [[nodiscard]] static Result<std::unique_ptr<RawTerminal>> enter(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  RawTerminal() = default;
};

/// While it lives, SIGINT, SIGTERM and SIGHUP are noted instead of ending the process; a second one ends it at once.
/// Signals that the process was started to ignore (nohup) stay ignored.
class SignalWatch {
 public:
  [[nodiscard]] static Result<std::unique_ptr<SignalWatch>> create();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  /// Becomes readable when a signal comes.
  [[nodiscard]] int fd() const { return event_.get(); }
  /// The first signal that came, 0 if none has.
  [[nodiscard]] int signal() const;
  /// Forgets it: for programs that go on after Ctrl-C.
  void clear();

 private:
  SignalWatch() = default;
  UniqueFd event_;
};

}  // namespace warmfork::cli
