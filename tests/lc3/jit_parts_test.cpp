// The compiler's parts, one at a time: frontend, passes, the checks of the intermediate form, versions, the cache.
#include "lc3/jit/code_cache.hpp"
#include "lc3/jit/code_names.hpp"
#include "lc3/jit/frontend.hpp"
#include "lc3/jit/host_runner.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/optimiser.hpp"
#include "lc3/jit/passes.hpp"
#include "lc3/jit/version.hpp"
#include "lc3/jit/xbyak_compiler.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace warmfork::lc3::jit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Memory to translate from.
class Memory {
 public:
  Memory() : words_(kMemoryWords) {}
  Memory(std::uint16_t origin, std::initializer_list<std::uint16_t> words) : Memory() { set(origin, words); }

  Memory& set(std::uint16_t origin, std::initializer_list<std::uint16_t> words) {
    std::uint32_t at = origin;
    for (const std::uint16_t word : words) words_[at++] = word;
    return *this;
  }
  [[nodiscard]] std::span<std::uint16_t, kMemoryWords> words() {
    return std::span<std::uint16_t, kMemoryWords>(words_);
  }
  [[nodiscard]] Source source() { return {words(), left_out, lea_sets_cc}; }
  Unit unit(const std::vector<std::uint16_t>& roots, std::uint32_t most = 16384) {
    Unit made = translate(source(), roots, most);
    EXPECT_EQ(verify(made), "");
    return made;
  }

  WordSet left_out;
  bool lea_sets_cc = false;

 private:
  std::vector<std::uint16_t> words_;
};

std::vector<std::uint16_t> firsts(const Unit& unit) {
  std::vector<std::uint16_t> addresses;
  for (const auto& [first, block] : unit.blocks) addresses.push_back(first);
  return addresses;
}

std::string text(const Unit& unit) {
  std::string all;
  for (const auto& [first, block] : unit.blocks) all += to_string(block);
  return all;
}

// --- Frontend
// -----------------------------------------------------------------------------------------------------------
TEST(Frontend, BothSidesOfABranchBeginBlocks) {
  Memory memory(0x3000, {0x1021, 0x0401, 0x1261, 0x14a1, 0xf025});  // ADD R0; BRz x3003; ADD R1; ADD R2; HALT
  EXPECT_EQ(text(memory.unit({0x3000})),
            "x3000, 2 instructions\n  x3000  R0 = R0 + 1 !\n  x3001  if z go to x3003 else x3002\n"
            "x3002, 1 instructions\n  x3002  R1 = R1 + 1 !\n  x3003  go to x3003\n"
            "x3003, 1 instructions\n  x3003  R2 = R2 + 1 !\n  x3004  interpret x3004\n");
}

TEST(Frontend, ALoopSplitsTheBlockItGoesBackInto) {
  Memory memory(0x3000, {0x1021, 0x1261, 0x03fe});  // BRp x3001
  EXPECT_THAT(firsts(memory.unit({0x3000})), ElementsAre(0x3000, 0x3001));
}

TEST(Frontend, SubroutinesAndWhatFollowsTheirCallsAreReached) {
  Memory memory(0x3000, {0x4802, 0x1021, 0xf025, 0x1261, 0xc1c0});  // JSR x3003; ADD; HALT; ADD; RET
  EXPECT_EQ(text(memory.unit({0x3000})),
            "x3000, 1 instructions\n  x3000  R7 = x3001, go to x3003\n"
            "x3001, 1 instructions\n  x3001  R0 = R0 + 1 !\n  x3002  interpret x3002\n"
            "x3003, 2 instructions\n  x3003  R1 = R1 + 1 !\n  x3004  go to R7\n");
  EXPECT_EQ(text(Memory(0x3000, {0x41c0, 0x1021, 0xc080}).unit({0x3000})),
            "x3000, 1 instructions\n  x3000  R7 = x3001, go to R7 of before\n"
            "x3001, 2 instructions\n  x3001  R0 = R0 + 1 !\n  x3002  go to R2\n");
}

TEST(Frontend, ABranchThatIsNeverTakenIsAnInstructionWithoutOperation) {
  const Unit unit = Memory(0x3000, {0x1021, 0x0005, 0x1021, 0xf025}).unit({0x3000});
  ASSERT_THAT(firsts(unit), ElementsAre(0x3000));
  EXPECT_EQ(unit.blocks.at(0x3000).count, 3);
  ASSERT_EQ(unit.blocks.at(0x3000).ops.size(), 2U);
  EXPECT_EQ(unit.blocks.at(0x3000).ops[1].index, 2);
}

TEST(Frontend, ABranchAlwaysTakenDoesNotReachWhatFollows) {
  EXPECT_THAT(firsts(Memory(0x3000, {0x0e01, 0x1021, 0x1021, 0xf025}).unit({0x3000})), ElementsAre(0x3000, 0x3002));
}

TEST(Frontend, NothingIsReachedBehindHaltRtiAndReservedWords) {
  for (const int last : {0xf025, 0x8000, 0xd123}) {
    EXPECT_THAT(firsts(Memory(0x3000, {0x1021, static_cast<std::uint16_t>(last), 0x1021}).unit({0x3000})),
                ElementsAre(0x3000));
  }
  // Other traps come back.
  EXPECT_THAT(firsts(Memory(0x3000, {0x1021, 0xf021, 0x1021, 0xf025}).unit({0x3000})), ElementsAre(0x3000, 0x3002));
}

TEST(Frontend, EmptyMemoryIsNotCompiled) {
  EXPECT_THAT(firsts(Memory(0x3000, {0x1021}).unit({0x3000, 0x5000})), ElementsAre(0x3000));
  // Some zeros between instructions are.
  const Unit unit = Memory(0x3000, {0x1021, 0, 0, 0, 0, 0, 0, 0, 0x1021, 0xf025}).unit({0x3000});
  EXPECT_EQ(unit.blocks.at(0x3000).count, 9);
}

TEST(Frontend, BlocksEndWhereTheyAreFull) {
  Memory memory;
  for (std::uint16_t i = 0; i < 250; ++i) memory.set(static_cast<std::uint16_t>(0x3000 + i), {0x1021});
  memory.set(0x3000 + 250, {0x0f05});  // BRnzp
  const Unit unit = memory.unit({0x3000});
  ASSERT_THAT(firsts(unit), ElementsAre(0x3000, 0x3064, 0x30c8));
  EXPECT_EQ(unit.blocks.at(0x3000).count, kMaxBlock);
  EXPECT_EQ(unit.blocks.at(0x3000).end, (End{.kind = EndKind::kFall, .next = 0x3064, .pc = 0x3064}));
  EXPECT_EQ(unit.blocks.at(0x30c8).count, 51);
}

TEST(Frontend, TheLimitCutsOffWhatIsFurthestFromTheRoots) {
  Memory memory(0x3000, {0x1021, 0x0802, 0x1021, 0x1021, 0x1021, 0x1021, 0xf025});  // BRn x3004
  const Unit unit = memory.unit({0x3000}, 3);
  EXPECT_EQ(text(unit),
            "x3000, 2 instructions\n  x3000  R0 = R0 + 1 !\n  x3001  if n go to x3004 else x3002\n"
            "x3004, 1 instructions\n  x3004  R0 = R0 + 1 !\n  x3005  interpret x3005\n");
  EXPECT_TRUE(memory.unit({0x3000}, 0).blocks.empty());
}

TEST(Frontend, CodeEndsAtDeviceSpaceAndGoesNowhereBeyond) {
  Memory memory(0xfdfe, {0x1021, 0x1021});
  EXPECT_EQ(text(memory.unit({0xfdfe})),
            "xFDFE, 2 instructions\n  xFDFE  R0 = R0 + 1 !\n  xFDFF  R0 = R0 + 1 !\n  xFE00  interpret xFE00\n");
  // Branches over either end of memory are translated, their targets in device space are not.
  memory.set(0xfdff, {0x0e05}).set(0, {0x0ff0});
  EXPECT_THAT(firsts(memory.unit({0xfdfe, 0x0000, 0xfe00, 0xffff})), ElementsAre(0x0000, 0xfdfe));
  EXPECT_EQ(memory.unit({0}).blocks.at(0).end.target, 0xfff1);
  // From the end of memory around to its beginning.
  memory.set(0xfdff, {0x4a10}).set(0x0010, {0x1021, 0xc000});
  EXPECT_EQ(memory.unit({0xfdff}).blocks.at(0xfdff).end.kind, EndKind::kCall);
  EXPECT_EQ(memory.unit({0xfdff}).blocks.at(0xfdff).end.target, 0x0010);
  EXPECT_TRUE(memory.unit({0xfdff}).blocks.contains(0x0010));
}

TEST(Frontend, AbsoluteAddressesInDeviceSpaceAreTheInterpreters) {
  for (const int word : {0x2000, 0x3000, 0xa000, 0xb000}) {
    Memory memory(0xfdfe, {0x1021, static_cast<std::uint16_t>(word)});  // of xFE00
    EXPECT_EQ(memory.unit({0xfdfe}).blocks.at(0xfdfe).end.kind, EndKind::kInterpret);
    memory.set(0xfdff, {static_cast<std::uint16_t>(word | 0x1fe)});  // of xFDFE
    EXPECT_EQ(memory.unit({0xfdfe}).blocks.at(0xfdfe).count, 2);
  }
}

TEST(Frontend, LeftOutWordsAreInterpretedAndCodeGoesOnBehindThem) {
  Memory memory(0x3000, {0x1021, 0xf025, 0x1021, 0x0ffc});
  memory.left_out.set(0x3001);
  EXPECT_EQ(text(memory.unit({0x3000})),
            "x3000, 1 instructions\n  x3000  R0 = R0 + 1 !\n  x3001  interpret x3001\n"
            "x3002, 2 instructions\n  x3002  R0 = R0 + 1 !\n  x3003  go to x3000\n");
}

TEST(Frontend, LeaSetsTheConditionCodeInItsEditionOnly) {
  Memory memory(0x3000, {0xe005, 0xf025});
  EXPECT_EQ(to_string(memory.unit({0x3000}).blocks.at(0x3000).ops[0]), "R0 = x3006");
  memory.lea_sets_cc = true;
  EXPECT_EQ(to_string(memory.unit({0x3000}).blocks.at(0x3000).ops[0]), "R0 = x3006 !");
  EXPECT_TRUE(memory.unit({0x3000}).lea_sets_cc);
}

TEST(Frontend, EveryOperationIsTranslated) {
  Memory memory(
      0x3000, {0x1283, 0x12bf, 0x5283, 0x52a7, 0x92bf, 0x2210, 0x6284, 0xa210, 0xe210, 0x3210, 0x7284, 0xb210, 0xf025});
  std::string all;
  const Unit unit = memory.unit({0x3000});
  for (const Op& op : unit.blocks.at(0x3000).ops) all += to_string(op) + "; ";
  EXPECT_EQ(all,
            "R1 = R2 + R3 !; R1 = R2 + -1 !; R1 = R2 & R3 !; R1 = R2 & x0007 !; R1 = ~R2 !; R1 = [x3016] !; "
            "R1 = [R2 + 4] !; R1 = [[x3018]] !; R1 = x3019; [x301A] = R1; [R2 + 4] = R1; [[x301C]] = R1; ");
}

// --- Passes
// -------------------------------------------------------------------------------------------------------------
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

// --- What the checks refuse
// ---------------------------------------------------------------------------------------------
class Refused : public ::testing::Test {
 protected:
  Refused() : unit(Memory(0x3000, {0x1021, 0x3210, 0x0402, 0x1021, 0xf025}).unit({0x3000})) {}
  Block& block() { return unit.blocks.at(0x3000); }
  Unit unit;
};

TEST_F(Refused, BlocksThatLieElsewhereOverlapOrReachDeviceSpace) {
  block().first = 0x3001;
  EXPECT_EQ(verify(unit), "block x3000: stands under another address");
  block().first = 0x3000;
  Block second = block();
  second.first = 0x3002;
  unit.blocks[0x3002] = second;
  EXPECT_EQ(verify(unit), "block x3002: overlaps the one before");
  unit.blocks.clear();
  unit.blocks[0xfdff] = {.first = 0xfdff, .count = 2, .ops = {}, .end = {}};
  EXPECT_EQ(verify(unit), "block xFDFF: reaches device space");
}

TEST_F(Refused, SizesThatBudgetsCannotCount) {
  block().count = 0;
  EXPECT_EQ(verify(unit), "block x3000: 0 instructions");
  unit.blocks.erase(0x3003);
  block().count = kMaxBlock + 1;
  EXPECT_EQ(verify(unit), "block x3000: 101 instructions");
}

TEST_F(Refused, OperationsThatAreNone) {
  const auto refuses = [&](auto change) {
    Unit changed = unit;
    change(changed.blocks.at(0x3000).ops);
    return verify(changed);
  };
  EXPECT_NE(refuses([](auto& ops) { ops[0].kind = static_cast<OpKind>(kOpKindCount); }), "");
  EXPECT_NE(refuses([](auto& ops) { ops[0].dr = 8; }), "");
  EXPECT_NE(refuses([](auto& ops) { ops[0].a = 8; }), "");
  EXPECT_NE(refuses([](auto& ops) { ops[0].b = 8; }), "");
  EXPECT_THAT(refuses([](auto& ops) { ops[0].index = 3; }), HasSubstr("out of order"));
  EXPECT_THAT(refuses([](auto& ops) { std::swap(ops[0], ops[1]); }), HasSubstr("out of order"));
  EXPECT_THAT(refuses([](auto& ops) { ops[1].pc = 0x3000; }), HasSubstr("its address is not its index"));
  EXPECT_THAT(refuses([](auto& ops) { ops[1].sets_cc = true; }), HasSubstr("a store has no result"));
  for (const OpKind kind : {OpKind::kLoad, OpKind::kLoadIndirect, OpKind::kStore, OpKind::kStoreIndirect}) {
    EXPECT_THAT(refuses([&](auto& ops) {
                  ops[1].kind = kind;
                  ops[1].imm = kDeviceBase;
                }),
                HasSubstr("device space"));
  }
}

TEST_F(Refused, EndsThatAreNone) {
  const auto refuses = [&](auto change) {
    Unit changed = unit;
    change(changed.blocks.at(0x3000).end);
    return verify(changed);
  };
  EXPECT_THAT(refuses([](End& end) { end.pc = 0x3003; }), HasSubstr("its end is elsewhere"));
  EXPECT_NE(refuses([](End& end) { end.a = 8; }), "");
  EXPECT_NE(refuses([](End& end) { end.nzp = 8; }), "");
  EXPECT_NE(refuses([](End& end) { end.nzp = 0; }), "");
  EXPECT_THAT(refuses([](End& end) { end = {.kind = EndKind::kFall, .next = 0x4000, .pc = 0x3003}; }),
              HasSubstr("not what follows"));
}

// --- Versions
// -----------------------------------------------------------------------------------------------------------
template <class T>
T at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

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

TEST(XbyakCompiler, MarksEveryInstructionInOrder) {
  Memory memory(0x3000, {0x1021, 0x3210, 0x03fd});
  const MachineCode code = *compile_with_xbyak(memory.unit({0x3000}), {.marks = true});
  ASSERT_GE(code.marks.size(), 4U);
  EXPECT_EQ(code.marks.front().address, 0x3000);
  for (std::size_t i = 1; i < code.marks.size(); ++i) EXPECT_LE(code.marks[i - 1].offset, code.marks[i].offset);
  EXPECT_LT(code.marks.back().offset, code.bytes.size());
}

// --- The cache
// ----------------------------------------------------------------------------------------------------------
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

// --- Names for tools
// -----------------------------------------------------------------------------------------------------------
class Names : public ::testing::Test {
 protected:
  ~Names() override { std::filesystem::remove(path); }
  [[nodiscard]] std::string map() const {
    std::ifstream file(path);
    return {std::istreambuf_iterator(file), {}};
  }
  // ADD R0; BRz x3003; ADD R1; HALT: three blocks.
  static MachineCode code() {
    return *compile_with_xbyak(Memory(0x3000, {0x1021, 0x0401, 0x1261, 0x14a1, 0xf025}).unit({0x3000}));
  }

  const std::string path = ::testing::TempDir() + "names_" + std::to_string(::getpid()) + ".map";
};

TEST_F(Names, CoverTheCodeWithoutGaps) {
  const MachineCode made = code();
  const std::vector<CodeName> names = names_of(made);
  std::vector<std::string> texts;
  std::uint32_t at = 0;
  for (const CodeName& name : names) {
    EXPECT_EQ(name.offset, at);
    at += name.bytes;
    texts.push_back(name.name);
  }
  EXPECT_EQ(at, made.bytes.size());
  EXPECT_THAT(texts, ElementsAre("lc3_x3000", "lc3_x3002", "lc3_x3003", "lc3_leaves"));
}

TEST_F(Names, OfAMapAreTheVersionsThatAreThere) {
  const auto names = CodeNames::create({.perf_map = path});
  ASSERT_TRUE(names) << names.error().message;
  std::vector<std::byte> memory(std::size_t{1} << 20);
  CodeCache cache({memory, 0x7f0000000000}, {.names = *names});
  Memory words(0x3000, {0x1021, 0x0ffe});
  const CodeCache::Request request{.words = words.words(), .pc = 0x3000, .lea_sets_cc = false, .lost = {}};
  const auto first = cache.compile(request), second = cache.compile(request);
  ASSERT_TRUE(first && second);
  std::istringstream lines(map());
  std::vector<std::uint64_t> starts;
  std::string name;
  for (std::uint64_t start = 0, size = 0; lines >> std::hex >> start >> size >> name;) {
    EXPECT_GT(size, 0U);
    if (name == "lc3_x3000") starts.push_back(start);
  }
  EXPECT_TRUE(lines.eof());
  EXPECT_THAT(starts, ElementsAre(*first + kCodeText, *second + kCodeText));
  cache.clear();
  EXPECT_EQ(map(), "");
  ASSERT_TRUE(cache.compile(request));
  EXPECT_THAT(map(), HasSubstr(" lc3_x3000\n"));
  EXPECT_EQ(map().find('\0'), std::string::npos);
  EXPECT_EQ((*names)->complaint(), "");
}

TEST_F(Names, AreLimited) {
  const auto names = CodeNames::create({.perf_map = path, .most = 7});
  ASSERT_TRUE(names);
  (*names)->add(0x1000, code());  // four names
  const std::string before = map();
  (*names)->add(0x2000, code());
  EXPECT_EQ(map(), before);
  EXPECT_EQ((*names)->complaint(), "more than 7 names of compiled code");
  (*names)->clear();
  (*names)->add(0x2000, code());
  EXPECT_THAT(map(), ::testing::StartsWith("2000 "));
}

// LLVM's code begins with instructions of its own: a loop's, mostly, whose samples are not nobody's.
TEST_F(Names, FindAnInstructionForAllOfACode) {
  const auto names = CodeNames::create({.lookup = true});
  ASSERT_TRUE(names);
  MachineCode made;
  made.bytes.resize(32);
  made.optimised = 16;
  made.marks = {{8, 0x3001}, {12, 0x3002}};
  made.entries = {{20, 0x3000}};
  (*names)->add(0x1000, made);
  const auto pc_at = [&](std::uint64_t address) -> int {
    const auto found = (*names)->find(address);
    return found ? found->pc : -1;
  };
  EXPECT_EQ(pc_at(0xfff), -1);
  EXPECT_EQ(pc_at(0x1000), 0x3001);
  EXPECT_EQ(pc_at(0x1008), 0x3001);
  EXPECT_EQ(pc_at(0x1010), 0x3002);
  EXPECT_EQ(pc_at(0x101f), 0x3000);
  EXPECT_EQ(pc_at(0x1020), -1);
  EXPECT_TRUE((*names)->find(0x100f)->optimised);
  EXPECT_FALSE((*names)->find(0x1010)->optimised);
  (*names)->add(0x2000, {.bytes = std::vector<std::uint8_t>(8)});
  EXPECT_EQ(pc_at(0x2004), -1) << "it has no marks";
}

TEST_F(Names, AreNotWrittenThroughALink) {
  const std::string target = path + ".target";
  std::ofstream(target) << "precious";
  std::filesystem::create_symlink(target, path);
  const auto names = CodeNames::create({.perf_map = path});
  ASSERT_TRUE(names) << names.error().message;
  (*names)->add(0x1000, code());
  EXPECT_FALSE(std::filesystem::is_symlink(path));
  EXPECT_THAT(map(), HasSubstr("lc3_x3000"));
  EXPECT_EQ(std::filesystem::file_size(target), 8U);
  std::filesystem::remove(target);
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_FALSE(CodeNames::create({.perf_map = "/nonexistent/perf.map"}));
}

TEST_F(Names, AreSymbolsOfAnElfObject) {
  const MachineCode made = code();
  const std::vector<CodeName> names = names_of(made);
  const std::vector<std::byte> object = symbol_object(0x7f0000051000, made.bytes.size(), names);
  const auto at = [&]<class T>(std::size_t offset, T) {
    T value{};
    EXPECT_LE(offset + sizeof value, object.size());
    if (offset + sizeof value <= object.size()) std::memcpy(&value, object.data() + offset, sizeof value);
    return value;
  };
  const auto text_at = [&](std::size_t offset) { return reinterpret_cast<const char*>(object.data() + offset); };
  const auto header = at(0, Elf64_Ehdr{});
  ASSERT_EQ(std::memcmp(header.e_ident, ELFMAG, SELFMAG), 0);
  EXPECT_EQ(header.e_type, ET_REL);
  EXPECT_EQ(header.e_machine, EM_X86_64);
  const auto section = [&](std::size_t i) { return at(header.e_shoff + i * sizeof(Elf64_Shdr), Elf64_Shdr{}); };
  const Elf64_Shdr section_names = section(header.e_shstrndx);
  std::vector<std::string> found;
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr one = section(i);
    found.emplace_back(text_at(section_names.sh_offset + one.sh_name));
    if (one.sh_type != SHT_NOBITS) EXPECT_LE(one.sh_offset + one.sh_size, object.size());
    if (found.back() == ".text") {
      EXPECT_EQ(one.sh_addr, 0x7f0000051000U);
      EXPECT_EQ(one.sh_size, made.bytes.size());
    }
    if (one.sh_type != SHT_SYMTAB) continue;
    ASSERT_EQ(one.sh_size / one.sh_entsize, names.size() + 1);
    for (std::size_t n = 0; n < names.size(); ++n) {
      const auto symbol = at(one.sh_offset + (n + 1) * sizeof(Elf64_Sym), Elf64_Sym{});
      EXPECT_EQ(text_at(section(one.sh_link).sh_offset + symbol.st_name), names[n].name);
      EXPECT_EQ(symbol.st_value, names[n].offset);
      EXPECT_EQ(symbol.st_size, names[n].bytes);
    }
  }
  EXPECT_THAT(found, ElementsAre("", ".text", ".symtab", ".strtab", ".shstrtab"));
}

// What the test below has GDB run: stops with names registered, and again when they have gone.
TEST(NamesForGdb, DISABLED_Target) {
  const auto names = CodeNames::create({.gdb = true});
  ASSERT_TRUE(names);
  RunnerOptions options;
  options.cache.names = *names;
  const auto runner = *HostRunner::create(options);
  Memory words(0x3000, {0x1021, 0x0ffe});
  const CodeCache::Request request{.words = words.words(), .pc = 0x3000, .lea_sets_cc = false, .lost = {}};
  ASSERT_TRUE(runner->cache().compile(request));
  ::raise(SIGTRAP);
  runner->clear();
  ::raise(SIGTRAP);
}

TEST(NamesForGdb, AreSeenByIt) {
  constexpr const char* kGdb = "/usr/bin/gdb";
  if (::access(kGdb, X_OK) != 0) GTEST_SKIP() << "there is no " << kGdb;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = fmt::format(
      "timeout 60 {} -batch -nx -iex 'set debuginfod enabled off' -iex 'set auto-load off' -iex 'set auto-solib-add "
      "off' -ex run "
      "-ex 'info address lc3_x3000' -ex 'x/i (char*)&lc3_x3000' -ex continue -ex 'info address lc3_x3000' -ex kill "
      "--args {} --gtest_also_run_disabled_tests --gtest_filter=NamesForGdb.DISABLED_Target 2>&1",
      kGdb, self);
  FILE* const pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string said;
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) said += static_cast<char>(c);
  ::pclose(pipe);
  for (const char* forbidden : {"ptrace: Operation not permitted", "Could not trace the inferior process"}) {
    if (said.find(forbidden) != std::string::npos) GTEST_SKIP() << said;
  }
  EXPECT_THAT(said, HasSubstr("Symbol \"lc3_x3000\" is at 0x"));
  EXPECT_THAT(said, HasSubstr("<lc3_x3000>:\tsub "));
  EXPECT_THAT(said, HasSubstr("No symbol \"lc3_x3000\" in current context."));
}

// In a process of its own, as a user who may have no more threads.
TEST(Optimiser, WithoutAThreadWhatIsThereStays) {
  const auto without_threads = [] {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_NPROC, &none) != 0) std::_Exit(1);
    if (::geteuid() == 0 && ::setuid(65534) != 0) std::_Exit(2);  // root has no limit
    CodeCache cache({});
    {
      Optimiser optimiser(cache, [] { return Result<Optimiser::Compile>{fail(ErrorKind::kUnsupported, "none")}; }, {});
      optimiser.notice({});
      optimiser.drain();
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(without_threads(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace warmfork::lc3::jit
