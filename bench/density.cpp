// Many forks alive at once, and requests on several threads.
#include "base/mapping.hpp"
#include "base/tsc_clock.hpp"
#include "bench/fork_fixture.hpp"
#include "bench/forks.hpp"
#include "bench/rate.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <string>

namespace warmfork::bench {
namespace {

constexpr WindowShape kShape{.window_bytes = 256 << 10, .block_pages = 32};

// Bytes of this process in memory, and bytes the machine has left: the difference between the two movements is what
// the kernel keeps for it.
struct MemoryUse {
  double resident = 0;
  double available = 0;
};

MemoryUse memory_use() {
  MemoryUse use;
  std::ifstream statm("/proc/self/statm");
  double total = 0;
  statm >> total >> use.resident;
  use.resident *= static_cast<double>(::sysconf(_SC_PAGESIZE));
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, unit; meminfo >> key >> use.available >> unit;) {
    if (key == "MemAvailable:") break;
  }
  use.available *= 1024;
  return use;
}

Status measure_density(const SuiteOptions& options, const ForkFixture& fixture, ForkKind kind, std::size_t count,
                       std::vector<Figure>& figures) {
  // Each VM takes three descriptors.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < count * 3 + 100) {
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, count * 3 + 100);
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  options.say(fmt::format("lifecycle: density, {} {} forks", count, name_of(kind)));
  WARMFORK_TRY_ASSIGN(const auto source, fixture.source({.kind = kind}, count));
  WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source->make_cpu());
  std::vector<std::unique_ptr<Fork>> forks;
  forks.reserve(count);
  Histogram make, second_call;
  const MemoryUse before = memory_use();
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t begin = tsc_now();
    auto fork = source->make();
    if (!fork) return with_context(fork.error(), fmt::format("fork {} of {}", i + 1, count));
    make.record(tsc_now_ordered() - begin);
    if (cpu != nullptr) WARMFORK_TRY((*fork)->bind(*cpu));
    WARMFORK_TRY(fixture.request(**fork, i, 1));
    forks.push_back(std::move(*fork));
  }
  const MemoryUse after = memory_use();
  // All alive: each is reset and asked again, in an order that finds nothing in a cache.
  for (const auto& fork : forks) {
    if (cpu != nullptr) WARMFORK_TRY(fork->bind(*cpu));
    WARMFORK_TRY(fork->reset());
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY(fixture.request(*fork, 7, 1));
    second_call.record(tsc_now_ordered() - begin);
  }
  Figure figure = from_ticks("lifecycle/density", second_call);
  figure.labels["kind"] = name_of(kind);
  figure.params["forks"] = static_cast<double>(count);
  figure.params["window_bytes"] = static_cast<double>(kShape.window_bytes);
  const auto per_fork = [&](double bytes) { return bytes / static_cast<double>(count); };
  figure.counters["bytes_per_fork"] = per_fork(after.resident - before.resident);
  figure.counters["kernel_bytes_per_fork"] =
      per_fork(std::max(0.0, before.available - after.available - (after.resident - before.resident)));
  figure.counters["make_p50_ns"] = from_ticks("make", make).p50;
  figures.push_back(std::move(figure));
  return {};
}

// --- Threads ---------------------------------------------------------------------------------------------------------

struct Worker {
  std::unique_ptr<Fork> fork;
  std::uint64_t requests = 0;
};

// Requests per second of the first `threads` workers.
Result<double> requests_per_second(const ForkFixture& fixture, std::array<Worker, 2>& workers,
                                   const std::array<int, 2>& cpus, std::size_t threads, double seconds) {
  return rate_of(cpus, threads, seconds, [&](std::size_t i) -> Status {
    Worker& worker = workers.at(i);
    WARMFORK_TRY(fixture.request(*worker.fork, worker.requests++, 8));
    return worker.fork->reset();
  });
}

// The same with threads that only count: what two CPUs of this machine are worth at the moment.
Result<double> spins_per_second(const std::array<int, 2>& cpus, std::size_t threads, double seconds) {
  return rate_of(cpus, threads, seconds, [](std::size_t) -> Status {
    for (int i = 0; i < 1000; ++i) asm volatile("");
    return {};
  });
}

Status measure_scaling(const SuiteOptions& options, const ForkFixture& fixture, ForkKind kind,
                       std::vector<Figure>& figures) {
  if (options.cpu == options.other_cpu) return {};
  options.say(fmt::format("lifecycle: scaling of {} forks over two threads", name_of(kind)));
  WARMFORK_TRY_ASSIGN(const auto source, fixture.source({.kind = kind}, 2));
  std::array<Worker, 2> workers;
  const std::array<int, 2> cpus{options.cpu, options.other_cpu};
  for (std::size_t i = 0; i < workers.size(); ++i) {
    WARMFORK_TRY_ASSIGN(workers.at(i).fork, source->make());
    WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source->make_cpu());
    if (cpu != nullptr) WARMFORK_TRY(workers.at(i).fork->bind(*cpu));
  }
  const double slice = std::max(0.02, 0.1 * std::min(1.0, options.effort));
  std::vector<double> one, two, control;
  WARMFORK_TRY(requests_per_second(fixture, workers, cpus, 2, slice));
  for (std::uint64_t i = 0; i < options.samples(15, 3); ++i) {
    WARMFORK_TRY_ASSIGN(const double single, requests_per_second(fixture, workers, cpus, 1, slice));
    WARMFORK_TRY_ASSIGN(const double both, requests_per_second(fixture, workers, cpus, 2, slice));
    WARMFORK_TRY_ASSIGN(const double spins, spins_per_second(cpus, 1, slice / 2));
    WARMFORK_TRY_ASSIGN(const double both_spins, spins_per_second(cpus, 2, slice / 2));
    control.push_back(both_spins / spins);
    one.push_back(single);
    two.push_back(both);
  }
  const std::string name = fmt::format("lifecycle/scaling/{}", name_of(kind));
  const Figure single = from_values(name, "requests/s", one);
  Figure both = from_values(name, "requests/s", two);
  both.counters["ratio_to_one_thread"] = both.p50 / single.p50;
  // Both CPUs are shared with whatever else the machine does: the ratio a loop without memory or kernel reaches.
  both.counters["ratio_of_an_empty_loop"] = from_values("control", "", control).p50;
  for (const auto& [figure, threads] : {std::pair(single, 1.0), std::pair(both, 2.0)}) {
    figures.push_back(figure);
    figures.back().params["threads"] = threads;
    figures.back().params["dirty_pages"] = 8;
  }
  return {};
}

}  // namespace

Status measure_density_and_scaling(const SuiteOptions& options, std::vector<Figure>& figures) {
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, kShape));
  for (const ForkKind kind : kForkKinds) WARMFORK_TRY(measure_scaling(options, fixture, kind, figures));
  WARMFORK_TRY(pin_to(options.cpu));
  WARMFORK_TRY(measure_density(options, fixture, ForkKind::kSpace, options.samples(20'000, 100), figures));
  return measure_density(options, fixture, ForkKind::kVm, options.samples(2'000, 20), figures);
}

}  // namespace warmfork::bench
