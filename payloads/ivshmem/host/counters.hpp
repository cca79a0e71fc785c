// The processor's own counters for one thread, by perf_event_open(2), where the machine has them: virtual machines and
// containers often do not. What cannot be counted is absent, and why() says what the kernel answered.
//
// Threads: open() for a thread, from any; read() from any.
#pragma once

#include "base/unique_fd.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace warmfork::ivshmem {

/// In the order of the columns that show them.
enum class Counter : std::uint8_t {
  kL1Misses,
  kL1References,
  kLlcMisses,
  kLlcReferences,
  kTlbMisses,
  kCycles,
  kInstructions,
  kContextSwitches
};
inline constexpr std::size_t kCounters = 8;

/// What has been counted; a counter that does not exist has no value.
struct Counts {
  std::array<std::optional<std::uint64_t>, kCounters> values;
  [[nodiscard]] const std::optional<std::uint64_t>& of(Counter counter) const {
    return values[static_cast<std::size_t>(counter)];
  }
  friend bool operator==(const Counts&, const Counts&) = default;
};
/// What was counted from `before` to `after`.
[[nodiscard]] Counts operator-(const Counts& after, const Counts& before);

class ThreadCounters {
 public:
  /// Counts what the thread `tid` does (0: the caller) from now on, in user mode and in guests. Never fails.
  void open(int tid);
  [[nodiscard]] Counts read() const;
  /// Why the first counter that is absent is; empty: all are there.
  [[nodiscard]] const std::string& why() const { return why_; }

 private:
  std::array<UniqueFd, kCounters> fds_;
  std::string why_;
};

}  // namespace warmfork::ivshmem
