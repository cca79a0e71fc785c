#include "machine/watchdog.hpp"

#include "base/tsc_clock.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace warmfork {
namespace {

constexpr double kMinTickNs = 250'000;
constexpr double kMaxTickNs = 10'000'000;
constexpr double kIdleBeforeSleepNs = 100'000'000;

int current_thread() {
  thread_local const int id = ::gettid();
  return id;
}

void ignore_signal(int) {}

void install_kick_handler() {
  struct sigaction action{};
  action.sa_handler = ignore_signal;  // no SA_RESTART: the point is to interrupt
  ::sigaction(Watchdog::kick_signal(), &action, nullptr);
}

}  // namespace

WatchSlot::WatchSlot(kvm::VcpuFd& vcpu) : vcpu_(vcpu) { Watchdog::instance().add(this); }
WatchSlot::~WatchSlot() { Watchdog::instance().remove(this); }

void WatchSlot::arm(std::uint64_t timeout_ns) {
  running_thread_.store(current_thread(), std::memory_order_relaxed);
  if (timeout_ns == 0) {
    deadline_.store(kNever, std::memory_order_release);
    return;
  }
  const std::uint64_t ticks = ns_to_tsc(static_cast<double>(timeout_ns));
  const std::uint64_t now = tsc_now();
  const std::uint64_t deadline = ticks < kNever - 1 - now ? now + ticks : kNever - 1;
  calls_.store(calls_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (timeout_ticks_.load(std::memory_order_relaxed) != ticks) timeout_ticks_.store(ticks, std::memory_order_relaxed);
  // Sequentially consistent against the watchdog's store of next_tick_ and its scan: one of the two sees the other.
  deadline_.store(deadline, std::memory_order_seq_cst);
  Watchdog& watchdog = Watchdog::instance();
  if (deadline < watchdog.next_tick_.load(std::memory_order_seq_cst)) watchdog.wake();
}

StopReason WatchSlot::take_stop_reason() {
  if (cancelled_.exchange(false, std::memory_order_acq_rel)) return StopReason::kCancelled;
  if (deadline_.load(std::memory_order_acquire) == kExpired) return StopReason::kDeadline;
  return StopReason::kNone;
}

void WatchSlot::cancel() {
  cancelled_.store(true, std::memory_order_seq_cst);
  kick();
  // The kick is lost on a thread that is just about to block in a read: the watchdog repeats it.
  Watchdog::instance().wake();
}

void WatchSlot::expire() {
  std::uint64_t deadline = deadline_.load(std::memory_order_acquire);
  if (deadline == 0 || deadline == kExpired) return;
  if (!deadline_.compare_exchange_strong(deadline, kExpired, std::memory_order_acq_rel)) return;
  kick();
  Watchdog::instance().wake();  // it repeats the kick
}

void WatchSlot::kick() {
  vcpu_.request_immediate_exit();
  // A thread that has just left the call gets a signal it ignores; an id that is no longer a thread of this process is
  // refused by tgkill.
  if (const int thread = running_thread_.load(std::memory_order_acquire); thread != 0) {
    const int saved = errno;  // a signal handler may be what cancels
    ::syscall(SYS_tgkill, ::getpid(), thread, Watchdog::kick_signal());
    errno = saved;
  }
}

// A kick that meets the thread on its way out of KVM_RUN makes the next KVM_RUN return at once: the sample then shows
// the entry of the next call.
void WatchSlot::request_sample() {
  sample_.store(true, std::memory_order_release);
  kick();
}

Watchdog& Watchdog::instance() {
  static Watchdog* const watchdog = new Watchdog;  // never destroyed: slots may outlive static destruction
  return *watchdog;
}

void Watchdog::add(WatchSlot* slot) {
  static std::once_flag once;
  std::call_once(once, install_kick_handler);
  const std::scoped_lock lifecycle(lifecycle_);
  const std::scoped_lock lock(mutex_);
  slots_.reserve(slots_.size() + 1);
  if (!thread_.joinable()) {
    next_tick_.store(WatchSlot::kNever);
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  slots_.push_back(slot);  // last, as it cannot throw: a slot whose constructor throws must not stay in the list
}

void Watchdog::remove(WatchSlot* slot) {
  const std::scoped_lock lifecycle(lifecycle_);
  std::jthread last;
  {
    const std::scoped_lock lock(mutex_);
    std::erase(slots_, slot);
    if (slots_.empty()) last = std::move(thread_);
  }
  last.request_stop();
  wake();
}  // joins here, outside the lock of the slots

std::size_t Watchdog::request_samples() {
  const std::scoped_lock lock(mutex_);
  std::size_t running = 0;
  for (WatchSlot* slot : slots_) {
    if (slot->running_thread_.load(std::memory_order_acquire) == 0) continue;
    slot->request_sample();
    ++running;
  }
  return running;
}

// Kicks the late ones and returns the next tick. Called with the lock held, so that no slot goes away meanwhile.
std::uint64_t Watchdog::scan(std::uint64_t now) {
  std::uint64_t calls = 0;
  std::uint64_t shortest = ns_to_tsc(kMaxTickNs * 8);
  bool armed = false;
  for (WatchSlot* slot : slots_) {
    std::uint64_t deadline = slot->deadline_.load(std::memory_order_seq_cst);
    calls += slot->calls_.load(std::memory_order_relaxed);
    if (slot->cancelled_.load(std::memory_order_seq_cst) && slot->running_thread_.load() != 0) {
      slot->kick();
      armed = true;
    }
    if (deadline == WatchSlot::kExpired) {
      slot->kick();  // again: the first kick may have come while the thread was about to block in a read
      armed = true;
      continue;
    }
    if (deadline == 0 || deadline == WatchSlot::kNever) continue;
    armed = true;
    shortest = std::min(shortest, slot->timeout_ticks_.load(std::memory_order_relaxed));
    if (deadline <= now &&
        slot->deadline_.compare_exchange_strong(deadline, WatchSlot::kExpired, std::memory_order_acq_rel)) {
      slot->kick();
    } else if (deadline > now) {
      shortest = std::min(shortest, (deadline - now) * 8);
    }
  }
  const bool active = armed || calls != seen_calls_;
  seen_calls_ = calls;
  if (!active) return WatchSlot::kNever;
  return now + std::max(shortest / 8, ns_to_tsc(kMinTickNs));
}

void Watchdog::sleep_until(std::uint64_t tick) {
  if (tick == WatchSlot::kNever) {
    ::sem_wait(&wakeup_);
    return;
  }
  timespec until{};
  ::clock_gettime(CLOCK_MONOTONIC, &until);
  const std::uint64_t now = tsc_now();
  const auto ns = until.tv_nsec + static_cast<std::int64_t>(tsc_to_ns(tick - std::min(tick, now)));
  until.tv_sec += ns / 1'000'000'000;
  until.tv_nsec = ns % 1'000'000'000;
  ::sem_clockwait(&wakeup_, CLOCK_MONOTONIC, &until);
}

void Watchdog::run(const std::stop_token& stop) {
  // The thread that kicks must not be the one that is kicked by signals meant for the process.
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  // Before the first deadline there is nothing to do. Above all not to calibrate the clock, which takes 10 ms of a
  // processor, with the lock held: a process that lives for less would wait for it at its end.
  sleep_until(WatchSlot::kNever);
  std::uint64_t last_active = tsc_now();
  while (!stop.stop_requested()) {
    std::uint64_t next = WatchSlot::kNever;
    {
      const std::scoped_lock lock(mutex_);
      const std::uint64_t now = tsc_now();
      next = scan(now);
      if (next != WatchSlot::kNever) {
        last_active = now;
      } else if (now - last_active < ns_to_tsc(kIdleBeforeSleepNs)) {
        next = now + ns_to_tsc(kMaxTickNs);
      }
      next_tick_.store(next, std::memory_order_seq_cst);
      // A deadline armed between the scan and this store may be earlier than the tick: look once more.
      if (const std::uint64_t again = scan(tsc_now()); again < next) {
        next = again;
        next_tick_.store(next, std::memory_order_seq_cst);
      }
    }
    sleep_until(next);
  }
}

}  // namespace warmfork
