// warmfork bench ring: structure of what it reports, never speed.
#include "bench/suites.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <map>
#include <string>
#include <vector>

namespace warmfork::bench {
namespace {

TEST(RingSuite, ReportsEveryFigureBesideItsFloor) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &allowed)) cpus.push_back(cpu);
  }
  if (cpus.size() < 2) GTEST_SKIP() << "needs two processors";
  SuiteOptions options;
  options.effort = 0.001;
  options.cpu = options.other_cpu = cpus[0];
  const auto none = run_ring(options);
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->empty()) << "one CPU";
  options.other_cpu = cpus[1];
  const auto result = run_ring(options);
  (void)::sched_setaffinity(0, sizeof allowed, &allowed);
  ASSERT_TRUE(result) << result.error().message;
  std::map<std::string, Figure> figures;
  for (const Figure& figure : *result) {
    EXPECT_TRUE(figures.emplace(figure.name, figure).second) << "twice: " << figure.name;
    EXPECT_GE(figure.samples, 3U) << figure.name;
    EXPECT_GT(figure.min, 0) << figure.name;
  }
  for (const char* name : {"ring/rtt/host_host", "ring/rtt/host_host/records"}) {
    EXPECT_EQ(figures[name].floor, "floors/cacheline_pingpong") << name;
  }
  for (const std::string size : {"64", "1500", "65536"}) {
    EXPECT_EQ(figures["ring/spsc/" + size].floor, "floors/memcpy_handover/" + size);
    EXPECT_TRUE(figures.contains("floors/memcpy_local/" + size));
  }
  for (const char* name : {"ring/spsc/8", "ring/spsc/8/single", "ring/spsc/64/slots", "ring/broadcast/64"}) {
    EXPECT_TRUE(figures.contains(name)) << name;
  }
  for (const auto& [name, figure] : figures) {
    if (figure.floor) EXPECT_TRUE(figures.contains(*figure.floor)) << name;
  }
}

}  // namespace
}  // namespace warmfork::bench
