// How often threads do something together, each on a CPU of its own.
//
// Threads: rate_of() by one; `act` by those that it makes.
#pragma once

#include "base/result.hpp"
#include "base/tsc_clock.hpp"
#include "bench/suites.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace warmfork::bench {

/// Times a second that `act(thread)` was done by `threads` threads together, pinned to the first so many of `cpus`.
/// They begin together, when all have started; what a thread is doing when the time has passed it finishes, and the
/// time it takes for that counts. `act` returns a Status. Errors: the first thread's that failed; kHost: no thread, no
/// CPU.
template <class Act>
[[nodiscard]] Result<double> rate_of(std::span<const int> cpus, std::size_t threads, double seconds, Act&& act) {
  if (threads > cpus.size()) return fail(ErrorKind::kHost, "{} threads on {} CPUs", threads, cpus.size());
  struct alignas(128) Worker {
    std::uint64_t done = 0;
    Status status;
  };
  std::vector<Worker> workers(threads);
  std::atomic<std::size_t> waiting{0};
  std::atomic<bool> stop{false};
  std::vector<std::jthread> running;
  const auto begun = [&] { return waiting.load() == threads; };
  try {
    for (std::size_t i = 0; i < threads; ++i) {
      running.emplace_back([&, i] {
        Worker& worker = workers[i];
        worker.status = pin_to(cpus[i]);
        for (++waiting; !begun() && !stop.load();) std::this_thread::yield();
        while (worker.status && !stop.load(std::memory_order_relaxed)) {
          worker.status = act(i);
          if (worker.status) ++worker.done;
        }
      });
    }
  } catch (const std::system_error& error) {
    stop = true;
    return fail(ErrorKind::kHost, "starting a thread: {}", error.what());
  }
  while (!begun()) std::this_thread::yield();
  const std::uint64_t begin = tsc_now();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  stop = true;
  running.clear();
  const double took = tsc_to_ns(tsc_now() - begin) / 1e9;
  double total = 0;
  for (const Worker& worker : workers) {
    WARMFORK_TRY(worker.status);
    total += static_cast<double>(worker.done);
  }
  return total / took;
}

}  // namespace warmfork::bench
