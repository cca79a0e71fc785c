#include "metrics/vm_watch.hpp"

#include <array>
#include <utility>

namespace warmfork::metrics {

VmWatch::VmWatch(Info info) : info_(std::move(info)), source_([this](Collector& collector) { collect(collector); }) {}

void VmWatch::fault(std::string what) {
  faults_.add(1);
  {
    const std::scoped_lock lock(mutex_);
    last_fault_ = std::move(what);
  }
  state(VmState::kFaulted);
}

void VmWatch::collect(Collector& collector) const {
  constexpr std::array<std::string_view, 5> kStates{"waiting", "running", "done", "faulted", "stopped"};
  const std::string& vm = info_.vm;
  collector.set(Family::kVmInfo, {vm, info_.program, info_.kind, info_.engine}, 1);
  const auto now = static_cast<std::size_t>(state_.load(std::memory_order_relaxed));
  for (std::size_t i = 0; i < kStates.size(); ++i) {
    collector.set(Family::kVmState, {vm, kStates[i]}, i == now ? 1 : 0);
  }
  collector.count(Family::kVmInstructions, {vm}, instructions_.value());
  collector.count(Family::kVmFaults, {vm}, faults_.value());
  if (faults_.value() != 0) {
    const std::scoped_lock lock(mutex_);
    collector.set(Family::kVmLastFault, {vm, last_fault_}, 1);
  }
  if (info_.memory_bytes != 0) {
    collector.set(Family::kGuestMemoryLimit, {vm}, static_cast<double>(info_.memory_bytes));
  }
  if (info_.deadline_seconds) collector.set(Family::kGuestDeadline, {vm}, *info_.deadline_seconds);
  if (info_.instruction_budget) {
    collector.set(Family::kGuestBudget, {vm}, static_cast<double>(*info_.instruction_budget));
  }
}

}  // namespace warmfork::metrics
