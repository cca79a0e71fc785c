#include "fork/pool.hpp"

#include "base/quiet_thread.hpp"
#include "fork/pool_forks.hpp"
#include "fork/pool_queue.hpp"
#include "fork/pool_shelves.hpp"
#include "metrics/metrics.hpp"
#include "trace/trace.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace warmfork {
namespace {

using Clock = PoolForks::Clock;

// A dirty fork that lay untouched for this long is reset by the pool's thread …
constexpr Clock::duration kTendPeriod = std::chrono::milliseconds(20);
// … which looks less and less often at a pool nobody uses.
constexpr Clock::duration kTendPeriodIdle = std::chrono::milliseconds(640);

struct PoolMetrics {
  metrics::Gauge ready = metrics::gauge(metrics::Family::kPoolForks, {"ready"});
  metrics::Gauge busy = metrics::gauge(metrics::Family::kPoolForks, {"busy"});
  metrics::Gauge broken = metrics::gauge(metrics::Family::kPoolForks, {"broken"});
  metrics::Gauge waiting = metrics::gauge(metrics::Family::kPoolWaiting);
  metrics::Gauge limit = metrics::gauge(metrics::Family::kPoolLimit);
  metrics::Counter replaced = metrics::counter(metrics::Family::kPoolReplaced);
  metrics::Histogram acquire = metrics::histogram(metrics::Family::kPoolAcquireDuration);
};
const PoolMetrics pool_metrics;

}  // namespace

// --- The pool --------------------------------------------------------------------------------------------------------

// Two words make the fast path right. A releaser parks its fork and then looks whether the queue is quiet; who waits
// joins the queue and then looks at all shelves. Both in sequentially consistent order, so one of the two sees the
// other.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): shelves lie on lines of their own
class Pool::Impl {
 public:
  Impl(const kvm::Kvm& kvm, std::shared_ptr<const Snapshot> snapshot, const PoolOptions& options)
      : kvm_(kvm), snapshot_(std::move(snapshot)), options_(options) {}
  ~Impl() {
    numbers_.reset();
    close();
  }

  [[nodiscard]] Status open();
  [[nodiscard]] Result<PoolEntry*> take(std::uint64_t timeout_ns);
  void release(PoolEntry& entry);
  void close();
  [[nodiscard]] bool closed() const { return queue_.closed(); }
  [[nodiscard]] PoolStats stats();
  [[nodiscard]] const PoolOptions& options() const { return options_; }
  [[nodiscard]] const Snapshot& snapshot() const { return *snapshot_; }
  [[nodiscard]] std::string describe() const;

 private:
  void collect(metrics::Collector& collector);
  using Lock = PoolForks::Lock;

  [[nodiscard]] Result<PoolEntry*> take_slow(PoolShelf& shelf, std::uint64_t timeout_ns);
  // With the lock held, up to pop_free(); functions that take it as an argument give it up meanwhile.
  [[nodiscard]] Result<PoolEntry*> wait(Lock& lock, std::uint64_t timeout_ns);
  [[nodiscard]] bool may_grow() const { return !queue_.closed() && forks_.may_grow(); }
  void discard(Lock& lock, PoolEntry& entry);
  void serve_waiters();
  void let_first_grow();
  void put_back_slow(PoolShelf& shelf, PoolEntry& entry);
  [[nodiscard]] PoolEntry* pop_free();

  void put_back(PoolShelf& shelf, PoolEntry* entry);
  void tend();
  bool tend_once(Lock& lock);
  bool tend_entry(Lock& lock, PoolEntry& entry);

  const kvm::Kvm& kvm_;
  const std::shared_ptr<const Snapshot> snapshot_;
  const PoolOptions options_;

  PoolQueue queue_;
  std::atomic<std::uint64_t> faults_{0};
  std::atomic<std::uint64_t> deadlines_{0};
  PoolShelves shelves_;

  std::mutex mutex_;  // of all that follows
  PoolForks forks_;
  std::vector<PoolEntry*> free_;  // ready to be leased
  std::uint64_t waited_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t tended_ = 0;
  std::uint64_t inside_ = 0;  // threads in take_slow()

  std::array<std::uint64_t, PoolShelves::kCount> seen_taken_{};
  std::condition_variable tender_wake_;
  std::mutex close_mutex_;
  std::thread tender_;
  std::optional<metrics::Source> numbers_;
};

Status Pool::Impl::open() {
  WARMFORK_TRY(forks_.open(kvm_, snapshot_, options_, free_));
  numbers_.emplace([this](metrics::Collector& collector) { collect(collector); });
  if (options_.policy == ResetPolicy::kStrict) return {};
  WARMFORK_TRY_ASSIGN(tender_, start_quiet_thread("the pool", [this] { tend(); }));
  return {};
}

// --- Taking ----------------------------------------------------------------------------------------------------------

Result<PoolEntry*> Pool::Impl::take(std::uint64_t timeout_ns) {
  PoolShelf& shelf = shelves_.mine();
  shelf.taken.fetch_add(1);
  for (;;) {
    PoolEntry* entry = nullptr;
    // With others in the queue its order decides, not the shelf.
    if (queue_.quiet() && shelf.entry.load(std::memory_order_relaxed) != nullptr) [[likely]] {
      entry = shelf.entry.exchange(nullptr);
    }
    if (entry == nullptr) [[unlikely]] {
      auto found = take_slow(shelf, timeout_ns);
      if (!found) {
        shelf.returned.fetch_add(1);
        return found;
      }
      entry = *found;
    }
    if (!entry->dirty.load(std::memory_order_relaxed)) return entry;
    if (entry->fork->reset()) {
      entry->dirty.store(false, std::memory_order_relaxed);
      return entry;
    }
    Lock lock(mutex_);
    discard(lock, *entry);
  }
}

Result<PoolEntry*> Pool::Impl::take_slow(PoolShelf& shelf, std::uint64_t timeout_ns) {
  Lock lock(mutex_);
  ++inside_;
  auto found = [&]() -> Result<PoolEntry*> {
    if (queue_.closed()) return fail(ErrorKind::kCancelled, "the pool is closed");
    if (queue_.first() != nullptr) return wait(lock, timeout_ns);
    if (PoolEntry* const own = shelf.entry.exchange(nullptr)) return own;
    if (PoolEntry* const ready = pop_free()) return ready;
    if (may_grow()) {
      auto grown = forks_.grow(lock);
      if (grown || forks_.hopeless()) {
        let_first_grow();  // who has come to wait for this fork meanwhile
        return grown;
      }
    }
    if (queue_.first() == nullptr) {
      if (PoolEntry* const parked = shelves_.sweep(shelves_.number_of(shelf))) return parked;
    }
    return wait(lock, timeout_ns);
  }();
  if (found && queue_.closed()) {
    free_.push_back(*found);
    found = fail(ErrorKind::kCancelled, "the pool is closed");
  }
  if (!found) ++failed_;
  --inside_;
  return found;
}

Result<PoolEntry*> Pool::Impl::wait(Lock& lock, std::uint64_t timeout_ns) {
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 61;  // 73 years
  const Clock::time_point until = Clock::now() + std::chrono::nanoseconds(std::min(timeout_ns, kLongest));
  ++waited_;
  PoolQueue::Waiter waiter;
  queue_.add(waiter);
  serve_waiters();
  bool late = false;
  while (waiter.entry == nullptr) {
    if (queue_.closed() || late) {
      queue_.remove(waiter);
      let_first_grow();  // in place of this one, which may have been asked to
      if (queue_.closed()) return fail(ErrorKind::kCancelled, "the pool is closed");
      return fail(ErrorKind::kDeadline, "no fork was given back within {} ns; {} in use", timeout_ns,
                  forks_.counts().usable);
    }
    if (std::exchange(waiter.may_grow, false) && may_grow()) {
      auto grown = forks_.grow(lock);
      if (waiter.entry != nullptr) {  // someone was faster
        if (grown) free_.push_back(*grown);
        serve_waiters();
        break;
      }
      if (grown || forks_.hopeless()) {
        queue_.remove(waiter);
        let_first_grow();
        return grown;
      }
      continue;
    }
    // While the pool is smaller than it may be, a failed attempt to grow is made again: nobody may ever give a fork
    // back.
    const bool smaller = forks_.has_room();
    const Clock::time_point retry = std::max(forks_.grow_again(), Clock::now() + PoolForks::kGrowAgainAfter / 10);
    if (timeout_ns == 0 && !smaller) {
      waiter.wake.wait(lock);
    } else if (timeout_ns != 0 && (!smaller || until <= retry)) {
      late = waiter.wake.wait_until(lock, until) == std::cv_status::timeout;
    } else if (waiter.wake.wait_until(lock, retry) == std::cv_status::timeout && queue_.first() == &waiter &&
               forks_.counts().making == 0) {
      waiter.may_grow = may_grow();
    }
  }
  return waiter.entry;
}

void Pool::Impl::serve_waiters() {
  while (queue_.first() != nullptr) {
    PoolEntry* entry = pop_free();
    if (entry == nullptr) entry = shelves_.sweep(0);
    if (entry == nullptr) return;
    PoolQueue::Waiter& waiter = *queue_.first();
    queue_.remove(waiter);
    waiter.entry = entry;
    waiter.wake.notify_one();  // with the lock held: the waiter's stack is gone once it has got it
  }
}

PoolEntry* Pool::Impl::pop_free() {
  if (free_.empty()) return nullptr;
  PoolEntry* const entry = free_.back();  // the warmest
  free_.pop_back();
  return entry;
}

void Pool::Impl::let_first_grow() {
  if (queue_.first() == nullptr || !may_grow()) return;
  queue_.first()->may_grow = true;
  queue_.first()->wake.notify_one();
}

void Pool::Impl::discard(Lock& lock, PoolEntry& entry) {
  forks_.discard(lock, entry);
  let_first_grow();
}

// --- Giving back -----------------------------------------------------------------------------------------------------

void Pool::Impl::release(PoolEntry& entry) {
  PoolShelf& shelf = shelves_.mine();
  Fork& fork = *entry.fork;
  if (!fork.ready()) [[unlikely]]
    (fork.stopped() ? deadlines_ : faults_).fetch_add(1, std::memory_order_relaxed);
  if (options_.policy == ResetPolicy::kDeferred) {
    entry.dirty.store(true, std::memory_order_relaxed);
    put_back(shelf, &entry);
  } else if (fork.reset()) [[likely]] {
    put_back(shelf, &entry);
  } else {
    Lock lock(mutex_);
    discard(lock, entry);
  }
  shelf.returned.fetch_add(1);
}

void Pool::Impl::put_back(PoolShelf& shelf, PoolEntry* entry) {
  PoolEntry* none = nullptr;
  if (queue_.quiet() && shelf.entry.compare_exchange_strong(none, entry)) [[likely]] {
    if (queue_.quiet()) [[likely]]
      return;
    entry = shelf.entry.exchange(nullptr);
    if (entry == nullptr) return;  // who waits has found it
  }
  const std::scoped_lock lock(mutex_);
  put_back_slow(shelf, *entry);
}

void Pool::Impl::put_back_slow(PoolShelf& shelf, PoolEntry& entry) {
  PoolEntry* none = nullptr;
  if (queue_.first() == nullptr && shelf.entry.compare_exchange_strong(none, &entry)) return;
  free_.push_back(&entry);
  serve_waiters();
}

// --- The pool's own thread (kDeferred) -------------------------------------------------------------------------------

void Pool::Impl::tend() {
  trace::name_thread("pool");
  Lock lock(mutex_);
  Clock::duration period = kTendPeriod;
  while (!tender_wake_.wait_for(lock, period, [this] { return queue_.closed(); })) {
    period = tend_once(lock) ? kTendPeriod : std::min(period * 2, kTendPeriodIdle);
  }
}

// Resets dirty forks whose threads have not come back since the last time. It keeps the lock during a reset, so that a
// thread that misses its fork waits for that instead of making another. Returns whether there was anything going on.
bool Pool::Impl::tend_once(Lock& lock) {
  bool active = false;
  for (std::size_t i = 0; i < PoolShelves::kCount; ++i) {
    PoolShelf& shelf = shelves_[i];
    const std::uint64_t taken = shelf.taken.load(std::memory_order_relaxed);
    if (std::exchange(seen_taken_[i], taken) != taken) {
      active = true;
      continue;
    }
    if (!queue_.quiet()) return true;
    // Entries go away under the lock only, so it may be looked at.
    if (const PoolEntry* const parked = shelf.entry.load(); parked == nullptr || !parked->dirty.load()) continue;
    PoolEntry* const entry = shelf.entry.exchange(nullptr);
    if (entry == nullptr) continue;
    active = true;
    if (tend_entry(lock, *entry)) put_back_slow(shelf, *entry);
    lock.unlock();  // lets others in
    lock.lock();
  }
  for (std::size_t i = 0; i < free_.size() && queue_.quiet(); ++i) {
    if (!free_[i]->dirty.load()) continue;
    PoolEntry* const entry = std::exchange(free_[i], free_.back());
    free_.pop_back();
    active = true;
    if (tend_entry(lock, *entry)) free_.insert(free_.begin(), entry);
    lock.unlock();
    lock.lock();
  }
  return active;
}

bool Pool::Impl::tend_entry(Lock& lock, PoolEntry& entry) {
  if (!entry.dirty.load()) return true;
  if (!entry.fork->reset()) {
    discard(lock, entry);
    return false;
  }
  ++tended_;
  entry.dirty.store(false);
  return true;
}

// --- The end, and figures --------------------------------------------------------------------------------------------

void Pool::Impl::close() {
  const std::scoped_lock closing(close_mutex_);
  {
    const std::scoped_lock lock(mutex_);
    queue_.close();
    tender_wake_.notify_one();
  }
  if (tender_.joinable()) tender_.join();
  // Polling, as the last thing a thread does with the pool is to count itself out. A cancellation may meet a fork just
  // before a reset, which forgets it, so it is repeated.
  constexpr int kPollsPerCancel = 50;
  for (int polls = 0; !shelves_.all_returned(); ++polls) {
    if (polls % kPollsPerCancel == 0) {
      const std::scoped_lock lock(mutex_);
      forks_.cancel_all();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

PoolStats Pool::Impl::stats() {
  const std::scoped_lock lock(mutex_);
  PoolStats stats{.waited = waited_,
                  .faults = faults_.load(std::memory_order_relaxed),
                  .deadlines = deadlines_.load(std::memory_order_relaxed),
                  .replaced = forks_.counts().replaced,
                  .tended = tended_,
                  .forks = forks_.counts().alive,
                  .vcpus = forks_.counts().vcpus};
  const std::uint64_t returned = shelves_.returned();
  stats.acquired = shelves_.taken();
  stats.in_use = stats.acquired - std::min(stats.acquired, returned + inside_);
  stats.acquired -= std::min(stats.acquired, failed_ + inside_);
  return stats;
}

void Pool::Impl::collect(metrics::Collector& collector) {
  const PoolStats now = stats();
  const std::size_t broken = [this] {
    const std::scoped_lock lock(mutex_);
    return forks_.counts().broken;
  }();
  const PoolMetrics& metrics = pool_metrics;
  collector.add(metrics.busy, static_cast<double>(now.in_use));
  collector.add(metrics.broken, static_cast<double>(broken));
  collector.add(metrics.ready,
                static_cast<double>(now.forks - std::min<std::uint64_t>(now.forks, now.in_use + broken)));
  collector.add(metrics.waiting, static_cast<double>(queue_.length()));
  collector.add(metrics.limit, static_cast<double>(options_.most));
  collector.add(metrics.replaced, now.replaced);
}

std::string Pool::Impl::describe() const { return fmt::format("{}, {}", forks_.describe(), name_of(options_.policy)); }

// --- The interface ---------------------------------------------------------------------------------------------------

Pool::Pool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pool::~Pool() { impl_->close(); }  // leases still need impl_

Result<std::unique_ptr<Pool>> Pool::create(const kvm::Kvm& kvm, std::shared_ptr<const Snapshot> snapshot,
                                           const PoolOptions& options) {
  auto impl = std::make_unique<Impl>(kvm, std::move(snapshot), options);
  WARMFORK_TRY(impl->open());
  return std::unique_ptr<Pool>(new Pool(std::move(impl)));
}

Result<Lease> Pool::acquire(std::uint64_t timeout_ns) {
  const metrics::Timer timer;
  WARMFORK_TRY_ASSIGN(PoolEntry* const entry, impl_->take(timeout_ns));
  if (timer.runs()) pool_metrics.acquire.record_ticks(timer.ticks());
  return Lease(*this, *entry->fork, *entry);
}

Result<std::uint64_t> Pool::request(Gva function, std::span<const std::uint64_t> arguments, CallOptions options) {
  WARMFORK_TRY_ASSIGN(Lease lease, acquire());
  auto answer = lease.call(function, arguments, options);
  lease.release();
  return answer;
}

void Pool::release(PoolEntry& entry) { impl_->release(entry); }
bool Pool::closed() const { return impl_->closed(); }
void Pool::close() { impl_->close(); }
PoolStats Pool::stats() const { return impl_->stats(); }
const Snapshot& Pool::snapshot() const { return impl_->snapshot(); }
const PoolOptions& Pool::options() const { return impl_->options(); }
std::string Pool::describe() const { return impl_->describe(); }

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  release();
  pool_ = std::exchange(other.pool_, nullptr);
  fork_ = std::exchange(other.fork_, nullptr);
  entry_ = other.entry_;
  return *this;
}

Result<std::uint64_t> Lease::call(Gva function, std::span<const std::uint64_t> arguments, CallOptions options) const {
  if (pool_->closed()) [[unlikely]]
    return fail(ErrorKind::kCancelled, "the pool is closed");
  if (options.timeout_ns == 0) options.timeout_ns = pool_->options().timeout_ns;
  return fork_->call(function, arguments, options);
}

void Lease::release() {
  Pool* const pool = std::exchange(pool_, nullptr);
  fork_ = nullptr;
  if (pool != nullptr) pool->release(*entry_);
}

}  // namespace warmfork
