// The measurement of calls without exits: that it runs and what it reports, never how fast.
#include "bench/exitless.hpp"
#include "machine_test.hpp"

#include <sched.h>

#include <vector>

namespace warmfork {
namespace {

class ExitlessBench : public test::MachineTest {};

TEST_F(ExitlessBench, ReportsTheCallAndItsFloor) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &allowed)) cpus.push_back(cpu);
  }
  if (cpus.size() < 2) GTEST_SKIP() << "needs two processors";
  bench::SuiteOptions options;
  options.kvm = &system();
  options.effort = 0.01;
  options.cpu = cpus[0];
  options.other_cpu = cpus[1];
  std::vector<bench::Figure> figures;
  const Status done = bench::measure_exitless(options, figures);
  (void)::sched_setaffinity(0, sizeof allowed, &allowed);
  ASSERT_TRUE(done) << done.error().message;
  ASSERT_EQ(figures.size(), 2U);
  EXPECT_EQ(figures[0].name, "lifecycle/request/exitless");
  EXPECT_EQ(figures[0].floor, "floors/cacheline_pingpong");
  EXPECT_EQ(figures[1].name, "floors/cacheline_pingpong");
  for (const bench::Figure& figure : figures) {
    EXPECT_GE(figure.samples, 15U) << figure.name;
    EXPECT_GT(figure.p50, 0) << figure.name;
  }
  RecordProperty("p50", std::to_string(figures[0].p50));
  options.other_cpu = options.cpu;
  figures.clear();
  EXPECT_TRUE(bench::measure_exitless(options, figures));
  EXPECT_TRUE(figures.empty());
}

}  // namespace
}  // namespace warmfork
