// A warm vmcall is one ioctl and allocates nothing; nor does a pool's request, with the reset behind it. Counted from
// outside: this binary's own ioctl(), operator new and others stand before the C library's, so that a call cannot do
// more than its counters admit.
#include "fork/pool.hpp"
#include "fork/snapshot.hpp"
#include "machine_test.hpp"
#include "metrics/metrics.hpp"
#include "trace/trace.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

// Sanitizers have their own ioctl and operator new.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WARMFORK_TEST_SANITIZED
#endif
#endif

#ifndef WARMFORK_TEST_SANITIZED
namespace {
thread_local std::uint64_t ioctls = 0;
thread_local std::uint64_t allocations = 0;
thread_local std::uint64_t locks = 0;
thread_local std::uint64_t other_calls = 0;  // system calls by the other functions below

// As the C library's syscall(), which is counted.
long system_call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0, std::uint64_t d = 0,
                 std::uint64_t e = 0, std::uint64_t f = 0) {
  long result = 0;
  register std::uint64_t r10 asm("r10") = d;
  register std::uint64_t r8 asm("r8") = e;
  register std::uint64_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  if (result < 0 && result >= -4095) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}

template <class T>
std::uint64_t word(T* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}
}  // namespace

extern "C" {
int ioctl(int fd, unsigned long request, ...) noexcept {
  std::va_list arguments;
  va_start(arguments, request);
  const unsigned long argument = va_arg(arguments, unsigned long);
  va_end(arguments);
  ++ioctls;
  return static_cast<int>(system_call(SYS_ioctl, static_cast<std::uint64_t>(fd), request, argument));
}

long syscall(long number, ...) noexcept {
  std::array<std::uint64_t, 6> values{};
  std::va_list arguments;
  va_start(arguments, number);
  for (std::uint64_t& value : values) value = va_arg(arguments, std::uint64_t);
  va_end(arguments);
  ++other_calls;
  return system_call(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

void* mmap(void* at, std::size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  ++other_calls;
  return reinterpret_cast<void*>(system_call(  // NOLINT(performance-no-int-to-ptr)
      SYS_mmap, word(at), size, static_cast<std::uint64_t>(protection), static_cast<std::uint64_t>(flags),
      static_cast<std::uint64_t>(fd), static_cast<std::uint64_t>(offset)));
}
int munmap(void* at, std::size_t size) noexcept {
  ++other_calls;
  return static_cast<int>(system_call(SYS_munmap, word(at), size));
}
int madvise(void* at, std::size_t size, int advice) noexcept {
  ++other_calls;
  return static_cast<int>(system_call(SYS_madvise, word(at), size, static_cast<std::uint64_t>(advice)));
}
ssize_t getrandom(void* to, std::size_t size, unsigned flags) {
  ++other_calls;
  return system_call(SYS_getrandom, word(to), size, flags);
}
pid_t getpid() noexcept {
  ++other_calls;
  return static_cast<pid_t>(system_call(SYS_getpid));
}
pid_t gettid() noexcept {
  ++other_calls;
  return static_cast<pid_t>(system_call(SYS_gettid));
}

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  using Function = int (*)(pthread_mutex_t*);
  static std::atomic<Function> real{nullptr};
  Function lock = real.load(std::memory_order_relaxed);
  if (lock == nullptr) {
    lock = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
    real.store(lock, std::memory_order_relaxed);
  }
  ++locks;
  return lock(mutex);
}
}  // extern "C"

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace warmfork::test {
namespace {

class HotPath : public MachineTest, public ::testing::WithParamInterface<std::uint64_t> {};

TEST_P(HotPath, IsOneIoctlAndNoAllocation) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const auto function = machine->find_vmcall("weigh");
  ASSERT_TRUE(function);
  constexpr std::array<std::uint64_t, 6> kArguments{1, 2, 3, 4, 5, 6};
  const CallOptions options{.timeout_ns = GetParam()};
  ASSERT_TRUE(machine->call(*function, kArguments, options));
  const std::uint64_t calls = scaled(1000);
  const std::uint64_t interrupted_before = machine->counters().interrupted;
  const std::uint64_t ioctls_before = ioctls;
  const std::uint64_t allocations_before = allocations;
  std::uint64_t right = 0;
  for (std::uint64_t i = 0; i < calls; ++i) {
    const auto result = machine->call(*function, kArguments, options);
    right += result && *result == 654321 ? 1 : 0;
  }
  const std::uint64_t ioctls_made = ioctls - ioctls_before;
  EXPECT_EQ(allocations - allocations_before, 0u);
  EXPECT_EQ(ioctls_made, calls + (machine->counters().interrupted - interrupted_before));
  EXPECT_EQ(right, calls);
}

INSTANTIATE_TEST_SUITE_P(Timeouts, HotPath, ::testing::Values(0, 1'000'000'000),
                         [](const auto& parameter) { return parameter.param == 0 ? "None" : "OneSecond"; });

// --- Pools -----------------------------------------------------------------------------------------------------------

using PoolPath = std::tuple<ForkKind, ResetPolicy, std::uint64_t>;

class PoolHotPath : public MachineTest, public ::testing::WithParamInterface<PoolPath> {};

// What the metrics say of calls that went well.
std::uint64_t counted_calls(ForkKind kind) {
  const std::vector<std::string> labels{std::string(name_of(kind)), "ok"};
  const metrics::Scrape now = metrics::scrape();
  for (const metrics::FamilySamples& family : now.families) {
    if (family.family != metrics::Family::kVmcalls) continue;
    for (const metrics::Sample& sample : family.samples) {
      if (sample.labels == labels) return sample.whole.value_or(0);
    }
  }
  return 0;
}

TEST_P(PoolHotPath, ARequestIsOneIoctlWithoutAllocationOrLock) {
  const auto& [kind, policy, seed] = GetParam();
  const auto master = make_ready("probe_forks");
  ASSERT_NE(master, nullptr);
  const auto function = master->find_vmcall("count");
  ASSERT_TRUE(function);
  const auto snapshot = Snapshot::take(system(), *master);
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  const ForkOptions fork{
      .kind = kind, .reset = ResetMode::kDirtyRing, .seed = seed != 0 ? std::optional(seed) : std::nullopt};
  const auto pool = Pool::create(system(), *snapshot, {.fork = fork, .policy = policy, .timeout_ns = 5'000'000'000});
  ASSERT_TRUE(pool) << pool.error().message;
  // Being watched costs none of that either.
  struct Restore {
    ~Restore() { metrics::enable(false); }
  } const restore;
  for (const bool watched : {false, true}) {
    metrics::enable(watched);
    for (int i = 0; i < 10; ++i) ASSERT_EQ((*pool)->request(*function, {}).value_or(0), 1001U);
    // The fork parked on this thread's shelf is the only one.
    const MachineCounters& counters = (*pool)->acquire()->fork().counters();
    const std::uint64_t interrupted_before = counters.interrupted;
    const std::uint64_t counted_before = counted_calls(kind);
    const std::uint64_t requests = scaled(1000);
    std::uint64_t worst_ioctls = 0;
    std::uint64_t right = 0;
    const std::uint64_t before[] = {ioctls, allocations, locks, other_calls};
    for (std::uint64_t i = 0; i < requests; ++i) {
      const std::uint64_t ioctls_before = ioctls;
      right += (*pool)->request(*function, {}).value_or(0) == 1001 ? 1 : 0;
      worst_ioctls = std::max(worst_ioctls, ioctls - ioctls_before);
    }
    const std::uint64_t after[] = {ioctls, allocations, locks, other_calls};
    const std::uint64_t interrupted = counters.interrupted - interrupted_before;
    EXPECT_EQ(right, requests);
    EXPECT_EQ(after[0] - before[0], requests + interrupted) << "at most " << worst_ioctls << " at once";
    EXPECT_EQ(after[1] - before[1], 0U) << "allocations";
    // A thread that was not scheduled for long may find that the pool's own has its fork in hand.
    EXPECT_LE(after[2] - before[2], (*pool)->stats().tended) << "locks";
    EXPECT_EQ(after[3] - before[3], 0U) << "other system calls";
    EXPECT_EQ(counted_calls(kind) - counted_before, watched ? requests : 0U);
  }
}

std::string path_name(const ::testing::TestParamInfo<PoolPath>& info) {
  const auto& [kind, policy, seed] = info.param;
  return fmt::format("{}_{}_{}", name_of(kind), name_of(policy), seed != 0 ? "seeded" : "random");
}
INSTANTIATE_TEST_SUITE_P(All, PoolHotPath,
                         ::testing::Combine(::testing::ValuesIn(kForkKinds),
                                            ::testing::Values(ResetPolicy::kStrict, ResetPolicy::kDeferred),
                                            ::testing::Values(0U, 42U)),
                         path_name);

// --- Traces ----------------------------------------------------------------------------------------------------------

class TracedHotPath : public MachineTest {};

TEST_F(TracedHotPath, ARequestIsOneIoctlAndItsEvents) {
  const auto master = make_ready("probe_forks");
  ASSERT_NE(master, nullptr);
  const auto function = master->find_vmcall("count");
  ASSERT_TRUE(function);
  const auto snapshot = Snapshot::take(system(), *master);
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  const auto pool = Pool::create(system(), *snapshot, {.fork = {.reset = ResetMode::kDirtyRing}});
  ASSERT_TRUE(pool) << pool.error().message;
  ASSERT_TRUE(trace::start());
  for (int i = 0; i < 10; ++i) EXPECT_EQ((*pool)->request(*function, {}).value_or(0), 1001U);
  const MachineCounters& counters = (*pool)->acquire()->fork().counters();
  const std::uint64_t interrupted_before = counters.interrupted;
  const std::uint64_t requests = scaled(200);
  const std::uint64_t before[] = {ioctls, allocations, locks, other_calls};
  std::uint64_t right = 0;
  for (std::uint64_t i = 0; i < requests; ++i) right += (*pool)->request(*function, {}).value_or(0) == 1001 ? 1 : 0;
  const std::uint64_t after[] = {ioctls, allocations, locks, other_calls};
  const std::uint64_t interrupted = counters.interrupted - interrupted_before;
  const trace::Recording recording = trace::stop();
  EXPECT_EQ(right, requests);
  EXPECT_EQ(after[0] - before[0], requests + interrupted);
  EXPECT_EQ(after[1] - before[1], 0U) << "allocations";
  EXPECT_EQ(after[2] - before[2], 0U) << "locks";
  EXPECT_EQ(after[3] - before[3], 0U) << "other system calls";
  ASSERT_EQ(recording.threads.size(), 1U);
  // A call, its KVM_RUN, its reset; once more for a lease without a call.
  EXPECT_GE(recording.threads[0].recorded, 3 * (requests + 10));
}

}  // namespace
}  // namespace warmfork::test
#endif
