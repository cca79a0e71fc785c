#include "lc3_console.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <utility>

namespace warmfork::cli {
namespace {

constexpr double kInteractiveSliceNs = 1.5e6;  // a key and a character wait at most this long
constexpr double kBatchSliceNs = 10e6;
constexpr std::uint64_t kLeastSlice = 1000;
constexpr std::uint64_t kMostSlice = std::uint64_t{1} << 32;
constexpr std::size_t kReadBytes = 4096;
constexpr char kEndOfTransmission = '\x04';  // Ctrl-D

// Time left until the deadline as poll() takes it, rounded up; -1: for ever.
int poll_timeout(std::uint64_t deadline_ns) {
  if (deadline_ns == kNoDeadline) return -1;
  const std::uint64_t now = now_ns();
  if (now >= deadline_ns) return 0;
  return static_cast<int>(std::min<std::uint64_t>((deadline_ns - now + 999'999) / 1'000'000, INT_MAX));
}

}  // namespace

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

void wait_readable(int fd, const SignalWatch& signals, std::uint64_t deadline_ns) {
  std::array<pollfd, 2> ready{pollfd{.fd = fd, .events = POLLIN, .revents = 0},
                              pollfd{.fd = signals.fd(), .events = POLLIN, .revents = 0}};
  ::poll(ready.data(), ready.size(), poll_timeout(deadline_ns));
}

InputSource::InputSource(int fd) : fd_(fd), terminal_(::isatty(fd) == 1) {}

void InputSource::take(std::size_t count) {
  taken_ += count;
  if (taken_ < pending_.size()) return;
  pending_.clear();
  taken_ = 0;
}

void InputSource::read_available() {
  if (ended_) return;
  pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, 0) <= 0 || ready.revents == 0) return;
  std::array<char, kReadBytes> bytes{};
  const ssize_t got = ::read(fd_, bytes.data(), bytes.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {  // the end; an error (a terminal that is gone, a descriptor that is none) is no more than that
    ended_ = true;
    return;
  }
  std::string_view text(bytes.data(), static_cast<std::size_t>(got));
  if (terminal_) {
    const std::size_t end = text.find(kEndOfTransmission);
    ended_ = end != std::string_view::npos;
    text = text.substr(0, end);
  }
  pending_.append(text);
}

OutputSink OutputSink::memory(std::size_t limit) {
  OutputSink sink;
  sink.limit_ = limit;
  return sink;
}

OutputSink OutputSink::descriptor(int fd) {
  OutputSink sink;
  sink.fd_ = fd;
  sink.terminal_ = ::isatty(fd) == 1;
  struct stat status{};
  sink.small_writes_ = ::fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
  return sink;
}

WriteEnd OutputSink::write(std::string_view bytes, std::uint64_t deadline_ns, const SignalWatch& signals) {
  if (fd_ < 0) {
    const std::size_t fits = std::min(bytes.size(), limit_ - bytes_.size());
    bytes_.append(bytes.substr(0, fits));
    return fits == bytes.size() ? WriteEnd::kWritten : WriteEnd::kLimit;
  }
  bool waited = false;
  while (!bytes.empty()) {
    std::array<pollfd, 2> ready{pollfd{.fd = fd_, .events = POLLOUT, .revents = 0},
                                pollfd{.fd = signals.fd(), .events = POLLIN, .revents = 0}};
    const int count = ::poll(ready.data(), ready.size(), poll_timeout(deadline_ns));
    if (count < 0 && errno != EINTR) {
      errno_ = errno;
      return WriteEnd::kFailed;
    }
    // What has been printed before the signal is still written if that needs no waiting.
    if (count <= 0 || ready[0].revents == 0) {
      if (signals.signal() != 0) return WriteEnd::kInterrupted;
      if (count == 0 && waited) return WriteEnd::kTimeout;
      waited = count == 0 && now_ns() >= deadline_ns;
      continue;
    }
    const std::size_t most = small_writes_ ? std::min<std::size_t>(bytes.size(), PIPE_BUF) : bytes.size();
    const ssize_t put = ::write(fd_, bytes.data(), most);
    if (put < 0) {
      if (errno == EINTR || errno == EAGAIN) {
        if (signals.signal() != 0) return WriteEnd::kInterrupted;
        continue;
      }
      errno_ = errno;
      return errno == EPIPE ? WriteEnd::kClosed : WriteEnd::kFailed;
    }
    last_ = bytes[static_cast<std::size_t>(put) - 1];
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return WriteEnd::kWritten;
}

InputSource::InputSource(std::vector<Scheduled> schedule) : ended_(schedule.empty()), schedule_(std::move(schedule)) {}

void InputSource::advance(std::uint64_t executed, bool waiting) {
  if (schedule_.empty()) return;
  if (waiting && pending().empty() && next_ < schedule_.size()) pending_ += schedule_[next_++].bytes;
  while (next_ < schedule_.size() && schedule_[next_].at <= executed) pending_ += schedule_[next_++].bytes;
  ended_ = next_ == schedule_.size();
}

Lc3Console::Lc3Console(lc3::Lc3Vm& vm, InputSource& input, OutputSink& output, SignalWatch& signals, SliceRunner runner)
    : vm_(vm),
      input_(input),
      output_(output),
      signals_(signals),
      runner_(std::move(runner)),
      slice_ns_(input.is_terminal() || output.is_terminal() ? kInteractiveSliceNs : kBatchSliceNs) {}

Result<bool> Lc3Console::feed() {
  ring_full_ = false;
  bool news = false;
  while (!closed_) {
    if (input_.pending().empty()) input_.read_available();
    const std::string_view pending = input_.pending();
    if (pending.empty()) {
      if (!input_.ended()) return news;
      WARMFORK_TRY(vm_.close_input());
      closed_ = true;
      return true;
    }
    // SAFETY: characters viewed as bytes.
    WARMFORK_TRY_ASSIGN(const std::size_t fed,
                        vm_.feed({reinterpret_cast<const std::uint8_t*>(pending.data()), pending.size()}));
    news = news || fed > 0;
    ring_full_ = fed < pending.size();
    input_.take(fed);
    if (ring_full_) return news;
  }
  return news;
}

Result<WriteEnd> Lc3Console::drain(std::uint64_t deadline_ns) {
  buffer_.clear();
  WARMFORK_TRY(vm_.drain(buffer_));
  if (buffer_.empty()) return WriteEnd::kWritten;
  return output_.write(buffer_, deadline_ns, signals_);
}

std::uint64_t Lc3Console::next_slice() const {
  // While more input is pending here than the guest's ring holds, no slice may be long enough to use the ring up: what
  // the program sees at a poll must not depend on how fast this machine is.
  if (ring_full_) return lc3::kInputCapacity;
  return static_cast<std::uint64_t>(
      std::clamp(instructions_per_ns_ * slice_ns_, static_cast<double>(kLeastSlice), static_cast<double>(kMostSlice)));
}

void Lc3Console::learn_speed(std::uint64_t executed, std::uint64_t took_ns) {
  if (executed < kLeastSlice || took_ns == 0) return;
  const double measured = static_cast<double>(executed) / static_cast<double>(took_ns);
  // Down at once, up by halves: a slice that is too long is felt, one that is too short costs little.
  instructions_per_ns_ = measured < instructions_per_ns_ ? measured : (instructions_per_ns_ + measured) / 2;
}

Result<ConsoleRun> Lc3Console::run(std::uint64_t budget, std::uint64_t deadline_ns) {
  using lc3::StopReason;
  ConsoleRun run;
  bool waiting = false;
  for (;;) {
    if (signals_.signal() != 0) {
      run.end = RunEnd::kInterrupted;
      return run;
    }
    if (deadline_ns != kNoDeadline && now_ns() >= deadline_ns) {
      run.end = RunEnd::kTimeout;
      return run;
    }
    input_.advance(run.executed, waiting);
    WARMFORK_TRY_ASSIGN(const bool news, feed());
    if (waiting && !news && !closed_) {
      wait_readable(input_.fd(), signals_, deadline_ns);
      continue;
    }
    // advance() has left nothing that is due: what comes next lies ahead.
    const std::uint64_t slice = std::min({next_slice(), budget - run.executed, input_.next_at() - run.executed});
    const std::uint64_t begin = now_ns();
    WARMFORK_TRY_ASSIGN(run.last, runner_ ? runner_(slice) : vm_.run(slice));
    const std::uint64_t took = now_ns() - begin;
    run.executed += run.last.executed;
    run.guest_ns += took;
    learn_speed(run.last.executed, took);

    WARMFORK_TRY_ASSIGN(const WriteEnd written, drain(deadline_ns));
    switch (written) {
      case WriteEnd::kWritten: break;
      case WriteEnd::kClosed: run.end = RunEnd::kOutputClosed; return run;
      case WriteEnd::kFailed: run.end = RunEnd::kOutputFailed; return run;
      case WriteEnd::kLimit: run.end = RunEnd::kOutputLimit; return run;
      case WriteEnd::kTimeout: run.end = RunEnd::kTimeout; return run;
      case WriteEnd::kInterrupted: run.end = RunEnd::kInterrupted; return run;
    }
    waiting = run.last.stop == StopReason::kInputNeeded || run.last.stop == StopReason::kIdle;
    const bool goes_on = waiting || run.last.stop == StopReason::kOutputFull ||
                         run.last.stop == StopReason::kOutputPending ||
                         (run.last.stop == StopReason::kBudget && run.executed < budget);
    if (!goes_on) return run;
  }
}

}  // namespace warmfork::cli
