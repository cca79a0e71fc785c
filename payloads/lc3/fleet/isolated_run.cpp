#include "lc3/fleet/isolated_run.hpp"

#include "lc3/host/lc3_failure.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace warmfork::lc3 {
namespace {

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

}  // namespace

const char* name_of(RunEnd end) {
  switch (end) {
    case RunEnd::kHalted: return "halted";
    case RunEnd::kInstructionLimit: return "instruction_limit";
    case RunEnd::kInputExhausted: return "input_exhausted";
    case RunEnd::kFault: return "fault";
    case RunEnd::kOutputLimit: return "output_limit";
    case RunEnd::kTimeout: return "timeout";
    case RunEnd::kCrashed: return "crashed";
    case RunEnd::kInterrupted: return "interrupted";
    case RunEnd::kDeadlock: return "deadlock";
  }
  return "unknown";
}

bool IsolatedRun::finish(RunEnd end, std::string message) {
  ended_ = true;
  end_ = end;
  message_ = std::move(message);
  return true;
}

Result<bool> IsolatedRun::end_by(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kDeadline: return finish(RunEnd::kTimeout);
    case ErrorKind::kCancelled: return finish(RunEnd::kInterrupted);
    case ErrorKind::kGuestFault: return finish(RunEnd::kCrashed, error.message);
    default: return Failure(error);
  }
}

Status IsolatedRun::feed() {
  if (closed_) return {};
  if (fed_ < input_.size()) {
    const std::string_view rest = input_.substr(fed_);
    // SAFETY: characters viewed as bytes.
    WARMFORK_TRY_ASSIGN(const std::size_t count,
                        machine_.feed({reinterpret_cast<const std::uint8_t*>(rest.data()), rest.size()}));
    fed_ += count;
  }
  if (fed_ < input_.size()) return {};
  WARMFORK_TRY(machine_.close_input());
  closed_ = true;
  return {};
}

Result<bool> IsolatedRun::advance(std::uint64_t most) {
  if (ended_) return fail(ErrorKind::kUsage, "a run that has ended goes on no more");
  waiting_.reset();
  const std::uint64_t begin = now_ns();
  if (deadline_ns_ == 0) deadline_ns_ = begin + std::min(limits_.wall_ns, ~std::uint64_t{0} - begin);
  const std::uint64_t target = executed_ + std::min(most, limits_.instructions - executed_);
  auto ended = go_on(target);
  busy_ns_ += now_ns() - begin;
  return ended;
}

Result<bool> IsolatedRun::go_on(std::uint64_t target) {
  for (;;) {
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns_) return finish(RunEnd::kTimeout);
    if (const auto fed = feed(); !fed) return end_by(fed.error());
    // While more input is here than the guest's ring holds, no piece may be long enough to use the ring up: what the
    // program sees at a poll must not depend on how pieces are cut.
    std::uint64_t piece = target - executed_;
    if (!closed_) piece = std::min<std::uint64_t>(piece, kInputCapacity);
    const auto result = machine_.run(piece, {.timeout_ns = deadline_ns_ - now});
    if (!result) return end_by(result.error());
    executed_ += result->executed;
    if (const auto drained = machine_.drain(output_); !drained) return end_by(drained.error());
    if (output_.size() > limits_.output_bytes) {
      output_.resize(limits_.output_bytes);
      return finish(RunEnd::kOutputLimit);
    }
    switch (result->stop) {
      case StopReason::kBudget:
        if (executed_ == limits_.instructions) return finish(RunEnd::kInstructionLimit);
        if (executed_ == target) return false;
        continue;
      case StopReason::kWaiting:
        // Only machines with connected ports get there; what the guest says is checked, not believed.
        if (!is_port(result->address)) break;
        waiting_ = result->address;
        return false;
      case StopReason::kOutputFull:
      case StopReason::kOutputPending: continue;
      case StopReason::kInputNeeded:
      case StopReason::kIdle:
        if (!closed_) continue;
        return finish(RunEnd::kInputExhausted);
      case StopReason::kInputExhausted: return finish(RunEnd::kInputExhausted);
      default: break;
    }
    const auto failure = find_failure(machine_, options_, *result);
    if (!failure) return end_by(failure.error());
    if (*failure) return finish(RunEnd::kFault, fmt::format("{} at x{:04X}", (*failure)->what, (*failure)->address));
    if (result->stop == StopReason::kHalted) return finish(RunEnd::kHalted);
    return finish(RunEnd::kCrashed, fmt::format("a run that ends by \"{}\"", describe(result->stop)));
  }
}

}  // namespace warmfork::lc3
