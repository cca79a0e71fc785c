// Runs an LC-3 against the outside: keys in, characters out, within an instruction budget and a deadline.
//
//   standard input, file, bytes ──> InputSource ──┐                 ┌──> OutputSink ──> standard output, memory
//                                                 ├─ Lc3Console::run ┤
//   SIGINT, SIGTERM, SIGHUP ──> SignalWatch ──────┘   (Lc3Vm::run)   └──> ConsoleRun
//
// The guest runs in slices of some milliseconds; between them output is written and input is fed. So a timeout and a
// signal end a run between two instructions, and the machine can be looked at afterwards. While the program waits for
// input, poll() waits and the guest does not run. One thread.
#pragma once

#include "base/result.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "terminal.hpp"

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::cli {

/// A point in time on CLOCK_MONOTONIC.
inline constexpr std::uint64_t kNoDeadline = std::numeric_limits<std::uint64_t>::max();
[[nodiscard]] std::uint64_t now_ns();

/// Sleeps until `fd` can be read, a signal comes or the deadline passes (or for no reason). `fd` -1: never readable.
void wait_readable(int fd, const SignalWatch& signals, std::uint64_t deadline_ns);

/// Where characters for the LC-3 come from.
class InputSource {
 public:
  /// No input, or all of it at once.
  explicit InputSource(std::string bytes) : pending_(std::move(bytes)), ended_(true) {}
  /// Characters that come when so many instructions have been executed, or when the machine waits for them before.
  struct Scheduled {
    std::uint64_t at;
    std::string bytes;
  };
  /// In the order of their times; the input ends with the last.
  explicit InputSource(std::vector<Scheduled> schedule);
  /// A file, pipe, socket or terminal; not owned. On a terminal Ctrl-D (x04) ends the input.
  explicit InputSource(int fd);

  [[nodiscard]] bool is_terminal() const { return terminal_; }
  /// What to poll() for more; -1 when nothing more will come.
  [[nodiscard]] int fd() const { return ended_ ? -1 : fd_; }
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] std::string_view pending() const { return std::string_view(pending_).substr(taken_); }
  void take(std::size_t count);
  /// Reads what is there, without waiting. A source that cannot be read has ended.
  void read_available();
  /// Of a schedule: what is due after so many instructions is there; if the machine waits, what comes next is due.
  void advance(std::uint64_t executed, bool waiting);
  /// When the next of a schedule is due; never, if there is none.
  [[nodiscard]] std::uint64_t next_at() const {
    return next_ < schedule_.size() ? schedule_[next_].at : std::numeric_limits<std::uint64_t>::max();
  }

 private:
  int fd_ = -1;
  bool terminal_ = false;
  std::string pending_;
  std::size_t taken_ = 0;
  bool ended_ = false;
  std::vector<Scheduled> schedule_;
  std::size_t next_ = 0;
};

enum class WriteEnd : std::uint8_t { kWritten, kClosed, kFailed, kLimit, kTimeout, kInterrupted };

/// Where the LC-3's characters go: byte for byte.
class OutputSink {
 public:
  /// Keeps up to `limit` bytes in memory.
  [[nodiscard]] static OutputSink memory(std::size_t limit);
  /// A descriptor, not owned. The process must ignore SIGPIPE.
  [[nodiscard]] static OutputSink descriptor(int fd);

  /// Writes all of `bytes`, waiting for room until the deadline or a signal. A memory sink that is full keeps what
  /// fits.
  [[nodiscard]] WriteEnd write(std::string_view bytes, std::uint64_t deadline_ns, const SignalWatch& signals);
  [[nodiscard]] bool is_terminal() const { return terminal_; }
  /// True after a character that is not the end of a line.
  [[nodiscard]] bool in_line() const { return last_ != '\n'; }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }
  [[nodiscard]] int last_errno() const { return errno_; }

 private:
  int fd_ = -1;
  bool terminal_ = false;
  bool small_writes_ = false;  // a pipe: what fits PIPE_BUF cannot block after poll()
  std::size_t limit_ = 0;
  std::string bytes_;
  char last_ = '\n';
  int errno_ = 0;
};

enum class RunEnd : std::uint8_t {
  kStopped,       // by the machine: see ConsoleRun::last
  kTimeout,       // the deadline has passed
  kInterrupted,   // a signal: see SignalWatch::signal()
  kOutputClosed,  // nobody reads the output any more
  kOutputFailed,  // it cannot be written: see OutputSink::last_errno()
  kOutputLimit,   // there is more of it than the sink keeps
};

/// What one run() did. The machine stands between two instructions, whatever ended it.
struct ConsoleRun {
  RunEnd end = RunEnd::kStopped;
  lc3::RunResult last{};       // of the last slice; `executed` is that slice's
  std::uint64_t executed = 0;  // instructions of all slices
  std::uint64_t guest_ns = 0;  // time in the guest, without waiting
};

/// Runs the machine for up to `budget` instructions (fewer is fine, the console goes on), as Lc3Vm::run() does.
using SliceRunner = std::function<Result<lc3::RunResult>(std::uint64_t budget)>;

class Lc3Console {
 public:
  /// All must outlive the console. `runner`: what takes the place of Lc3Vm::run().
  Lc3Console(lc3::Lc3Vm& vm, InputSource& input, OutputSink& output, SignalWatch& signals, SliceRunner runner = {});

  /// Runs until the machine stops for good (halted, budget, unhandled …, break- or watchpoint, input used up), or one
  /// of the other ends. Exactly `budget` instructions at most. Errors: the guest broke, or the host did.
  [[nodiscard]] Result<ConsoleRun> run(std::uint64_t budget = std::numeric_limits<std::uint64_t>::max(),
                                       std::uint64_t deadline_ns = kNoDeadline);

 private:
  /// True if the guest has got something: characters, or the end of its input.
  [[nodiscard]] Result<bool> feed();
  [[nodiscard]] Result<WriteEnd> drain(std::uint64_t deadline_ns);
  [[nodiscard]] std::uint64_t next_slice() const;
  void learn_speed(std::uint64_t executed, std::uint64_t took_ns);

  lc3::Lc3Vm& vm_;
  InputSource& input_;
  OutputSink& output_;
  SignalWatch& signals_;
  SliceRunner runner_;
  std::string buffer_;
  double instructions_per_ns_ = 0.05;  // a careful first guess
  double slice_ns_;
  bool closed_ = false;     // the guest knows that no more input will come
  bool ring_full_ = false;  // the guest's input ring is full, and more is pending here
};

}  // namespace warmfork::cli
