#include "memory/page_set.hpp"

#include "random.hpp"

#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

namespace warmfork {
namespace {

std::vector<std::pair<std::size_t, std::size_t>> runs(const PageSet& set) {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  set.for_each_run([&](std::size_t first, std::size_t count) { found.emplace_back(first, count); });
  return found;
}

TEST(PageSet, CountsEachMemberOnce) {
  PageSet set(100);
  EXPECT_TRUE(set.empty());
  set.add(3);
  set.add(3);
  set.add(99);
  set.add(100);  // past the bound
  EXPECT_EQ(set.count(), 2U);
  EXPECT_TRUE(set.contains(99));
  EXPECT_FALSE(set.contains(100));
  EXPECT_FALSE(set.covers(100));
  set.remove(3);
  set.remove(3);
  EXPECT_EQ(set.count(), 1U);
}

TEST(PageSet, RunsCrossWordsAndAreMaximal) {
  PageSet set(9000);
  for (std::size_t page = 60; page < 200; ++page) set.add(page);
  for (std::size_t page = 4094; page < 4099; ++page) set.add(page);
  set.add(8999);
  set.add(0);
  EXPECT_EQ(runs(set), (std::vector<std::pair<std::size_t, std::size_t>>{{0, 1}, {60, 140}, {4094, 5}, {8999, 1}}));
}

TEST(PageSet, BehavesAsASet) {
  test::Random random;
  for (const std::size_t pages : {1U, 63U, 64U, 65U, 4096U, 20'000U}) {
    PageSet set(pages);
    std::set<std::size_t> model;
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 200; ++i) {
        const std::size_t page = random.below(pages);
        if (random.one_in(4)) {
          set.remove(page);
          model.erase(page);
        } else {
          set.add(page);
          model.insert(page);
        }
      }
      std::set<std::size_t> members;
      std::size_t last_end = 0;
      for (const auto& [first, count] : runs(set)) {
        EXPECT_TRUE(members.empty() || first > last_end) << "runs do not touch";
        last_end = first + count;
        for (std::size_t i = 0; i < count; ++i) members.insert(first + i);
      }
      ASSERT_EQ(members, model);
      ASSERT_EQ(set.count(), model.size());
      if (round % 5 == 4) {
        set.clear();
        model.clear();
        ASSERT_TRUE(runs(set).empty());
      }
    }
  }
}

}  // namespace
}  // namespace warmfork
