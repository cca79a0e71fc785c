#include "machine/call_metrics.hpp"

#include "machine/guest.hpp"
#include "metrics/metrics.hpp"

#include <array>
#include <string_view>

namespace warmfork {
namespace {

enum class CallResult : std::uint8_t { kOk, kBudget, kFault, kDeadline, kError, kCount };

CallResult result_of(const Result<std::uint64_t>& answer, const CallOptions& options) {
  if (answer) return *answer == options.budget_answer ? CallResult::kBudget : CallResult::kOk;
  switch (answer.error().kind) {
    case ErrorKind::kGuestFault: return CallResult::kFault;
    case ErrorKind::kDeadline: return CallResult::kDeadline;
    default: return CallResult::kError;
  }
}

struct ModeMetrics {
  explicit ModeMetrics(std::string_view mode) : duration(metrics::histogram(metrics::Family::kVmcallDuration, {mode})) {
    constexpr std::array<std::string_view, static_cast<std::size_t>(CallResult::kCount)> kNames{"ok", "budget", "fault",
                                                                                                "deadline", "error"};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      results[i] = metrics::counter(metrics::Family::kVmcalls, {mode, kNames[i]});
    }
  }
  std::array<metrics::Counter, static_cast<std::size_t>(CallResult::kCount)> results;
  metrics::Histogram duration;
};

// By CallMode. Made before anything runs: no request waits for it.
const std::array kModes{ModeMetrics("vm"), ModeMetrics("space"), ModeMetrics("ring")};

}  // namespace

void record_call(CallMode mode, std::uint64_t ticks, const Result<std::uint64_t>& answer, const CallOptions& options) {
  const ModeMetrics& metrics = kModes[static_cast<std::size_t>(mode)];
  metrics.results[static_cast<std::size_t>(result_of(answer, options))].add();
  metrics.duration.record_ticks(ticks);
}

}  // namespace warmfork
