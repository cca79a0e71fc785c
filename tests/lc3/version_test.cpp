#include "lc3/jit/version.hpp"

#include "lc3/jit/xbyak_compiler.hpp"
#include "unit_memory.hpp"

#include <gmock/gmock.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace warmfork::lc3::jit {
namespace {

using ::testing::ElementsAre;

TEST(Version, LiesAsTheContractSays) {
  // Two blocks side by side, and one apart.
  Memory memory(0x3000, {0x1021, 0x03fe, 0x0efd + 0x100, 0xf025});
  memory.set(0x3000, {0x1021, 0x03fe, 0x4810, 0xf025}).set(0x3013, {0x1021, 0xc1c0});
  const Unit unit = memory.unit({0x3000});
  ASSERT_THAT(firsts(unit), ElementsAre(0x3000, 0x3002, 0x3013));
  const MachineCode code = *compile_with_xbyak(unit);
  std::vector<std::byte> out(version_bytes(unit, code));
  ASSERT_TRUE(write_version(unit, code, memory.source(), 77, out));
  const auto header = at<CodeVersion>(out, 0);
  EXPECT_EQ(header.magic, kCodeMagic);
  EXPECT_EQ(header.id, 77U);
  EXPECT_EQ(header.successor, 0U);
  EXPECT_EQ(header.bytes, out.size());
  EXPECT_EQ(header.lea_sets_cc, 0U);
  ASSERT_EQ(header.range_count, 2U);
  const auto first = at<CodeRange>(out, header.ranges);
  const auto second = at<CodeRange>(out, header.ranges + sizeof(CodeRange));
  EXPECT_EQ(first.first, 0x3000);
  EXPECT_EQ(first.count, 3);
  EXPECT_EQ(second.first, 0x3013);
  EXPECT_EQ(second.count, 2);
  EXPECT_EQ(at<std::uint16_t>(out, first.words + 4), 0x4810);
  EXPECT_EQ(at<std::uint16_t>(out, second.words + 2), 0xc1c0);
  EXPECT_LE(second.words + 4, out.size());
  for (std::uint32_t address = 0; address < kMemoryWords; ++address) {
    const bool made = (address >= 0x3000 && address < 0x3003) || address == 0x3013 || address == 0x3014;
    ASSERT_EQ(at<std::uint8_t>(out, kCodeGuarded + address), made || address >= kDeviceBase ? 1 : 0) << address;
    const auto entry = at<std::uint32_t>(out, kCodeEntries + 4 * address);
    const bool begins = address == 0x3000 || address == 0x3002 || address == 0x3013;
    ASSERT_EQ(entry != 0, begins) << address;
    if (begins) {
      ASSERT_TRUE(entry >= kCodeText && entry < header.ranges);
    }
  }
}

TEST(Version, IsRefusedWhereThereIsNoRoom) {
  Memory memory(0x3000, {0x1021, 0x0ffe});
  const Unit unit = memory.unit({0x3000});
  const MachineCode code = *compile_with_xbyak(unit);
  std::vector<std::byte> out(version_bytes(unit, code) - 1);
  const auto written = write_version(unit, code, memory.source(), 1, out);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kLimit);
}

}  // namespace
}  // namespace warmfork::lc3::jit
