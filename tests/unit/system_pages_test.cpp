// The bytes of the system pages, read back as the processor reads them, by the fields of the manuals.
#include "x86/system_pages.hpp"

#include "x86/segments.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <set>
#include <string>
#include <vector>

namespace warmfork::x86 {
namespace {

constexpr std::uint64_t kBase = 0x1234'5678'9000;  // every byte of an address has its own place in a descriptor
constexpr std::uint64_t kStackTop = 0x0000'7abc'def0'1230;

class SystemPages : public ::testing::Test {
 protected:
  SystemPages() { build_system_pages(pages_, kBase, kStackTop, user_stubs_); }

  template <class T>
  [[nodiscard]] T at(std::size_t offset) const {
    T value;
    std::memcpy(&value, &pages_.at(offset + sizeof value - 1) - (sizeof value - 1), sizeof value);
    return value;
  }
  [[nodiscard]] std::uint64_t gdt(std::size_t selector) const {
    return at<std::uint64_t>(WARMFORK_GDT_OFFSET + (selector & ~7U));
  }
  template <class T>
  [[nodiscard]] T tss(std::size_t offset) const {
    return at<T>(WARMFORK_GDT_OFFSET + kTssOffset + offset);
  }

  // AMD APM vol. 2, 12.2.4: the processor reads two bytes of the bitmap; past the TSS limit means denied.
  [[nodiscard]] bool cpl3_may_use(unsigned port) const {
    const std::size_t byte = tss<std::uint16_t>(102) + port / 8;
    if (byte + 1 > kTssLimit) return false;
    return (tss<std::uint16_t>(byte) >> (port % 8) & 1) == 0;
  }

  std::vector<std::byte> user_stubs_{std::byte{0xaa}, std::byte{0xbb}, std::byte{0xcc}};
  std::vector<std::byte> pages_ = std::vector<std::byte>(WARMFORK_SYSTEM_SIZE);
};

// The descriptor a segment register was loaded from (AMD APM vol. 2, 4.7 and 4.8).
std::uint64_t descriptor_of(const kvm_segment& segment) {
  const std::uint64_t limit = segment.g != 0 ? segment.limit >> 12 : segment.limit;
  return (limit & 0xffff) | (segment.base & 0xffffff) << 16 | std::uint64_t{segment.type} << 40 |
         std::uint64_t{segment.s} << 44 | std::uint64_t{segment.dpl} << 45 | std::uint64_t{segment.present} << 47 |
         (limit >> 16 & 0xf) << 48 | std::uint64_t{segment.avl} << 52 | std::uint64_t{segment.l} << 53 |
         std::uint64_t{segment.db} << 54 | std::uint64_t{segment.g} << 55 | (segment.base >> 24 & 0xff) << 56;
}

TEST_F(SystemPages, GdtHoldsFlatSegmentsWithAccessedBitsPreset) {
  EXPECT_EQ(gdt(kKernelCode), 0x00af'9b00'0000'ffff);
  EXPECT_EQ(gdt(kKernelData), 0x00cf'9300'0000'ffff);
  EXPECT_EQ(gdt(kUserData), 0x00cf'f300'0000'ffff);
  EXPECT_EQ(gdt(kUserCode), 0x00af'fb00'0000'ffff);
}

TEST_F(SystemPages, GdtHoldsNothingElse) {
  for (const std::size_t selector : {0x00U, 0x08U, 0x20U, 0x38U}) EXPECT_EQ(gdt(selector), 0U) << selector;
  EXPECT_EQ(kGdtLimit, kTaskState + 16 - 1);
  for (std::size_t offset = kGdtLimit + 1U; offset < kTssOffset; ++offset) EXPECT_EQ(pages_[offset], std::byte{0});
}

TEST_F(SystemPages, TssDescriptorIsABusy64BitTssOfSixteenBytes) {
  constexpr std::uint64_t kTss = kBase + WARMFORK_GDT_OFFSET + kTssOffset;
  const std::uint64_t low = gdt(kTaskState);
  const std::uint64_t high = gdt(kTaskState + 8U);
  EXPECT_EQ((low & 0xffff) | (low >> 48 & 0xf) << 16, kTssLimit);
  EXPECT_EQ((low >> 16 & 0xffffff) | (low >> 56) << 24 | (high & 0xffffffff) << 32, kTss);
  EXPECT_EQ(low >> 40 & 0xff, 0x8bU);  // present, DPL 0, system, busy 64-bit TSS
  EXPECT_EQ(low >> 52 & 0xf, 0U);      // byte granularity
  EXPECT_EQ(high >> 32, 0U);           // reserved, must be zero
}

TEST_F(SystemPages, SegmentRegistersAgreeWithTheirDescriptors) {
  EXPECT_EQ(descriptor_of(code_segment(0)), gdt(code_segment(0).selector));
  EXPECT_EQ(descriptor_of(code_segment(3)), gdt(code_segment(3).selector));
  EXPECT_EQ(descriptor_of(data_segment(0)), gdt(data_segment(0).selector));
  EXPECT_EQ(descriptor_of(data_segment(3)), gdt(data_segment(3).selector));
  const kvm_segment task = task_segment(kBase + WARMFORK_GDT_OFFSET + kTssOffset, kTssLimit);
  EXPECT_EQ(descriptor_of(task), gdt(task.selector));
  EXPECT_EQ(task.base >> 32, gdt(task.selector + 8U));
}

TEST(Segments, SelectorsCarryTheirPrivilegeLevel) {
  for (const unsigned level : {0U, 3U}) {
    EXPECT_EQ(code_segment(level).selector & 3U, level);
    EXPECT_EQ(code_segment(level).dpl, level);
    EXPECT_EQ(data_segment(level).selector & 3U, level);
    EXPECT_EQ(data_segment(level).dpl, level);
  }
  EXPECT_EQ(kKernelData, kKernelCode + 8);  // SYSCALL loads SS with STAR[47:32] + 8
}

TEST(Segments, DataSegmentTakesABase) {
  EXPECT_EQ(data_segment(3, 0x1234567890).base, 0x1234567890U);
  EXPECT_EQ(data_segment(3).base, 0U);
}

TEST(Segments, NoSegmentIsUnusable) {
  EXPECT_EQ(no_segment().unusable, 1);
  EXPECT_EQ(no_segment().present, 0);
  EXPECT_EQ(code_segment(3).unusable, 0);
}

TEST_F(SystemPages, TssSendsEveryStackToTheExceptionStack) {
  EXPECT_EQ(tss<std::uint64_t>(4), kStackTop);   // RSP0
  EXPECT_EQ(tss<std::uint64_t>(36), kStackTop);  // IST1
  EXPECT_EQ(tss<std::uint64_t>(12), 0U);         // RSP1
  EXPECT_EQ(tss<std::uint64_t>(20), 0U);         // RSP2
  for (std::size_t ist = 2; ist <= 7; ++ist) EXPECT_EQ(tss<std::uint64_t>(28 + ist * 8), 0U) << "IST" << ist;
  EXPECT_EQ(tss<std::uint16_t>(102), 104);  // I/O map base: right behind the fixed part
}

TEST_F(SystemPages, IoBitmapOpensExactlyTheGuestPorts) {
  const std::set<unsigned> open{WARMFORK_PORT_SYSCALL, WARMFORK_PORT_RETURN, WARMFORK_PORT_READY, WARMFORK_PORT_PARK,
                                WARMFORK_PORT_DOORBELL};
  for (unsigned port = 0; port <= 0xffff; ++port) {
    ASSERT_EQ(cpl3_may_use(port), open.contains(port)) << "port " << port;
  }
}

TEST_F(SystemPages, IoBitmapEndsInsideTheLimitWithAByteOfOnes) {
  EXPECT_EQ(kTssLimit, kTssFixedSize + 256 / 8);
  EXPECT_EQ(tss<std::uint8_t>(kTssLimit), 0xff);
  EXPECT_LE(kTssOffset + kTssLimit, std::size_t{WARMFORK_PAGE_SIZE});
}

TEST_F(SystemPages, IdtGatesLeadToTheStubsOnIst1AndCannotBeRaisedBySoftware) {
  for (unsigned vector = 0; vector < WARMFORK_EXCEPTION_COUNT; ++vector) {
    SCOPED_TRACE(vector);
    const auto low = at<std::uint64_t>(WARMFORK_IDT_OFFSET + vector * 16U);
    const auto high = at<std::uint64_t>(WARMFORK_IDT_OFFSET + vector * 16U + 8);
    EXPECT_EQ((low & 0xffff) | (low >> 48) << 16 | (high & 0xffffffff) << 32,
              kBase + WARMFORK_EXCEPTION_STUBS_OFFSET + std::uint64_t{vector} * WARMFORK_EXCEPTION_STUB_SIZE);
    EXPECT_EQ(low >> 16 & 0xffff, kKernelCode);
    EXPECT_EQ(low >> 32 & 0xff, 1U);   // IST1; the other bits are reserved
    EXPECT_EQ(low >> 40 & 0xf, 0xeU);  // 64-bit interrupt gate
    EXPECT_EQ(low >> 44 & 1, 0U);      // system descriptor
    EXPECT_EQ(low >> 45 & 3, 0U);      // DPL 0
    EXPECT_EQ(low >> 47 & 1, 1U);      // present
    EXPECT_EQ(high >> 32, 0U);         // reserved
  }
  EXPECT_EQ(kIdtLimit, WARMFORK_EXCEPTION_COUNT * 16 - 1);
}

TEST_F(SystemPages, IdtHasNoGateBeyondTheExceptions) {
  for (std::size_t offset = kIdtLimit + 1U; offset < WARMFORK_PAGE_SIZE; ++offset) {
    ASSERT_EQ(pages_[WARMFORK_IDT_OFFSET + offset], std::byte{0}) << offset;
  }
}

TEST_F(SystemPages, ExceptionStubsWriteTheirPortAndHaltOtherwise) {
  for (std::size_t offset = 0; offset < WARMFORK_PAGE_SIZE; ++offset) {
    const std::size_t vector = offset / WARMFORK_EXCEPTION_STUB_SIZE;
    const std::size_t byte = offset % WARMFORK_EXCEPTION_STUB_SIZE;
    std::uint64_t expected = 0xf4;                                        // hlt
    if (vector < WARMFORK_EXCEPTION_COUNT && byte == 0) expected = 0xe6;  // out imm8, al
    if (vector < WARMFORK_EXCEPTION_COUNT && byte == 1) expected = WARMFORK_PORT_EXCEPTION + vector;
    ASSERT_EQ(at<std::uint8_t>(WARMFORK_EXCEPTION_STUBS_OFFSET + offset), expected) << offset;
  }
}

TEST_F(SystemPages, UserStubsAreTheBytesGivenThenHalts) {
  EXPECT_EQ(at<std::uint8_t>(WARMFORK_USER_STUBS_OFFSET), 0xaa);
  EXPECT_EQ(at<std::uint8_t>(WARMFORK_USER_STUBS_OFFSET + 2), 0xcc);
  for (std::size_t offset = 3; offset < WARMFORK_PAGE_SIZE; ++offset) {
    ASSERT_EQ(pages_[WARMFORK_USER_STUBS_OFFSET + offset], std::byte{0xf4}) << offset;
  }
}

TEST_F(SystemPages, UserStubsMayFillTheirPage) {
  std::vector<std::byte> pages(WARMFORK_SYSTEM_SIZE);
  build_system_pages(pages, kBase, kStackTop, std::vector<std::byte>(WARMFORK_PAGE_SIZE, std::byte{0x90}));
  EXPECT_EQ(pages.back(), std::byte{0x90});
}

TEST(Exceptions, ErrorCodesArePushedByTheVectorsOfTheManuals) {
  const std::set<unsigned> with_code{8, 10, 11, 12, 13, 14, 17, 21, 29, 30};
  for (unsigned vector = 0; vector < 256; ++vector) EXPECT_EQ(pushes_error_code(vector), with_code.contains(vector));
}

TEST(Exceptions, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (unsigned vector = 0; vector < 32; ++vector) names.insert(exception_name(vector));
  EXPECT_EQ(names.size(), 32U);
  EXPECT_STREQ(exception_name(0), "divide error");
  EXPECT_STREQ(exception_name(6), "invalid opcode");
  EXPECT_STREQ(exception_name(13), "general protection");
  EXPECT_STREQ(exception_name(14), "page fault");
  EXPECT_STREQ(exception_name(19), "SIMD floating point");
  EXPECT_STREQ(exception_name(31), "reserved exception 31");
  EXPECT_STREQ(exception_name(32), "unknown exception");
  EXPECT_STREQ(exception_name(~0U), "unknown exception");
}

}  // namespace
}  // namespace warmfork::x86
