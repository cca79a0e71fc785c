#include "base/mapping.hpp"
#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "bench/ring_round_trips.hpp"
#include "bench/suites.hpp"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstring>
#include <latch>
#include <thread>

namespace warmfork::bench {
namespace {

constexpr std::size_t kWindowBytes = 256 << 10;
constexpr int kFloors = 6;

Result<Figure> measure_exit(const SuiteOptions& options) {
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  WARMFORK_TRY(probe.warm_up());
  Histogram ticks;
  for (std::uint64_t i = 0; i < options.samples(40'000); ++i) WARMFORK_TRY(probe.exit_round_trip(ticks));
  return from_ticks("floors/cpl3_exit", ticks);
}

Result<Figure> measure_immediate_exit(const SuiteOptions& options) {
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  WARMFORK_TRY(probe.warm_up());
  probe.guest().vcpu().request_immediate_exit();
  Histogram ticks;
  for (std::uint64_t i = 0; i < options.samples(40'000); ++i) {
    const std::uint64_t begin = tsc_now();
    const int error = probe.guest().vcpu().run_raw();
    ticks.record(tsc_now_ordered() - begin);
    if (error != EINTR) return fail(ErrorKind::kHost, "KVM_RUN with immediate_exit: error {}", error);
  }
  return from_ticks("floors/kvm_run_immediate_exit", ticks);
}

// While another VM with a vCPU is open, as in every process that uses forks: without one KVM is slower.
Result<Figure> measure_create_destroy(const SuiteOptions& options) {
  WARMFORK_TRY_ASSIGN(const FloorProbe keeper, FloorProbe::create(*options.kvm));
  Histogram ticks;
  for (std::uint64_t i = 0; i < options.samples(500); ++i) {
    const std::uint64_t begin = tsc_now();
    {
      WARMFORK_TRY_ASSIGN(const kvm::VmFd vm, options.kvm->create_vm());
      WARMFORK_TRY_ASSIGN(const kvm::VcpuFd vcpu, vm.create_vcpu(0));
    }
    ticks.record(tsc_now_ordered() - begin);
  }
  return from_ticks("floors/create_destroy_vm", ticks);
}

Result<Figure> measure_memcpy(const SuiteOptions& options) {
  WARMFORK_TRY_ASSIGN(const Mapping from, Mapping::anonymous(kWindowBytes));
  WARMFORK_TRY_ASSIGN(const Mapping to, Mapping::anonymous(kWindowBytes));
  std::memset(from.data(), 1, kWindowBytes);
  std::memset(to.data(), 2, kWindowBytes);
  Histogram ticks;
  for (std::uint64_t i = 0; i < options.samples(20'000); ++i) {
    const std::uint64_t begin = tsc_now();
    std::memcpy(to.data(), from.data(), kWindowBytes);
    asm volatile("" : : "r"(to.data()) : "memory");
    ticks.record(tsc_now_ordered() - begin);
  }
  Figure figure = from_ticks("floors/memcpy_window", ticks);
  figure.params["window_bytes"] = kWindowBytes;
  return figure;
}

Result<Figure> measure_pingpong(const SuiteOptions& options) {
  Histogram ticks;
  WARMFORK_TRY(ping_pong(options.other_cpu, options.samples(400'000, 1000), ticks));
  return from_ticks("floors/cacheline_pingpong", ticks);
}

Result<Figure> measure_ring(const SuiteOptions& options) {
  Histogram ticks;
  WARMFORK_TRY(host_thread_round_trips(options.other_cpu, options.samples(200'000, 1000), ticks));
  return from_ticks("floors/host_thread_spsc", ticks);
}

}  // namespace

Status pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); error != 0) {
    errno = error;
    return fail_errno("pinning to CPU {}", cpu);
  }
  return {};
}

Status ping_pong(int other_cpu, std::uint64_t round_trips, Histogram& ticks) {
  struct alignas(128) Line {
    std::atomic<std::uint64_t> value{0};
  };
  Line there;
  Line back;
  constexpr std::uint64_t kLast = ~std::uint64_t{0};
  Status pinned;
  std::latch ready{1};
  std::jthread partner([&] {
    pinned = pin_to(other_cpu);
    ready.count_down();
    if (!pinned) return;
    for (std::uint64_t seen = 0; seen != kLast;) {
      const std::uint64_t value = there.value.load(std::memory_order_acquire);
      if (value == seen) continue;
      seen = value;
      back.value.store(value, std::memory_order_release);
    }
  });
  ready.wait();
  WARMFORK_TRY(pinned);
  // The first ones find the partner still returning from the start of its thread.
  constexpr std::uint64_t kUnrecorded = 3;
  for (std::uint64_t i = 1; i <= kUnrecorded + round_trips; ++i) {
    const std::uint64_t begin = tsc_now();
    there.value.store(i, std::memory_order_release);
    while (back.value.load(std::memory_order_acquire) != i) {
    }
    const std::uint64_t took = tsc_now_ordered() - begin;
    if (i > kUnrecorded) ticks.record(took);
  }
  there.value.store(kLast, std::memory_order_release);
  return {};
}

SuiteResult run_floors(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<Figure> figures;
  for (const auto measure : {measure_exit, measure_immediate_exit, measure_create_destroy, measure_memcpy}) {
    options.say(fmt::format("floors {}/{}", figures.size() + 1, kFloors));
    WARMFORK_TRY_ASSIGN(Figure figure, measure(options));
    figures.push_back(std::move(figure));
  }
  if (options.cpu == options.other_cpu) {
    options.remark("floors: one CPU, so no floors/cacheline_pingpong and no floors/host_thread_spsc");
    return figures;
  }
  for (const auto measure : {measure_pingpong, measure_ring}) {
    options.say(fmt::format("floors {}/{}", figures.size() + 1, kFloors));
    WARMFORK_TRY_ASSIGN(Figure figure, measure(options));
    figures.push_back(std::move(figure));
  }
  return figures;
}

}  // namespace warmfork::bench
