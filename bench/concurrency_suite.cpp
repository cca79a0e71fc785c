// How requests and graded runs grow with threads, beside bare exits on as many; and what a ring without locks is worth:
// the same ring under a mutex, on the same memory.
#include "base/mapping.hpp"
#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "bench/fork_fixture.hpp"
#include "bench/rate.hpp"
#include "bench/suites.hpp"
#include "fork/pool.hpp"
#include "warmfork/ring/slots.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::bench {
namespace {

constexpr std::uint64_t kDirtyPages = 8;

// --- Threads on a pool -----------------------------------------------------------------------------------------------

Status measure_pool(const SuiteOptions& options, std::vector<Figure>& out) {
  const std::vector<int>& cpus = options.cpus;
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, {}));
  std::vector<FloorProbe> probes;
  for (std::size_t i = 0; i < cpus.size(); ++i) {
    WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
    WARMFORK_TRY(probe.warm_up());
    probes.push_back(std::move(probe));
  }
  struct Contest {
    std::unique_ptr<Pool> pool;
    std::vector<double> rates;
  };
  const double slice = std::max(0.01, 0.05 * std::min(1.0, options.effort));
  const std::vector<std::size_t> counts = thread_counts(cpus.size());
  std::array<std::vector<double>, std::size(kForkKinds)> one_thread;  // the rates, by kind
  for (const std::size_t threads : counts) {
    options.say(fmt::format("concurrency: a pool and {} thread{}", threads, threads == 1 ? "" : "s"));
    std::array<Contest, std::size(kForkKinds)> contests;
    for (std::size_t i = 0; i < contests.size(); ++i) {
      const PoolOptions how{.fork = {.kind = kForkKinds[i]}, .ready = threads, .most = threads};
      WARMFORK_TRY_ASSIGN(contests[i].pool, Pool::create(*options.kvm, fixture.snapshot(), how));
    }
    std::vector<double> exits;
    const std::uint64_t rounds = options.samples(15, 2);
    for (std::uint64_t round = 0; round <= rounds; ++round) {
      for (Contest& contest : contests) {
        WARMFORK_TRY_ASSIGN(const double rate, rate_of(cpus, threads, slice, [&](std::size_t) -> Status {
                              WARMFORK_TRY_ASSIGN(Lease lease, contest.pool->acquire());
                              return fixture.request(lease.fork(), 7, kDirtyPages);
                            }));
        if (round != 0) contest.rates.push_back(rate);
      }
      std::vector<Histogram> ticks(threads);
      WARMFORK_TRY_ASSIGN(const double bare, rate_of(cpus, threads, slice, [&](std::size_t i) {
                            return probes[i].exit_round_trip(ticks[i]);
                          }));
      if (round != 0) exits.push_back(bare);
    }
    Figure floor = from_values(fmt::format("floors/exits/{}_threads", threads), "ops/s", exits);
    floor.params["threads"] = static_cast<double>(threads);
    for (std::size_t i = 0; i < contests.size(); ++i) {
      if (threads == 1) one_thread[i] = contests[i].rates;
      Figure figure =
          from_values(fmt::format("concurrency/pool/{}", name_of(kForkKinds[i])), "ops/s", contests[i].rates);
      figure.params["threads"] = static_cast<double>(threads);
      figure.params["dirty_pages"] = static_cast<double>(kDirtyPages);
      set_floor(figure, floor);
      figure.counters["ratio_to_one_thread"] = figure.p50 / from_values("one", "ops/s", one_thread[i]).p50;
      figure.counters["waited"] = static_cast<double>(contests[i].pool->stats().waited);
      out.push_back(std::move(figure));
    }
    out.push_back(std::move(floor));
  }
  return {};
}

// --- A ring without locks, and one with ------------------------------------------------------------------------------

constexpr std::uint64_t kCapacity = 64 << 10;  // bytes
constexpr std::uint64_t kSlots = kCapacity / 8;

// A ring of the same messages and size whose every step is under one lock: batches pay for it once.
class MutexRing {
 public:
  explicit MutexRing(std::span<std::byte> memory)
      // SAFETY: page-aligned, and of at least kCapacity bytes.
      : slots_(reinterpret_cast<std::uint64_t*>(memory.data())) {}
  [[nodiscard]] std::size_t put(std::uint64_t first, std::size_t most) {
    const std::scoped_lock lock(mutex_);
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(most, kSlots - (tail_ - head_)));
    for (std::size_t i = 0; i < count; ++i) slots_[(tail_ + i) % kSlots] = first + i;
    tail_ += count;
    return count;
  }
  [[nodiscard]] std::size_t take(std::span<std::uint64_t> into) {
    const std::scoped_lock lock(mutex_);
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), tail_ - head_));
    for (std::size_t i = 0; i < count; ++i) into[i] = slots_[(head_ + i) % kSlots];
    head_ += count;
    return count;
  }

 private:
  std::mutex mutex_;
  std::uint64_t* slots_;
  std::uint64_t head_ = 0, tail_ = 0;
};

// The project's ring, with the same two functions.
class FreeRing {
 public:
  [[nodiscard]] static Result<std::unique_ptr<FreeRing>> create() {
    WARMFORK_TRY_ASSIGN(Mapping producer, Mapping::anonymous(ring::spsc_producer_part_bytes(kCapacity)));
    WARMFORK_TRY_ASSIGN(Mapping consumer, Mapping::anonymous(sizeof(ring::SpscConsumerPage)));
    producer.populate();
    consumer.populate();
    return std::unique_ptr<FreeRing>(new FreeRing(std::move(producer), std::move(consumer)));
  }
  [[nodiscard]] std::size_t put(std::uint64_t first, std::size_t most) {
    std::size_t count = 0;
    while (count < most && producer_.put(first + count)) ++count;
    producer_.publish();
    return count;
  }
  [[nodiscard]] std::size_t take(std::span<std::uint64_t> into) {
    const std::size_t count = consumer_.take(into);
    consumer_.release();
    return count;
  }

 private:
  FreeRing(Mapping producer, Mapping consumer)
      : producer_memory_(std::move(producer)),
        consumer_memory_(std::move(consumer)),
        producer_(formatted(producer_memory_, consumer_memory_)),
        consumer_({.own = page<ring::SpscConsumerPage>(consumer_memory_),
                   .peer = page<ring::SpscProducerPage>(producer_memory_),
                   .capacity = kCapacity}) {}
  // SAFETY: page-aligned mappings of at least a page.
  template <class Page>
  static Page* page(const Mapping& memory) {
    return reinterpret_cast<Page*>(memory.data());
  }
  static ring::SpscProducerView formatted(const Mapping& producer, const Mapping& consumer) {
    auto* const own = page<ring::SpscProducerPage>(producer);
    auto* const peer = page<ring::SpscConsumerPage>(consumer);
    ring::format_spsc(*own, *peer, kCapacity, 8);
    return {.own = own, .peer = peer, .capacity = kCapacity};
  }

  Mapping producer_memory_, consumer_memory_;
  ring::SlotProducer<std::uint64_t, ring::Trusted> producer_;
  ring::SlotConsumer<std::uint64_t, ring::Trusted> consumer_;
};

// Numbers from one thread to another; messages a second. What arrives is checked.
template <class Ring>
Result<double> pass_numbers(Ring& ring, const SuiteOptions& options, std::uint64_t messages, std::size_t batch) {
  std::atomic<bool> go{false};
  std::atomic<bool> ready{false};
  Status pinned;
  std::uint64_t wrong = 0;
  std::jthread consumer([&] {
    pinned = pin_to(options.other_cpu);
    ready = true;
    if (!pinned) return;
    while (!go.load(std::memory_order_acquire)) {
    }
    std::vector<std::uint64_t> got(batch);
    for (std::uint64_t n = 0; n < messages;) {
      const std::size_t count = ring.take(got);
      for (std::size_t i = 0; i < count; ++i) wrong += got[i] != n + i ? 1U : 0U;
      n += count;
    }
  });
  while (!ready.load()) std::this_thread::yield();
  if (!pinned) return Failure(pinned.error());
  const std::uint64_t begin = tsc_now();
  go.store(true, std::memory_order_release);
  for (std::uint64_t n = 0; n < messages;) {
    n += ring.put(n, static_cast<std::size_t>(std::min<std::uint64_t>(batch, messages - n)));
  }
  consumer.join();
  const std::uint64_t ticks = tsc_now_ordered() - begin;
  if (wrong != 0) return fail(ErrorKind::kHost, "concurrency: {} of {} messages were wrong", wrong, messages);
  return static_cast<double>(messages) * 1e9 / tsc_to_ns(ticks);
}

Status measure_rings(const SuiteOptions& options, std::vector<Figure>& out) {
  WARMFORK_TRY_ASSIGN(const Mapping memory, Mapping::anonymous(kCapacity));
  memory.populate();
  for (const std::size_t batch : {std::size_t{1}, std::size_t{64}}) {
    options.say(fmt::format("concurrency: a ring with and without a lock, {} message{} at a time", batch,
                            batch == 1 ? "" : "s"));
    const std::uint64_t messages = options.samples(200'000, 10'000);
    std::vector<double> free, locked;
    Histogram ping_pongs;
    for (std::uint64_t i = 0; i < options.samples(60, 3); ++i) {
      WARMFORK_TRY_ASSIGN(const auto ring, FreeRing::create());
      WARMFORK_TRY_ASSIGN(const double without, pass_numbers(*ring, options, messages, batch));
      MutexRing with_lock(memory.bytes());
      WARMFORK_TRY_ASSIGN(const double with, pass_numbers(with_lock, options, messages, batch));
      WARMFORK_TRY(ping_pong(options.other_cpu, options.samples(2000, 100), ping_pongs));
      free.push_back(without);
      locked.push_back(with);
    }
    // Lines travel while others do, so that a round trip of one is no floor: it says how much is on its way at once.
    const double trips = 1e9 / from_ticks("ping", ping_pongs).p50;
    Figure lock_free = from_values("concurrency/spsc/lock_free", "ops/s", free);
    Figure mutex = from_values("concurrency/spsc/mutex", "ops/s", locked);
    lock_free.counters["ratio_to_mutex"] = lock_free.p50 / mutex.p50;
    for (Figure* figure : {&lock_free, &mutex}) {
      figure->params["batch"] = static_cast<double>(batch);
      figure->counters["per_cacheline_round_trip"] = figure->p50 / trips;
      out.push_back(std::move(*figure));
    }
  }
  return {};
}

}  // namespace

std::vector<std::size_t> thread_counts(std::size_t cpus) {
  std::vector<std::size_t> counts;
  for (std::size_t n = 1; n < cpus; n *= 2) counts.push_back(n);
  counts.push_back(cpus);
  return counts;
}

SuiteResult run_concurrency(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<Figure> figures;
  WARMFORK_TRY(measure_pool(options, figures));
  if (options.cpu == options.other_cpu) {
    options.remark("concurrency: one CPU, so no concurrency/spsc");
    return figures;
  }
  WARMFORK_TRY(measure_rings(options, figures));
  return figures;
}

}  // namespace warmfork::bench
