#include "memory/guest_memory.hpp"

#include "base/mapping.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace warmfork {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kTop = ~std::uint64_t{0};

// Pages that live as long as the test's process: GuestMemory owns nothing.
std::span<std::byte> pages(std::size_t count) {
  static std::vector<Mapping> mappings;
  auto mapping = Mapping::anonymous(count * kPage);
  EXPECT_TRUE(mapping);
  mappings.push_back(std::move(*mapping));
  return mappings.back().bytes();
}

std::vector<std::byte> pattern(std::size_t size, unsigned first = 1) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((first + i) & 0xff);
  return bytes;
}

class GuestMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(memory_.add(Gpa{0x10000}, pages(3).subspan(kPage))); }
  [[nodiscard]] Status read(std::uint64_t gpa, std::size_t size) {
    std::vector<std::byte> out(size);
    return memory_.read(Gpa{gpa}, out);
  }
  [[nodiscard]] Status write(std::uint64_t gpa, std::size_t size) {
    const std::vector<std::byte> in(size);
    return memory_.write(Gpa{gpa}, in);
  }
  GuestMemory memory_;
};

TEST_F(GuestMemoryTest, ReadsWhatWasWrittenUpToBothEdges) {
  const auto in = pattern(2 * kPage);
  ASSERT_TRUE(memory_.write(Gpa{0x10000}, in));
  std::vector<std::byte> out(2 * kPage);
  ASSERT_TRUE(memory_.read(Gpa{0x10000}, out));
  EXPECT_EQ(out, in);
  std::array<std::byte, 1> last{};
  ASSERT_TRUE(memory_.read(Gpa{0x11fff}, last));
  EXPECT_EQ(last[0], in.back());
  // The region begins `offset` bytes into its mapping.
  EXPECT_EQ(memory_.region(Gpa{0x10000})[5], in[5]);
  EXPECT_EQ(memory_.region(Gpa{0x10000}).size(), 2 * kPage);
}

TEST_F(GuestMemoryTest, RefusesWhatPassesAnEdge) {
  struct Range {
    std::uint64_t gpa;
    std::size_t size;
  };
  for (const Range& r :
       {Range{0xffff, 1}, Range{0xffff, 2}, Range{0x11fff, 2}, Range{0x12000, 1}, Range{0x10000, 8193}, Range{0, 1},
        Range{0, 0x20000}, Range{kTop, 1}, Range{kTop, 2}, Range{kTop - 7, 8}, Range{kTop - 0xffff, 0x20000}}) {
    SCOPED_TRACE(::testing::Message() << std::hex << r.gpa << " + " << r.size);
    const Status got = read(r.gpa, r.size);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, ErrorKind::kGuestFault);
    EXPECT_THAT(got.error().message, HasSubstr("is not memory"));
    ASSERT_FALSE(write(r.gpa, r.size));
  }
}

TEST_F(GuestMemoryTest, RefusesARangeOverTwoNeighbours) {
  ASSERT_TRUE(memory_.add(Gpa{0x12000}, pages(1)));
  EXPECT_TRUE(read(0x11ff8, 8));
  EXPECT_TRUE(read(0x12000, 8));
  EXPECT_FALSE(read(0x11ff8, 9));
}

TEST_F(GuestMemoryTest, RefusesRegionsThatOverlap) {
  for (const std::uint64_t gpa : {0xf000ULL, 0x10000ULL, 0x11000ULL}) {
    const Status added = memory_.add(Gpa{gpa}, pages(2));
    ASSERT_FALSE(added) << gpa;
    EXPECT_THAT(added.error().message, HasSubstr("overlaps 0x10000 + 0x2000"));
  }
  EXPECT_TRUE(memory_.add(Gpa{0xe000}, pages(2)));
  EXPECT_TRUE(memory_.add(Gpa{0x12000}, pages(2)));
}

TEST_F(GuestMemoryTest, RefusesRegionsThatAreEmptyWrapOrAreTooMany) {
  EXPECT_FALSE(memory_.add(Gpa{0x80000}, {}));
  EXPECT_FALSE(memory_.add(Gpa{kTop - kPage + 2}, pages(1)));
  EXPECT_TRUE(memory_.region(Gpa{0x80000}).empty());
  for (std::size_t i = 1; i < GuestMemory::kMaxRegions; ++i) {
    EXPECT_TRUE(memory_.add(Gpa{0x80000 + i * kPage}, pages(1)));
  }
  EXPECT_FALSE(memory_.add(Gpa{0x100000}, pages(1)));
}

TEST_F(GuestMemoryTest, FindsRegionsByTheirFirstAddressOnly) {
  EXPECT_TRUE(memory_.region(Gpa{0x11000}).empty());
  EXPECT_FALSE(memory_.region(Gpa{0x10000}).empty());
}

TEST(DiscardPages, ReadAsZeroInAnonymousMemoryAndOthersStay) {
  const auto memory = pages(2);
  std::ranges::copy(pattern(2 * kPage), memory.begin());
  ASSERT_TRUE(discard_pages(memory.subspan(kPage)));
  auto expected = pattern(kPage);
  expected.resize(2 * kPage);
  EXPECT_TRUE(std::ranges::equal(memory, expected));
  EXPECT_FALSE(discard_pages(memory.subspan(100, kPage)));
}

TEST(ForgetTranslations, KeepsBytesAndRights) {
  const auto memory = pages(3);
  std::ranges::copy(pattern(3 * kPage), memory.begin());
  ASSERT_TRUE(forget_translations(memory.subspan(kPage, kPage)));
  EXPECT_TRUE(std::ranges::equal(memory, pattern(3 * kPage)));
  memory[kPage] = std::byte{9};
  EXPECT_FALSE(forget_translations(memory.subspan(100, kPage)));
}

TEST(Address, PageArithmetic) {
  EXPECT_EQ(page_floor(0x1fff), 0x1000U);
  EXPECT_EQ(page_floor(kTop), kTop - kPage + 1);
  EXPECT_EQ(page_ceil(0), 0U);
  EXPECT_EQ(page_ceil(1), 0x1000U);
  EXPECT_EQ(page_ceil(0x1000), 0x1000U);
  EXPECT_LT(Gva{1}, Gva{2});
  EXPECT_EQ(Gpa{1} + 2, Gpa{3});
}

}  // namespace
}  // namespace warmfork
