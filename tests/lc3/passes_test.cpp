#include "lc3/jit/passes.hpp"

#include "lc3/jit/ir.hpp"
#include "unit_memory.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

namespace warmfork::lc3::jit {
namespace {

std::string after(const Passes& passes, std::initializer_list<std::uint16_t> words) {
  Memory memory(0x3000, words);
  Unit unit = memory.unit({0x3000});
  run_passes(unit, passes);
  EXPECT_EQ(verify(unit), "");
  std::string all;
  for (const Op& op : unit.blocks.at(0x3000).ops) all += (all.empty() ? "" : "; ") + to_string(op);
  return all;
}
constexpr Passes kConstants{.constants = true, .forwarding = false, .dead_flags = false};
constexpr Passes kForwarding{.constants = false, .forwarding = true, .dead_flags = false};
constexpr Passes kDeadFlags{.constants = false, .forwarding = false, .dead_flags = true};

TEST(Constants, AreFoldedThroughArithmetic) {
  // AND R0, R0, #0; ADD R1, R0, #5; NOT R2, R1; ADD R3, R1, R2; AND R4, R1, R2; AND R5, R1, #4
  EXPECT_EQ(after(kConstants, {0x5020, 0x1225, 0x947f, 0x1642, 0x5842, 0x5a64, 0xf025}),
            "R0 = x0000 !; R1 = x0005 !; R2 = xFFFA !; R3 = xFFFF !; R4 = x0000 !; R5 = x0004 !");
}

TEST(Constants, OneKnownOperandBecomesAnImmediate) {
  // AND R0, R0, #0; ADD R0, R0, #7; ADD R1, R2, R0; ADD R3, R0, R2; AND R4, R0, R2
  EXPECT_EQ(after(kConstants, {0x5020, 0x1027, 0x1280, 0x1602, 0x5802, 0xf025}),
            "R0 = x0000 !; R0 = x0007 !; R1 = R2 + 7 !; R3 = R2 + 7 !; R4 = R2 & x0007 !");
}

TEST(Constants, WhatChangesNothingBecomesAMove) {
  // ADD R1, R2, #0; AND R1, R2, R2; AND R1, R2, #-1; AND R1, R2, #15
  EXPECT_EQ(after(kConstants, {0x12a0, 0x5282, 0x52bf, 0x52af, 0xf025}),
            "R1 = R2 !; R1 = R2 !; R1 = R2 !; R1 = R2 & x000F !");
  // LEA R0, x30FF; AND R1, R2, R0: not all bits are ones
  EXPECT_EQ(after(kConstants, {0xe0fe, 0x5280, 0xf025}), "R0 = x30FF; R1 = R2 & x30FF !");
  // Zero added, and zero ANDed.
  EXPECT_EQ(after(kConstants, {0x5020, 0x1280, 0x5280, 0xf025}), "R0 = x0000 !; R1 = R2 !; R1 = x0000 !");
}

TEST(Constants, MakeAddressesAbsoluteButNotInDeviceSpace) {
  // LEA R0, x3010; LDR R1, R0, #1; STR R1, R0, #-1
  EXPECT_EQ(after(kConstants, {0xe00f, 0x6201, 0x723f, 0xf025}), "R0 = x3010; R1 = [x3011] !; [x300F] = R1");
  // AND R0, R0, #0; LDR R1, R0, #-1; STR R1, R0, #-1: xFFFF
  EXPECT_EQ(after(kConstants, {0x5020, 0x623f, 0x723f, 0xf025}), "R0 = x0000 !; R1 = [R0 + -1] !; [R0 + -1] = R1");
}

TEST(Constants, AreForgottenWhenTheRegisterChanges) {
  // AND R0, R0, #0; LD R0; ADD R1, R0, #1; and through R0 itself
  EXPECT_EQ(after(kConstants, {0x5020, 0x2010, 0x1221, 0xf025}), "R0 = x0000 !; R0 = [x3012] !; R1 = R0 + 1 !");
  EXPECT_EQ(after(kConstants, {0x5020, 0x1002, 0x1221, 0xf025}), "R0 = x0000 !; R0 = R2 !; R1 = R0 + 1 !");
}

TEST(Forwarding, ALoadOfWhatWasStoredOrLoadedIsAMove) {
  EXPECT_EQ(after(kForwarding, {0x3010, 0x220f, 0xf025}), "[x3011] = R0; R1 = R0 !");
  EXPECT_EQ(after(kForwarding, {0x2010, 0x220f, 0x240e, 0xf025}), "R0 = [x3011] !; R1 = R0 !; R2 = R0 !");
  // Into the same register: it sets the condition code still.
  EXPECT_EQ(after(kForwarding, {0x2010, 0x1221, 0x200e, 0xf025}), "R0 = [x3011] !; R1 = R0 + 1 !; R0 = R0 !");
}

TEST(Forwarding, StopsWhenTheRegisterChanges) {
  EXPECT_EQ(after(kForwarding, {0x3010, 0x1021, 0x220e, 0xf025}), "[x3011] = R0; R0 = R0 + 1 !; R1 = [x3011] !");
  EXPECT_EQ(after(kForwarding, {0x3010, 0x2020, 0x220e, 0xf025}), "[x3011] = R0; R0 = [x3022] !; R1 = [x3011] !");
  // Forwarding into a register makes it forget what it held.
  EXPECT_EQ(after(kForwarding, {0x3010, 0x3210, 0x220e, 0x240e, 0xf025}),
            "[x3011] = R0; [x3012] = R1; R1 = R0 !; R2 = [x3012] !");
}

TEST(Forwarding, StopsAtStoresThatMayBeAnywhere) {
  EXPECT_EQ(after(kForwarding, {0x3010, 0x7080, 0x220e, 0xf025}), "[x3011] = R0; [R2 + 0] = R0; R1 = [x3011] !");
  EXPECT_EQ(after(kForwarding, {0x3010, 0xb020, 0x220e, 0xf025}), "[x3011] = R0; [[x3022]] = R0; R1 = [x3011] !");
}

TEST(Forwarding, TheLastStoreCounts) {
  EXPECT_EQ(after(kForwarding, {0x3010, 0x320f, 0x240e, 0xf025}), "[x3011] = R0; [x3011] = R1; R2 = R1 !");
  // Another address leaves it alone.
  EXPECT_EQ(after(kForwarding, {0x3010, 0x3210, 0x240e, 0xf025}), "[x3011] = R0; [x3012] = R1; R2 = R0 !");
}

TEST(DeadFlags, OnlyTheLastResultBeforeSomebodyLooksCounts) {
  EXPECT_EQ(after(kDeadFlags, {0x1021, 0x1261, 0x14a1, 0xf025}), "R0 = R0 + 1; R1 = R1 + 1; R2 = R2 + 1 !");
  // Without one of its own, LEA passes on that of before.
  EXPECT_EQ(after(kDeadFlags, {0x1021, 0xe201, 0xf025}), "R0 = R0 + 1 !; R1 = x3003");
}

TEST(DeadFlags, StayWhereTheMachineMayLeave) {
  // Before a store, a load through a register and one through memory; not before a load of a known address.
  EXPECT_EQ(after(kDeadFlags, {0x1021, 0x3210, 0x14a1, 0xf025}), "R0 = R0 + 1 !; [x3012] = R1; R2 = R2 + 1 !");
  EXPECT_EQ(after(kDeadFlags, {0x1021, 0x6280, 0x14a1, 0xf025}), "R0 = R0 + 1 !; R1 = [R2 + 0]; R2 = R2 + 1 !");
  EXPECT_EQ(after(kDeadFlags, {0x1021, 0xa210, 0x14a1, 0xf025}), "R0 = R0 + 1 !; R1 = [[x3012]]; R2 = R2 + 1 !");
  EXPECT_EQ(after(kDeadFlags, {0x1021, 0x2210, 0x14a1, 0xf025}), "R0 = R0 + 1; R1 = [x3012]; R2 = R2 + 1 !");
}

}  // namespace
}  // namespace warmfork::lc3::jit
