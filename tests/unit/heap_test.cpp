#include "machine/linux/heap.hpp"

#include "random.hpp"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <utility>

namespace warmfork::linux_abi {
namespace {

constexpr std::uint64_t kTop = ~std::uint64_t{0};
constexpr std::uint64_t kBegin = 0x500000;
constexpr std::uint64_t kPages = 64;
constexpr std::uint64_t kEnd = kBegin + kPages * kPage;
constexpr AddressRange kRange{Gva{kBegin}, kPages* kPage};

TEST(Heap, BreakMovesBetweenTheStartAndTheMappings) {
  Heap heap(kRange);
  EXPECT_EQ(heap.brk(0), kBegin);  // what a program asks first
  EXPECT_EQ(heap.brk(kBegin + 5), kBegin + 5);
  EXPECT_EQ(heap.brk(kBegin - 1), kBegin + 5);
  EXPECT_EQ(heap.brk(kEnd), kEnd);
  EXPECT_EQ(heap.brk(kEnd + 1), kEnd);
  EXPECT_EQ(heap.brk(kTop), kEnd);
  EXPECT_EQ(heap.brk(kBegin), kBegin);
  ASSERT_EQ(heap.map(kPage, 0, false), kEnd - kPage);
  EXPECT_EQ(heap.brk(kEnd - kPage + 1), kBegin);
  EXPECT_EQ(heap.brk(kEnd - kPage), kEnd - kPage);
}

TEST(Heap, BreakGivesBackWholePagesOnly) {
  Heap heap(kRange);
  heap.brk(kBegin + 3 * kPage);
  EXPECT_TRUE(heap.take_freed().empty());
  heap.brk(kBegin + kPage + 1);
  const auto freed = heap.take_freed();
  ASSERT_EQ(freed.size(), 1U);
  EXPECT_EQ(freed[0].begin.value, kBegin + 2 * kPage);
  EXPECT_EQ(freed[0].size, kPage);
  EXPECT_TRUE(heap.take_freed().empty());
}

TEST(Heap, MappingsComeFromTheTopDown) {
  Heap heap(kRange);
  EXPECT_EQ(heap.map(2 * kPage, 0, false), kEnd - 2 * kPage);
  EXPECT_EQ(heap.map(kPage, 0, false), kEnd - 3 * kPage);
  ASSERT_TRUE(heap.unmap(kEnd - 2 * kPage, kPage));
  EXPECT_EQ(heap.map(kPage, 0, false), kEnd - 2 * kPage);  // the highest gap that is large enough
}

TEST(Heap, HintsAreFollowedWhereFree) {
  Heap heap(kRange);
  EXPECT_EQ(heap.map(kPage, kBegin + kPage, false), kBegin + kPage);
  EXPECT_EQ(heap.map(2 * kPage, kBegin, false), kEnd - 2 * kPage);  // would overlap
  EXPECT_EQ(heap.map(kPage, kBegin + 8, false), kEnd - 3 * kPage);  // misaligned
  EXPECT_EQ(heap.map(kPage, kEnd, false), kEnd - 4 * kPage);        // outside
  EXPECT_EQ(heap.map(kPage, kTop - kPage + 1, false), kEnd - 5 * kPage);
}

TEST(Heap, FixedReplacesMappingsButNeverTheBreak) {
  Heap heap(kRange);
  heap.brk(kBegin + kPage);
  ASSERT_TRUE(heap.map(4 * kPage, kBegin + 4 * kPage, false));
  EXPECT_EQ(heap.map(2 * kPage, kBegin + 3 * kPage, true), kBegin + 3 * kPage);
  const auto freed = heap.take_freed();
  ASSERT_EQ(freed.size(), 1U);
  EXPECT_EQ(freed[0].begin.value, kBegin + 4 * kPage);
  EXPECT_EQ(freed[0].size, kPage);
  EXPECT_FALSE(heap.map(kPage, kBegin, true));
  EXPECT_FALSE(heap.map(kPage, kBegin + 0x800, true));
  EXPECT_FALSE(heap.map(kPage, kEnd, true));
  EXPECT_FALSE(heap.map(2 * kPage, kEnd - kPage, true));
}

TEST(Heap, RefusesTheImpossible) {
  Heap heap(kRange);
  for (const std::uint64_t size : {std::uint64_t{0}, (kPages + 1) * kPage, kTop - kPage + 1}) {
    for (const std::uint64_t hint : {std::uint64_t{0}, kBegin, kEnd, kTop - kPage + 1}) {
      EXPECT_FALSE(heap.map(size, hint, false)) << size;
      EXPECT_FALSE(heap.map(size, hint, true)) << size;
    }
    EXPECT_FALSE(heap.unmap(kBegin, size));
  }
  EXPECT_FALSE(heap.unmap(kBegin - kPage, kPage));
  EXPECT_FALSE(heap.unmap(kEnd, kPage));
  EXPECT_FALSE(heap.unmap(kTop - kPage + 1, kPage));
  EXPECT_FALSE(heap.unmap(kPage, kTop - kPage + 1));
  EXPECT_FALSE(heap.covers(kTop, 2));
  EXPECT_FALSE(heap.covers(kBegin, kTop));
  EXPECT_FALSE(heap.overlaps(kTop, kTop));
  EXPECT_FALSE(heap.overlaps(0, kTop));
  EXPECT_TRUE(heap.take_freed().empty());
}

TEST(Heap, WithoutRoomMapsNothing) {
  Heap heap({Gva{kBegin}, 0});
  EXPECT_FALSE(heap.map(kPage, 0, false));
  EXPECT_EQ(heap.brk(kBegin + 1), kBegin);
}

TEST(Heap, CoversBreakAndMappingsAsOne) {
  Heap heap(kRange);
  heap.brk(kBegin + kPage + 1);
  ASSERT_TRUE(heap.map(kPage, kBegin + 2 * kPage, true));
  EXPECT_TRUE(heap.covers(kBegin, 3 * kPage));
  EXPECT_FALSE(heap.covers(kBegin, 3 * kPage + 1));
  EXPECT_FALSE(heap.covers(kBegin - 1, 2));
}

TEST(Heap, OverlapsSeesEveryPageOfTheRange) {
  Heap heap(kRange);
  ASSERT_TRUE(heap.map(kPage, kBegin + 8 * kPage, true));
  EXPECT_TRUE(heap.overlaps(kBegin + 7 * kPage, 2 * kPage));
  EXPECT_TRUE(heap.overlaps(0, kTop));
  EXPECT_FALSE(heap.overlaps(kBegin + 7 * kPage, kPage));
  EXPECT_FALSE(heap.overlaps(kBegin + 9 * kPage, kTop));
  heap.brk(kBegin + 1);
  EXPECT_TRUE(heap.overlaps(kBegin - kPage, kPage + 1));
  EXPECT_FALSE(heap.overlaps(kBegin - kPage, kPage));
}

// Random calls against the plainest model there is: which pages are mapped.
class HeapModel {
 public:
  std::uint64_t brk(std::uint64_t wanted) {
    const std::uint64_t lowest = mapped_.empty() ? kEnd : page_address(*mapped_.begin());
    if (wanted < kBegin || wanted > lowest) return break_;
    for (std::uint64_t page = pages_of(wanted); page < pages_of(break_); ++page) freed_.insert(page);
    return break_ = wanted;
  }

  std::optional<std::uint64_t> map(std::uint64_t size, std::uint64_t hint, bool fixed) {
    const bool possible = size != 0 && size <= kEnd - kBegin;
    std::optional<std::uint64_t> at;
    if (possible && hint % kPage == 0 && hint >= kBegin && hint <= kEnd - size &&
        hint >= page_address(pages_of(break_))) {
      if (fixed || !any(hint, size)) at = hint;
    }
    if (possible && !at && !fixed) {  // the highest place that is free
      for (std::uint64_t start = kEnd - size; start >= page_address(pages_of(break_)); start -= kPage) {
        if (any(start, size)) continue;
        at = start;
        break;
      }
    }
    if (!at) return at;
    if (fixed) remove(*at, size);
    for (std::uint64_t a = *at; a < *at + size; a += kPage) mapped_.insert(page_of(a));
    return at;
  }

  bool unmap(std::uint64_t address, std::uint64_t size) {
    if (size == 0 || address < page_address(pages_of(break_)) || size > kEnd - kBegin || address > kEnd - size)
      return false;
    remove(address, size);
    return true;
  }

  [[nodiscard]] bool has(std::uint64_t address) const {
    return address >= kBegin && address < kEnd &&
           (page_of(address) < pages_of(break_) || mapped_.contains(page_of(address)));
  }
  [[nodiscard]] bool any(std::uint64_t address, std::uint64_t size) const {
    for (std::uint64_t a = address; a < address + size; a = page_floor(a) + kPage) {
      if (has(a)) return true;
    }
    return false;
  }
  [[nodiscard]] bool all(std::uint64_t address, std::uint64_t size) const {
    for (std::uint64_t a = address; a < address + size; a = page_floor(a) + kPage) {
      if (!has(a)) return false;
    }
    return true;
  }
  std::set<std::uint64_t> take_freed() { return std::exchange(freed_, {}); }
  static std::uint64_t page_of(std::uint64_t address) { return (address - kBegin) / kPage; }

 private:
  static std::uint64_t pages_of(std::uint64_t end) { return (end - kBegin + kPage - 1) / kPage; }
  static std::uint64_t page_address(std::uint64_t page) { return kBegin + page * kPage; }
  void remove(std::uint64_t address, std::uint64_t size) {
    for (std::uint64_t a = address; a < address + size; a += kPage) {
      if (mapped_.erase(page_of(a)) != 0) freed_.insert(page_of(a));
    }
  }

  std::uint64_t break_ = kBegin;
  std::set<std::uint64_t> mapped_;
  std::set<std::uint64_t> freed_;
};

TEST(Heap, AgreesWithASetOfPages) {
  test::Random random;
  for (int round = 0; round < 200; ++round) {
    Heap heap(kRange);
    HeapModel model;
    const auto any_page = [&] { return kBegin + (random.below(kPages + 4) - 2) * kPage; };
    const auto any_size = [&] { return random.one_in(4) ? random.below(kPages + 2) * kPage : random.below(6) * kPage; };
    for (int step = 0; step < 200; ++step) {
      switch (random.below(4)) {
        case 0: {
          const std::uint64_t wanted = any_page() / (random.one_in(2) ? 1 : 2) + random.below(kPage) * random.below(2);
          ASSERT_EQ(heap.brk(wanted), model.brk(wanted)) << wanted;
          break;
        }
        case 1: {
          const std::uint64_t size = any_size();
          const std::uint64_t hint = random.one_in(3) ? 0 : any_page() + (random.one_in(10) ? 8 : 0);
          const bool fixed = random.one_in(3);
          ASSERT_EQ(heap.map(size, hint, fixed), model.map(size, hint, fixed))
              << size << " at " << hint << " " << fixed;
          break;
        }
        case 2: {
          const std::uint64_t address = any_page();
          const std::uint64_t size = any_size();
          ASSERT_EQ(heap.unmap(address, size), model.unmap(address, size)) << address << " + " << size;
          break;
        }
        default: {
          const std::uint64_t address = any_page() + random.below(kPage) * random.below(2);
          const std::uint64_t size = 1 + random.below(5 * kPage);
          ASSERT_EQ(heap.covers(address, size), model.all(address, size)) << address << " + " << size;
          ASSERT_EQ(heap.overlaps(address, size), model.any(address, size)) << address << " + " << size;
        }
      }
      std::set<std::uint64_t> freed;
      for (const AddressRange& range : heap.take_freed()) {
        ASSERT_NE(range.size, 0U);
        ASSERT_EQ(range.size % kPage, 0U);
        for (std::uint64_t a = range.begin.value; a < range.end().value; a += kPage) {
          ASSERT_TRUE(freed.insert(HeapModel::page_of(a)).second) << "given back twice";
        }
      }
      ASSERT_EQ(freed, model.take_freed());
    }
  }
}

TEST(HeapRebuild, TakesEveryBookAHeapCanHaveAndNoOther) {
  const AddressRange range{Gva{0x100000}, 16 * kPage};
  using Book = std::map<std::uint64_t, std::uint64_t>;
  const auto at = [](std::uint64_t page) { return 0x100000 + page * kPage; };
  Heap heap(range);
  (void)heap.brk(at(1) + 5);
  ASSERT_TRUE(heap.map(2 * kPage, at(4), false) && heap.map(kPage, at(15), false));
  const auto same = Heap::rebuild(range, heap.break_end(), heap.mappings());
  ASSERT_TRUE(same);
  EXPECT_EQ(same->used(), heap.used());
  EXPECT_TRUE(same->covers(at(4), 2 * kPage) && !same->covers(at(3), kPage));
  EXPECT_TRUE(Heap::rebuild(range, at(0), {}) && Heap::rebuild(range, at(16), {}));
  for (const auto& [break_end, mappings] : {std::pair{at(0) - 1, Book{}},
                                            {at(16) + 1, Book{}},
                                            {at(0), Book{{at(15), at(17)}}},
                                            {at(0), Book{{at(2), at(2)}}},
                                            {at(0), Book{{at(3), at(2)}}},
                                            {at(0), Book{{at(2) + 1, at(3)}}},
                                            {at(0), Book{{at(2), at(3) - 1}}},
                                            {at(2) + 1, Book{{at(2), at(3)}}},
                                            {at(0), Book{{at(2), at(4)}, {at(3), at(5)}}},
                                            {at(0), Book{{at(2), at(3)}, {at(3), at(4)}}},
                                            {at(0), Book{{0, at(1)}}},
                                            {at(0), Book{{at(2), ~std::uint64_t{0}}}}}) {
    EXPECT_FALSE(Heap::rebuild(range, break_end, mappings)) << break_end << ", " << mappings.size();
  }
}

}  // namespace
}  // namespace warmfork::linux_abi
