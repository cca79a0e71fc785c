#include "reference/reference_machine.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <vector>

namespace warmfork::lc3_reference {
namespace {

constexpr Word kHalt = 0xF025;

ReferenceMachine machine_with(std::initializer_list<Word> program, Options options = {}, Word origin = 0x3000) {
  ReferenceMachine machine(options);
  machine.load(origin, std::vector<Word>(program));
  machine.start(origin);
  return machine;
}

Word condition(const ReferenceMachine& machine) { return machine.psr() & 7; }

TEST(Reference, StartsInUserModeAtItsOrigin) {
  ReferenceMachine machine;
  machine.start(0x4000);
  EXPECT_EQ(machine.pc(), 0x4000);
  EXPECT_EQ(machine.psr(), 0x8002);
  EXPECT_EQ(machine.reg(6), 0xFE00);
  EXPECT_EQ(machine.saved_ssp(), 0x3000);
}

TEST(Reference, SupervisorStartUsesTheSupervisorStack) {
  ReferenceMachine machine;
  machine.start(0x0200, true);
  EXPECT_EQ(machine.psr(), 0x0002);
  EXPECT_EQ(machine.reg(6), 0x3000);
  EXPECT_EQ(machine.saved_usp(), 0xFE00);
}

TEST(Reference, AddWrapsAndSetsConditions) {
  auto machine = machine_with({0x1042, 0x1261, 0x147F});  // ADD R0,R1,R2 / ADD R1,R1,#1 / ADD R2,R1,#-1
  machine.set_reg(1, 0x7FFF);
  machine.set_reg(2, 0x0001);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x8000);
  EXPECT_EQ(condition(machine), 4);
  machine.set_reg(1, 0xFFFF);
  machine.step();
  EXPECT_EQ(machine.reg(1), 0);
  EXPECT_EQ(condition(machine), 2);
  machine.set_reg(1, 2);
  machine.step();
  EXPECT_EQ(machine.reg(2), 1);
  EXPECT_EQ(condition(machine), 1);
}

TEST(Reference, AndNot) {
  auto machine = machine_with({0x5042, 0x5070, 0x907F});  // AND R0,R1,R2 / AND R0,R1,#-16 / NOT R0,R1
  machine.set_reg(1, 0xF0F3);
  machine.set_reg(2, 0x0FF1);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x00F1);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0xF0F0);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x0F0C);
  EXPECT_EQ(condition(machine), 1);
}

TEST(Reference, BranchTestsItsMaskAndMaskZeroNeverBranches) {
  const Word psr[] = {0x8004, 0x8002, 0x8001};
  for (unsigned mask = 0; mask < 8; ++mask) {
    for (const Word flags : psr) {
      auto machine = machine_with({static_cast<Word>(mask << 9 | 0x1FE)});  // BR #-2
      machine.set_psr(flags);
      machine.step();
      EXPECT_EQ(machine.pc(), (mask & flags) != 0 ? 0x2FFF : 0x3001) << mask << ' ' << flags;
    }
  }
}

TEST(Reference, AddressesWrap) {
  auto machine = machine_with({0x2001}, {}, 0xFDFF);  // LD R0,#1: fetched at xFDFF, so from xFE01, an unowned register
  machine.set_reg(0, 7);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0);
  auto low = machine_with({0x21FD}, {}, 0x0001);  // LD R0,#-3 at x0001: xFFFF
  low.set_reg(0, 7);
  low.step();
  EXPECT_EQ(low.reg(0), 0);
  EXPECT_EQ(low.pc(), 2);
  auto load = machine_with({0x607F});  // LDR R0,R1,#-1
  load.poke(0x0005, 0xABCD);
  load.set_reg(1, 6);
  load.step();
  EXPECT_EQ(load.reg(0), 0xABCD);
  EXPECT_EQ(condition(load), 4);
  auto store = machine_with({0x7045});  // STR R0,R1,#5 wraps past xFFFF
  store.set_reg(0, 0x1234);
  store.set_reg(1, 0xFFFD);
  store.step();
  EXPECT_EQ(store.peek(0x0002), 0x1234);
}

TEST(Reference, PcWrapsFromTheLastAddress) {
  ReferenceMachine machine;
  machine.start(0xFFFF);  // an unowned device register reads 0: BR, never taken
  machine.step();
  EXPECT_EQ(machine.pc(), 0);
}

TEST(Reference, IndirectLoadAndStore) {
  auto machine = machine_with({0xA002, 0xB201, 0xF025, 0x4000});  // LDI R0 / STI R1 through x3003
  machine.poke(0x4000, 0x8001);
  machine.set_reg(1, 0x0042);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x8001);
  machine.step();
  EXPECT_EQ(machine.peek(0x4000), 0x0042);
  EXPECT_EQ(condition(machine), 4);  // stores leave the condition code
}

TEST(Reference, LeaSetsConditionsInTheSecondEditionOnly) {
  auto third = machine_with({0xE1FF});
  third.set_psr(0x8001);
  third.step();
  EXPECT_EQ(third.reg(0), 0x3000);
  EXPECT_EQ(condition(third), 1);
  auto second = machine_with({0xE000}, {.edition = Edition::kSecond}, 0x9000);
  second.step();
  EXPECT_EQ(second.reg(0), 0x9001);
  EXPECT_EQ(condition(second), 4);
}

TEST(Reference, JsrrThroughR7ReadsItsTargetFirst) {
  auto machine = machine_with({0x41C0});
  machine.set_reg(7, 0x5000);
  machine.step();
  EXPECT_EQ(machine.pc(), 0x5000);
  EXPECT_EQ(machine.reg(7), 0x3001);
}

TEST(Reference, JsrAndRet) {
  auto machine = machine_with({0x4FFF});  // JSR #-1: itself
  machine.step();
  EXPECT_EQ(machine.pc(), 0x3000);
  EXPECT_EQ(machine.reg(7), 0x3001);
  machine.poke(0x3000, 0xC1C0);
  machine.step();
  EXPECT_EQ(machine.pc(), 0x3001);
}

TEST(Reference, TrapPushesPsrAndPcAndRtiReturns) {
  auto machine = machine_with({0xF026, kHalt});
  machine.poke(0x0026, 0x0400);
  machine.poke(0x0400, 0x8000);  // RTI
  machine.set_psr(0x8701);
  machine.step();
  EXPECT_EQ(machine.pc(), 0x0400);
  EXPECT_EQ(machine.psr(), 0x0701);
  EXPECT_EQ(machine.reg(6), 0x2FFE);
  EXPECT_EQ(machine.peek(0x2FFF), 0x8701);
  EXPECT_EQ(machine.peek(0x2FFE), 0x3001);
  EXPECT_EQ(machine.saved_usp(), 0xFE00);
  machine.step();
  EXPECT_EQ(machine.pc(), 0x3001);
  EXPECT_EQ(machine.psr(), 0x8701);
  EXPECT_EQ(machine.reg(6), 0xFE00);
  EXPECT_EQ(machine.saved_ssp(), 0x3000);
}

TEST(Reference, TrapFromSupervisorModeKeepsTheStack) {
  auto machine = machine_with({0xF026});
  machine.poke(0x0026, 0x0400);
  machine.poke(0x0400, 0x8000);
  machine.start(0x3000, true);
  machine.set_reg(6, 0x2800);
  machine.step();
  EXPECT_EQ(machine.reg(6), 0x27FE);
  machine.step();
  EXPECT_EQ(machine.reg(6), 0x2800);
  EXPECT_EQ(machine.psr(), 0x0002);
}

TEST(Reference, SecondEditionTrapLinksThroughR7) {
  auto machine = machine_with({0xF026}, {.edition = Edition::kSecond});
  machine.poke(0x0026, 0x0400);
  machine.step();
  EXPECT_EQ(machine.pc(), 0x0400);
  EXPECT_EQ(machine.reg(7), 0x3001);
  EXPECT_EQ(machine.reg(6), 0xFE00);
  EXPECT_EQ(machine.psr(), 0x8002);
}

TEST(Reference, RtiInUserModeRaisesPrivilegeViolation) {
  auto machine = machine_with({0x8000});
  machine.poke(0x0100, 0x0500);
  machine.step();
  EXPECT_EQ(machine.pc(), 0x0500);
  EXPECT_EQ(machine.peek(0x2FFE), 0x3000);  // the offending instruction itself
  EXPECT_EQ(machine.peek(0x2FFF), 0x8002);
}

TEST(Reference, ReservedOpcodeRaisesIllegalOpcode) {
  auto machine = machine_with({0xD123});
  machine.poke(0x0101, 0x0600);
  machine.step();
  EXPECT_EQ(machine.pc(), 0x0600);
  EXPECT_EQ(machine.peek(0x2FFE), 0x3000);
  EXPECT_EQ(machine.psr(), 0x0002);
  EXPECT_EQ(machine.instructions(), 1U);
}

TEST(Reference, StrictPrivilegeStopsEveryKindOfUserAccess) {
  struct Case {
    Word instruction;
    Word base;
  };
  // LD, LDI, LDR, ST, STI, STR and, for JMP, the fetch after it.
  for (const Case c : {Case{0x21FE, 0}, Case{0xA002, 0}, Case{0x6040, 0x2FFF}, Case{0x31FE, 0}, Case{0xB002, 0},
                       Case{0x7040, 0xFE00}, Case{0xC040, 0x0000}}) {
    for (const auto privilege : {Privilege::kStrict, Privilege::kRelaxed}) {
      auto machine = machine_with({c.instruction, kHalt, kHalt, 0x0010}, {.privilege = privilege});
      machine.poke(0x0102, 0x0700);
      machine.set_reg(1, c.base);
      machine.step();
      const bool jump = c.instruction >> 12 == 0xC;
      if (jump) machine.step();
      if (privilege == Privilege::kStrict) {
        EXPECT_EQ(machine.pc(), 0x0700) << std::hex << c.instruction;
        EXPECT_EQ(machine.peek(0x2FFE), jump ? 0x0000 : 0x3000) << std::hex << c.instruction;
      } else {
        EXPECT_EQ(machine.pc(), 0x0001 + (jump ? 0 : 0x3000)) << std::hex << c.instruction;
      }
    }
  }
}

TEST(Reference, StrictPrivilegeLeavesTheEdgesOfUserSpaceAndTheSupervisorAlone) {
  auto machine = machine_with({0x6040, 0x6080}, {.privilege = Privilege::kStrict});
  machine.poke(0xFDFF, 0x0077);
  machine.set_reg(1, 0xFDFF);
  machine.set_reg(2, 0x3000);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x0077);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x6040);
  auto supervisor = machine_with({0x6040}, {.privilege = Privilege::kStrict});
  supervisor.start(0x3000, true);
  supervisor.set_reg(1, 0xFFFC);
  supervisor.step();
  EXPECT_EQ(supervisor.reg(0), 0x0002);
}

TEST(Reference, TheSecondEditionHasNoAccessControl) {
  auto machine =
      machine_with({0x6040}, {.edition = Edition::kSecond, .privilege = Privilege::kStrict});  // LDR R0,R1,#0
  machine.poke(0x0005, 0x0077);
  machine.set_reg(1, 0x0005);
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x0077);
  EXPECT_EQ(machine.pc(), 0x3001);
}

TEST(Reference, ReadingKbdrClearsReady) {
  auto machine = machine_with({0xA003, 0xA203, 0xA401, 0xF025, 0xFE00, 0xFE02});  // LDI KBSR, KBDR, KBSR
  machine.type("A");
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x8000);
  machine.step();
  EXPECT_EQ(machine.reg(1), 'A');
  machine.step();
  EXPECT_EQ(machine.reg(2), 0x0000);
}

TEST(Reference, DisplayIsReadyAndShowsTheLowByte) {
  auto machine = machine_with({0x6040, 0x7442});  // LDR R0,R1,#0 / STR R2,R1,#2
  machine.set_reg(1, 0xFE04);
  machine.set_reg(2, 0xFF00 | 'Q');
  machine.step();
  machine.step();
  EXPECT_EQ(machine.reg(0), 0x8000);
  EXPECT_EQ(machine.take_output(), "Q");
  EXPECT_EQ(machine.take_output(), "");
}

TEST(Reference, ClearingMcrStopsTheClock) {
  auto machine = machine_with({0x7040});
  machine.set_reg(1, 0xFFFE);
  machine.set_reg(0, 0x7FFF);
  EXPECT_EQ(machine.step(), State::kHalted);
  EXPECT_EQ(machine.pc(), 0x3001);
  EXPECT_EQ(machine.step(), State::kHalted);
  EXPECT_EQ(machine.instructions(), 1U);
}

TEST(Reference, McrKeepsAllItsBits) {
  auto machine = machine_with({0x7040, 0x6440});  // STR R0, R1, #0; LDR R2, R1, #0
  machine.set_reg(1, 0xFFFE);
  machine.set_reg(0, 0xFDF3);
  machine.step();
  machine.step();
  EXPECT_EQ(machine.reg(2), 0xFDF3);
  EXPECT_EQ(machine.state(), State::kRunning);
}

TEST(Reference, PoppedPsrKeepsExactlyOneCondition) {
  ReferenceMachine machine;
  machine.set_psr(0xFFFF);
  EXPECT_EQ(machine.psr(), 0x8704);
  machine.set_psr(0x0000);
  EXPECT_EQ(machine.psr(), 0x0002);
  machine.set_psr(0x8003);
  EXPECT_EQ(machine.psr(), 0x8002);
}

TEST(Reference, KeyboardInterruptNeedsReadyEnabledAndPriority) {
  for (const bool enabled : {false, true}) {
    for (const bool ready : {false, true}) {
      for (const Word priority : {Word{0}, Word{3}, Word{4}, Word{7}}) {
        auto machine = machine_with({0x7040, 0x1020, 0x1020});  // STR R0,R1 / ADD R0,R0,#0 twice
        machine.poke(0x0180, 0x0800);
        machine.poke(0x0800, 0x1261);  // ADD R1,R1,#1
        machine.set_psr(static_cast<Word>(0x8002 | priority << 8));
        machine.set_reg(0, enabled ? 0x4000 : 0);
        machine.set_reg(1, 0xFE00);
        machine.step();
        EXPECT_EQ(machine.pc(), 0x3001);
        if (ready) machine.type("k");
        machine.step();
        const bool taken = enabled && ready && priority < 4;
        EXPECT_EQ(machine.pc(), taken ? 0x0801 : 0x3002);
        if (!taken) continue;
        EXPECT_EQ(machine.reg(1), 0xFE01);
        EXPECT_EQ(machine.psr(), 0x0404);  // supervisor, priority 4, N from the handler's ADD
        EXPECT_EQ(machine.peek(0x2FFE), 0x3001);
        EXPECT_EQ(machine.peek(0x2FFF), 0x8002 | priority << 8);
        EXPECT_EQ(machine.instructions(), 2U);
      }
    }
  }
}

TEST(Reference, NativeTrapsShowAndRead) {
  auto machine = machine_with({0xF022, 0xF024, 0xF020, 0xF021, 0xF023, 0xF025}, {.traps = Traps::kNative});
  const std::vector<Word> text{'h', 'i', 0x4100 | '!', 0};
  machine.load(0x4000, text);
  machine.load(0x5000, std::vector<Word>{0x4241, 0x0043, 0x4444});
  machine.set_reg(0, 0x4000);
  machine.set_reg(7, 0x1111);
  machine.set_psr(0x8001);
  machine.step();
  EXPECT_EQ(machine.take_output(), "hi!");
  machine.set_reg(0, 0x5000);
  machine.step();
  EXPECT_EQ(machine.take_output(), "ABC");
  EXPECT_EQ(machine.step(), State::kWaitingForInput);
  EXPECT_EQ(machine.pc(), 0x3002);
  EXPECT_EQ(machine.instructions(), 2U);
  machine.type("xy");
  machine.step();
  machine.step();
  EXPECT_EQ(machine.take_output(), "x");
  machine.step();
  EXPECT_EQ(machine.take_output(), "Input a character> y");
  EXPECT_EQ(machine.reg(0), 'y');
  EXPECT_EQ(machine.step(), State::kHalted);
  EXPECT_EQ(machine.take_output(), "");
  EXPECT_EQ(machine.reg(7), 0x1111);
  EXPECT_EQ(machine.psr(), 0x8001);
  EXPECT_EQ(machine.pc(), 0x3006);
  EXPECT_EQ(machine.instructions(), 6U);
}

TEST(Reference, PutspStopsAtTheFirstNulByteEvenTheLowOne) {
  auto machine = machine_with({0xF024}, {.traps = Traps::kNative});
  machine.load(0x5000, std::vector<Word>{0x4241, 0x4300, 0x4444});
  machine.set_reg(0, 0x5000);
  machine.step();
  EXPECT_EQ(machine.take_output(), "AB");
}

TEST(Reference, NativeTrapsOfTheSecondEditionSetR7) {
  auto machine = machine_with({0xF021}, {.edition = Edition::kSecond, .traps = Traps::kNative});
  machine.step();
  EXPECT_EQ(machine.reg(7), 0x3001);
}

TEST(Reference, AReplacedVectorIsNotServedNatively) {
  ReferenceMachine machine({.traps = Traps::kNative});
  machine.load_os(0x0020, std::vector<Word>{0x0400, 0x0410});
  machine.load(0x3000, std::vector<Word>{0xF021, 0xF021});
  machine.start(0x3000);
  machine.set_reg(0, 'a');
  machine.step();
  EXPECT_EQ(machine.take_output(), "a");
  machine.poke(0x0021, 0x4000);
  machine.step();
  EXPECT_EQ(machine.take_output(), "");
  EXPECT_EQ(machine.pc(), 0x4000);
}

TEST(Reference, RunStopsAtItsLimit) {
  auto machine = machine_with({0x0FFF});  // BRnzp to itself
  EXPECT_EQ(machine.run(1000), State::kRunning);
  EXPECT_EQ(machine.instructions(), 1000U);
}

}  // namespace
}  // namespace warmfork::lc3_reference
