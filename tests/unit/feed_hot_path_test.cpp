// That a replay makes no system call and no allocation: in a child process that the kernel kills for the first system
// call (seccomp's strict mode), and that counts what it allocates.
#include "feed/generator.hpp"
#include "feed/local_readers.hpp"
#include "feed/replay.hpp"

#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>

// Sanitizers have their own operator new, and system calls.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WARMFORK_TEST_SANITIZED
#endif
#endif

#ifndef WARMFORK_TEST_SANITIZED
namespace {
thread_local std::uint64_t allocations = 0;
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace warmfork::feed {
namespace {

constexpr int kGood = 0, kAllocated = 1, kIncomplete = 2, kNoSeccomp = 3;

// The kernel takes the time stamp counter away as well; with TscTicks, each look is one RDTSC instead.
struct CountedTicks {
  std::uint64_t ticks = 0;
  std::uint64_t now() { return ticks += 10; }
};

// In the child: replays, and ends without a system call but exit() itself.
[[noreturn]] void replay_without_kernel(bool with_a_call) {
  const auto tape = generate_feed({.packets = 2'000, .messages = 2}, std::size_t{16} << 20);
  const auto schedule = Schedule::make(*tape, {.kind = Pace::Kind::kPackets, .per_second = 1'000'000}, 1'000'000'000);
  const auto ring = LocalReaders::start(tape->longest(), {.readers = 0});
  CountedTicks clock;
  ReplayControl control;
  ReplayCounters counters;
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) ::_exit(kNoSeccomp);
  if (with_a_call) (void)::getppid();
  const std::uint64_t before = allocations;
  replay(*tape, *schedule, **ring, clock, {.loops = 3}, control, counters);
  const bool complete = counters.packets == 3 * tape->totals().packets && !counters.interrupted;
  const int code = allocations != before ? kAllocated : (complete ? kGood : kIncomplete);
  for (;;) ::syscall(SYS_exit, code);  // exit_group() is none of the calls that are left
}

int status_of_child(bool with_a_call) {
  const pid_t child = ::fork();
  if (child == 0) replay_without_kernel(with_a_call);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(ReplayHotPath, MakesNoSystemCallAndNoAllocation) {
  const int status = status_of_child(false);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNoSeccomp) GTEST_SKIP() << "no seccomp here";
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status) << ": it made a system call";
  EXPECT_EQ(WEXITSTATUS(status), kGood);
  const int killed = status_of_child(true);
  EXPECT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL) << "so the test would have seen one";
}

}  // namespace
}  // namespace warmfork::feed
#endif
