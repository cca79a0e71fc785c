// One run of an LC-3 machine from its input to its end, in pieces if need be: input is fed, output collected, limits
// kept. The machine is a fork's (Lc3Vm::attach) or a master's; who resets it, and when, is the caller's.
//
// Everything the guest says is hostile: output is bounded before it is kept, and a guest that never comes to an end
// meets its deadline, whatever it claims to have executed.
//
// Threads: as Lc3Vm, one at a time.
#pragma once

#include "base/result.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace warmfork::lc3 {

/// What a run may use.
struct RunLimits {
  std::uint64_t instructions = 10'000'000;           // exact
  std::uint64_t wall_ns = 10'000'000'000;            // from the first piece of the run on; a backstop
  std::size_t output_bytes = std::size_t{64} << 10;  // kept, and not one more
};

enum class RunEnd : std::uint8_t {
  kHalted,
  kInstructionLimit,
  kInputExhausted,
  kFault,  // an exception, trap or interrupt that nobody serves, the OS's message about one included
  kOutputLimit,
  kTimeout,
  kCrashed,      // the guest itself has ended, or says what cannot be
  kInterrupted,  // cancelled
  kDeadlock,     // waited for a message, or for room, that could not come any more
};

/// A stable word: "halted", "instruction_limit", …
[[nodiscard]] const char* name_of(RunEnd end);

class IsolatedRun {
 public:
  /// A run of `machine`, which is as `options` powered it on, with its program in place and nothing executed. `input`
  /// is all there will be. The machine and the input outlive the run.
  IsolatedRun(Lc3Vm& machine, const Lc3Options& options, std::string_view input, const RunLimits& limits)
      : machine_(machine), options_(options), input_(input), limits_(limits) {}

  /// Goes on for `most` instructions at most; true if that was the end. After the end: kUsage. Errors: kHost only;
  /// everything a guest can do is an end.
  [[nodiscard]] Result<bool> advance(std::uint64_t most = ~std::uint64_t{0});

  /// After an advance() that was no end: the register of the port (WAIT, SEND, FLUSH) in which the program waits for
  /// the other end; nothing: it was the number of instructions. Whoever calls sees to it that it pays to go on.
  [[nodiscard]] std::optional<std::uint16_t> waiting() const { return waiting_; }
  /// Ends a run between two pieces: kDeadlock, or kCrashed. `message`: why, for people.
  void end_between(RunEnd end, std::string message) { (void)finish(end, std::move(message)); }
  /// When it ends by kTimeout, on the steady clock; 0: it has not begun.
  [[nodiscard]] std::uint64_t deadline_ns() const { return deadline_ns_; }

  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] RunEnd end() const { return end_; }
  /// Of kFault and kCrashed: what happened, for people; may hold bytes the guest has chosen.
  [[nodiscard]] const std::string& message() const { return message_; }
  [[nodiscard]] const std::string& output() const { return output_; }
  /// Exact, but after kTimeout, kCrashed and kInterrupted: then at least so many.
  [[nodiscard]] std::uint64_t executed() const { return executed_; }
  /// Time of the pieces, in nanoseconds.
  [[nodiscard]] std::uint64_t busy_ns() const { return busy_ns_; }

 private:
  [[nodiscard]] Status feed();
  [[nodiscard]] Result<bool> go_on(std::uint64_t target);
  [[nodiscard]] bool finish(RunEnd end, std::string message = {});
  [[nodiscard]] Result<bool> end_by(const Error& error);

  Lc3Vm& machine_;
  const Lc3Options& options_;
  std::string_view input_;
  RunLimits limits_;
  std::size_t fed_ = 0;
  std::optional<std::uint16_t> waiting_;
  bool closed_ = false;
  bool ended_ = false;
  RunEnd end_ = RunEnd::kHalted;
  std::string message_;
  std::string output_;
  std::uint64_t executed_ = 0;
  std::uint64_t busy_ns_ = 0;
  std::uint64_t deadline_ns_ = 0;  // 0: not begun
};

}  // namespace warmfork::lc3
