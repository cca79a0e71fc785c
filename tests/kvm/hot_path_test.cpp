// A warm vmcall is one ioctl and allocates nothing. Counted from outside the machine: this binary's own ioctl() and
// operator new stand before the C library's, so that a call cannot do more than its counters admit.
#include "machine_test.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <new>

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
}  // namespace

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  std::va_list arguments;
  va_start(arguments, request);
  const unsigned long argument = va_arg(arguments, unsigned long);
  va_end(arguments);
  ++ioctls;
  return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}

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

}  // namespace
}  // namespace warmfork::test
#endif
