// The small pieces of a machine: flags a guest may bring back, reports, buffered descriptors.
#include "machine/fault_report.hpp"
#include "machine/guest_io.hpp"
#include "machine/vcpu_setup.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>

namespace warmfork {
namespace {

using ::testing::HasSubstr;

TEST(UserFlags, OnlyHarmlessBitsComeFromTheGuest) {
  // CF, PF, AF, ZF, SF, DF, OF, AC, ID (AMD APM vol. 2, 3.1.6; Intel SDM vol. 1, 3.4.3)
  const std::set<unsigned> allowed{0, 2, 4, 6, 7, 10, 11, 18, 21};
  EXPECT_EQ(sanitize_user_flags(0), 0x3002U);  // bit 1 is always set; IOPL 3 always the host's
  for (unsigned bit = 0; bit < 64; ++bit) {
    const std::uint64_t flag = std::uint64_t{1} << bit;
    EXPECT_EQ(sanitize_user_flags(flag), 0x3002 | (allowed.contains(bit) ? flag : 0)) << bit;
  }
  EXPECT_EQ(sanitize_user_flags(~std::uint64_t{0}) & 0x34100, 0U);  // TF, NT, RF, VM
}

TEST(FaultReport, ShowsRegistersSymbolAndExit) {
  FaultReport report;
  report.rip = 0x401234;
  report.symbol = "main+0x12";
  report.regs.rax = 0x1111;
  report.regs.r15 = 0xffff'ffff'ffff'ffff;
  report.regs.rflags = 0x3202;
  report.last_exit = "port write 0x2e (1 byte)";
  const std::string text = report.to_text();
  EXPECT_THAT(text, HasSubstr("rip 0000000000401234 (main+0x12)  rflags 00003202"));
  EXPECT_THAT(text, HasSubstr("rax 0000000000001111"));
  EXPECT_THAT(text, HasSubstr("r15 ffffffffffffffff"));
  EXPECT_TRUE(text.ends_with("\n  last exit: port write 0x2e (1 byte)"));
  report.symbol.clear();
  EXPECT_THAT(report.to_text(), HasSubstr("rip 0000000000401234  rflags"));
}

TEST(BufferIo, KeepsOutputAndErrorsApartUpToTheLimit) {
  BufferIo io("input", 4);
  const std::array<std::byte, 3> abc{std::byte{'a'}, std::byte{'b'}, std::byte{'c'}};
  EXPECT_EQ(io.write(STDOUT_FILENO, abc), 3);
  EXPECT_EQ(io.write(STDERR_FILENO, abc), 3);
  EXPECT_EQ(io.write(STDOUT_FILENO, abc), -ENOSPC);
  EXPECT_EQ(io.write(STDOUT_FILENO, std::span(abc).first(1)), 1);
  EXPECT_EQ(io.output(), "abca");
  EXPECT_EQ(io.error_output(), "abc");
  EXPECT_FALSE(io.is_terminal(STDOUT_FILENO));
}

TEST(BufferIo, InputIsConsumedOnce) {
  BufferIo io("input");
  std::array<std::byte, 3> bytes{};
  EXPECT_EQ(io.read(bytes), 3);
  EXPECT_EQ(bytes[0], std::byte{'i'});
  EXPECT_EQ(io.read(bytes), 2);
  EXPECT_EQ(bytes[1], std::byte{'t'});
  EXPECT_EQ(io.read(bytes), 0);
}

}  // namespace
}  // namespace warmfork
