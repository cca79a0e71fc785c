#include "ivshmem/host/counters.hpp"

#include <fmt/format.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace warmfork::ivshmem {
namespace {

struct Event {
  std::uint32_t type;
  std::uint64_t config;
  const char* name;
};

constexpr std::uint64_t cache(std::uint64_t which, std::uint64_t result) {
  return which | std::uint64_t{PERF_COUNT_HW_CACHE_OP_READ} << 8 | result << 16;
}

constexpr std::array<Event, kCounters> kEvents{{
    {PERF_TYPE_HW_CACHE, cache(PERF_COUNT_HW_CACHE_L1D, PERF_COUNT_HW_CACHE_RESULT_MISS), "L1 misses"},
    {PERF_TYPE_HW_CACHE, cache(PERF_COUNT_HW_CACHE_L1D, PERF_COUNT_HW_CACHE_RESULT_ACCESS), "L1 references"},
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES, "last-level misses"},
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_REFERENCES, "last-level references"},
    {PERF_TYPE_HW_CACHE, cache(PERF_COUNT_HW_CACHE_DTLB, PERF_COUNT_HW_CACHE_RESULT_MISS), "TLB misses"},
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, "cycles"},
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS, "instructions"},
    {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES, "context switches"},
}};

}  // namespace

Counts operator-(const Counts& after, const Counts& before) {
  Counts out;
  for (std::size_t i = 0; i < kCounters; ++i) {
    if (after.values[i] && before.values[i]) out.values[i] = *after.values[i] - *before.values[i];
  }
  return out;
}

void ThreadCounters::open(int tid) {
  why_.clear();
  for (std::size_t i = 0; i < kCounters; ++i) {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = kEvents[i].type;
    attributes.config = kEvents[i].config;
    // The kernel's part is not ours to count without a privilege; switches happen nowhere else.
    attributes.exclude_kernel = kEvents[i].type == PERF_TYPE_SOFTWARE ? 0 : 1;
    fds_[i] =
        UniqueFd(static_cast<int>(::syscall(SYS_perf_event_open, &attributes, tid, -1, -1, PERF_FLAG_FD_CLOEXEC)));
    if (!fds_[i] && why_.empty())
      why_ = fmt::format("perf_event_open for {}: {}", kEvents[i].name, std::strerror(errno));
  }
}

Counts ThreadCounters::read() const {
  Counts out;
  for (std::size_t i = 0; i < kCounters; ++i) {
    std::uint64_t value = 0;
    if (fds_[i] && ::read(fds_[i].get(), &value, sizeof value) == sizeof value) out.values[i] = value;
  }
  return out;
}

}  // namespace warmfork::ivshmem
