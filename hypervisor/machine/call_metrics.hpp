// What a call into a guest leaves in the metrics.
#pragma once

#include "base/result.hpp"

#include <cstdint>

namespace warmfork {

struct CallOptions;

enum class CallMode : std::uint8_t {
  kVm,     // by KVM_RUN, in a VM of its own
  kSpace,  // by KVM_RUN, in a VM shared with other guests
  kRing,   // through a call ring
};

/// Counts a call that came back after `ticks` of the TSC. Any thread; not async-signal-safe.
void record_call(CallMode mode, std::uint64_t ticks, const Result<std::uint64_t>& answer, const CallOptions& options);

}  // namespace warmfork
