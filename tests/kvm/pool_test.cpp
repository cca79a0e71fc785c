// Pools as their users see them: every kind, policy and reset mode; many threads with guests that crash, hang and
// leave; who waits is served in order; nothing is lost when the host runs out of something or the pool goes away.
#include "fork/pool.hpp"

#include "fork/snapshot.hpp"
#include "machine_test.hpp"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WARMFORK_TEST_SANITIZED
#endif
#endif

namespace warmfork {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::uint64_t kFirstCount = 1001;  // what `count` returns in a guest nobody has called before

class PoolTestBase : public test::MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    MachineConfig config;
    config.memory_bytes = (kBlockPages + 96) * kPage;
    config.stack_bytes = 8 * kPage;
    config.call_area_bytes = kPage;
    const auto master = make("probe_forks", {std::to_string(kBlockPages)}, std::move(config));
    ASSERT_NE(master, nullptr);
    const auto booted = master->boot({.timeout_ns = kTimeout});
    ASSERT_TRUE(booted) << booted.error().message;
    auto snapshot = Snapshot::take(system(), *master);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    snapshot_ = *snapshot;
    for (const auto& [name, function] :
         std::initializer_list<std::pair<const char*, Gva*>>{{"count", &count_},
                                                             {"peek", &peek_},
                                                             {"spin", &spin_},
                                                             {"leave", &leave_},
                                                             {"grow", &grow_},
                                                             {"touch", &touch_},
                                                             {"sum_block", &sum_block_}}) {
      const auto found = master->find_vmcall(name);
      ASSERT_TRUE(found) << name;
      *function = *found;
    }
  }
  std::unique_ptr<Pool> open(const PoolOptions& options) {
    auto pool = Pool::create(system(), snapshot_, options);
    EXPECT_TRUE(pool) << pool.error().message;
    return pool ? std::move(*pool) : nullptr;
  }
  static Result<std::uint64_t> request(Pool& pool, Gva function, std::initializer_list<std::uint64_t> arguments = {},
                                       std::uint64_t timeout_ns = kTimeout) {
    return pool.request(function, {arguments.begin(), arguments.size()}, {.timeout_ns = timeout_ns});
  }
  /// One request of the kind `number` says, with its answer checked. False if it was wrong.
  bool mixed_request(Pool& pool, std::uint64_t number) const {
    const auto is = [](const Result<std::uint64_t>& result, ErrorKind kind) {
      return !result && result.error().kind == kind;
    };
    switch (number % 16) {
      case 3: return is(request(pool, peek_, {0}), ErrorKind::kGuestFault);
      case 7: return is(request(pool, leave_, {5}), ErrorKind::kGuestFault);
      case 9: return request(pool, touch_, {number % 64, 9, number}).value_or(0) == 9;
      case 10: return request(pool, grow_, {4000}).value_or(1) == 0;
      case 11: return request(pool, grow_, {8}).value_or(0) == grown_at_;
      case 13: return number % 64 != 13 || is(request(pool, spin_, {}, 2'000'000), ErrorKind::kDeadline);
      case 14: return number % 64 != 14 || request(pool, sum_block_).value_or(0) == sum_;
      default: return request(pool, count_).value_or(0) == kFirstCount;
    }
  }
  /// Learns what mixed_request() compares with.
  void learn(Pool& pool) {
    sum_ = request(pool, sum_block_).value_or(0);
    grown_at_ = request(pool, grow_, {8}).value_or(0);
    ASSERT_NE(sum_, 0U);
    ASSERT_NE(grown_at_, 0U);
  }
  /// The window of `fork` is the snapshot's but for what every life has of its own.
  static bool is_pristine(Fork& fork) {
    const auto window = fork.memory().window();
    const auto frozen = fork.snapshot()->window();
    const GuestLayout& layout = fork.memory().layout();
    const std::uint64_t fork_page = *layout.window_offset(Gva{WARMFORK_FORK_PAGE}) / kPage;
    const std::uint64_t random_page = *layout.window_offset(fork.snapshot()->book().random_bytes) / kPage;
    for (std::size_t page = 0; page < window.size() / kPage; ++page) {
      if (page == fork_page || page == random_page) continue;
      if (std::memcmp(&window[page * kPage], &frozen[page * kPage], kPage) != 0) return false;
    }
    return true;
  }
  /// `count` threads that run work(number).
  template <class Work>
  static std::vector<std::jthread> crowd_of(std::uint64_t count, Work work) {
    std::vector<std::jthread> crowd;
    crowd.reserve(count);
    for (std::uint64_t number = 0; number < count; ++number) crowd.emplace_back([=] { work(number); });
    return crowd;
  }
  template <class Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 20'000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }

  static constexpr std::size_t kBlockPages = 64;
  std::shared_ptr<const Snapshot> snapshot_;
  Gva count_, peek_, spin_, leave_, grow_, touch_, sum_block_;
  std::uint64_t sum_ = 0;
  std::uint64_t grown_at_ = 0;
};

// --- Every kind, policy and mode -------------------------------------------------------------------------------------

using Mode = std::tuple<ForkKind, ResetPolicy, ResetMode>;

class PoolMode : public PoolTestBase, public ::testing::WithParamInterface<Mode> {
 protected:
  static PoolOptions options() {
    const auto& [kind, policy, mode] = GetParam();
    return {.fork = {.kind = kind, .reset = mode}, .ready = 1, .most = 2, .policy = policy};
  }
};

TEST_P(PoolMode, EveryRequestStartsFromTheSnapshot) {
  const auto pool = open(options());
  ASSERT_NE(pool, nullptr);
  learn(*pool);
  const std::uint64_t requests = test::scaled(1000) + 32;
  for (std::uint64_t number = 0; number < requests; ++number) ASSERT_TRUE(mixed_request(*pool, number)) << number;
  const PoolStats stats = pool->stats();
  EXPECT_EQ(stats.forks, 1U) << "a thread that comes back needs no second one";
  EXPECT_EQ(stats.vcpus, 1U);
  EXPECT_EQ(stats.in_use, 0U);
  EXPECT_EQ(stats.waited, 0U);
  EXPECT_EQ(stats.replaced, 0U);
  EXPECT_GE(stats.faults, requests / 16 * 2);
  EXPECT_GE(stats.deadlines, requests / 64);
}

std::string mode_name(const ::testing::TestParamInfo<Mode>& info) {
  const auto& [kind, policy, mode] = info.param;
  return std::string(name_of(kind)) + "_" + std::string(name_of(policy)) + "_" + std::string(name_of(mode));
}
INSTANTIATE_TEST_SUITE_P(All, PoolMode,
                         ::testing::Combine(::testing::ValuesIn(kForkKinds),
                                            ::testing::Values(ResetPolicy::kStrict, ResetPolicy::kDeferred),
                                            ::testing::ValuesIn(kResetModes)),
                         mode_name);

// --- Many threads ----------------------------------------------------------------------------------------------------

using Crowd = std::tuple<ForkKind, ResetPolicy, std::uint64_t>;

class PoolThreads : public PoolTestBase, public ::testing::WithParamInterface<Crowd> {};

TEST_P(PoolThreads, AllAnswersAreRightAndNeverMoreForksThanAllowed) {
  const auto& [kind, policy, threads] = GetParam();
  const std::size_t most = std::max<std::size_t>(1, threads / 2);
  const auto pool = open({.fork = {.kind = kind}, .ready = 1, .most = most, .policy = policy});
  ASSERT_NE(pool, nullptr);
  learn(*pool);
  const std::uint64_t each = (test::scaled(2500) + 32) / threads + 1;
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::size_t> leased{0};
  std::atomic<std::size_t> peak{0};
  {
    std::vector<std::jthread> crowd = crowd_of(threads, [&](std::uint64_t thread) {
      for (std::uint64_t i = 0; i < each; ++i) {
        if (i % 8 != 0) {
          wrong += mixed_request(*pool, thread * 7 + i) ? 0 : 1;
          continue;
        }
        auto lease = pool->acquire();
        if (!lease) {
          ++wrong;
          continue;
        }
        const std::size_t now = ++leased;
        for (std::size_t before = peak; before < now && !peak.compare_exchange_weak(before, now);) {
        }
        for (std::uint64_t call = 0; call < 3; ++call) {
          wrong += lease->call(count_, {}, {.timeout_ns = kTimeout}).value_or(0) == kFirstCount + call ? 0 : 1;
        }
        --leased;
      }
    });
  }
  EXPECT_EQ(wrong, 0U);
  EXPECT_LE(peak, most);
  const PoolStats stats = pool->stats();
  EXPECT_LE(stats.forks, most);
  EXPECT_LE(stats.vcpus, most);
  EXPECT_EQ(stats.in_use, 0U);
  EXPECT_EQ(stats.replaced, 0U);
  EXPECT_GE(stats.acquired, each * threads / 2);
  EXPECT_TRUE(mixed_request(*pool, 0));
}

std::string crowd_name(const ::testing::TestParamInfo<Crowd>& info) {
  const auto& [kind, policy, threads] = info.param;
  return std::string(name_of(kind)) + "_" + std::string(name_of(policy)) + "_" + std::to_string(threads);
}
INSTANTIATE_TEST_SUITE_P(All, PoolThreads,
                         ::testing::Combine(::testing::ValuesIn(kForkKinds),
                                            ::testing::Values(ResetPolicy::kStrict, ResetPolicy::kDeferred),
                                            ::testing::Values(1U, 2U, 8U, 64U)),
                         crowd_name);

class PoolKind : public PoolTestBase, public ::testing::WithParamInterface<ForkKind> {
 protected:
  static PoolOptions options(std::size_t ready, std::size_t most, ResetPolicy policy = ResetPolicy::kStrict) {
    return {.fork = {.kind = GetParam()}, .ready = ready, .most = most, .policy = policy};
  }
};
INSTANTIATE_TEST_SUITE_P(All, PoolKind, ::testing::ValuesIn(kForkKinds),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(PoolKind, AThreadKeepsItsForkAndOnlyWantMovesIt) {
  const auto pool = open(options(1, 2));
  ASSERT_NE(pool, nullptr);
  const auto fork_of_thread = [&] { return &pool->acquire()->fork(); };
  Fork* const mine = fork_of_thread();
  Fork* others = nullptr;
  const auto in_another_thread = [&](auto work) { std::jthread thread(work); };
  in_another_thread([&] {
    others = fork_of_thread();
    for (int i = 0; i < 100; ++i) EXPECT_EQ(fork_of_thread(), others);
  });
  EXPECT_NE(others, mine);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(fork_of_thread(), mine);
  in_another_thread([&] { EXPECT_EQ(fork_of_thread(), others) << "a new thread inherits what an ended one has left"; });
  in_another_thread([&] {
    const auto one = pool->acquire();
    const auto two = pool->acquire();  // there are no more: this thread takes the other's
    ASSERT_TRUE(one && two);
    EXPECT_EQ(two->call(count_, {}, {.timeout_ns = kTimeout}).value_or(0), kFirstCount);
  });
  EXPECT_EQ(pool->stats().forks, 2U);
  EXPECT_EQ(pool->stats().waited, 0U);
  EXPECT_EQ(request(*pool, count_).value_or(0), kFirstCount);
}

TEST_P(PoolKind, MoreThreadsThanShelves) {
  const auto pool = open(options(1, 3));
  ASSERT_NE(pool, nullptr);
  std::atomic<int> right{0};
  constexpr int kThreads = 150;
  std::barrier all(kThreads);
  {
    std::vector<std::jthread> crowd = crowd_of(kThreads, [&](std::uint64_t) {
      all.arrive_and_wait();
      for (int i = 0; i < 2; ++i) right += request(*pool, count_).value_or(0) == kFirstCount ? 1 : 0;
      all.arrive_and_wait();  // nobody's number is free before all have one
    });
  }
  EXPECT_EQ(right, 2 * kThreads);
  EXPECT_LE(pool->stats().forks, 3U);
  EXPECT_EQ(pool->stats().in_use, 0U);
}

TEST_P(PoolKind, WhoWaitsIsServedInOrder) {
  const auto pool = open(options(1, 1));
  ASSERT_NE(pool, nullptr);
  for (int round = 0; round < 5; ++round) {
    std::vector<unsigned> order;  // the only fork protects it
    std::vector<std::jthread> queue;
    queue.reserve(8);
    auto held = pool->acquire();  // given back before the queue is waited for, whatever happens
    ASSERT_TRUE(held);
    const std::uint64_t before = pool->stats().waited;
    for (unsigned thread = 0; thread < 8; ++thread) {
      queue.emplace_back([&, thread] {
        const auto lease = pool->acquire();
        if (lease && lease->call(count_, {}, {.timeout_ns = kTimeout}).value_or(0) == kFirstCount) {
          order.push_back(thread);
        }
      });
      ASSERT_TRUE(eventually([&] { return pool->stats().waited == before + thread + 1; }));
    }
    held->release();
    queue.clear();
    EXPECT_THAT(order, ::testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  }
}

TEST_P(PoolKind, UnderContentionNobodyStarves) {
  const auto pool = open(options(1, 2));
  ASSERT_NE(pool, nullptr);
  constexpr std::size_t kThreads = 8;
  constexpr std::uint64_t kEnough = 20;
  std::array<std::atomic<std::uint64_t>, kThreads> served{};
  const auto everybody_has_enough = [&] {
    return std::ranges::all_of(served, [](const auto& count) { return count >= kEnough; });
  };
  // Those that have enough go on asking, so that the others have to compete. How long a busy host keeps a thread from
  // running that is not in the queue is not the pool's to decide; hence time, not a share.
  const auto give_up = std::chrono::steady_clock::now() + 20s;
  {
    const auto crowd = crowd_of(kThreads, [&](std::uint64_t thread) {
      while (!everybody_has_enough() && std::chrono::steady_clock::now() < give_up) {
        if (request(*pool, count_).value_or(0) != kFirstCount) return;
        ++served[thread];
      }
    });
  }
  const std::vector<std::uint64_t> counts(served.begin(), served.end());
  EXPECT_GE(std::ranges::min(counts), kEnough) << ::testing::PrintToString(counts);
}

// --- Waiting that ends otherwise -------------------------------------------------------------------------------------

TEST_P(PoolKind, AnAcquisitionThatWaitsTooLongFails) {
  const auto pool = open(options(1, 1));
  ASSERT_NE(pool, nullptr);
  auto held = pool->acquire();
  ASSERT_TRUE(held);
  const auto start = std::chrono::steady_clock::now();
  const auto late = pool->acquire(20'000'000);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kDeadline);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 20ms);
  EXPECT_EQ(pool->stats().in_use, 1U);
  held->release();
  held->release();
  EXPECT_TRUE(pool->acquire(20'000'000)) << "the one that left the queue took nothing with it";
  EXPECT_EQ(pool->stats().acquired, 2U);
  EXPECT_EQ(pool->stats().waited, 1U);
}

TEST_P(PoolKind, ClosingStopsCallsAndWaiters) {
  for (int round = 0; round < 5; ++round) {
    auto pool = open(options(0, 2));
    ASSERT_NE(pool, nullptr);
    std::atomic<int> cancelled{0};
    std::vector<std::jthread> crowd = crowd_of(5, [&](std::uint64_t) {
      const auto result = request(*pool, spin_, {}, 0);
      cancelled += !result && result.error().kind == ErrorKind::kCancelled ? 1 : 0;
    });
    if (round % 2 == 0) ASSERT_TRUE(eventually([&] { return pool->stats().waited == 3; }));
    pool->close();
    EXPECT_EQ(pool->acquire().error().kind, ErrorKind::kCancelled);
    EXPECT_EQ(request(*pool, count_).error().kind, ErrorKind::kCancelled);
    EXPECT_EQ(pool->stats().in_use, 0U);
    crowd.clear();  // a thread that had not begun yet needs the closed pool as well
    EXPECT_EQ(cancelled, 5);
  }
}

TEST_P(PoolKind, DestructionWaitsForLeasesAndLeavesThemUsable) {
  for (int round = 0; round < 4; ++round) {
    auto pool = open(options(1, 4, round % 2 == 0 ? ResetPolicy::kStrict : ResetPolicy::kDeferred));
    ASSERT_NE(pool, nullptr);
    std::atomic<int> began{0};
    std::atomic<int> gave_back{0};
    std::vector<std::jthread> crowd = crowd_of(4, [&](std::uint64_t) {
      auto lease = pool->acquire();
      EXPECT_TRUE(lease);
      if (!lease) return;
      ++began;
      Result<std::uint64_t> result;
      do {  // past Lease::call, which would fail at once
        result = lease->fork().call(count_, {});
      } while (result);
      EXPECT_EQ(result.error().kind, ErrorKind::kCancelled);
      EXPECT_EQ(lease->call(count_, {}).error().kind, ErrorKind::kCancelled);
      ++gave_back;
      lease->release();
    });
    ASSERT_TRUE(eventually([&] { return began == 4; }));
    pool.reset();
    EXPECT_EQ(gave_back, 4);
  }
}

// Threads that request all the time while the pool is closed under them.
TEST_P(PoolKind, ClosingUnderLoad) {
  for (std::uint64_t round = 0; round < test::scaled(20) + 2; ++round) {
    auto pool = open(options(1, 3));
    ASSERT_NE(pool, nullptr);
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::jthread> crowd = crowd_of(6, [&](std::uint64_t) {
      for (;;) {
        const auto result = request(*pool, count_);
        if (!result) {
          wrong += result.error().kind == ErrorKind::kCancelled ? 0 : 1;
          return;
        }
        wrong += *result == kFirstCount ? 0 : 1;
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(round * 2));
    pool->close();
    EXPECT_EQ(pool->stats().in_use, 0U);
    crowd.clear();
    EXPECT_EQ(wrong, 0U);
  }
}

// --- When forks are clean --------------------------------------------------------------------------------------------

TEST_P(PoolKind, StrictLeavesNothingInMemoryBehindARelease) {
  const auto pool = open(options(1, 1));
  ASSERT_NE(pool, nullptr);
  auto lease = pool->acquire();
  ASSERT_TRUE(lease);
  Fork& fork = lease->fork();  // nobody else takes it here
  const std::array<std::uint64_t, 3> arguments{3, 20, 77};
  EXPECT_EQ(lease->call(touch_, arguments, {.timeout_ns = kTimeout}).value_or(0), 20U);
  EXPECT_FALSE(is_pristine(fork));
  lease->release();
  EXPECT_TRUE(is_pristine(fork));
}

TEST_P(PoolKind, DeferredForksAreResetWhenNobodyWantsThem) {
  const auto pool = open(options(2, 2, ResetPolicy::kDeferred));
  ASSERT_NE(pool, nullptr);
  auto one = pool->acquire();
  auto two = pool->acquire();
  ASSERT_TRUE(one && two);
  Fork* const forks[] = {&one->fork(), &two->fork()};
  const std::array<std::uint64_t, 3> arguments{3, 20, 77};
  EXPECT_EQ(one->call(touch_, arguments, {.timeout_ns = kTimeout}).value_or(0), 20U);
  EXPECT_FALSE(two->call(peek_, std::array<std::uint64_t, 1>{0}, {.timeout_ns = kTimeout}));
  one->release();  // to the shelf …
  two->release();  // … which is full: to the free list
  ASSERT_TRUE(eventually([&] { return pool->stats().tended == 2; }));
  pool->close();
  EXPECT_TRUE(is_pristine(*forks[0]));
  EXPECT_TRUE(is_pristine(*forks[1]));
}

TEST_P(PoolKind, TheTendingThreadDoesNotDisturb) {
  const auto pool = open(options(1, 2, ResetPolicy::kDeferred));
  ASSERT_NE(pool, nullptr);
  learn(*pool);
  const std::uint64_t rounds = test::scaled(40) + 4;
  std::atomic<std::uint64_t> wrong{0};
  {
    std::vector<std::jthread> pair = crowd_of(2, [&](std::uint64_t thread) {
      for (std::uint64_t i = 0; i < rounds; ++i) {
        wrong += mixed_request(*pool, i + thread) ? 0 : 1;
        std::this_thread::sleep_for(std::chrono::milliseconds(15 + i % 15));
      }
    });
  }
  EXPECT_EQ(wrong, 0U);
  EXPECT_LE(pool->stats().forks, 2U);
}

// --- What the host refuses -------------------------------------------------------------------------------------------

/// No descriptor can be made while it lives.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int lowest_free = ::dup(0);
    ::close(lowest_free);
    rlimit lowered = before_;
    lowered.rlim_cur = static_cast<rlim_t>(lowest_free);
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &lowered), 0);
  }
  ~NoMoreDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_P(PoolKind, WithoutDescriptorsThePoolGoesOnAtItsSize) {
  const auto pool = open(options(1, 4));
  ASSERT_NE(pool, nullptr);
  {
    const NoMoreDescriptors limited;
    auto one = pool->acquire();
    ASSERT_TRUE(one);
    EXPECT_EQ(pool->acquire(5'000'000).error().kind, ErrorKind::kDeadline) << "it waits for what there is";
    one->release();
    std::atomic<int> right{0};
    std::vector<std::jthread> crowd = crowd_of(4, [&](std::uint64_t) {
      for (int i = 0; i < 10; ++i) right += request(*pool, count_).value_or(0) == kFirstCount ? 1 : 0;
    });
    crowd.clear();
    EXPECT_EQ(right, 40);
    EXPECT_EQ(pool->stats().vcpus, 1U);
  }
  std::this_thread::sleep_for(300ms);
  const auto one = pool->acquire();
  const auto two = pool->acquire(1'000'000);
  EXPECT_TRUE(one && two) << "it grows again when it can";
}

TEST_P(PoolKind, WithoutAnyForkTheReasonIsTold) {
  const auto pool = open(options(0, 4));
  ASSERT_NE(pool, nullptr);
  {
    const NoMoreDescriptors limited;
    std::atomic<int> told{0};
    std::vector<std::jthread> crowd = crowd_of(6, [&](std::uint64_t) {
      const auto refused = pool->acquire();
      told += !refused && refused.error().kind == ErrorKind::kHost && refused.error().system_errno == EMFILE ? 1 : 0;
    });
    crowd.clear();
    EXPECT_EQ(told, 6);
  }
  EXPECT_EQ(pool->stats().acquired, 0U);
  EXPECT_EQ(request(*pool, count_).value_or(0), kFirstCount);
}

TEST_P(PoolKind, AForkThatCannotBeResetIsReplaced) {
  for (const ResetPolicy policy : {ResetPolicy::kStrict, ResetPolicy::kDeferred}) {
    const auto pool = open(options(1, 1, policy));
    ASSERT_NE(pool, nullptr);
    auto lease = pool->acquire();
    ASSERT_TRUE(lease);
    EXPECT_FALSE(lease->call(peek_, std::array<std::uint64_t, 1>{0}, {.timeout_ns = kTimeout}));
    // The vCPU's descriptor becomes another: putting its registers back fails. Who waits gets the replacement.
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(entry, gone).string();
      if (target.find("kvm-vcpu") == std::string::npos) continue;
      const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      EXPECT_GE(::dup3(null, std::stoi(entry.path().filename()), O_CLOEXEC), 0);
      ::close(null);
    }
    std::atomic<std::uint64_t> answer{0};
    std::jthread waiter([&] { answer = request(*pool, count_).value_or(0); });
    ASSERT_TRUE(eventually([&] { return pool->stats().waited == 1; }));
    lease->release();
    waiter.join();
    EXPECT_EQ(answer, kFirstCount) << name_of(policy);
    EXPECT_EQ(pool->stats().replaced, 1U);
    EXPECT_EQ(pool->stats().forks, 1U);
    EXPECT_EQ(request(*pool, count_).value_or(0), kFirstCount);
  }
}

TEST_P(PoolKind, ImpossibleSizesAreRefused) {
  for (const auto& [ready, most, kind] :
       {std::tuple{0UL, 0UL, ErrorKind::kUsage}, std::tuple{3UL, 2UL, ErrorKind::kUsage},
        std::tuple{0UL, 1UL << 30, ErrorKind::kLimit}}) {
    const auto refused = Pool::create(system(), snapshot_, options(ready, most));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, kind) << refused.error().message;
    EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(most)));
  }
}

using PoolTest = PoolTestBase;

TEST_F(PoolTest, OneVmHoldsNoMoreForksThanItsVcpus) {
  const int vcpus = system().check_extension(KVM_CAP_MAX_VCPUS);
  ASSERT_GT(vcpus, 0);
  const auto refused = Pool::create(system(), snapshot_,
                                    {.fork = {.kind = ForkKind::kSpace}, .most = static_cast<std::size_t>(vcpus) + 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
}

TEST_F(PoolTest, ForksMadeAheadGetAVcpuWhenTheyAreUsed) {
  const auto pool = open({.fork = {.kind = ForkKind::kSpace}, .ready = 6, .most = 6});
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(pool->stats().forks, 6U);
  EXPECT_EQ(pool->stats().vcpus, 1U);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(request(*pool, count_).value_or(0), kFirstCount);
  EXPECT_EQ(pool->stats().vcpus, 1U);
  {
    std::vector<Lease> leases;
    leases.reserve(4);
    for (int i = 0; i < 4; ++i) leases.push_back(std::move(*pool->acquire()));
    EXPECT_EQ(pool->stats().vcpus, 4U);
    EXPECT_EQ(pool->stats().in_use, 4U);
  }
  EXPECT_EQ(pool->stats().forks, 6U);
}

TEST_F(PoolTest, ItsDeadlineIsThatOfCallsWithoutOne) {
  const auto pool = open({.timeout_ns = 3'000'000});
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(request(*pool, spin_, {}, 0).error().kind, ErrorKind::kDeadline);
  EXPECT_EQ(pool->stats().deadlines, 1U);
  EXPECT_THAT(pool->describe(), HasSubstr("space forks, copied, reset by "));
}

// --- Leaks -----------------------------------------------------------------------------------------------------------

struct Holdings {
  std::size_t descriptors = 0;
  std::size_t mappings = 0;
  std::size_t resident_pages = 0;
};

Holdings holdings() {
  Holdings now;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++now.descriptors;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) ++now.mappings;
  std::ifstream statm("/proc/self/statm");
  std::size_t all = 0;
  statm >> all >> now.resident_pages;
  return now;
}

TEST_P(PoolKind, ManyRequestsWithCrashesLeaveNothingBehind) {
  const auto pool = open(options(2, 2));
  ASSERT_NE(pool, nullptr);
  learn(*pool);
  std::atomic<std::uint64_t> wrong{0};
  const auto run = [&](std::uint64_t requests) {
    std::vector<std::jthread> pair = crowd_of(2, [&](std::uint64_t) {
      for (std::uint64_t i = 0; i < requests / 2; ++i) {
        if (i % 20 == 0) {
          wrong += request(*pool, i % 40 == 0 ? peek_ : leave_, {0}).has_value() ? 1 : 0;
        } else {
          wrong += request(*pool, count_).value_or(0) == kFirstCount ? 0 : 1;
        }
      }
    });
  };
  run(200);
  const Holdings before = holdings();
  run(test::scaled(100'000));
  const Holdings after = holdings();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(after.descriptors, before.descriptors);
#ifndef WARMFORK_TEST_SANITIZED  // which have mappings and memory of their own
  EXPECT_LE(after.mappings, before.mappings + 8) << "a thread's allocator may have got an arena";
  EXPECT_LE(after.resident_pages, before.resident_pages + 512);
#endif
  EXPECT_EQ(pool->stats().replaced, 0U);
  EXPECT_LE(pool->stats().forks, 2U);
}

TEST_P(PoolKind, PoolsThatComeAndGoLeaveNothingBehind) {
  const auto once = [&] {
    const auto pool = open(options(2, 3));
    ASSERT_NE(pool, nullptr);
    EXPECT_EQ(request(*pool, count_).value_or(0), kFirstCount);
    EXPECT_FALSE(request(*pool, peek_, {0}));
  };
  for (int i = 0; i < 3; ++i) once();
  const Holdings before = holdings();
  for (std::uint64_t i = 0; i < test::scaled(30) + 2; ++i) once();
  const Holdings after = holdings();
  EXPECT_EQ(after.descriptors, before.descriptors);
#ifndef WARMFORK_TEST_SANITIZED
  EXPECT_LE(after.mappings, before.mappings + 4);
#endif
}

}  // namespace
}  // namespace warmfork
