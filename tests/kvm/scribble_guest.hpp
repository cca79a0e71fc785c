// A machine with the guest probe_scribble (payloads/probes/scribble), and its calls.
#pragma once

#include "machine/machine.hpp"
#include "scribble.hpp"
#include "warmfork/abi/layout.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace warmfork::test {

/// Memory that the guest may write: data, heap, stack, and the call area behind what the calls themselves use of it.
inline constexpr std::uint64_t kRangesOffset = 0x4000;  // behind the report, which lies at the call area's start
inline constexpr std::uint64_t kScribbledCallArea = 0x5000;

[[nodiscard]] inline std::vector<scribble::Range> writable_ranges(Machine& machine) {
  std::vector<scribble::Range> ranges;
  for (const LoadSegment& segment : machine.plan().segments) {
    if (!segment.write) continue;
    const std::uint64_t begin = page_floor(segment.address.value);
    ranges.push_back({begin, page_ceil(segment.address.value + segment.memory_size) - begin});
  }
  const AddressSpace& memory = machine.memory();
  ranges.push_back({memory.heap().begin.value, memory.heap().size});
  ranges.push_back({memory.stack().begin.value, memory.stack().size});
  const AddressRange area = memory.call_area();
  ranges.push_back({area.begin.value + kScribbledCallArea, area.size - kScribbledCallArea});
  return ranges;
}

/// All that the guest may read: that, its code and constants, the stubs.
[[nodiscard]] inline std::vector<scribble::Range> readable_ranges(Machine& machine) {
  std::vector<scribble::Range> ranges = writable_ranges(machine);
  for (const LoadSegment& segment : machine.plan().segments) {
    if (!segment.write) ranges.push_back({segment.address.value, segment.memory_size});
  }
  ranges.push_back({WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET, kPage});
  return ranges;
}

class ScribbleGuest {
 public:
  explicit ScribbleGuest(Machine& machine) : machine_(machine) {}

  Result<std::uint64_t> registers(std::uint64_t seed, std::uint64_t options) {
    return call("scribble_registers", {seed, options});
  }
  Result<std::uint64_t> memory(std::uint64_t seed) {
    const auto [address, count] = put(writable_ranges(machine_));
    return call("scribble_memory", {seed, address, count});
  }
  Result<std::uint64_t> all(std::uint64_t seed, std::uint64_t options) {
    const auto [address, count] = put(writable_ranges(machine_));
    return call("scribble_all", {seed, options, address, count});
  }
  Result<std::uint64_t> random(std::uint64_t seed, std::uint64_t steps, std::uint64_t options = 0) {
    const auto [address, count] = put(writable_ranges(machine_));
    return call("random_scribble", {seed, steps, address, count, options});
  }
  Result<std::uint64_t> crash(scribble::Crash which, std::uint64_t timeout_ns) {
    return call("crash", {static_cast<std::uint64_t>(which)}, timeout_ns);
  }
  /// Not after random() with SCRIBBLE_KEEP: the hash would read what may not be read.
  Result<scribble::StateReport> report(std::uint64_t options) {
    const std::uint64_t area = machine_.memory().call_area().begin.value;
    const auto [address, count] = put(readable_ranges(machine_));
    WARMFORK_TRY(call("report_state", {area, options, address, count}));
    return machine_.memory().read_value<scribble::StateReport>(Gva{area});
  }
  /// Options every call may be given on this backend; ends the guest where RDFSBASE is invalid.
  std::uint64_t find_options() { return call("try_fsgsbase", {}) ? SCRIBBLE_FSGSBASE : 0; }

  Result<std::uint64_t> call(const char* name, std::vector<std::uint64_t> arguments,
                             std::uint64_t timeout_ns = 60'000'000'000) {
    WARMFORK_TRY_ASSIGN(const Gva function, machine_.find_vmcall(name));
    return machine_.call(function, arguments, {.timeout_ns = timeout_ns});
  }

 private:
  std::pair<std::uint64_t, std::uint64_t> put(const std::vector<scribble::Range>& ranges) {
    EXPECT_LE(ranges.size(), scribble::kMaxRanges);
    const auto address = machine_.put_buffer(kRangesOffset, std::as_bytes(std::span(ranges)));
    EXPECT_TRUE(address);
    return {address ? address->value : 0, ranges.size()};
  }

  Machine& machine_;
};

}  // namespace warmfork::test
