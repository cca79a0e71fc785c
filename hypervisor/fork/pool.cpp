#include "fork/pool.hpp"

#include "base/quiet_thread.hpp"
#include "metrics/metrics.hpp"
#include "trace/trace.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace warmfork {

/// A fork of the pool, with the vCPU it runs on. It belongs to whoever has taken it from its shelf or from the free
/// list; memory is ordered by that exchange.
struct PoolEntry {
  std::unique_ptr<Fork> fork;
  GuestCpu* cpu = nullptr;         // once it has one, for good
  std::atomic<bool> dirty{false};  // to be reset before it is used; atomic only because tend() looks before it takes
};

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostForks = std::size_t{1} << 16;
constexpr std::size_t kShelves = 128;
// After a fork could not be made, nobody tries again for so long: each attempt costs much and will hardly succeed.
constexpr Clock::duration kGrowAgainAfter = std::chrono::milliseconds(250);
// A dirty fork that lay untouched for this long is reset by the pool's thread …
constexpr Clock::duration kTendPeriod = std::chrono::milliseconds(20);
// … which looks less and less often at a pool nobody uses.
constexpr Clock::duration kTendPeriodIdle = std::chrono::milliseconds(640);

// --- Which shelf is mine ---------------------------------------------------------------------------------------------

// Every thread of the process has a number below kShelves, the smallest free one, for as long as it lives; when there
// are more threads some share a number, which costs them misses but nothing else.
std::array<std::atomic<std::uint64_t>, kShelves / 64> numbers_in_use;
constexpr unsigned kNoNumber = ~0U;
thread_local constinit unsigned thread_number = kNoNumber;

[[gnu::noinline]] unsigned choose_thread_number() {
  for (std::size_t word = 0; word < numbers_in_use.size(); ++word) {
    std::uint64_t used = numbers_in_use[word].load(std::memory_order_relaxed);
    while (~used != 0) {
      const auto bit = static_cast<unsigned>(std::countr_one(used));
      if (!numbers_in_use[word].compare_exchange_weak(used, used | std::uint64_t{1} << bit)) continue;
      thread_number = static_cast<unsigned>(word) * 64 + bit;
      struct GiveBack {
        ~GiveBack() { numbers_in_use[thread_number / 64].fetch_and(~(std::uint64_t{1} << thread_number % 64)); }
      };
      // The number stays readable behind this, for leases that other thread_local objects hold.
      thread_local const GiveBack at_thread_exit;
      return thread_number;
    }
  }
  return thread_number = static_cast<unsigned>(std::hash<std::thread::id>()(std::this_thread::get_id()) % kShelves);
}

unsigned my_number() {
  const unsigned number = thread_number;
  return number != kNoNumber ? number : choose_thread_number();
}

// `taken` counts acquisitions begun, `returned` those that are over, by failure or release. To return is the last thing
// a thread does with the pool's memory, so that close() knows when nobody is inside.
struct alignas(64) Shelf {
  std::atomic<PoolEntry*> entry{nullptr};
  std::atomic<std::uint64_t> taken{0};
  std::atomic<std::uint64_t> returned{0};
};

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

// Two words make the fast path right. A releaser parks its fork and then looks at attention_; who waits raises
// attention_ and then looks at all shelves. Both in sequentially consistent order, so one of the two sees the other.
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
  [[nodiscard]] bool closed() const { return (attention_.load() & kClosed) != 0; }
  [[nodiscard]] PoolStats stats();
  [[nodiscard]] const PoolOptions& options() const { return options_; }
  [[nodiscard]] const Snapshot& snapshot() const { return *snapshot_; }
  [[nodiscard]] std::string describe() const;

 private:
  void collect(metrics::Collector& collector);
  using Lock = std::unique_lock<std::mutex>;
  // One thread in the queue, on its stack.
  struct Waiter {
    Waiter* next = nullptr;
    PoolEntry* entry = nullptr;  // what it waited for; the waiter is not in the queue any more
    bool may_grow = false;       // there is room for another fork now
    std::condition_variable wake;
  };
  // An entry while it is made: nobody else sees it.
  struct Parts {
    std::unique_ptr<Fork> fork;
    GuestCpu* cpu = nullptr;
    GuestCpu* spare = nullptr;  // a vCPU without a fork
    std::size_t vcpus_made = 0;
  };
  static constexpr std::uint32_t kClosed = std::uint32_t{1} << 31;

  [[nodiscard]] Result<PoolEntry*> take_slow(Shelf& shelf, std::uint64_t timeout_ns);
  // With the lock held, up to sweep(); functions that take it as an argument give it up meanwhile.
  [[nodiscard]] Result<PoolEntry*> wait(Lock& lock, std::uint64_t timeout_ns);
  [[nodiscard]] bool may_grow() const;
  [[nodiscard]] bool hopeless() const { return usable_ == 0 && making_ == 0; }
  [[nodiscard]] Result<PoolEntry*> grow(Lock& lock);
  void take_parts(PoolEntry& entry, Parts parts);
  void discard(Lock& lock, PoolEntry& entry);
  void enqueue(Waiter& waiter);
  void unlink(Waiter& waiter);
  void serve_waiters();
  void let_first_grow();
  void put_back_slow(Shelf& shelf, PoolEntry& entry);
  [[nodiscard]] PoolEntry* pop_free();
  [[nodiscard]] PoolEntry* sweep(std::size_t first);

  void put_back(Shelf& shelf, PoolEntry* entry);
  [[nodiscard]] Status prepare(Parts& parts);
  void tend();
  bool tend_once(Lock& lock);
  bool tend_entry(Lock& lock, PoolEntry& entry);
  [[nodiscard]] bool all_returned() const;

  const kvm::Kvm& kvm_;
  const std::shared_ptr<const Snapshot> snapshot_;
  const PoolOptions options_;
  std::unique_ptr<ForkSource> source_;  // outlives the forks

  std::atomic<std::uint32_t> attention_{0};  // threads in the queue, and kClosed
  std::atomic<std::uint64_t> faults_{0};
  std::atomic<std::uint64_t> deadlines_{0};
  std::array<Shelf, kShelves> shelves_;

  std::mutex source_mutex_;  // whoever makes a fork or a vCPU; never taken with mutex_ held
  std::mutex mutex_;         // of all that follows
  bool closed_ = false;
  std::vector<std::unique_ptr<PoolEntry>> entries_;  // all
  std::vector<PoolEntry*> free_;                     // ready to be leased
  std::vector<PoolEntry*> fresh_;                    // `space` forks that have no vCPU yet
  std::vector<GuestCpu*> idle_cpus_;                 // their forks had to be thrown away
  std::size_t alive_ = 0;                            // forks, also those that are just being made or destroyed
  std::size_t usable_ = 0;                           // forks that are leased, parked or free
  std::size_t making_ = 0;                           // threads in grow()
  std::size_t vcpus_ = 0;
  Clock::time_point grow_again_;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
  std::uint64_t waited_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t replaced_ = 0;
  std::uint64_t tended_ = 0;
  std::uint64_t inside_ = 0;  // threads in take_slow()
  std::size_t broken_ = 0;    // forks that are just being thrown away

  std::array<std::uint64_t, kShelves> seen_taken_{};
  std::condition_variable tender_wake_;
  std::mutex close_mutex_;
  std::thread tender_;
  std::optional<metrics::Source> numbers_;
};

Status Pool::Impl::open() {
  if (options_.most == 0 || options_.ready > options_.most) {
    return fail(ErrorKind::kUsage, "a pool with {} forks made ahead and {} at most", options_.ready, options_.most);
  }
  std::size_t limit = kMostForks;
  const bool shares_vm = options_.fork.kind == ForkKind::kSpace;
  if (shares_vm) {
    const int vcpus = std::max(kvm_.check_extension(KVM_CAP_MAX_VCPUS), kvm_.check_extension(KVM_CAP_NR_VCPUS));
    limit = std::min(limit, static_cast<std::size_t>(std::max(vcpus, 4)));  // api.rst: 4 where neither is reported
  }
  if (options_.most > limit) {
    return fail(ErrorKind::kLimit, "a pool of {} {} forks, at most {} can run at once{}", options_.most,
                name_of(options_.fork.kind), limit, shares_vm ? " in one VM of this KVM" : "");
  }
  // Nothing on the way of a released fork allocates.
  entries_.reserve(options_.most);
  free_.reserve(options_.most);
  fresh_.reserve(options_.most);
  idle_cpus_.reserve(options_.most);
  WARMFORK_TRY_ASSIGN(source_, make_fork_source(kvm_, snapshot_, options_.fork, options_.most));
  for (std::size_t i = 0; i < options_.ready; ++i) {
    Parts parts;
    // The first one gets its vCPU at once: where vCPUs cannot be made, that is known here.
    const bool complete = !shares_vm || i == 0;
    if (complete) {
      WARMFORK_TRY(prepare(parts));
    } else {
      WARMFORK_TRY_ASSIGN(parts.fork, source_->make());
    }
    entries_.push_back(std::make_unique<PoolEntry>());
    take_parts(*entries_.back(), std::move(parts));
    (complete ? free_ : fresh_).push_back(entries_.back().get());
    usable_ += complete ? 1 : 0;
    ++alive_;
  }
  numbers_.emplace([this](metrics::Collector& collector) { collect(collector); });
  if (options_.policy == ResetPolicy::kStrict) return {};
  WARMFORK_TRY_ASSIGN(tender_, start_quiet_thread("the pool", [this] { tend(); }));
  return {};
}

// --- Taking ----------------------------------------------------------------------------------------------------------

Result<PoolEntry*> Pool::Impl::take(std::uint64_t timeout_ns) {
  Shelf& shelf = shelves_[my_number()];
  shelf.taken.fetch_add(1);
  for (;;) {
    PoolEntry* entry = nullptr;
    // With others in the queue its order decides, not the shelf.
    if (attention_.load() == 0 && shelf.entry.load(std::memory_order_relaxed) != nullptr) [[likely]] {
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

Result<PoolEntry*> Pool::Impl::take_slow(Shelf& shelf, std::uint64_t timeout_ns) {
  Lock lock(mutex_);
  ++inside_;
  auto found = [&]() -> Result<PoolEntry*> {
    if (closed_) return fail(ErrorKind::kCancelled, "the pool is closed");
    if (first_ != nullptr) return wait(lock, timeout_ns);
    if (PoolEntry* const own = shelf.entry.exchange(nullptr)) return own;
    if (PoolEntry* const ready = pop_free()) return ready;
    if (may_grow()) {
      auto grown = grow(lock);
      if (grown || hopeless()) {
        let_first_grow();  // who has come to wait for this fork meanwhile
        return grown;
      }
    }
    if (first_ == nullptr) {
      if (PoolEntry* const parked = sweep(static_cast<std::size_t>(&shelf - shelves_.data()))) return parked;
    }
    return wait(lock, timeout_ns);
  }();
  if (found && closed_) {
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
  Waiter waiter;
  enqueue(waiter);
  serve_waiters();
  bool late = false;
  while (waiter.entry == nullptr) {
    if (closed_ || late) {
      unlink(waiter);
      let_first_grow();  // in place of this one, which may have been asked to
      if (closed_) return fail(ErrorKind::kCancelled, "the pool is closed");
      return fail(ErrorKind::kDeadline, "no fork was given back within {} ns; {} in use", timeout_ns, usable_);
    }
    if (std::exchange(waiter.may_grow, false) && may_grow()) {
      auto grown = grow(lock);
      if (waiter.entry != nullptr) {  // someone was faster
        if (grown) free_.push_back(*grown);
        serve_waiters();
        break;
      }
      if (grown || hopeless()) {
        unlink(waiter);
        let_first_grow();
        return grown;
      }
      continue;
    }
    // While the pool is smaller than it may be, a failed attempt to grow is made again: nobody may ever give a fork
    // back.
    const bool smaller = !fresh_.empty() || alive_ < options_.most;
    const Clock::time_point retry = std::max(grow_again_, Clock::now() + kGrowAgainAfter / 10);
    if (timeout_ns == 0 && !smaller) {
      waiter.wake.wait(lock);
    } else if (timeout_ns != 0 && (!smaller || until <= retry)) {
      late = waiter.wake.wait_until(lock, until) == std::cv_status::timeout;
    } else if (waiter.wake.wait_until(lock, retry) == std::cv_status::timeout && first_ == &waiter && making_ == 0) {
      waiter.may_grow = may_grow();
    }
  }
  return waiter.entry;
}

void Pool::Impl::enqueue(Waiter& waiter) {
  (last_ == nullptr ? first_ : last_->next) = &waiter;
  last_ = &waiter;
  attention_.fetch_add(1);
}

void Pool::Impl::unlink(Waiter& waiter) {
  Waiter* before = nullptr;
  for (Waiter* each = first_; each != &waiter; each = each->next) before = each;
  (before == nullptr ? first_ : before->next) = waiter.next;
  if (last_ == &waiter) last_ = before;
  attention_.fetch_sub(1);
}

void Pool::Impl::serve_waiters() {
  while (first_ != nullptr) {
    PoolEntry* entry = pop_free();
    if (entry == nullptr) entry = sweep(0);
    if (entry == nullptr) return;
    Waiter& waiter = *first_;
    unlink(waiter);
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

PoolEntry* Pool::Impl::sweep(std::size_t first) {
  for (std::size_t i = 0; i < kShelves; ++i) {
    Shelf& shelf = shelves_[(first + i) % kShelves];
    if (shelf.entry.load() == nullptr) continue;
    if (PoolEntry* const entry = shelf.entry.exchange(nullptr)) return entry;
  }
  return nullptr;
}

// --- Growing and shrinking -------------------------------------------------------------------------------------------

bool Pool::Impl::may_grow() const {
  if (closed_ || (fresh_.empty() && alive_ >= options_.most)) return false;
  return hopeless() || Clock::now() >= grow_again_;
}

void Pool::Impl::let_first_grow() {
  if (first_ == nullptr || !may_grow()) return;
  first_->may_grow = true;
  first_->wake.notify_one();
}

// A fork with a vCPU. The KVM objects are made without the lock: that takes milliseconds.
Result<PoolEntry*> Pool::Impl::grow(Lock& lock) {
  PoolEntry* entry = nullptr;
  if (fresh_.empty()) {
    entries_.push_back(std::make_unique<PoolEntry>());
    entry = entries_.back().get();
    ++alive_;
  } else {
    entry = fresh_.back();
    fresh_.pop_back();
  }
  Parts parts{.fork = std::move(entry->fork)};
  if (!idle_cpus_.empty()) {
    parts.spare = idle_cpus_.back();
    idle_cpus_.pop_back();
  }
  ++making_;
  lock.unlock();
  Status made = prepare(parts);
  lock.lock();
  --making_;
  if (made) ++usable_;
  take_parts(*entry, std::move(parts));
  if (made) return entry;
  grow_again_ = Clock::now() + kGrowAgainAfter;
  if (entry->fork) {
    fresh_.push_back(entry);
  } else {
    std::erase_if(entries_, [&](const auto& each) { return each.get() == entry; });
    --alive_;
  }
  return Failure(std::move(made).error());
}

void Pool::Impl::take_parts(PoolEntry& entry, Parts parts) {
  entry.fork = std::move(parts.fork);
  entry.cpu = parts.cpu;
  vcpus_ += parts.vcpus_made;
  if (parts.spare != nullptr) idle_cpus_.push_back(parts.spare);
}

// Without the lock.
Status Pool::Impl::prepare(Parts& parts) {
  const std::scoped_lock making(source_mutex_);
  if (!parts.fork) {
    WARMFORK_TRY_ASSIGN(parts.fork, source_->make());
  }
  if (source_->kind() == ForkKind::kVm) {
    parts.cpu = &parts.fork->cpu();
    ++parts.vcpus_made;
    return {};
  }
  // What a fork that could not be reset has left behind may be broken itself; then it lies idle until the VM goes.
  if (parts.spare != nullptr && !parts.fork->bind(*parts.spare)) parts.spare = nullptr;
  if (parts.spare == nullptr) {
    WARMFORK_TRY_ASSIGN(parts.spare, source_->make_cpu());
    ++parts.vcpus_made;
    WARMFORK_TRY(parts.fork->bind(*parts.spare));
  }
  parts.cpu = std::exchange(parts.spare, nullptr);
  return {};
}

void Pool::Impl::discard(Lock& lock, PoolEntry& entry) {
  const auto found = std::ranges::find(entries_, &entry, &std::unique_ptr<PoolEntry>::get);
  const std::unique_ptr<PoolEntry> gone = std::move(*found);
  entries_.erase(found);
  --usable_;
  ++replaced_;
  ++broken_;
  ++making_;  // whoever finds no fork at all must wait for the room this one leaves
  lock.unlock();
  gone->fork.reset();
  lock.lock();
  --making_;
  --broken_;
  --alive_;
  if (source_->kind() == ForkKind::kSpace) {
    idle_cpus_.push_back(gone->cpu);
  } else {
    --vcpus_;
  }
  let_first_grow();
}

// --- Giving back -----------------------------------------------------------------------------------------------------

void Pool::Impl::release(PoolEntry& entry) {
  Shelf& shelf = shelves_[my_number()];
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

void Pool::Impl::put_back(Shelf& shelf, PoolEntry* entry) {
  PoolEntry* none = nullptr;
  if (attention_.load() == 0 && shelf.entry.compare_exchange_strong(none, entry)) [[likely]] {
    if (attention_.load() == 0) [[likely]]
      return;
    entry = shelf.entry.exchange(nullptr);
    if (entry == nullptr) return;  // who waits has found it
  }
  const std::scoped_lock lock(mutex_);
  put_back_slow(shelf, *entry);
}

void Pool::Impl::put_back_slow(Shelf& shelf, PoolEntry& entry) {
  PoolEntry* none = nullptr;
  if (first_ == nullptr && shelf.entry.compare_exchange_strong(none, &entry)) return;
  free_.push_back(&entry);
  serve_waiters();
}

// --- The pool's own thread (kDeferred) -------------------------------------------------------------------------------

void Pool::Impl::tend() {
  trace::name_thread("pool");
  Lock lock(mutex_);
  Clock::duration period = kTendPeriod;
  while (!tender_wake_.wait_for(lock, period, [this] { return closed_; })) {
    period = tend_once(lock) ? kTendPeriod : std::min(period * 2, kTendPeriodIdle);
  }
}

// Resets dirty forks whose threads have not come back since the last time. It keeps the lock during a reset, so that a
// thread that misses its fork waits for that instead of making another. Returns whether there was anything going on.
bool Pool::Impl::tend_once(Lock& lock) {
  bool active = false;
  for (std::size_t i = 0; i < kShelves; ++i) {
    Shelf& shelf = shelves_[i];
    const std::uint64_t taken = shelf.taken.load(std::memory_order_relaxed);
    if (std::exchange(seen_taken_[i], taken) != taken) {
      active = true;
      continue;
    }
    if (attention_.load() != 0) return true;
    // Entries go away under the lock only, so it may be looked at.
    if (const PoolEntry* const parked = shelf.entry.load(); parked == nullptr || !parked->dirty.load()) continue;
    PoolEntry* const entry = shelf.entry.exchange(nullptr);
    if (entry == nullptr) continue;
    active = true;
    if (tend_entry(lock, *entry)) put_back_slow(shelf, *entry);
    lock.unlock();  // lets others in
    lock.lock();
  }
  for (std::size_t i = 0; i < free_.size() && attention_.load() == 0; ++i) {
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

// `returned` first: an acquisition that begins and fails in between must not stand for a lease that is still out.
bool Pool::Impl::all_returned() const {
  std::uint64_t returned = 0;
  for (const Shelf& shelf : shelves_) returned += shelf.returned.load();
  std::uint64_t taken = 0;
  for (const Shelf& shelf : shelves_) taken += shelf.taken.load();
  return taken == returned;
}

void Pool::Impl::close() {
  const std::scoped_lock closing(close_mutex_);
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    attention_.fetch_or(kClosed);
    for (Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next) waiter->wake.notify_one();
    tender_wake_.notify_one();
  }
  if (tender_.joinable()) tender_.join();
  // Polling, as the last thing a thread does with the pool is to count itself out. A cancellation may meet a fork just
  // before a reset, which forgets it, so it is repeated.
  constexpr int kPollsPerCancel = 50;
  for (int polls = 0; !all_returned(); ++polls) {
    if (polls % kPollsPerCancel == 0) {
      const std::scoped_lock lock(mutex_);
      for (const auto& entry : entries_) {
        if (entry->cpu != nullptr) entry->cpu->cancel();
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

PoolStats Pool::Impl::stats() {
  const std::scoped_lock lock(mutex_);
  PoolStats stats{.waited = waited_,
                  .faults = faults_.load(std::memory_order_relaxed),
                  .deadlines = deadlines_.load(std::memory_order_relaxed),
                  .replaced = replaced_,
                  .tended = tended_,
                  .forks = alive_,
                  .vcpus = vcpus_};
  std::uint64_t returned = 0;
  for (const Shelf& shelf : shelves_) returned += shelf.returned.load();
  for (const Shelf& shelf : shelves_) stats.acquired += shelf.taken.load();
  stats.in_use = stats.acquired - std::min(stats.acquired, returned + inside_);
  stats.acquired -= std::min(stats.acquired, failed_ + inside_);
  return stats;
}

void Pool::Impl::collect(metrics::Collector& collector) {
  const PoolStats now = stats();
  const std::size_t broken = [this] {
    const std::scoped_lock lock(mutex_);
    return broken_;
  }();
  const PoolMetrics& metrics = pool_metrics;
  collector.add(metrics.busy, static_cast<double>(now.in_use));
  collector.add(metrics.broken, static_cast<double>(broken));
  collector.add(metrics.ready,
                static_cast<double>(now.forks - std::min<std::uint64_t>(now.forks, now.in_use + broken)));
  collector.add(metrics.waiting, static_cast<double>(attention_.load() & ~kClosed));
  collector.add(metrics.limit, static_cast<double>(options_.most));
  collector.add(metrics.replaced, now.replaced);
}

std::string Pool::Impl::describe() const {
  const bool copied = source_->population() == Population::kCopy;
  return fmt::format("{} forks, {}, reset by {}, {}", name_of(source_->kind()), copied ? "copied" : "copied on write",
                     name_of(source_->reset_mode()), name_of(options_.policy));
}

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
