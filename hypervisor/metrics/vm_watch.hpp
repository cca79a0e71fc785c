// The series of one machine of a run: what it is, what it may use, how it does.
//
// Threads: state(), instructions() and fault() by one at a time; scrapes by any.
#pragma once

#include "metrics/metrics.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace warmfork::metrics {

enum class VmState : std::uint8_t { kWaiting, kRunning, kDone, kFaulted, kStopped };

class VmWatch {
 public:
  struct Info {
    std::string vm;  // its name, which tells it from others of the process
    std::string program;
    std::string_view kind;    // "vm", "space"
    std::string_view engine;  // of LC-3 machines; "native" of others
    std::uint64_t memory_bytes = 0;
    std::optional<double> deadline_seconds;
    std::optional<std::uint64_t> instruction_budget;
  };
  explicit VmWatch(Info info);

  void state(VmState state) { state_.store(state, std::memory_order_relaxed); }
  void instructions(std::uint64_t all) { instructions_.set(all); }
  void add_instructions(std::uint64_t more) { instructions_.add(more); }
  /// It has ended by its own fault.
  void fault(std::string what);

 private:
  void collect(Collector& collector) const;

  const Info info_;
  std::atomic<VmState> state_{VmState::kWaiting};
  Cell instructions_, faults_;
  mutable std::mutex mutex_;
  std::string last_fault_;
  Source source_;
};

}  // namespace warmfork::metrics
