// Samples of where guests are: a thread that interrupts every vCPU that runs, so many times a second, by the watchdog's
// kick. The vCPU's own thread looks at the registers that KVM hands over at every exit anyway, and enters again: a
// sample costs an exit and two wake-ups (kvm-pvm: 86 us of all threads
// together), and the guest cannot tell.
//
// Only time in guests is sampled, not the host's own. What the clock says is exact to the kernel's wake-up of this
// thread; it is taken whatever the guest does, so that no code is preferred. RIP is that of the next instruction.
//
// Threads: any; there may be several samplers, each adds its samples to the same sinks.
#pragma once

#include "base/result.hpp"

#include <linux/kvm.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

namespace warmfork {

/// Who is told where a guest is: see Guest::set_sample_sink().
class SampleSink {
 public:
  /// By the thread that runs the guest, between two KVM_RUNs. `regs` are hostile as everything of a guest.
  virtual void sample(const kvm_regs& regs) = 0;

 protected:
  ~SampleSink() = default;
};

inline constexpr unsigned kMostSamplesPerSecond = 20'000;

class Sampler {
 public:
  /// `rate` times a second. Errors: kUsage (rate), kHost (no thread).
  [[nodiscard]] static Result<std::unique_ptr<Sampler>> start(unsigned rate);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  /// Samples asked for so far; every guest that ran at a tick counts as one.
  [[nodiscard]] std::uint64_t requested() const { return requested_.load(std::memory_order_relaxed); }

 private:
  Sampler() = default;
  void work(std::uint64_t period_ns);

  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> requested_{0};
  std::thread thread_;
};

}  // namespace warmfork
