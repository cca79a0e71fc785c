#include "lc3/debugger/call_tracker.hpp"

#include "lc3/core/instruction.hpp"

namespace warmfork::lc3 {
namespace {

// Deeper than any recursion whose frames are in memory; beyond it calls are no longer told apart.
constexpr std::size_t kMaxFrames = 1 << 20;

}  // namespace

void CallTracker::push(std::uint16_t return_address, bool supervisor, bool interrupt) {
  if (frames_.size() < kMaxFrames) frames_.push_back({return_address, supervisor, interrupt});
}

void CallTracker::pop_to(std::size_t size) {
  // The instruction that an interrupt came before is still to be executed; what made any other frame is complete.
  if (size == 0 && !frames_.front().interrupt) progress_ = true;
  frames_.resize(size);
}

void CallTracker::jump(std::uint16_t target, bool is_ret) {
  for (std::size_t i = frames_.size(); i-- > 0 && !frames_[i].supervisor;) {
    if (frames_[i].return_address == target) return pop_to(i);
  }
  if (!is_ret) return;
  if (frames_.empty()) {
    left_ = true;
  } else if (!frames_.back().supervisor) {
    pop_to(frames_.size() - 1);
  }
}

void CallTracker::return_from_supervisor() {
  for (std::size_t i = frames_.size(); i-- > 0;) {
    if (frames_[i].supervisor) return pop_to(i);
  }
  left_ = true;
}

bool CallTracker::feed(const TraceRecord& record, std::uint16_t previous_pc) {
  const auto after = static_cast<std::uint16_t>(record.address + 1);
  if ((record.entered & kEnteredInterrupt) != 0) push(previous_pc, true, true);
  const bool outermost = frames_.empty();
  if ((record.entered & kEnteredException) != 0) {
    push(record.address, true, false);
  } else if ((record.entered & kEnteredTrap) != 0) {
    push(after, !second_edition_, false);
  } else {
    switch (operation_of(record.word)) {
      case Operation::kJsr:
      case Operation::kJsrr: push(after, false, false); break;
      case Operation::kJmp: jump(record.pc, ((record.word >> 6) & 7) == 7); break;
      case Operation::kRti: return_from_supervisor(); break;
      default: break;
    }
  }
  if (outermost && frames_.empty()) progress_ = true;
  return left_ || (goal_ == Goal::kNext && progress_ && frames_.empty());
}

}  // namespace warmfork::lc3
