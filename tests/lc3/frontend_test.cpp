#include "lc3/jit/frontend.hpp"

#include "unit_memory.hpp"

#include <gmock/gmock.h>

namespace warmfork::lc3::jit {
namespace {

using ::testing::ElementsAre;

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

}  // namespace
}  // namespace warmfork::lc3::jit
