// Many forks of one VM, each with pages of its own, on vCPUs, threads and processors that change all the time, while
// forks are reset, crash, move, go, and others are made in their place: nobody's write ever gets into another's page,
// and what a call says was written is there when it returns. The longer, the more it says: WARMFORK_TEST_SCALE=100.
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "machine_test.hpp"
#include "neighbour.hpp"

#include <gmock/gmock.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::test {
namespace {

using namespace neighbour;
using Shared = std::shared_ptr<SharedMemory>;

enum : std::size_t { kOwn, kCommon };

struct Manner {
  const char* name;
  ResetMode reset;
  Population population;
  friend void PrintTo(const Manner& manner, std::ostream* out) { *out << manner.name; }
};
constexpr Manner kManners[] = {{"automatic", ResetMode::kAuto, Population::kAuto},
                               {"dirty_log", ResetMode::kDirtyLog, Population::kAuto},
                               {"full_copy", ResetMode::kFullCopy, Population::kAuto},
                               {"cow_remap", ResetMode::kCowRemap, Population::kCow}};

// SAFETY: a word of a page.
std::atomic_ref<std::uint64_t> word_at(const Shared& memory, std::size_t page, std::size_t word) {
  return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(memory->bytes().subspan((page * kWords + word) * 8).data()));
}
std::uint64_t load_word(const Shared& memory, std::size_t page, std::size_t word) {
  return word_at(memory, page, word).load(std::memory_order_relaxed);
}

/// Where threads may run from now on.
class Processors {
 public:
  Processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return;
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) all_.push_back(cpu);
    }
  }
  void use_one(std::uint64_t number, pthread_t thread) const {
    if (!all_.empty()) use({&all_[number % all_.size()], 1}, thread);
  }
  void use_all(pthread_t thread) const { use(all_, thread); }

 private:
  static void use(std::span<const std::size_t> cpus, pthread_t thread) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const std::size_t cpu : cpus) CPU_SET(cpu, &set);
    (void)::pthread_setaffinity_np(thread, sizeof set, &set);
  }
  std::vector<std::size_t> all_;
};

struct Tenant {
  std::uint32_t name = 0;
  std::uint64_t before = 0, last = 0;  // as in Order
  Shared own;
  std::unique_ptr<Fork> fork;
};

/// A vCPU and who lives on it; a `vm` fork brings its own. Whoever has the lock may use all of it, on any thread.
struct Seat {
  std::mutex mutex;
  ForkSource* source = nullptr;
  GuestCpu* cpu = nullptr;
  std::vector<std::unique_ptr<Tenant>> tenants;
};

class Neighbours : public MachineTest, public ::testing::WithParamInterface<Manner> {
 protected:
  static constexpr std::uint64_t kPatience = 60'000'000'000;  // the machine may be busy with other things
  static constexpr std::size_t kSpaceSeats = 3, kVmSeats = 1, kTenants = 4, kThreads = 3;

  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    auto common = SharedMemory::create(kCommonPages * kPage);
    ASSERT_TRUE(common) << common.error().message;
    common_ = *common;
    MachineConfig config;
    config.memory_bytes = 256 << 10;
    config.stack_bytes = 32 << 10;
    config.shared_regions = {{.name = "own", .bytes = kOwnPages * kPage, .access = SharedAccess::kReadWrite},
                             {.name = "common", .bytes = kCommonPages * kPage, .access = SharedAccess::kReadOnly}};
    master_ = make_ready("probe_neighbour", std::move(config));
    ASSERT_NE(master_, nullptr);
    const auto find = [&](const char* name) { return master_->find_vmcall(name).value_or(Gva{0}); };
    sign_ = find("sign");
    crash_ = find("crash");
    const auto window = master_->call(find("settle"), {}, {.timeout_ns = kPatience});
    ASSERT_TRUE(window) << window.error().message;
    window_ = Gva{*window};
    auto snapshot = Snapshot::take(system(), *master_);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    for (const ForkKind kind : {ForkKind::kSpace, ForkKind::kVm}) {
      auto source = make_fork_source(system(), *snapshot,
                                     {.kind = kind, .population = GetParam().population, .reset = GetParam().reset},
                                     kSpaceSeats * kTenants);
      if (!source && source.error().kind == ErrorKind::kUnsupported) GTEST_SKIP() << source.error().message;
      ASSERT_TRUE(source) << source.error().message;
      sources_.push_back(std::move(*source));
    }
    for (std::size_t i = 0; i < kSpaceSeats + kVmSeats; ++i) {
      auto seat = std::make_unique<Seat>();
      seat->source = sources_[i < kSpaceSeats ? 0 : 1].get();
      const auto cpu = seat->source->make_cpu();
      ASSERT_TRUE(cpu) << cpu.error().message;
      seat->cpu = *cpu;
      for (std::size_t j = 0; j < (i < kSpaceSeats ? kTenants : 2); ++j) {
        seat->tenants.push_back(move_in(*seat));
        ASSERT_NE(seat->tenants.back(), nullptr) << *failure_;
      }
      seats_.push_back(std::move(seat));
    }
  }

  /// The first one counts, and all threads come to their end.
  bool fail_with(std::string what) {
    const std::scoped_lock lock(mutex_);
    if (!failure_) failure_ = std::move(what);
    failed_ = true;
    return false;
  }

  std::unique_ptr<Tenant> move_in(Seat& seat) {
    auto own = SharedMemory::create(kOwnPages * kPage);
    if (!own) return fail_with(own.error().message), nullptr;
    auto tenant = std::make_unique<Tenant>();
    tenant->name = next_name_.fetch_add(1);
    tenant->own = *own;
    {
      const std::scoped_lock lock(making_);
      auto fork = seat.source->make_with({*own, common_});
      if (!fork) return fail_with(fork.error().message), nullptr;
      tenant->fork = std::move(*fork);
    }
    const std::scoped_lock lock(mutex_);
    pages_.emplace_back(tenant->name, *own);
    return tenant;
  }

  /// Its pages stay, for some time: nobody may write there any more.
  bool move_out(std::unique_ptr<Tenant> tenant) {
    tenant->fork.reset();
    std::unique_ptr<Tenant> forgotten;
    {
      const std::scoped_lock lock(mutex_);
      gone_.push_back(std::move(tenant));
      if (gone_.size() <= kRemembered) return true;
      forgotten = std::move(gone_.front());
      gone_.erase(gone_.begin());
      std::erase_if(pages_, [&](const auto& entry) { return entry.first == forgotten->name; });
    }
    return check_own(*forgotten, "long gone");
  }

  bool differs(const Tenant& tenant, const char* when, const char* where, std::size_t page, std::size_t word,
               std::uint64_t value, std::uint64_t expected) {
    return fail_with(fmt::format("{}, {}: {}, page {}, word {}: {:#x} instead of {:#x}", tenant.name, when, where, page,
                                 word, value, expected));
  }
  bool check_own(const Tenant& tenant, const char* when) {
    for (std::size_t page = 0; page < kOwnPages; ++page) {
      for (std::size_t word = 0; word < kWords; ++word) {
        const std::uint64_t value = load_word(tenant.own, page, word);
        const std::uint64_t expected = word_of(tenant.name, 0, tenant.last, word, 0);
        if (value != expected) return differs(tenant, when, "shared pages", page, word, value, expected);
      }
    }
    return true;
  }
  /// What the host sees while the guest does not run.
  bool check(const Tenant& tenant, const char* when) {
    if (!check_own(tenant, when)) return false;
    std::array<std::array<std::uint64_t, kWords>, kWindowPages> window;
    const Status read = tenant.fork->read(window_, std::as_writable_bytes(std::span(window)));
    if (!read) return fail_with(read.error().message);
    for (std::size_t page = 0; page < kWindowPages; ++page) {
      for (std::size_t word = 0; word < kWords; ++word) {
        const std::uint64_t value = window[page][word];
        const std::uint64_t expected = word_of(tenant.name, tenant.before, tenant.last, word, pristine(page, word));
        if (value != expected) return differs(tenant, when, "window", page, word, value, expected);
      }
    }
    ++checks_;
    return true;
  }

  bool sign(Tenant& tenant, std::uint64_t entries, std::uint64_t spins) {
    Fork& fork = *tenant.fork;
    const auto own = fork.shared_region(kOwn), common = fork.shared_region(kCommon);
    const Order order{.name = tenant.name,
                      .before = tenant.before,
                      .last = tenant.last,
                      .entries = entries,
                      .own = own->begin.value,
                      .common = common->begin.value,
                      .at_least = load_word(common_, 0, 0),
                      .spins = spins};
    const auto at = fork.put_buffer(0, std::as_bytes(std::span(&order, 1)));
    if (!at) return fail_with(at.error().message);
    const auto wrong = fork.call(sign_, std::array{at->value, std::uint64_t{tenant.name}}, {.timeout_ns = kPatience});
    if (!wrong) return fail_with(fmt::format("{}: {}", tenant.name, wrong.error().message));
    if (*wrong != 0) {
      const auto finding = fork.memory().read_value<Finding>(Gva{*wrong});
      if (!finding) return fail_with(finding.error().message);
      return fail_with(fmt::format("{} finds in {} at {:#x}: {:#x} instead of {:#x}", tenant.name,
                                   kWrongNames[static_cast<std::size_t>(finding->what) % std::size(kWrongNames)],
                                   finding->place, finding->value, finding->expected));
    }
    tenant.last += entries;
    entries_ += entries;
    return check(tenant, "behind a call");
  }

  bool reset(Tenant& tenant) {
    if (const Status done = tenant.fork->reset(); !done) return fail_with(done.error().message);
    tenant.before = tenant.last;
    return check(tenant, "behind a reset");
  }

  /// Something that may happen to a tenant of this seat, which is locked.
  bool live(Seat& seat, std::mt19937_64& random) {
    const auto one_in = [&](std::uint64_t n) { return random() % n == 0; };
    auto& tenant = seat.tenants[random() % seat.tenants.size()];
    if (one_in(20)) {
      const bool sound = move_out(std::move(tenant));
      tenant = move_in(seat);
      if (!sound || tenant == nullptr) return false;
    }
    if (seat.cpu != nullptr) {
      if (const Status bound = tenant->fork->bind(*seat.cpu); !bound) return fail_with(bound.error().message);
    }
    for (std::uint64_t calls = random() % 3; calls != 0; --calls) {
      if (!sign(*tenant, 1 + random() % 4, one_in(32) ? 1'000'000 : 10)) return false;
    }
    if (one_in(16) && !sign(*tenant, 2000, 0)) return false;  // some of a millisecond
    if (one_in(6) && !reset(*tenant)) return false;
    if (!one_in(24)) return true;
    if (tenant->fork->call(crash_, {}, {.timeout_ns = kPatience})) return fail_with("it did not crash");
    return reset(*tenant);
  }

  /// Two tenants change their seats, which are locked: so both vCPUs are idle.
  bool swap(Seat& one, Seat& other, std::mt19937_64& random) {
    auto& first = one.tenants[random() % one.tenants.size()];
    auto& second = other.tenants[random() % other.tenants.size()];
    std::swap(first, second);
    for (const Status& bound : {first->fork->bind(*one.cpu), second->fork->bind(*other.cpu)}) {
      if (!bound) return fail_with(bound.error().message);
    }
    return true;
  }

  void work(std::uint64_t seed, std::uint64_t turns) {
    std::mt19937_64 random(seed);
    for (; turns != 0 && !failed_; --turns) {
      if (random() % 8 == 0) raise_common();
      Seat& seat = *seats_[random() % seats_.size()];
      if (seat.cpu != nullptr && random() % 24 == 0) {
        Seat& other = *seats_[random() % kSpaceSeats];
        if (&other == &seat) continue;
        const std::scoped_lock lock(seat.mutex, other.mutex);
        if (!failed_) (void)swap(seat, other, random);
      } else {
        const std::scoped_lock lock(seat.mutex);
        if (!failed_) (void)live(seat, random);
      }
    }
    ++done_;
  }

  /// Beside the others, until they are done: moves them to other processors, in the middle of what they do, and looks
  /// whose words are in the pages of those who live and of those who have gone.
  void watch(std::span<std::thread> threads, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    do {
      for (int i = 0; i < kMovesPerLook && !over_; ++i) {
        const pthread_t thread = threads[random() % threads.size()].native_handle();
        switch (random() % 8) {
          case 0: processors_.use_one(0, thread); break;  // with others that are there
          case 1: processors_.use_all(thread); break;
          default: processors_.use_one(random(), thread); break;
        }
        ::usleep(50);
      }
      std::vector<std::pair<std::uint32_t, Shared>> pages;
      {
        const std::scoped_lock lock(mutex_);
        pages = pages_;
      }
      for (const auto& [name, memory] : pages) {
        for (std::size_t i = 0; i < kOwnPages * kWords; ++i) {
          const std::uint64_t value = load_word(memory, 0, i);
          if (value == 0 || value >> 32 == name) continue;
          (void)fail_with(fmt::format("{}, from outside: word {} of its shared pages is {:#x}", name, i, value));
        }
      }
      ++looks_;
    } while (!over_ && !failed_);
  }

  /// The last page first: none says more than the first one, which the orders are made from.
  void raise_common() {
    for (std::size_t page = kCommonPages; page-- != 0;) word_at(common_, page, 0).fetch_add(1);
  }

  static constexpr std::size_t kRemembered = 256;
  static constexpr int kMovesPerLook = 8;
  Processors processors_;
  Shared common_;
  std::unique_ptr<Machine> master_;
  Gva sign_, crash_, window_;
  std::vector<std::unique_ptr<ForkSource>> sources_;
  std::vector<std::unique_ptr<Seat>> seats_;
  std::atomic<std::uint32_t> next_name_{1};
  std::atomic<std::uint64_t> checks_{0}, entries_{0}, looks_{0};
  std::atomic<bool> failed_{false}, over_{false};
  std::atomic<std::size_t> done_{0};  // threads
  std::mutex making_;
  std::mutex mutex_;  // of what follows
  std::optional<std::string> failure_;
  std::vector<std::pair<std::uint32_t, Shared>> pages_;
  std::vector<std::unique_ptr<Tenant>> gone_;
};
INSTANTIATE_TEST_SUITE_P(Resets, Neighbours, ::testing::ValuesIn(kManners),
                         [](const auto& manner) { return manner.param.name; });

TEST_P(Neighbours, NobodyEverWritesIntoWhatIsAnothers) {
  const char* const text = std::getenv("WARMFORK_TEST_SEED");
  const std::uint64_t seed = text == nullptr ? std::random_device{}() : std::strtoull(text, nullptr, 0);
  SCOPED_TRACE(::testing::Message() << "WARMFORK_TEST_SEED=" << seed << " (how threads meet, nothing repeats)");
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, i, seed] { work(seed + i, scaled(250)); });
  }
  std::thread watcher([&] { watch(threads, seed + kThreads); });
  // A thread that is joined cannot be moved any more, so the watcher goes first.
  while (done_ != kThreads) ::usleep(1000);
  over_ = true;
  watcher.join();
  for (std::thread& thread : threads) thread.join();
  ASSERT_FALSE(failed_) << *failure_;
  for (const auto& tenant : gone_) (void)check_own(*tenant, "gone");
  for (const auto& seat : seats_) {
    for (const auto& tenant : seat->tenants) (void)check(*tenant, "at the end");
  }
  EXPECT_FALSE(failed_) << *failure_;
  EXPECT_GT(checks_, 0U);
  EXPECT_GT(looks_, 0U);
  RecordProperty("calls_checked", static_cast<int>(checks_));
}

}  // namespace
}  // namespace warmfork::test
