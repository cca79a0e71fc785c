#include "trace/trace.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::trace {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr Kind kOuter{"test", "outer"};
constexpr Kind kInner{"test", "inner", "number"};
constexpr Kind kNamed{"test", "call", nullptr, describe_function};

json written(const Recording& recording) {
  const UniqueFd fd(::memfd_create("trace", MFD_CLOEXEC));
  const Status done = write_json(recording, fd.get(), "a file", "program \"x\"", "verb");
  EXPECT_TRUE(done) << done.error().message;
  std::string text(static_cast<std::size_t>(::lseek(fd.get(), 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(fd.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  json parsed = json::parse(text, nullptr, false);
  EXPECT_TRUE(parsed.is_object()) << text;
  return parsed;
}

TEST(Trace, NothingIsNotedWhileNothingRecords) {
  {
    const Span span(kOuter);
  }
  EXPECT_TRUE(stop().threads.empty());
  ASSERT_TRUE(start());
  const Status twice = start();
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().kind, ErrorKind::kUsage);
  pause();
  {
    const Span span(kOuter);
  }
  resume();
  EXPECT_TRUE(stop().threads.empty());
  {
    const Span span(kOuter);
  }
  EXPECT_TRUE(stop().threads.empty());
}

TEST(Trace, SpansNestAndHaveNames) {
  ASSERT_TRUE(start());
  name_function(0x1234, "lookup\n");
  name_function(0x5678, "one");
  name_function(0x5678, "another");
  std::thread([] {
    name_thread("worker", 7);
    const Span outer(kOuter);
    for (std::uint64_t i = 0; i < 3; ++i) const Span inner(kInner, i);
    end(begin(), kNamed, 0x1234);
    end(begin(), kNamed, 0x5678);
  }).join();
  const Recording recording = stop();
  ASSERT_EQ(recording.threads.size(), 1U);
  EXPECT_EQ(recording.threads[0].name, "worker 7");
  EXPECT_EQ(recording.threads[0].events.front().kind, &kOuter);
  EXPECT_EQ(recording.lost(), 0U);
  const json file = written(recording);
  std::vector<std::string> names;
  double begin = 0, end = 0;
  for (const json& event : file["traceEvents"]) {
    if (event["ph"] != "X") continue;
    names.push_back(event["name"]);
    const double at = event["ts"], took = event["dur"];
    if (names.size() == 1) begin = at, end = at + took;
    EXPECT_GE(at, begin);
    EXPECT_LE(at + took, end + 1e-9);
    if (event["name"] == "inner") EXPECT_EQ(event["args"]["number"], names.size() - 2);
  }
  EXPECT_THAT(names, testing::ElementsAre("outer", "inner", "inner", "inner", "call lookup\n", "call 0x5678"));
  EXPECT_EQ(file["otherData"]["program"], "program \"x\"");
  EXPECT_EQ(file["otherData"]["lost_events"], 0);
}

TEST(Trace, AFullRingKeepsTheNewestAndCountsTheRest) {
  ASSERT_TRUE(start({.events_per_thread = 64, .threads = 1}));
  {
    const Span outer(kOuter);  // noted last, and kept
    for (std::uint64_t i = 0; i < 1000; ++i) const Span inner(kInner, i);
  }
  std::thread([] { const Span none_left(kOuter); }).join();
  const Recording recording = stop();
  ASSERT_EQ(recording.threads.size(), 1U);
  const Recording::Thread& thread = recording.threads[0];
  EXPECT_EQ(thread.recorded, 1001U);
  EXPECT_EQ(thread.lost + thread.events.size(), thread.recorded);
  ASSERT_EQ(thread.events.size(), 63U);
  EXPECT_EQ(thread.events.front().kind, &kOuter);
  EXPECT_EQ(thread.events.back().argument, 999U);
  EXPECT_EQ(thread.events[1].argument, 1000U - 62);
  EXPECT_EQ(recording.without_ring, 1U);
  EXPECT_EQ(written(recording)["otherData"]["lost_events"], thread.lost + 1);
}

TEST(Trace, EndsWhileThreadsRecord) {
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&over, t] {
      while (!over) const Span span(kInner, t);
    });
  }
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(start({.events_per_thread = 64, .threads = 8}));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Recording recording = stop();
    for (const Recording::Thread& thread : recording.threads) {
      EXPECT_EQ(thread.lost + thread.events.size(), thread.recorded);
      for (const Recording::Event& event : thread.events) {
        ASSERT_EQ(event.kind, &kInner);
        ASSERT_EQ(event.argument, thread.events.front().argument);
        ASSERT_LE(event.begin, event.end);
        ASSERT_GE(event.begin, recording.start);
      }
    }
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
}

TEST(Trace, AFullDiskAndWrongSizesAreErrors) {
  EXPECT_EQ(start({.events_per_thread = 63}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(start({.events_per_thread = kMostEvents + 1}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(start({.threads = 0}).error().kind, ErrorKind::kUsage);
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const Status done = write_json(Recording{}, full.get(), "trace.json", "p", "v");
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kHost);
  EXPECT_THAT(done.error().message, HasSubstr("trace.json: No space left"));
}

}  // namespace
}  // namespace warmfork::trace
