// A terminal with a shell's job control: runs one warmfork in the foreground of a pseudo terminal and tells when it
// stops or ends. The session outlives the job, so the terminal's modes can be looked at afterwards.
//
//   test ──(pty master)── terminal ── session leader (forked from the test) ── warmfork (foreground job)
//     └────────(control pipe, event pipe)──────────┘
#pragma once

#include "process.hpp"

#include <termios.h>

namespace warmfork::test {

class TerminalSession {
 public:
  /// False where there are no pseudo terminals.
  [[nodiscard]] static bool available();

  explicit TerminalSession(const Arguments& arguments);
  ~TerminalSession();
  TerminalSession(const TerminalSession&) = delete;
  TerminalSession& operator=(const TerminalSession&) = delete;

  void type(std::string_view keys) const;
  /// Reads until everything shown so far contains `text`; false after `seconds`.
  [[nodiscard]] bool wait_for(std::string_view text, double seconds = 10);
  [[nodiscard]] const std::string& shown() const { return shown_; }
  void send(int signal) const;

  /// The wait status of the job once it stops or ends; nothing after `seconds`.
  [[nodiscard]] std::optional<int> wait_for_event(double seconds = 10);
  /// Brings the stopped job to the foreground.
  void resume() const;

  /// True while keys reach the program one by one and unechoed.
  [[nodiscard]] bool is_raw() const;
  /// Waits until is_raw() is `raw`; false after some seconds.
  [[nodiscard]] bool wait_for_raw(bool raw) const;
  /// True if the modes are exactly those before the job started.
  [[nodiscard]] bool is_restored() const;

 private:
  [[nodiscard]] termios mode() const;
  void read_some(double seconds);

  UniqueFd master_, events_, control_;
  pid_t leader_ = -1;
  pid_t job_ = -1;
  termios before_{};
  std::string shown_;
};

}  // namespace warmfork::test
