#include "machine/sampler.hpp"

#include "machine/watchdog.hpp"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

namespace warmfork {

Result<std::unique_ptr<Sampler>> Sampler::start(unsigned rate) {
  if (rate == 0 || rate > kMostSamplesPerSecond) {
    return fail(ErrorKind::kUsage, "{} samples a second: 1 to {} are possible", rate, kMostSamplesPerSecond);
  }
  std::unique_ptr<Sampler> sampler(new Sampler);
  try {
    sampler->thread_ =
        std::thread([&self = *sampler, period = std::uint64_t{1'000'000'000} / rate] { self.work(period); });
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kHost, "cannot start the thread that takes samples: {}", error.what());
  }
  return sampler;
}

Sampler::~Sampler() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
}

void Sampler::work(std::uint64_t period_ns) {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  // The thread that starts this may be pinned to the CPU that runs the guest.
  cpu_set_t everywhere;
  std::memset(&everywhere, 0xff, sizeof everywhere);
  static_cast<void>(::pthread_setaffinity_np(::pthread_self(), sizeof everywhere, &everywhere));
  timespec next{};
  ::clock_gettime(CLOCK_MONOTONIC, &next);
  while (!stop_.load()) {
    next.tv_nsec += static_cast<std::int64_t>(period_ns % 1'000'000'000);
    next.tv_sec += static_cast<std::int64_t>(period_ns / 1'000'000'000);
    if (next.tv_nsec >= 1'000'000'000) {
      next.tv_nsec -= 1'000'000'000;
      ++next.tv_sec;
    }
    while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr) == EINTR) {
    }
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > next.tv_sec) next = now;  // a machine that stood still is not made to catch up
    const std::size_t running = Watchdog::instance().request_samples();
    requested_.store(requested_.load(std::memory_order_relaxed) + running, std::memory_order_relaxed);
  }
}

}  // namespace warmfork
