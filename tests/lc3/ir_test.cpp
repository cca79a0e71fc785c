// What verify() refuses: blocks that no frontend makes.
#include "lc3/jit/ir.hpp"

#include "unit_memory.hpp"

#include <gmock/gmock.h>

namespace warmfork::lc3::jit {
namespace {

using ::testing::HasSubstr;

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

}  // namespace
}  // namespace warmfork::lc3::jit
