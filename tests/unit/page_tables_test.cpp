#include "x86/page_tables.hpp"

#include "random.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <vector>

namespace warmfork::x86 {
namespace {

constexpr std::uint64_t kGpa = 0x8000'0000;
constexpr std::uint64_t kMiB = 1U << 20;
constexpr Access kUserData{.user = true, .write = true, .execute = false};
constexpr Access kUserCode{.user = true, .write = false, .execute = true};
constexpr Access kUserRead{.user = true, .write = false, .execute = false};

// Entry bits as the manuals number them (AMD APM vol. 2, 5.4).
constexpr std::uint64_t kP = 1;
constexpr std::uint64_t kW = 2;
constexpr std::uint64_t kU = 4;
constexpr std::uint64_t kA = 0x20;
constexpr std::uint64_t kD = 0x40;
constexpr std::uint64_t kPs = 0x80;
constexpr std::uint64_t kNx = std::uint64_t{1} << 63;

struct Tables {
  explicit Tables(std::size_t count = 64) : storage(count * kPageSize), tables(storage, kGpa) {}

  // The entry at `level` (3: PML4, 0: PT) that a walk for `va` meets, read from the bytes themselves.
  [[nodiscard]] std::uint64_t entry(std::uint64_t va, unsigned level) const {
    std::uint64_t table = 0;
    for (unsigned at = 3;; --at) {
      const std::uint64_t index = va >> (12 + 9 * at) & 511;
      std::uint64_t value = 0;
      std::memcpy(&value, &storage.at(table + index * 8), sizeof value);
      if (at == level) return value;
      EXPECT_NE(value & kP, 0U);
      EXPECT_EQ(value & kPs, 0U);
      table = (value & 0x000f'ffff'ffff'f000) - kGpa;
    }
  }

  std::vector<std::byte> storage;
  PageTables tables;
};

void expect_refused(const Status& status, ErrorKind kind, const std::string& words) {
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, kind);
  EXPECT_NE(status.error().message.find(words), std::string::npos) << status.error().message;
}

TEST(PageTables, UpperLevelsAllowEverythingAndAreAccessed) {
  Tables t;
  ASSERT_TRUE(t.tables.map(0x7123'4567'8000, 0x5000, kPageSize, kUserRead, false));
  EXPECT_EQ(t.tables.tables_used(), 4U);
  EXPECT_EQ(t.tables.root(), kGpa);
  for (const unsigned level : {3U, 2U, 1U}) {
    EXPECT_EQ(t.entry(0x7123'4567'8000, level), (kGpa + (4 - level) * kPageSize) | kP | kW | kU | kA) << level;
  }
}

TEST(PageTables, LeavesCarryThePermissionsAndPresetAccessedAndDirty) {
  for (unsigned bits = 0; bits < 8; ++bits) {
    const Access access{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
    if (access.write && access.execute) continue;
    const std::uint64_t expected =
        kP | kA | kD | (access.user ? kU : 0) | (access.write ? kW : 0) | (access.execute ? 0 : kNx);
    Tables t;
    ASSERT_TRUE(t.tables.map(0x40'0000, 0x60'0000, 2 * kMiB + kPageSize, access, true));
    EXPECT_EQ(t.entry(0x40'0000, 1), 0x60'0000 | expected | kPs) << bits;
    EXPECT_EQ(t.entry(0x60'0000, 0), 0x80'0000 | expected) << bits;
    EXPECT_EQ(t.tables.translate(0x40'0000)->access, access);
    EXPECT_EQ(t.tables.translate(0x60'0000)->access, access);
  }
}

TEST(PageTables, UsesLargePagesOnlyWhereAllowedAlignedAndWholly) {
  Tables t;
  ASSERT_TRUE(t.tables.map(0x3f'f000, 0x7f'f000, kPageSize + 2 * kMiB + kPageSize, kUserData, true));
  EXPECT_EQ(t.tables.translate(0x3f'ffff)->leaf_size, kPageSize);
  EXPECT_EQ(t.tables.translate(0x40'0000)->leaf_size, kLargePageSize);
  EXPECT_EQ(t.tables.translate(0x5f'ffff)->leaf_size, kLargePageSize);
  EXPECT_EQ(t.tables.translate(0x60'0000)->leaf_size, kPageSize);
  EXPECT_EQ(t.tables.translate(0x5f'ffff)->physical, 0x9f'ffffU);
  EXPECT_EQ(t.tables.translate(0x60'0123)->physical, 0xa0'0123U);

  Tables misaligned;
  ASSERT_TRUE(misaligned.tables.map(0x40'0000, 0x1000, 2 * kMiB, kUserData, true));
  EXPECT_EQ(misaligned.tables.translate(0x40'0000)->leaf_size, kPageSize);
  Tables forbidden;
  ASSERT_TRUE(forbidden.tables.map(0x40'0000, 0x40'0000, 2 * kMiB, kUserData, false));
  EXPECT_EQ(forbidden.tables.translate(0x40'0000)->leaf_size, kPageSize);
}

TEST(PageTables, TranslatesNothingThatIsNotMapped) {
  Tables t;
  ASSERT_TRUE(t.tables.map(0x40'0000, 0x1000, kPageSize, kUserData, false));
  for (const std::uint64_t va : {std::uint64_t{0}, std::uint64_t{0x3f'ffff}, std::uint64_t{0x40'1000}, kMaxVirtual - 1,
                                 kMaxVirtual, kMaxVirtual + 0x40'0000, ~std::uint64_t{0}}) {
    EXPECT_FALSE(t.tables.translate(va)) << va;
  }
}

TEST(PageTables, MapsTheLastPageOfUserSpace) {
  Tables t;
  ASSERT_TRUE(t.tables.map(kMaxVirtual - kPageSize, 0x1000, kPageSize, kUserData, false));
  EXPECT_EQ(t.tables.translate(kMaxVirtual - 1)->physical, 0x1fffU);
}

TEST(PageTables, RefusesWriteAndExecute) {
  Tables t;
  expect_refused(t.tables.map(0x1000, 0x1000, kPageSize, {true, true, true}, false), ErrorKind::kUsage,
                 "writable and executable");
  ASSERT_TRUE(t.tables.map(0x1000, 0x1000, kPageSize, kUserCode, false));
  expect_refused(t.tables.protect(0x1000, kPageSize, Access{true, true, true}), ErrorKind::kUsage,
                 "writable and executable");
  EXPECT_EQ(t.tables.translate(0x1000)->access, kUserCode);
}

TEST(PageTables, RefusesWhatIsNotWholePages) {
  Tables t;
  const auto map = [&](std::uint64_t va, std::uint64_t pa, std::uint64_t size) {
    return t.tables.map(va, pa, size, kUserData, true);
  };
  expect_refused(map(0x1001, 0x1000, kPageSize), ErrorKind::kUsage, "0x1001 + 0x1000 is not made of whole pages");
  expect_refused(map(0x1000, 0x1800, kPageSize), ErrorKind::kUsage, "guest-physical 0x1800");
  expect_refused(map(0x1000, 0x1000, 0x800), ErrorKind::kUsage, "not made of whole pages");
  expect_refused(map(0x1000, 0x1000, 0), ErrorKind::kUsage, "not made of whole pages");
  expect_refused(t.tables.protect(0x1004, kPageSize, kUserRead), ErrorKind::kUsage, "not made of whole pages");
  expect_refused(t.tables.protect(0x1000, 1, kUserRead), ErrorKind::kUsage, "not made of whole pages");
  EXPECT_EQ(t.tables.tables_used(), 1U);
}

TEST(PageTables, RefusesAddressesOutsideUserSpaceAndOutside52Bits) {
  Tables t;
  constexpr std::uint64_t kTop = ~std::uint64_t{0} - kPageSize + 1;
  constexpr std::uint64_t kMaxPhysical = std::uint64_t{1} << 52;
  for (const std::uint64_t va : {kMaxVirtual, kMaxVirtual - kPageSize, kTop}) {
    expect_refused(t.tables.map(va, 0, 2 * kPageSize, kUserData, true), ErrorKind::kUsage, "passes the end of user");
  }
  expect_refused(t.tables.map(kPageSize, 0, kTop, kUserData, true), ErrorKind::kUsage, "passes the end of user space");
  for (const std::uint64_t pa : {kMaxPhysical, kMaxPhysical - kPageSize, kTop}) {
    expect_refused(t.tables.map(0x1000, pa, 2 * kPageSize, kUserData, true), ErrorKind::kUsage, "cannot be mapped");
  }
  EXPECT_EQ(t.tables.tables_used(), 1U);
  EXPECT_TRUE(t.tables.map(0x1000, kMaxPhysical - kPageSize, kPageSize, kUserData, true));
}

TEST(PageTables, RefusesToMapAPageTwice) {
  for (const bool first_large : {false, true}) {
    for (const bool second_large : {false, true}) {
      for (const bool taken_away : {false, true}) {
        SCOPED_TRACE(::testing::Message() << first_large << second_large << taken_away);
        Tables t;
        ASSERT_TRUE(t.tables.map(0x20'0000, 0x40'0000, 2 * kMiB, kUserCode, first_large));
        if (taken_away) ASSERT_TRUE(t.tables.protect(0x20'0000, 2 * kMiB, std::nullopt));
        const std::uint64_t size = second_large ? 2 * kMiB : kPageSize;
        EXPECT_FALSE(t.tables.map(0x20'0000, 0x80'0000, size, kUserData, true));
        ASSERT_TRUE(t.tables.protect(0x20'0000, 2 * kMiB, kUserRead));
        EXPECT_EQ(t.tables.translate(0x20'0000)->physical, 0x40'0000U);
        EXPECT_EQ(t.tables.translate(0x20'1000)->physical, 0x40'1000U);
      }
    }
  }
}

TEST(PageTables, SaysWhenTheStorageIsUsedUp) {
  Tables t(4);
  ASSERT_TRUE(t.tables.map(0x1000, 0x1000, kPageSize, kUserData, false));
  expect_refused(t.tables.map(0x20'0000, 0x1000, kPageSize, kUserData, false), ErrorKind::kLimit, "all 4 tables");
  EXPECT_EQ(t.tables.translate(0x1000)->physical, 0x1000U);
  EXPECT_FALSE(t.tables.translate(0x20'0000));
}

TEST(PageTables, SaysWhenASplitHasNoStorage) {
  Tables t(3);
  ASSERT_TRUE(t.tables.map(0, 0, 2 * kMiB, kUserData, true));
  expect_refused(t.tables.protect(0x1000, kPageSize, kUserRead), ErrorKind::kLimit, "all 3 tables");
  EXPECT_EQ(t.tables.translate(0x1000)->access, kUserData);
}

TEST(PageTables, ProtectChangesOnlyItsPages) {
  Tables t;
  ASSERT_TRUE(t.tables.map(0x1000, 0x1000, 3 * kPageSize, kUserData, false));
  ASSERT_TRUE(t.tables.protect(0x2000, kPageSize, kUserRead));
  EXPECT_EQ(t.tables.translate(0x1fff)->access, kUserData);
  EXPECT_EQ(t.tables.translate(0x2000)->access, kUserRead);
  EXPECT_EQ(t.tables.translate(0x3000)->access, kUserData);
  EXPECT_EQ(t.entry(0x2000, 0), 0x2000 | kP | kU | kA | kD | kNx);
}

TEST(PageTables, ProtectSplitsALargePageAndKeepsTheRest) {
  Tables t;
  ASSERT_TRUE(t.tables.map(0x20'0000, 0x40'0000, 2 * kMiB, kUserData, true));
  ASSERT_TRUE(t.tables.protect(0x30'0000, kPageSize, kUserRead));
  for (std::uint64_t offset = 0; offset < 2 * kMiB; offset += kPageSize) {
    const auto where = t.tables.translate(0x20'0000 + offset);
    ASSERT_TRUE(where);
    EXPECT_EQ(where->physical, 0x40'0000 + offset);
    EXPECT_EQ(where->leaf_size, kPageSize);
    EXPECT_EQ(where->access, offset == kMiB ? kUserRead : kUserData);
    // Bit 7 of a 4 KiB leaf is PAT: the bit that made the page large must not survive the split.
    EXPECT_EQ(t.entry(0x20'0000 + offset, 0) & (kPs | kA | kD), kA | kD);
  }
}

TEST(PageTables, ProtectOfAWholeLargePageKeepsItLarge) {
  Tables t;
  ASSERT_TRUE(t.tables.map(0x20'0000, 0x40'0000, 2 * kMiB, kUserData, true));
  ASSERT_TRUE(t.tables.protect(0x20'0000, 2 * kMiB, kUserRead));
  EXPECT_EQ(t.tables.translate(0x20'0000)->leaf_size, kLargePageSize);
  EXPECT_EQ(t.entry(0x20'0000, 1), 0x40'0000 | kP | kU | kA | kD | kPs | kNx);
}

TEST(PageTables, AccessTakenAwayComesBackWithTheSameAddress) {
  for (const bool large : {false, true}) {
    SCOPED_TRACE(large);
    Tables t;
    ASSERT_TRUE(t.tables.map(0x20'0000, 0x40'0000, 2 * kMiB, kUserData, large));
    ASSERT_TRUE(t.tables.protect(0x20'0000, 2 * kMiB, std::nullopt));
    EXPECT_FALSE(t.tables.translate(0x20'0000));
    EXPECT_FALSE(t.tables.translate(0x3f'ffff));
    ASSERT_TRUE(t.tables.protect(0x30'0000, kPageSize, kUserRead));
    EXPECT_FALSE(t.tables.translate(0x2f'ffff));
    EXPECT_FALSE(t.tables.translate(0x30'1000));
    EXPECT_EQ(t.tables.translate(0x30'0000)->physical, 0x50'0000U);
    ASSERT_TRUE(t.tables.protect(0x20'0000, 2 * kMiB, kUserData));
    EXPECT_EQ(t.tables.translate(0x20'0000)->physical, 0x40'0000U);
    EXPECT_EQ(t.tables.translate(0x3f'ffff)->physical, 0x5f'ffffU);
    EXPECT_EQ(t.entry(0x30'0000, 0), 0x50'0000 | kP | kW | kU | kA | kD | kNx);
  }
}

TEST(PageTables, ProtectRefusesPagesThatWereNeverMapped) {
  Tables t;
  ASSERT_TRUE(t.tables.map(0x20'0000, 0x40'0000, kPageSize, kUserData, false));
  for (const std::uint64_t va : {std::uint64_t{0x20'1000}, std::uint64_t{0x40'0000}, std::uint64_t{1} << 30,
                                 std::uint64_t{1} << 39, kMaxVirtual - kPageSize}) {
    expect_refused(t.tables.protect(va, kPageSize, kUserRead), ErrorKind::kUsage, "is not mapped");
    expect_refused(t.tables.protect(va, kPageSize, std::nullopt), ErrorKind::kUsage, "is not mapped");
  }
}

// Random ranges, mapped, protected and taken away, against a map from page to what it should be. The storage is as
// large as table_bound() says, so a bound that is too small shows as well.
TEST(PageTables, AgreeWithAMapOfPages) {
  for (int round = 0; round < 60; ++round) {
    test::Random random;
    struct Page {
      std::uint64_t physical;
      std::optional<Access> access;
    };
    struct Range {
      std::uint64_t va, pa, size;
      bool large;
    };
    std::map<std::uint64_t, Page> model;
    const auto any_access = [&] {
      const bool write = random.one_in(2);
      return Access{random.one_in(2), write, !write && random.one_in(2)};
    };

    // Disjoint ranges upwards; gaps and sizes often lie at 2 MiB, 1 GiB and 512 GiB borders, where tables change.
    std::vector<Range> ranges;
    std::uint64_t next = 0;
    std::uint64_t bytes = 0;
    for (std::uint64_t i = 0, count = 1 + random.below(12); i < count; ++i) {
      const std::uint64_t border =
          std::array{kPageSize, kLargePageSize, std::uint64_t{1} << 30, std::uint64_t{1} << 39}.at(random.below(4));
      next = (next + border - 1) / border * border + random.below(4) * kPageSize;
      if (random.one_in(3) && next >= 2 * kPageSize && ranges.empty()) next -= kPageSize;
      const std::uint64_t size =
          random.one_in(2) ? (1 + random.below(1100)) * kPageSize : (1 + random.below(3)) * kLargePageSize;
      if (next + size > kMaxVirtual) break;
      const std::uint64_t pa = random.one_in(2) ? random.below(1 << 20) * kPageSize
                                                : random.below(1 << 12) * kLargePageSize + next % kLargePageSize;
      ranges.push_back({next, pa, size, random.one_in(2)});
      bytes += size;
      next += size;
    }
    Tables t(table_bound(ranges.size(), bytes));
    for (const Range& range : ranges) {
      const Access access = any_access();
      const Status mapped = t.tables.map(range.va, range.pa, range.size, access, range.large);
      ASSERT_TRUE(mapped) << mapped.error().message;
      for (std::uint64_t offset = 0; offset < range.size; offset += kPageSize) {
        model[range.va + offset] = {range.pa + offset, access};
      }
    }
    for (int change = 0; change < 30; ++change) {
      const Range& range = ranges[random.below(ranges.size())];
      const std::uint64_t pages = range.size / kPageSize;
      std::uint64_t first = random.below(pages);
      std::uint64_t count = 1 + random.below(pages - first);
      if (random.one_in(4)) first = 0, count = pages;
      const auto access = random.one_in(3) ? std::nullopt : std::optional(any_access());
      const Status done = t.tables.protect(range.va + first * kPageSize, count * kPageSize, access);
      ASSERT_TRUE(done) << done.error().message;
      for (std::uint64_t i = first; i < first + count; ++i) model[range.va + i * kPageSize].access = access;
    }
    for (const auto& [va, page] : model) {
      const std::uint64_t inside = random.below(kPageSize);
      const auto where = t.tables.translate(va + inside);
      ASSERT_EQ(where.has_value(), page.access.has_value()) << va;
      if (!where) continue;
      ASSERT_EQ(where->physical, page.physical + inside) << va;
      ASSERT_EQ(where->access, *page.access) << va;
    }
    for (const Range& range : ranges) {
      for (const std::uint64_t va : {range.va - kPageSize, range.va + range.size}) {
        if (!model.contains(va)) ASSERT_FALSE(t.tables.translate(va)) << va;
      }
    }
  }
}

TEST(PageTables, TableBoundHoldsForTheWorstPlacement) {
  // Every range starts one page below a 512 GiB border: two tables of its own at each level.
  for (const std::size_t count : {1U, 7U, 100U}) {
    Tables t(table_bound(count, count * 2 * kPageSize));
    for (std::size_t i = 1; i <= count; ++i) {
      ASSERT_TRUE(t.tables.map((std::uint64_t{2 * i} << 39) - kPageSize, 0, 2 * kPageSize, kUserData, true));
    }
    EXPECT_LE(t.tables.tables_used(), table_bound(count, count * 2 * kPageSize));
  }
  // One long range: a table for every 2 MiB of it, and partial ones at its ends.
  constexpr std::uint64_t kLong = 128 * kMiB + 2 * kPageSize;
  Tables t(table_bound(1, kLong));
  EXPECT_TRUE(t.tables.map((std::uint64_t{1} << 39) - kPageSize, 0, kLong, kUserData, false));
}

}  // namespace
}  // namespace warmfork::x86
