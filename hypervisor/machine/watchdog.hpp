// Wall-clock deadlines and cancellation without a timer system call per call.
//
// A vCPU thread publishes its deadline as a TSC value in its slot: one store. One thread per process looks at all slots
// and kicks the vCPUs that are late: it sets kvm_run's immediate_exit and sends the thread a signal, so KVM_RUN
// returns. It ticks at a fraction of the shortest timeout in use, and sleeps while nothing runs; only a call whose
// deadline comes before its next tick has to wake it. A deadline is met within one tick after it (an eighth of the
// timeout, at least 0.25 ms, at most 10 ms), plus scheduling.
// A cancellation wakes it too: it repeats the kick at every tick until the vCPU's thread has taken the cancellation.
//
//   slot.deadline_:  0 idle  ->  T running until T  ->  (watchdog: compare-and-swap) kExpired  ->  0
#pragma once

#include "kvm/kvm.hpp"

#include <semaphore.h>
#include <signal.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace warmfork {

enum class StopReason : std::uint8_t { kNone, kDeadline, kCancelled };

/// One vCPU's place in the watchdog. arm/disarm/stop_reason belong to the vCPU's thread; cancel to any thread, and it
/// is async-signal-safe.
class WatchSlot {
 public:
  explicit WatchSlot(kvm::VcpuFd& vcpu);
  ~WatchSlot();
  WatchSlot(const WatchSlot&) = delete;
  WatchSlot& operator=(const WatchSlot&) = delete;

  /// A call starts: it may run `timeout_ns` nanoseconds (0: no deadline). No system call, except to wake the watchdog.
  void arm(std::uint64_t timeout_ns);
  /// The call has ended.
  void disarm() {
    deadline_.store(0, std::memory_order_relaxed);
    running_thread_.store(0, std::memory_order_release);
  }
  /// Why the running call has to stop, if it has to. Reports a cancellation once.
  [[nodiscard]] StopReason take_stop_reason();
  /// Stops the running call, or the next one if none runs.
  void cancel();
  /// True once after request_sample(): whoever runs the vCPU may look where it is.
  [[nodiscard]] bool take_sample() {
    return sample_.load(std::memory_order_relaxed) && sample_.exchange(false, std::memory_order_acquire);
  }
  /// The running call's deadline has passed, whatever arm() was told; nothing if none runs. Any thread.
  void expire();

 private:
  friend class Watchdog;
  static constexpr std::uint64_t kExpired = ~std::uint64_t{0};
  static constexpr std::uint64_t kNever = kExpired - 1;
  void kick();
  void request_sample();

  kvm::VcpuFd& vcpu_;
  std::atomic<std::uint64_t> deadline_{0};
  std::atomic<std::uint64_t> timeout_ticks_{0};
  std::atomic<std::uint64_t> calls_{0};  // written by the vCPU's thread only; the watchdog sees activity by it
  std::atomic<int> running_thread_{0};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> sample_{false};
};

/// The process's watchdog thread; started by the first slot, stopped with the last.
class Watchdog {
 public:
  /// The signal that interrupts KVM_RUN. Its handler does nothing; the process must not block or replace it.
  static int kick_signal() { return SIGRTMIN + 3; }

  static Watchdog& instance();

  /// Interrupts every vCPU that runs, and has its thread take_sample(). Returns how many there were. Any thread but one
  /// that makes or destroys slots.
  std::size_t request_samples();

 private:
  friend class WatchSlot;
  Watchdog() { ::sem_init(&wakeup_, 0, 0); }
  void add(WatchSlot* slot);
  void remove(WatchSlot* slot);
  void wake() { ::sem_post(&wakeup_); }  // async-signal-safe; takes no lock
  void run(const std::stop_token& stop);
  void sleep_until(std::uint64_t tick);
  std::uint64_t scan(std::uint64_t now);

  std::mutex lifecycle_;  // held while the thread is started or joined: there are never two
  std::mutex mutex_;      // of slots_; never taken before lifecycle_
  std::vector<WatchSlot*> slots_;
  std::uint64_t seen_calls_ = 0;
  std::atomic<std::uint64_t> next_tick_{0};  // TSC; kNever while it sleeps for good
  sem_t wakeup_;
  std::jthread thread_;
};

}  // namespace warmfork
