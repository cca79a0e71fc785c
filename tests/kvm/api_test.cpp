// The public C++ API as an embedder sees it: every function, every kind of error it promises, threads.
#include "kvm_test.hpp"
#include "warmfork/warmfork.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace warmfork::api {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr auto kTimeout = 20s;

template <class T>
std::string why(const Result<T>& result) {
  return result ? "no error" : std::string(name_of(result.error().kind)) + ": " + result.error().message;
}
template <class T>
ErrorKind kind_of(const Result<T>& result) {
  return result ? ErrorKind{} : result.error().kind;
}

class ApiTest : public test::KvmTest {
 protected:
  static BootOptions small() {
    return {.memory_bytes = 160 * 4096, .stack_bytes = 8 * 4096, .call_area_bytes = 2 * 4096, .timeout = kTimeout};
  }
  static Result<Snapshot> boot(const std::string& guest, const WarmUp& warm_up = {}) {
    return Snapshot::boot(test::test_data(guest + ".elf"), small(), warm_up);
  }
  /// A pool of the guest `guest`, or a failed test.
  void open(const std::string& guest, PoolOptions options = {}) {
    auto snapshot = boot(guest);
    ASSERT_TRUE(snapshot) << why(snapshot);
    snapshot_ = std::move(*snapshot);
    if (!options.timeout) options.timeout = kTimeout;
    auto pool = Pool::create(*snapshot_, options);
    ASSERT_TRUE(pool) << why(pool);
    pool_ = std::move(*pool);
  }
  [[nodiscard]] Call to(std::string_view name) const {
    const auto found = snapshot_->find(name);
    EXPECT_TRUE(found) << why(found);
    return Call(found.value_or(Function{}));
  }
  [[nodiscard]] Fork fork() {
    auto taken = pool_->acquire(kTimeout);
    EXPECT_TRUE(taken) << why(taken);
    return taken ? std::move(*taken) : Fork();
  }
  /// Calls, and expects a value.
  template <class Callee>
  std::uint64_t value_of(Callee& callee, const Call& call) {
    const auto answer = callee.call(call);
    EXPECT_TRUE(answer) << why(answer);
    return answer.value_or(~std::uint64_t{0});
  }

  std::optional<Snapshot> snapshot_;
  std::optional<Pool> pool_;
};

// --- Values: no KVM needed -------------------------------------------------------------------------------------------

static_assert(!std::is_copy_constructible_v<Fork> && std::is_nothrow_move_constructible_v<Fork>);
static_assert(!std::is_copy_constructible_v<Pool> && std::is_nothrow_move_constructible_v<Pool>);
static_assert(std::is_copy_constructible_v<Snapshot>);
template <class T>
concept GoesWithACall = requires(Call call, T value) { call.with(value); };
static_assert(GoesWithACall<int> && GoesWithACall<std::uint64_t> && GoesWithACall<bool> && GoesWithACall<ErrorKind>);
static_assert(!GoesWithACall<const char*> && !GoesWithACall<double>);

TEST(ApiValues, ACallCollectsArgumentsAndADeadline) {
  const Call call = Call(Function{0x1234}).with(1, -1, ErrorKind::kHost).within(5ms);
  EXPECT_EQ(call.function(), Function{0x1234});
  EXPECT_THAT(call.arguments(), ::testing::ElementsAre(1U, ~std::uint64_t{0}, 3U));
  EXPECT_EQ(call.timeout(), 5ms);
  EXPECT_FALSE(Call(Function{1}).timeout());
  const std::vector<std::uint64_t> many(9, 7);
  const Call much = Call(Function{1}).with(std::span(many));
  EXPECT_EQ(much.argument_count(), 9U);
  EXPECT_EQ(much.arguments().size(), Call::kMaxArguments);
}

TEST(ApiValues, AResultIsAValueOrAnError) {
  const Result<int> good = 7;
  const Result<int> bad = Error{ErrorKind::kLimit, "too much", 0};
  EXPECT_TRUE(good.ok() && good && *good == 7 && good.value() == 7);
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.value_or(3), 3);
  EXPECT_EQ(bad.error().message, "too much");
  EXPECT_THROW((void)bad.value(), std::bad_variant_access);
  EXPECT_THROW((void)good.error(), std::bad_variant_access);
  EXPECT_TRUE(Result<void>());
  EXPECT_EQ(Result<void>(bad.error()).error().kind, ErrorKind::kLimit);
  EXPECT_EQ(name_of(ErrorKind::kGuestFault), "guest fault");
  EXPECT_EQ(name_of(static_cast<ErrorKind>(99)), "unknown");
}

TEST(ApiValues, AnEmptyForkSaysSo) {
  Fork none;
  EXPECT_FALSE(none);
  std::byte byte{};
  EXPECT_EQ(kind_of(none.call(Call(Function{}))), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(none.write(0, {})), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(none.read(0, {&byte, 1})), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(none.reset()), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(none.open_channel()), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(none.close_channel()), ErrorKind::kUsage);
  EXPECT_EQ(none.generation(), 0U);
  EXPECT_EQ(none.fault(), "");
  none.cancel();
  none.release();
}

// --- Booting ---------------------------------------------------------------------------------------------------------

TEST_F(ApiTest, ProgramsThatCannotBeBootedAreRefused) {
  EXPECT_EQ(kind_of(Snapshot::boot("/nonexistent/program")), ErrorKind::kInput);
  EXPECT_EQ(kind_of(Snapshot::boot("/")), ErrorKind::kInput);
  const std::string text = "#!/bin/sh\necho not an ELF file, though long enough for a header of sixty-four bytes\n";
  const auto script = Snapshot::boot(std::as_bytes(std::span(text)), {.name = "script"});
  EXPECT_EQ(kind_of(script), ErrorKind::kInput);
  EXPECT_THAT(why(script), HasSubstr("script"));
  EXPECT_EQ(kind_of(Snapshot::boot(std::span<const std::byte>())), ErrorKind::kInput);
  BootOptions options = small();
  options.memory_bytes = 4096;
  EXPECT_EQ(kind_of(Snapshot::boot(test::test_data("probe_calls.elf"), options)), ErrorKind::kLimit);
}

TEST_F(ApiTest, WithoutAKvmDeviceThereIsNoSnapshot) {
  BootOptions options = small();
  for (const char* const device : {"/nonexistent/kvm", "/dev/null"}) {
    options.kvm_device = device;
    const auto refused = Snapshot::boot(test::test_data("probe_calls.elf"), options);
    EXPECT_EQ(kind_of(refused), ErrorKind::kHost);
    EXPECT_THAT(why(refused), HasSubstr(device));
  }
}

TEST_F(ApiTest, ProgramsThatExitCrashOrHangDoNotBecomeSnapshots) {
  const auto exits = boot("musl_static");
  EXPECT_EQ(kind_of(exits), ErrorKind::kGuestFault);
  EXPECT_THAT(why(exits), HasSubstr("exited with code"));
  EXPECT_EQ(kind_of(boot("probe_read_null")), ErrorKind::kGuestFault);
  BootOptions options = small();
  options.timeout = 50ms;
  EXPECT_EQ(kind_of(Snapshot::boot(test::test_data("probe_infinite_loop.elf"), options)), ErrorKind::kDeadline);
  options.timeout = -1s;
  EXPECT_EQ(kind_of(Snapshot::boot(test::test_data("probe_infinite_loop.elf"), options)), ErrorKind::kDeadline);
}

TEST_F(ApiTest, ArgumentsReachTheProgramAndItsOutputComesBack) {
  std::string printed;
  BootOptions options = small();
  options.memory_bytes = 4 << 20;
  options.name = "service";
  options.arguments = {"you"};
  options.output = [&](int descriptor, std::string_view text) {
    EXPECT_EQ(descriptor, 1);
    printed += text;
  };
  const auto snapshot = Snapshot::boot(test::test_data("api_guest.elf"), options);
  ASSERT_TRUE(snapshot) << why(snapshot);
  EXPECT_EQ(printed, "service is starting, greeting you\n");
  options.output = [](int, std::string_view) { throw std::runtime_error("out of paper"); };
  EXPECT_TRUE(Snapshot::boot(test::test_data("api_guest.elf"), options)) << "the guest sees an error, nobody else";
}

TEST_F(ApiTest, AProgramIsBytesAsWell) {
  std::ifstream file(test::test_data("probe_calls.elf"), std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  auto snapshot = Snapshot::boot(std::as_bytes(std::span(bytes)), small());
  ASSERT_TRUE(snapshot) << why(snapshot);
  bytes.clear();
  bytes.shrink_to_fit();
  EXPECT_GT(snapshot->stored_bytes(), 0U);
  const auto weigh = snapshot->find("weigh");
  const auto by_symbol = snapshot->find("by_symbol");
  ASSERT_TRUE(weigh && by_symbol);
  const auto unknown = snapshot->find("no_such_function");
  EXPECT_EQ(kind_of(unknown), ErrorKind::kInput);
  EXPECT_THAT(why(unknown), HasSubstr("no_such_function"));

  const Snapshot copy = *snapshot;
  auto pool = Pool::create(copy);
  ASSERT_TRUE(pool) << why(pool);
  snapshot = Error{};
  EXPECT_EQ(value_of(*pool->acquire(), Call(*weigh).with(1, 2, 3, 4, 5, 6).within(kTimeout)), 654321U);
  EXPECT_EQ(pool->request(Call(*by_symbol).with(21).within(kTimeout)).value_or(0), 42U);
}

TEST_F(ApiTest, WarmingUpIsPartOfTheSnapshot) {
  auto snapshot = boot("probe_calls", [](Master& master) -> Result<void> {
    const auto count = master.find("count");
    const auto sum = master.find("sum_bytes");
    if (!count) return count.error();
    if (!sum) return sum.error();
    EXPECT_EQ(kind_of(master.find("nothing_of_that_name")), ErrorKind::kInput);
    for (std::uint64_t i = 1; i <= 3; ++i) EXPECT_EQ(master.call(Call(*count)).value_or(0), i);
    const std::string text = "abc";
    const auto address = master.write(8, std::as_bytes(std::span(text)));
    if (!address) return address.error();
    EXPECT_EQ(master.call(Call(*sum).with(*address, text.size())).value_or(0), 'a' + 'b' + 'c');
    std::string back(3, ' ');
    EXPECT_TRUE(master.read(*address, std::as_writable_bytes(std::span(back))));
    EXPECT_EQ(back, text);
    EXPECT_EQ(kind_of(master.read(0, std::as_writable_bytes(std::span(back)))), ErrorKind::kGuestFault);
    EXPECT_EQ(kind_of(master.write(2 * 4096, std::as_bytes(std::span(text)))), ErrorKind::kLimit);
    EXPECT_EQ(kind_of(master.call(Call(*count).with(1, 2, 3, 4).with(5, 6, 7))), ErrorKind::kUsage);
    return {};
  });
  ASSERT_TRUE(snapshot) << why(snapshot);
  auto pool = Pool::create(*snapshot);
  ASSERT_TRUE(pool) << why(pool);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pool->request(Call(*snapshot->find("count")).within(kTimeout)).value_or(0), 4U);
  }
}

TEST_F(ApiTest, AWarmUpThatFailsMakesNoSnapshot) {
  const auto refused =
      boot("probe_calls", [](Master&) -> Result<void> { return Error{ErrorKind::kUnsupported, "not today", 0}; });
  EXPECT_EQ(kind_of(refused), ErrorKind::kUnsupported);
  EXPECT_THAT(why(refused), HasSubstr("not today"));
  const auto crashed = boot("probe_calls", [](Master& master) -> Result<void> {
    (void)master.call(Call(*master.find("crash")).with(0));
    return {};
  });
  EXPECT_FALSE(crashed) << "a guest that has ended cannot be frozen";
  const auto stopped = boot("probe_calls", [](Master& master) -> Result<void> {
    EXPECT_EQ(kind_of(master.call(Call(*master.find("spin")).within(10ms))), ErrorKind::kDeadline);
    return {};
  });
  EXPECT_EQ(kind_of(stopped), ErrorKind::kUsage);
  EXPECT_THROW((void)boot("probe_calls", [](Master&) -> Result<void> { throw std::runtime_error("mine"); }),
               std::runtime_error);
}

TEST_F(ApiTest, ASnapshotIsAFileForLater) {
  const std::string path = ::testing::TempDir() + "warmfork_api_test.snapshot";
  {
    auto snapshot = boot("probe_calls", [](Master& master) -> Result<void> {
      EXPECT_EQ(master.call(Call(*master.find("count"))).value_or(0), 1U);
      return {};
    });
    ASSERT_TRUE(snapshot) << why(snapshot);
    const auto saved = snapshot->save(path);
    ASSERT_TRUE(saved) << why(saved);
    EXPECT_EQ(kind_of(snapshot->save("/dev/null")), ErrorKind::kUsage);
    EXPECT_EQ(kind_of(snapshot->save("/nonexistent/directory/file")), ErrorKind::kHost);
    const Snapshot elsewhere = std::move(*snapshot);
    EXPECT_EQ(kind_of(snapshot->save(path)), ErrorKind::kUsage);
  }
  const auto loaded = Snapshot::load(path);
  ASSERT_TRUE(loaded) << why(loaded);
  auto pool = Pool::create(*loaded);
  ASSERT_TRUE(pool) << why(pool);
  EXPECT_EQ(pool->request(Call(*loaded->find("count")).within(kTimeout)).value_or(0), 2U);
  EXPECT_EQ(kind_of(Snapshot::load(path, "/nonexistent/kvm")), ErrorKind::kHost);
  EXPECT_EQ(kind_of(Snapshot::load("/nonexistent/snapshot")), ErrorKind::kInput);
  EXPECT_EQ(kind_of(Snapshot::load(test::test_data("probe_calls.elf"))), ErrorKind::kInput);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_EQ(kind_of(Snapshot::load(path)), ErrorKind::kInput);
  std::filesystem::remove(path);
}

// --- Pools -----------------------------------------------------------------------------------------------------------

TEST_F(ApiTest, EveryKindModeAndPolicyAnswersAndForgets) {
  auto snapshot = boot("probe_calls");
  ASSERT_TRUE(snapshot) << why(snapshot);
  const Call count = Call(*snapshot->find("count")).within(kTimeout);
  for (const ForkKind kind : {ForkKind::kSpace, ForkKind::kVm}) {
    for (const ResetMode reset :
         {ResetMode::kAuto, ResetMode::kFullCopy, ResetMode::kDirtyLog, ResetMode::kDirtyRing, ResetMode::kCowRemap}) {
      for (const ResetPolicy policy : {ResetPolicy::kStrict, ResetPolicy::kDeferred}) {
        auto pool = Pool::create(*snapshot, {.kind = kind, .reset = reset, .policy = policy});
        if (kind_of(pool) == ErrorKind::kUnsupported) continue;
        ASSERT_TRUE(pool) << why(pool);
        EXPECT_THAT(pool->describe(), StartsWith(kind == ForkKind::kVm ? "vm forks" : "space forks"));
        EXPECT_THAT(pool->describe(), HasSubstr(policy == ResetPolicy::kStrict ? "strict" : "deferred"));
        for (int i = 0; i < 3; ++i) EXPECT_EQ(pool->request(count).value_or(0), 1U) << pool->describe();
      }
    }
  }
}

TEST_F(ApiTest, OptionsThatContradictAreRefused) {
  auto snapshot = boot("probe_calls");
  ASSERT_TRUE(snapshot) << why(snapshot);
  EXPECT_EQ(kind_of(Pool::create(*snapshot, {.ready = 3, .most = 2})), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(Pool::create(*snapshot, {.ready = 0, .most = 0})), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(Pool::create(*snapshot, {.most = std::size_t{1} << 40})), ErrorKind::kLimit);
  EXPECT_EQ(kind_of(Pool::create(*snapshot, {.kind = static_cast<ForkKind>(9)})), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(Pool::create(*snapshot, {.reset = static_cast<ResetMode>(9)})), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(Pool::create(*snapshot, {.policy = static_cast<ResetPolicy>(9)})), ErrorKind::kUsage);
}

TEST_F(ApiTest, ACrashedExitedOrLateRequestCostsOnlyItself) {
  open("probe_calls", {.ready = 1, .most = 1});
  const Call count = to("count");
  EXPECT_EQ(pool_->request(count).value_or(0), 1U);
  EXPECT_EQ(kind_of(pool_->request(to("crash").with(0))), ErrorKind::kGuestFault);
  EXPECT_EQ(pool_->request(count).value_or(0), 1U);
  const auto left = pool_->request(to("leave").with(7));
  EXPECT_EQ(kind_of(left), ErrorKind::kGuestFault);
  EXPECT_THAT(why(left), HasSubstr("code 7"));
  EXPECT_EQ(kind_of(pool_->request(to("spin").within(5ms))), ErrorKind::kDeadline);
  EXPECT_EQ(kind_of(pool_->request(to("spin").within(0ms))), ErrorKind::kDeadline) << "a deadline that has passed";
  EXPECT_EQ(kind_of(pool_->request(to("spin").within(-1h))), ErrorKind::kDeadline);
  EXPECT_EQ(kind_of(pool_->request(to("weigh").with(1, 2, 3, 4, 5, 6, 7))), ErrorKind::kUsage);
  EXPECT_FALSE(pool_->request(Call(Function{}))) << "nothing is at address 0";
  EXPECT_EQ(pool_->request(count).value_or(0), 1U);
  EXPECT_EQ(pool_->request(Call(count).within(Call::kNoDeadline)).value_or(0), 1U);
  const PoolStats stats = pool_->stats();
  EXPECT_EQ(stats.acquired, 10U);
  EXPECT_EQ(stats.deadlines, 3U);
  EXPECT_EQ(stats.faults, 3U);
  EXPECT_EQ(stats.forks, 1U);
  EXPECT_EQ(stats.vcpus, 1U);
  EXPECT_EQ(stats.in_use, 0U);
}

TEST_F(ApiTest, ThePoolsTimeoutHoldsForCallsWithoutOne) {
  open("probe_calls", {.timeout = 10ms});
  EXPECT_EQ(kind_of(pool_->request(to("spin"))), ErrorKind::kDeadline);
  Fork one = fork();
  EXPECT_EQ(kind_of(one.call(to("spin"))), ErrorKind::kDeadline);
}

TEST_F(ApiTest, WaitingForAForkEndsWithTheDeadline) {
  open("probe_calls", {.ready = 1, .most = 1});
  Fork only = fork();
  ASSERT_TRUE(only);
  EXPECT_EQ(kind_of(pool_->acquire(0s)), ErrorKind::kDeadline);
  EXPECT_EQ(kind_of(pool_->acquire(5ms)), ErrorKind::kDeadline);
  EXPECT_EQ(kind_of(pool_->request(to("count").within(5ms))), ErrorKind::kDeadline);
  EXPECT_EQ(pool_->stats().in_use, 1U);
  std::thread releaser([&] {
    std::this_thread::sleep_for(10ms);
    only.release();
  });
  EXPECT_TRUE(pool_->acquire());
  releaser.join();
}

TEST_F(ApiTest, ASeedTheHeapLimitAndOutputReachTheForks) {
  std::mutex mutex;
  std::string printed;
  open("probe_calls", {.output = [&](int, std::string_view text) {
         const std::scoped_lock lock(mutex);
         printed += text;
       }});
  {
    Fork one = fork();
    const std::string text = "hello";
    EXPECT_EQ(value_of(one, to("say").with(*one.write(0, std::as_bytes(std::span(text))), text.size())), 5U);
    EXPECT_EQ(printed, text);
  }
  pool_.reset();

  auto snapshot = Snapshot::boot(test::test_data("probe_forks.elf"), small());
  ASSERT_TRUE(snapshot) << why(snapshot);
  snapshot_ = *snapshot;
  const auto draw = [&](std::optional<std::uint64_t> seed) {
    auto pool = Pool::create(
        *snapshot, {.timeout = kTimeout, .seed = seed, .heap_limit_bytes = 72 * 4096, .instruction_budget = 77});
    EXPECT_TRUE(pool) << why(pool);
    EXPECT_EQ(pool->request(to("budget")).value_or(0), 77U);
    EXPECT_EQ(pool->request(to("grow").with(32)).value_or(1), 0U) << "64 pages are in use, 72 allowed";
    return pool->request(to("fork_random").with(0)).value_or(0);
  };
  EXPECT_EQ(draw(42), draw(42));
  EXPECT_NE(draw(42), draw(43));
  EXPECT_NE(draw({}), draw({}));
}

TEST_F(ApiTest, ThreadsShareAPool) {
  open("probe_calls", {.ready = 2, .most = 3});
  const Call count = to("count");
  const Call crash = to("crash").with(0);
  const Call weigh = to("weigh");
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      for (std::uint64_t i = 0; i < test::scaled(300); ++i) {
        if (i % 16 == id) wrong += kind_of(pool_->request(crash)) != ErrorKind::kGuestFault;
        wrong += pool_->request(count).value_or(0) != 1;
        if (i % 4 != 0) continue;
        auto taken = pool_->acquire(kTimeout);
        if (!taken) {
          ++wrong;
          continue;
        }
        wrong += taken->call(Call(weigh).with(id, i)).value_or(0) != id + 10 * i;
        wrong += taken->call(count).value_or(0) != 1;
        wrong += taken->call(count).value_or(0) != 2;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(pool_->stats().in_use, 0U);
  EXPECT_LE(pool_->stats().forks, 3U);
}

TEST_F(ApiTest, AClosedPoolCancelsWhatRunsAndLendsNothing) {
  open("probe_calls", {.ready = 1, .most = 1});
  std::atomic<bool> begun{false};
  const Call spin = to("spin").within(kTimeout);
  std::thread running([&] {
    begun = true;
    EXPECT_EQ(kind_of(pool_->request(spin)), ErrorKind::kCancelled);
  });
  while (!begun) std::this_thread::yield();
  std::this_thread::sleep_for(5ms);
  pool_->close();
  running.join();
  EXPECT_EQ(kind_of(pool_->request(to("count"))), ErrorKind::kCancelled);
  EXPECT_EQ(kind_of(pool_->acquire()), ErrorKind::kCancelled);
  pool_->close();
}

TEST_F(ApiTest, WhatWasMovedElsewhereSaysSo) {
  open("probe_calls");
  const Call count = to("count");
  Pool there = std::move(*pool_);
  EXPECT_EQ(kind_of(pool_->request(count)), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(pool_->acquire()), ErrorKind::kUsage);
  EXPECT_EQ(pool_->stats().forks, 0U);
  EXPECT_EQ(pool_->describe(), "");
  pool_->close();
  EXPECT_EQ(there.request(count).value_or(0), 1U);
  const Snapshot frozen = std::move(*snapshot_);
  EXPECT_EQ(kind_of(snapshot_->find("count")), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(Pool::create(*snapshot_)), ErrorKind::kUsage);
  EXPECT_EQ(snapshot_->stored_bytes(), 0U);
  EXPECT_TRUE(frozen.find("count"));
}

// --- Forks -----------------------------------------------------------------------------------------------------------

TEST_F(ApiTest, AForkKeepsItsStateUntilItIsReset) {
  open("probe_calls");
  Fork one = fork();
  const Call count = to("count");
  const std::uint64_t generation = one.generation();
  EXPECT_NE(generation, 0U);
  EXPECT_EQ(value_of(one, count), 1U);
  EXPECT_EQ(value_of(one, count), 2U);
  ASSERT_TRUE(one.reset());
  EXPECT_NE(one.generation(), generation);
  EXPECT_EQ(value_of(one, count), 1U);
  EXPECT_EQ(kind_of(one.call(Call(count).with(1, 2, 3, 4, 5, 6, 7))), ErrorKind::kUsage);
  EXPECT_EQ(value_of(one, count), 2U) << "an error of the caller's harms nothing";
}

TEST_F(ApiTest, BuffersGoThereAndBack) {
  open("probe_calls");
  Fork one = fork();
  std::string text = "drawer";
  const auto address = one.write(100, std::as_bytes(std::span(text)));
  ASSERT_TRUE(address) << why(address);
  EXPECT_EQ(value_of(one, to("reverse_bytes").with(*address, text.size())), *address);
  ASSERT_TRUE(one.read(*address, std::as_writable_bytes(std::span(text))));
  EXPECT_EQ(text, "reward");
  EXPECT_TRUE(one.write(2 * 4096, {})) << "nothing fits everywhere";
  EXPECT_EQ(kind_of(one.write(2 * 4096 - 5, std::as_bytes(std::span(text)))), ErrorKind::kLimit);
  EXPECT_EQ(kind_of(one.write(~std::uint64_t{0}, std::as_bytes(std::span(text)))), ErrorKind::kLimit);
  for (const std::uint64_t bad : {std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{0} - 4, std::uint64_t{1} << 47}) {
    EXPECT_EQ(kind_of(one.read(bad, std::as_writable_bytes(std::span(text)))), ErrorKind::kGuestFault) << bad;
  }
}

TEST_F(ApiTest, AFaultHasAReportUntilTheReset) {
  open("probe_calls");
  Fork one = fork();
  EXPECT_EQ(one.fault(), "");
  EXPECT_EQ(kind_of(one.call(to("crash").with(0))), ErrorKind::kGuestFault);
  EXPECT_THAT(one.fault(), HasSubstr("page fault"));
  EXPECT_THAT(one.fault(), HasSubstr("rip"));
  EXPECT_EQ(kind_of(one.call(to("count"))), ErrorKind::kGuestFault) << "ended until it is reset";
  ASSERT_TRUE(one.reset());
  EXPECT_EQ(one.fault(), "");
  EXPECT_EQ(value_of(one, to("count")), 1U);
}

TEST_F(ApiTest, AForkOutlivesItsPoolAndSnapshot) {
  open("probe_calls");
  const Call count = to("count");
  Fork one = fork();
  pool_.reset();
  snapshot_.reset();
  EXPECT_EQ(value_of(one, count), 1U);
  EXPECT_TRUE(one.reset());
  EXPECT_EQ(value_of(one, count), 1U);
}

TEST_F(ApiTest, AForkThatWasGivenBackSaysSo) {
  open("probe_calls", {.ready = 1, .most = 1});
  const Call count = to("count");
  Fork one = fork();
  EXPECT_EQ(value_of(one, count), 1U);
  one.release();
  EXPECT_FALSE(one);
  EXPECT_EQ(kind_of(one.call(count)), ErrorKind::kUsage);
  EXPECT_EQ(kind_of(one.reset()), ErrorKind::kUsage);
  one.release();
  Fork two = fork();
  EXPECT_EQ(value_of(two, count), 1U) << "reset in between";
  Fork three = std::move(two);
  EXPECT_EQ(kind_of(two.call(count)), ErrorKind::kUsage);
  EXPECT_EQ(value_of(three, count), 2U);
  three = Fork();
  EXPECT_EQ(pool_->stats().in_use, 0U);
}

TEST_F(ApiTest, CancelStopsACallFromAnotherThread) {
  open("probe_calls");
  Fork one = fork();
  std::thread canceller([&] {
    std::this_thread::sleep_for(5ms);
    one.cancel();
  });
  EXPECT_EQ(kind_of(one.call(to("spin").within(kTimeout))), ErrorKind::kCancelled);
  canceller.join();
  EXPECT_EQ(kind_of(one.call(to("count"))), ErrorKind::kUsage) << "a stopped call is not forgotten before a reset";
  ASSERT_TRUE(one.reset());
  EXPECT_EQ(value_of(one, to("count")), 1U);
}

TEST_F(ApiTest, ACancellationThatCameTooLateMeetsNobodyElse) {
  for (const ResetPolicy policy : {ResetPolicy::kStrict, ResetPolicy::kDeferred}) {
    open("probe_calls", {.policy = policy, .ready = 1, .most = 1});
    const Call count = to("count");
    for (int i = 0; i < 10; ++i) {
      Fork one = fork();
      EXPECT_EQ(value_of(one, count), 1U);
      one.cancel();
      if (i % 2 == 0) {
        ASSERT_TRUE(one.reset());
        EXPECT_EQ(value_of(one, count), 1U);
        one.cancel();
      }
      one.release();
      EXPECT_EQ(pool_->request(count).value_or(0), 1U);
    }
    Fork one = fork();
    one.cancel();
    EXPECT_EQ(kind_of(one.call(count)), ErrorKind::kCancelled) << "the next call, if none runs";
  }
}

// --- Channels --------------------------------------------------------------------------------------------------------

TEST_F(ApiTest, AChannelAnswersWithoutExits) {
  for (const ForkKind kind : {ForkKind::kSpace, ForkKind::kVm}) {
    open("probe_calls", {.kind = kind, .ready = 1, .most = 1});
    Fork one = fork();
    const Call count = to("count");
    EXPECT_EQ(value_of(one, count), 1U);
    const auto opened = one.open_channel({.polls_before_parking = 10'000});
    ASSERT_TRUE(opened) << why(opened);
    EXPECT_EQ(kind_of(one.open_channel()), ErrorKind::kUsage);
    for (std::uint64_t i = 2; i < 50; ++i) EXPECT_EQ(value_of(one, count), i);
    std::string text = "drawer";
    const auto address = one.write(4, std::as_bytes(std::span(text)));
    ASSERT_TRUE(address) << why(address);
    EXPECT_EQ(value_of(one, to("reverse_bytes").with(*address, text.size())), *address);
    ASSERT_TRUE(one.read(*address, std::as_writable_bytes(std::span(text))));
    EXPECT_EQ(text, "reward");
    for (const std::uint64_t outside : {*address - 5, *address + 2 * 4096, std::uint64_t{0}}) {
      EXPECT_EQ(kind_of(one.read(outside, std::as_writable_bytes(std::span(text)))), ErrorKind::kLimit);
    }
    EXPECT_EQ(kind_of(one.write(2 * 4096, std::as_bytes(std::span(text)))), ErrorKind::kLimit);
    EXPECT_EQ(kind_of(one.call(Call(count).with(1, 2, 3, 4, 5, 6, 7))), ErrorKind::kUsage);
    EXPECT_TRUE(one.close_channel());
    EXPECT_TRUE(one.close_channel()) << "none is open: nothing to do";
    EXPECT_EQ(value_of(one, count), 50U) << "the same guest, by KVM_RUN";

    ASSERT_TRUE(one.open_channel());
    EXPECT_EQ(value_of(one, count), 51U);
    ASSERT_TRUE(one.reset()) << "closes the channel";
    EXPECT_EQ(value_of(one, count), 1U);
    ASSERT_TRUE(one.open_channel());
    one.release();
    EXPECT_EQ(pool_->request(count).value_or(0), 1U);
  }
}

TEST_F(ApiTest, AChannelFailsAsCallsDo) {
  open("probe_calls", {.ready = 1, .most = 1});
  Fork one = fork();
  ASSERT_TRUE(one.open_channel());
  EXPECT_EQ(kind_of(one.call(to("crash").with(0))), ErrorKind::kGuestFault);
  EXPECT_EQ(kind_of(one.call(to("count"))), ErrorKind::kGuestFault);
  EXPECT_EQ(one.fault(), "");
  EXPECT_EQ(kind_of(one.close_channel()), ErrorKind::kGuestFault);
  EXPECT_THAT(one.fault(), HasSubstr("page fault"));
  EXPECT_FALSE(one.open_channel()) << "the guest has ended";
  ASSERT_TRUE(one.reset());

  ASSERT_TRUE(one.open_channel());
  EXPECT_EQ(kind_of(one.call(to("spin").within(20ms))), ErrorKind::kDeadline);
  ASSERT_TRUE(one.reset());
  ASSERT_TRUE(one.open_channel());
  std::thread canceller([&] {
    std::this_thread::sleep_for(20ms);
    one.cancel();
  });
  EXPECT_EQ(kind_of(one.call(to("spin"))), ErrorKind::kCancelled);
  canceller.join();
  one.release();
  EXPECT_EQ(pool_->request(to("count")).value_or(0), 1U);
  Fork two = fork();
  EXPECT_FALSE(two.open_channel({.cpu = 1 << 20})) << "no such processor";
}

}  // namespace
}  // namespace warmfork::api
