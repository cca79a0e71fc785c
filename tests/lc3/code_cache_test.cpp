#include "lc3/jit/code_cache.hpp"

#include "unit_memory.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace warmfork::lc3::jit {
namespace {

class Cache : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kAddress = 0x10'0000;
  void space(std::size_t bytes, const CacheOptions& options = {}) {
    bytes_.assign(bytes, std::byte{0});
    cache.emplace(CodeSpace{bytes_, kAddress}, options);
  }
  std::uint64_t compile(std::uint16_t pc, const std::vector<std::uint16_t>& lost = {}) {
    const auto made = cache->compile({.words = memory.words(), .pc = pc, .lea_sets_cc = false, .lost = lost});
    EXPECT_TRUE(made);
    return made.value_or(0);
  }
  CodeVersion header(std::uint64_t address) { return at<CodeVersion>(bytes_, address - kAddress); }
  bool guarded(std::uint64_t version, std::uint16_t address) {
    return at<std::uint8_t>(bytes_, version - kAddress + kCodeGuarded + address) != 0;
  }

  Memory memory{0x3000, {0x1021, 0x0ffe}};
  std::optional<CodeCache> cache;

 private:
  std::vector<std::byte> bytes_;
};
constexpr std::size_t kOneVersion = kCodeText + 4096;

TEST_F(Cache, VersionsKeepTheRootsOfThoseBefore) {
  space(4 * kOneVersion);
  memory.set(0x4000, {0x1021, 0x0ffe});
  const std::uint64_t first = compile(0x3000), second = compile(0x4000);
  EXPECT_EQ(first, kAddress);
  EXPECT_EQ(second, kAddress + kOneVersion);
  EXPECT_EQ(header(first).range_count, 1U);
  EXPECT_EQ(header(second).range_count, 2U);
  EXPECT_NE(header(first).id, header(second).id);
  EXPECT_EQ(cache->counters().versions, 2U);
}

TEST_F(Cache, AloneItBeginsAnewWhereItIsFull) {
  space(2 * kOneVersion);
  const std::uint64_t first = compile(0x3000);
  EXPECT_NE(compile(0x3000), first);
  memory.set(0x3000, {0x0fff, 0}).set(0x4000, {0x1021, 0x0ffe});
  const std::uint64_t third = compile(0x4000);
  EXPECT_EQ(third, first);
  EXPECT_EQ(cache->counters().restarts, 1U);
  EXPECT_EQ(header(third).id, 3U);
  // Nothing of what lay there is left.
  EXPECT_TRUE(guarded(third, 0x3000));
  EXPECT_FALSE(guarded(third, 0x3001));
}

TEST_F(Cache, NothingIsMadeOfNothingAndWhereNothingFits) {
  space(kOneVersion);
  EXPECT_EQ(compile(0x5000), 0U);  // empty memory
  EXPECT_EQ(cache->counters().refusals, 1U);
  space(kOneVersion - 4096);
  EXPECT_EQ(compile(0x3000), 0U);
  EXPECT_EQ(cache->counters().refusals, 1U);
  EXPECT_EQ(cache->counters().restarts, 0U);
}

TEST_F(Cache, SharedItOverwritesNothingAndUsesOnlyTheMastersWords) {
  space(2 * kOneVersion);
  memory.set(0x4000, {0x1021, 0x0ffe});
  EXPECT_NE(compile(0x3000), 0U);
  cache->share(memory.words());
  memory.set(0x4000, {0x1022});
  const std::uint64_t second = compile(0x4000);
  ASSERT_NE(second, 0U);
  EXPECT_TRUE(guarded(second, 0x3000));
  EXPECT_FALSE(guarded(second, 0x4000));
  EXPECT_TRUE(guarded(second, 0x4001));
  EXPECT_EQ(compile(0x3000), second);        // the same for another fork
  EXPECT_EQ(compile(0x3000, {0x3001}), 0U);  // one that has lost it needs one of its own
  EXPECT_EQ(cache->counters().restarts, 0U);
  EXPECT_EQ(cache->counters().refusals, 1U);
}

TEST_F(Cache, WordsThatChangeAgainAreLeftOut) {
  space(8 * kOneVersion);
  EXPECT_TRUE(guarded(compile(0x3000), 0x3000));
  EXPECT_TRUE(guarded(compile(0x3000, {0x3000}), 0x3000));   // tolerated once
  EXPECT_FALSE(guarded(compile(0x3000, {0x3000}), 0x3000));  // not twice
  EXPECT_TRUE(guarded(compile(0x3000), 0x3001));
}

TEST_F(Cache, ClearForgetsRootsLossesAndTheMaster) {
  space(2 * kOneVersion, {.tolerated_losses = 0});
  memory.set(0x4000, {0x1021, 0x0ffe});
  EXPECT_NE(compile(0x3000, {0x3001}), 0U);
  cache->share(memory.words());
  cache->clear();
  const std::uint64_t version = compile(0x4000);
  EXPECT_EQ(version, kAddress);
  EXPECT_EQ(header(version).id, 2U);
  EXPECT_FALSE(guarded(version, 0x3000));
  EXPECT_TRUE(guarded(version, 0x4000));
  memory.set(0x4001, {0x03fe});
  EXPECT_TRUE(guarded(compile(0x4000), 0x4001));  // no master, and no loss
  EXPECT_NE(compile(0x4000), 0U);
}

TEST_F(Cache, AVersionHoldsNoMoreInstructionsThanAllowed) {
  space(2 * kOneVersion, {.max_instructions = 1});
  const std::uint64_t version = compile(0x3000);
  EXPECT_TRUE(guarded(version, 0x3000));
  EXPECT_FALSE(guarded(version, 0x3001));
}

}  // namespace
}  // namespace warmfork::lc3::jit
