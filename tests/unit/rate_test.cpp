// How often threads do something together (bench/rate).
#include "bench/rate.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <vector>

namespace warmfork::bench {
namespace {

int own_cpu() { return ::sched_getcpu(); }

TEST(RateOf, CountsWhatAllThreadsHaveDone) {
  const std::array<int, 2> cpus{own_cpu(), own_cpu()};
  std::array<std::atomic<std::uint64_t>, 2> done{};
  constexpr double kSeconds = 0.05;
  const auto rate = rate_of(cpus, 2, kSeconds, [&](std::size_t thread) -> Status {
    ++done.at(thread);
    return {};
  });
  ASSERT_TRUE(rate) << rate.error().message;
  const auto all = static_cast<double>(done[0] + done[1]);
  EXPECT_GT(done[0], 0U);
  EXPECT_GT(done[1], 0U);
  EXPECT_LE(*rate, all / kSeconds) << "in at least that time";
}

TEST(RateOf, AThreadWithoutItsCpuKeepsNobodyWaiting) {
  constexpr int kNone = CPU_SETSIZE - 1;
  const std::array<int, 2> cpus{own_cpu(), kNone};
  const auto rate = rate_of(cpus, 2, 0.01, [](std::size_t) -> Status { return {}; });
  ASSERT_FALSE(rate);
  EXPECT_NE(rate.error().message.find("pinning to CPU"), std::string::npos);
}

TEST(RateOf, SaysWhyAThreadGaveUp) {
  const std::array<int, 2> cpus{own_cpu(), own_cpu()};
  const auto rate = rate_of(cpus, 2, 0.01, [](std::size_t thread) -> Status {
    if (thread == 1) return fail(ErrorKind::kGuestFault, "no more");
    return {};
  });
  ASSERT_FALSE(rate);
  EXPECT_EQ(rate.error().message, "no more");
  EXPECT_FALSE(rate_of(cpus, 3, 0.01, [](std::size_t) -> Status { return {}; })) << "three threads on two CPUs";
}

}  // namespace
}  // namespace warmfork::bench
