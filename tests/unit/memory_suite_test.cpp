// The loops of the memory suite and what it knows of NUMA nodes: that they do what they say, not how fast.
#include "base/mapping.hpp"
#include "bench/memory_loops.hpp"
#include "bench/numa.hpp"

#include <gmock/gmock.h>

#include <cstring>

namespace warmfork::bench {
namespace {

using memory_loops::Loop;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(MemoryLoops, TouchWhatTheySay) {
  constexpr std::uint64_t kBytes = 64 << 10;
  const auto mapping = Mapping::anonymous(2 * kBytes);
  ASSERT_TRUE(mapping);
  auto* const block = reinterpret_cast<unsigned char*>(mapping->data());
  const auto run = [&](Loop loop, std::uint64_t count) {
    return memory_loops::run(block, {.loop = loop, .bytes = kBytes, .count = count});
  };
  EXPECT_EQ(run(Loop::kSequentialWrite, 6).sum, 5U);
  EXPECT_EQ(run(Loop::kSequentialRead, 3).sum, 3 * 5 * kBytes / 8) << "every word, three times";
  EXPECT_EQ(memory_loops::word_at(block, kBytes), 0U) << "and none behind them";
  EXPECT_GT(run(Loop::kSequentialRead, 3).ticks, 0U);

  // 0 -> 4096 -> 64 -> 0
  std::memset(block, 0, kBytes);
  const std::uint64_t far = 4096, near = 64;
  std::memcpy(block, &far, sizeof far);
  std::memcpy(block + far, &near, sizeof near);
  EXPECT_EQ(run(Loop::kChain, 1).sum, far);
  EXPECT_EQ(run(Loop::kChain, 2).sum, near);
  EXPECT_EQ(run(Loop::kChain, 3).sum, 0U);

  std::memset(block, 0, 2 * kBytes);
  run(Loop::kRandomWrite, 100'000);
  std::uint64_t written = 0;
  for (std::uint64_t at = 0; at < kBytes; at += 8) written += memory_loops::word_at(block, at) != 0 ? 1U : 0U;
  EXPECT_GT(written, kBytes / 8 * 99 / 100) << "all over the block";
  EXPECT_EQ(memory_loops::word_at(block, kBytes), 0U);

  std::memset(block, 0, kBytes);
  EXPECT_EQ(run(Loop::kTouch, 4).sum, 4U);
  EXPECT_EQ(memory_loops::word_at(block, 3 * 4096), 3U);
  EXPECT_EQ(memory_loops::word_at(block, 4 * 4096), 0U);
}

TEST(Numa, ListsOfTheKernelAreRead) {
  EXPECT_THAT(parse_number_list("0"), ElementsAre(0));
  EXPECT_THAT(parse_number_list("0-2,5"), ElementsAre(0, 1, 2, 5));
  for (const char* none : {"", ",", "0,", "2-1", "-1", "0-", "a", "0 1", "0-99999999", "99999999999"}) {
    EXPECT_THAT(parse_number_list(none), IsEmpty()) << none;
  }
  EXPECT_THAT(memory_nodes(), ::testing::Not(IsEmpty()));
}

TEST(Numa, MemoryIsPlacedOnANodeThatIsThere) {
  const auto memory = Mapping::anonymous(64 << 10);
  ASSERT_TRUE(memory);
  const Status placed = place_on(memory->bytes(), {memory_nodes().front()});
  if (!placed && placed.error().kind == ErrorKind::kUnsupported) GTEST_SKIP() << placed.error().message;
  EXPECT_TRUE(placed) << placed.error().message;
  EXPECT_EQ(place_on(memory->bytes(), {}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(place_on(memory->bytes(), {1024}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(place_on(memory->bytes(), {1023}).error().kind, ErrorKind::kHost) << "no machine has that many";
}

}  // namespace
}  // namespace warmfork::bench
