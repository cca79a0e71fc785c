// What each instruction does, on both engines.
#include "machine_fixture.hpp"

namespace warmfork::lc3 {
namespace {

class Core : public EngineTest {};
WARMFORK_ON_EVERY_ENGINE(Core);

// --- Power-on
// ------------------------------------------------------------------------------------------------------------
TEST_P(Core, PowersOnInUserModeWithZeroedMemory) {
  auto m = machine();
  EXPECT_EQ(psr(*m), 0x8002);
  EXPECT_EQ(m->pc, 0x3000);
  EXPECT_EQ(m.r(6), 0xfe00);
  EXPECT_EQ(m->saved_ssp, 0x3000);
  for (const unsigned n : {0u, 1u, 2u, 3u, 4u, 5u, 7u}) EXPECT_EQ(m.r(n), 0);
  for (std::uint32_t address = 0; address < kDeviceBase; ++address) ASSERT_EQ(m->memory[address], 0);
}

TEST_P(Core, RandomisedMemoryDependsOnTheSeedOnly) {
  auto a = machine(), b = machine(), c = machine();
  randomise(*a, 7), randomise(*b, 7), randomise(*c, 8);
  EXPECT_EQ(std::memcmp(a->memory, b->memory, sizeof a->memory), 0);
  EXPECT_NE(std::memcmp(a->memory, c->memory, sizeof a->memory), 0);
  EXPECT_EQ(a.r(6), 0xfe00);
  EXPECT_EQ(a->memory[kDeviceBase], kTrapWord) << "device space must keep its reserved opcodes";
}

TEST_P(Core, LoadRefusesDeviceSpaceAndLeavesMemoryAlone) {
  auto m = machine();
  const std::uint16_t words[2] = {1, 2};
  EXPECT_TRUE(load(*m, 0xfdfe, words, 2));
  EXPECT_FALSE(load(*m, 0xfdff, words, 2));
  EXPECT_EQ(m.at(0xfdff), 2);
  EXPECT_FALSE(load(*m, 0xffff, words, 1));
  EXPECT_FALSE(load(*m, 0, words, std::size_t{1} << 40));
  EXPECT_TRUE(load(*m, 0xfe00, words, 0));
}

// --- Arithmetic
// ----------------------------------------------------------------------------------------------------------
TEST_P(Core, AddWrapsModulo65536AndSetsZ) {
  auto m = machine().words(0x3000, {0x1042});  // ADD R0, R1, R2
  m.r(1) = 0xffff, m.r(2) = 1;
  m.step();
  EXPECT_EQ(m.r(0), 0);
  EXPECT_EQ(m.cc(), kPsrZ);
  EXPECT_EQ(m->pc, 0x3001);
}

TEST_P(Core, AddImmediateIsSigned) {
  auto m = machine().words(0x3000, {0x1030, 0x102f});  // ADD R0, R0, #-16; ADD R0, R0, #15
  m.r(0) = 10;
  m.step();
  EXPECT_EQ(m.r(0), 0xfffa);
  EXPECT_EQ(m.cc(), kPsrN);
  m.step();
  EXPECT_EQ(m.r(0), 9);
  EXPECT_EQ(m.cc(), kPsrP);
}

TEST_P(Core, AddOverflowSetsNByTheResult) {
  auto m = machine().words(0x3000, {0x1021});  // ADD R0, R0, #1
  m.r(0) = 0x7fff;
  m.step();
  EXPECT_EQ(m.r(0), 0x8000);
  EXPECT_EQ(m.cc(), kPsrN);
}

TEST_P(Core, AndCombinesRegistersAndSignedImmediates) {
  auto m = machine().words(0x3000, {0x5042, 0x507c, 0x5060});  // AND R0,R1,R2; AND R0,R1,#-4; AND R0,R1,#0
  m.r(1) = 0xff0f, m.r(2) = 0x8006;
  m.step();
  EXPECT_EQ(m.r(0), 0x8006);
  EXPECT_EQ(m.cc(), kPsrN);
  m.step();
  EXPECT_EQ(m.r(0), 0xff0c);
  m.step();
  EXPECT_EQ(m.r(0), 0);
  EXPECT_EQ(m.cc(), kPsrZ);
}

TEST_P(Core, NotInverts) {
  auto m = machine().words(0x3000, {0x907f});  // NOT R0, R1
  m.r(1) = 0xfffe;
  m.step();
  EXPECT_EQ(m.r(0), 1);
  EXPECT_EQ(m.cc(), kPsrP);
}

TEST_P(Core, BitsThatShouldBeZeroOrOneAreIgnored) {
  auto m = machine().words(0x3000, {0x105a, 0x9040, 0xf120});  // ADD with bits 4-3; NOT without its ones
  m.r(1) = 5, m.r(2) = 6;
  m.step(2);
  EXPECT_EQ(m.r(0), static_cast<std::uint16_t>(~5));
}

TEST_P(Core, EveryArithmeticWordUsesItsOwnRegisters) {
  // All 8 x 8 x 8 register and 8 x 8 x 32 immediate forms, against the arithmetic itself.
  auto m = machine();
  for (unsigned word = 0; word < 0x1000; ++word) {
    for (const unsigned opcode : {0x1000u, 0x5000u}) {
      const std::uint16_t before[8] = {0x1111, 0x8003, 0xfff0, 0, 0x7abc, 0x0001, 0xfe00, 0x5555};
      std::memcpy(m->registers, before, sizeof before);
      m->pc = 0x4000;
      m.at(0x4000) = static_cast<std::uint16_t>(opcode | word);
      m.step();
      const unsigned a = before[word >> 6 & 7];
      const unsigned b = (word & 0x20) == 0   ? before[word & 7]
                         : (word & 0x10) != 0 ? 0xffe0 | (word & 0x1f)
                                              : word & 0x1f;
      const auto result = static_cast<std::uint16_t>(opcode == 0x1000 ? a + b : a & b);
      for (unsigned n = 0; n < 8; ++n)
        ASSERT_EQ(m.r(n), n == word >> 9 ? result : before[n]) << std::hex << m.at(0x4000);
      ASSERT_EQ(m.cc(), result == 0 ? kPsrZ : result >= 0x8000 ? kPsrN : kPsrP);
    }
  }
}

// --- Loads, stores, LEA
// --------------------------------------------------------------------------------------------------
TEST_P(Core, LdAndStAreRelativeToTheIncrementedPc) {
  auto m = machine().words(0x3000, {0x2002, 0x3002, 0, 0x8001});  // LD R0, #2; ST R0, #2
  m.step(2);
  EXPECT_EQ(m.r(0), 0x8001);
  EXPECT_EQ(m.cc(), kPsrN);
  EXPECT_EQ(m.at(0x3004), 0x8001);
}

TEST_P(Core, StoresLeaveConditionCodesAlone) {
  auto m = machine().words(0x3000, {0x1021, 0x3410, 0x7440, 0xb40d});  // ADD; ST, STR, STI of R2
  m.at(0x3011) = 0x5000;
  m.r(1) = 0x4000, m.r(2) = 0x9000;
  m.step(4);
  EXPECT_EQ(m.cc(), kPsrP);
  EXPECT_EQ(m.at(0x3012), 0x9000);
  EXPECT_EQ(m.at(0x4000), 0x9000);
  EXPECT_EQ(m.at(0x5000), 0x9000);
}

TEST_P(Core, LdiAndStiGoThroughAPointer) {
  auto m = machine().words(0x3000, {0xa003, 0xb003, 0, 0, 0x4000, 0x4001});  // LDI R0, #3; STI R0, #3
  m.at(0x4000) = 0x1234;
  m.step(2);
  EXPECT_EQ(m.r(0), 0x1234);
  EXPECT_EQ(m.at(0x4001), 0x1234);
  EXPECT_EQ(m.cc(), kPsrP);
}

TEST_P(Core, LdrAndStrAddASignedOffsetModulo65536) {
  auto m = machine().words(0x3000, {0x607f, 0x7082});  // LDR R0, R1, #-1; STR R0, R2, #2
  m.at(0x3fff) = 0xabcd;
  m.r(1) = 0x4000, m.r(2) = 0xffff;
  m.step(2);
  EXPECT_EQ(m.r(0), 0xabcd);
  EXPECT_EQ(m.at(0x0001), 0xabcd);
}

TEST_P(Core, CarriesOfEarlierResultsDoNotReachAddresses) {
  // R1 = xFFFF + xFFFF and so on: only 16 bits may count, however a register came to its value.
  auto m = machine().words(0x3000, {0x1241, 0x1241, 0x6042, 0xc040});  // ADD R1,R1,R1 twice; LDR R0,R1,#2; JMP R1
  m.r(1) = 0xd000;
  m.at(0x4002) = 77;
  m.step(4);
  EXPECT_EQ(m.r(0), 77);
  EXPECT_EQ(m->pc, 0x4000);
}

TEST_P(Core, EveryBasedWordUsesItsOwnRegistersAndOffset) {
  auto m = machine();
  for (unsigned word = 0; word < 0x1000; ++word) {
    std::uint16_t before[8];
    for (unsigned n = 0; n < 8; ++n) before[n] = static_cast<std::uint16_t>(0x5000 + 0x100 * n);
    const int offset = static_cast<int>((word & 0x3f) ^ 0x20) - 0x20;
    const auto address = static_cast<std::uint16_t>(before[word >> 6 & 7] + offset);
    std::memcpy(m->registers, before, sizeof before);
    m->pc = 0x4000;
    m.at(0x4000) = static_cast<std::uint16_t>(0x6000 | word);
    m.at(0x4001) = static_cast<std::uint16_t>(0x7000 | word);
    m.at(address) = static_cast<std::uint16_t>(0x8000 + word);
    m.step();
    for (unsigned n = 0; n < 8; ++n) {
      ASSERT_EQ(m.r(n), n == word >> 9 ? 0x8000 + word : before[n]) << std::hex << m.at(0x4000);
    }
    std::memcpy(m->registers, before, sizeof before);
    m.step();
    ASSERT_EQ(m.at(address), before[word >> 9]) << std::hex << m.at(0x4001);
  }
}

TEST_P(Core, PcRelativeAccessWrapsAtBothEndsOfMemory) {
  auto m = machine();
  m.at(0x0010) = 0x2100;  // LD R0, #-256: x0011 - 256 = xFF11, an empty device address
  m->pc = 0x0010;
  m.r(0) = 5;
  m.step();
  EXPECT_EQ(m.r(0), 0);
  m.at(0xfdff) = 0x3101;  // ST R0, #-255
  m.at(0xfd01) = 9;
  m->pc = 0xfdff;
  m.step();
  EXPECT_EQ(m.at(0xfd01), 0);
}

TEST_P(Core, MemoryEndsAtXFdffForEveryAddressingMode) {
  // xFDFF is memory, xFE00 is KBSR, whatever instruction gets there.
  auto m = machine();
  m->kbsr = kKbsrInterruptEnable;
  for (const bool device : {false, true}) {
    const auto target = static_cast<std::uint16_t>(device ? 0xfe00 : 0xfdff);
    const auto offset = static_cast<std::uint16_t>(target - 0xfdc1);
    const auto run_one = [&](std::uint16_t word) {
      m.at(0xfdff) = 0x0077;
      m.at(0xfdc0) = word;
      m.at(0xfdd1) = target;
      m.r(0) = 0x4abc, m.r(1) = target;
      m->kbsr = 0x4000;
      m->pc = 0xfdc0;
      m.step();
    };
    for (const unsigned load_word : {0x2000u | offset, 0xa000u | 0x10u, 0x6040u}) {
      run_one(static_cast<std::uint16_t>(load_word));
      EXPECT_EQ(m.r(0), device ? 0x4000 : 0x0077) << std::hex << load_word;
    }
    for (const unsigned store_word : {0x3000u | offset, 0xb000u | 0x10u, 0x7040u}) {
      run_one(static_cast<std::uint16_t>(store_word));
      EXPECT_EQ(m.at(0xfdff), device ? 0x0077 : 0x4abc) << std::hex << store_word;
      EXPECT_EQ(m.at(0xfe00), kTrapWord);
    }
  }
  // A pointer that itself lies in device space.
  m.at(0xfdff) = 0xa004;  // LDI R0, #4 -> through xFE04 (DSR: x8000)
  m.at(0x8000) = 0x0123;
  m->pc = 0xfdff;
  m.step();
  EXPECT_EQ(m.r(0), 0x0123);
  m.at(0xfdff) = 0xb004;  // STI R0, #4
  m.r(0) = 0x0456;
  m->pc = 0xfdff;
  m.step();
  EXPECT_EQ(m.at(0x8000), 0x0456);
}

TEST(FastCore, PlainInstructionsNeverTakeTheSlowPath) {
  // Carries above 16 bits in every register must not look like device addresses.
  Machine m(Engine::kFast);
  m.words(0x3000,
          {0x1241, 0x1241, 0x6042, 0x7043, 0x2010, 0x3010, 0xa010, 0xb010, 0xe010, 0x927f, 0x927f, 0x4801, 0, 0x40c0});
  m.at(0x3017) = 0x5000, m.at(0x3018) = 0x5000;
  m.words(0x6000, {0xc1c0});
  m.r(1) = 0xd000, m.r(3) = 0x6000;
  m.step(14);
  EXPECT_EQ(m->pc, 0x300e);
  EXPECT_EQ(m->counters.slow_steps, 0u);
}

TEST_P(Core, LeaSetsNoConditionCodesInTheThirdEdition) {
  auto m = machine().words(0x3000, {0xe1ff});  // LEA R0, #-1
  m.step();
  EXPECT_EQ(m.r(0), 0x3000);
  EXPECT_EQ(m.cc(), kPsrZ);
}

TEST_P(Core, LeaSetsConditionCodesInTheSecondEdition) {
  auto m = machine(kSecondEdition).words(0x3000, {0xe1ff});
  m.step();
  EXPECT_EQ(m.cc(), kPsrP);
  m.at(0x9000) = 0xe000;
  m->pc = 0x9000;
  m.step();
  EXPECT_EQ(m.cc(), kPsrN);
}

TEST_P(Core, LeaWrapsBelowZero) {
  auto m = machine();
  m.at(0) = 0xe1fe;  // LEA R0, #-2
  m->pc = 0;
  m.step();
  EXPECT_EQ(m.r(0), 0xffff);
}

// --- Control flow
// --------------------------------------------------------------------------------------------------------
TEST_P(Core, EveryBranchWordGoesWhereItsMaskAndOffsetSay) {
  auto m = machine();
  for (unsigned word = 0; word < 0x1000; ++word) {
    for (const std::uint16_t value : {std::uint16_t{0x8000}, std::uint16_t{0}, std::uint16_t{1}}) {
      m.at(0x4000) = static_cast<std::uint16_t>(word);
      m->pc = 0x4000;
      m->last_result = value;
      m.step();
      const unsigned flag = value == 0 ? 2 : value == 1 ? 1 : 4;
      const int offset = static_cast<int>((word & 0x1ff) ^ 0x100) - 0x100;
      ASSERT_EQ(m->pc, (word >> 9 & flag) != 0 ? 0x4001 + offset : 0x4001) << std::hex << word;
      ASSERT_EQ(m->last_result, value);
    }
  }
}

TEST_P(Core, ZeroWordIsANop) {
  auto m = machine();
  m.step(100);
  EXPECT_EQ(m->pc, 0x3064);
  EXPECT_EQ(psr(*m), 0x8002);
}

TEST_P(Core, EveryJsrWordKeepsItsReturnAddress) {
  auto m = machine();
  for (unsigned word = 0; word < 0x800; ++word) {
    m.at(0x5000) = static_cast<std::uint16_t>(0x4800 | word);
    m->pc = 0x5000;
    m.step();
    ASSERT_EQ(m.r(7), 0x5001);
    ASSERT_EQ(m->pc, 0x5001 + (static_cast<int>(word ^ 0x400) - 0x400)) << std::hex << word;
  }
}

TEST_P(Core, JsrrR7ReadsTargetFirst) {
  auto m = machine().words(0x3000, {0x41c0});  // JSRR R7
  m.r(7) = 0x5000;
  m.step();
  EXPECT_EQ(m->pc, 0x5000);
  EXPECT_EQ(m.r(7), 0x3001);
}

TEST_P(Core, JmpTakesEveryRegister) {
  for (unsigned n = 0; n < 8; ++n) {
    auto m = machine().words(0x3000, {static_cast<std::uint16_t>(0xc000 | n << 6)});
    m.r(n) = static_cast<std::uint16_t>(0x4000 + n);
    m.step();
    EXPECT_EQ(m->pc, 0x4000 + n);
  }
}

TEST_P(Core, BranchesAndCallsWrapAtBothEndsOfMemory) {
  auto m = machine();
  m.at(0x0000) = 0x0f00;  // BRnzp #-256 -> xFF01
  m.at(0x0001) = 0x4c00;  // JSR #-1024 -> xFC02
  m.at(0xfc02) = 0x4bff;  // JSR #1023 -> x0002
  m->pc = 0;
  m.step();
  EXPECT_EQ(m->pc, 0xff01);
  m->pc = 1;
  m.step();
  EXPECT_EQ(m->pc, 0xfc02);
  EXPECT_EQ(m.r(7), 2);
  m.step();
  EXPECT_EQ(m->pc, 0x0002);
  EXPECT_EQ(m.r(7), 0xfc03);
}

TEST_P(Core, ExecutionGoesOnBehindABranchAcrossTheEnd) {
  // Not only PC itself: the word fetched next must be the one at the wrapped address.
  auto m = machine();
  m.at(0xfdff) = 0x4bff;  // JSR #1023 -> x01FF
  m.at(0x01ff) = 0x1025;  // ADD R0, R0, #5
  m.at(0x0200) = 0x4c00;  // JSR #-1024 -> xFE01, an empty device address: NOPs up to xFE03
  m->pc = 0xfdff;
  m.step(4);
  EXPECT_EQ(m.r(0), 5);
  EXPECT_EQ(m.r(7), 0x0201);
  EXPECT_EQ(m->pc, 0xfe02);
}

TEST_P(Core, PcWrapsFromTheLastAddressToTheFirst) {
  auto m = machine();
  m.at(0) = 0x1021;  // ADD R0, R0, #1
  m->pc = 0xffff;    // an empty device address reads as x0000, a NOP
  m.step(2);
  EXPECT_EQ(m.r(0), 1);
  EXPECT_EQ(m->pc, 1);
}

TEST_P(Core, DeviceSpaceIsFetchedThroughItsRegisters) {
  auto m = machine();
  m->kbdr = 0x0041;  // BR with an empty mask: a NOP
  m->pc = kKbdr;
  m.step();
  EXPECT_EQ(m->pc, kKbdr + 1);
  m->mcr = 0x9abf;  // NOT R5, R2
  m->pc = kMcr;
  m.r(2) = 0x00ff;
  m.step();
  EXPECT_EQ(m.r(5), 0xff00);
}

// --- Self-modifying code
// -------------------------------------------------------------------------------------------------
TEST_P(Core, AStoreToTheNextWordIsExecuted) {
  auto m = machine().words(0x3000, {0x3000, 0x0000});  // ST R0, #0 -> x3001
  m.r(0) = 0x1267;                                     // ADD R1, R1, #7
  m.step(2);
  EXPECT_EQ(m.r(1), 7);
}

TEST_P(Core, ALoopThatRewritesItsOwnBodyIsExact) {
  // x3001 is incremented each time: ADD R0, R0, #1; ADD R0, R0, #2; ...
  auto m = machine().words(0x3000, {0x2000, 0x1021, 0x2401, 0x0201, 0x0000, 0x14a1, 0x35fa, 0x0ff8});
  m.at(0x3000) = 0x0000;
  m.at(0x3002) = 0x25fe;  // LD R2, #-2 (x3001)
  m.at(0x3003) = 0x14a1;  // ADD R2, R2, #1
  m.at(0x3004) = 0x35fc;  // ST R2, #-4 (x3001)
  m.at(0x3005) = 0x0ffa;  // BRnzp #-6 (x3000)
  m.step(6 * 10);
  EXPECT_EQ(m.r(0), 55);
}

// --- Budgets
// -------------------------------------------------------------------------------------------------------------
TEST_P(Core, BudgetsAreExact) {
  auto m = machine().words(0x3000, {0x1021, 0x0ffe});  // loop: ADD R0, R0, #1; BRnzp loop
  std::uint64_t total = 0;
  for (const std::uint64_t budget : {1u, 2u, 3u, 1000u, 1u, 4097u}) {
    EXPECT_EQ(m.run(budget).stop, StopReason::kBudget);
    EXPECT_EQ(m->result.executed, budget);
    total += budget;
    EXPECT_EQ(m.r(0), (total + 1) / 2);
    EXPECT_EQ(m->pc, 0x3000 + total % 2);
    EXPECT_EQ(m->result.pc, m->pc);
  }
  EXPECT_EQ(m->counters.instructions, total);
}

TEST_P(Core, AnEmptyBudgetExecutesNothing) {
  auto m = machine().words(0x3000, {0x1021});
  EXPECT_EQ(m.run(0).stop, StopReason::kBudget);
  EXPECT_EQ(m->result.executed, 0u);
  EXPECT_EQ(m->pc, 0x3000);
}

TEST_P(Core, BudgetsAreExactAcrossSlowInstructions) {
  auto m = machine().words(0x3000, {0xa002, 0x0ffe, 0, kDsr});  // LDI R0, DSR; BRnzp -2
  for (std::uint64_t budget = 1; budget < 20; ++budget) {
    ASSERT_EQ(m.run(budget).stop, StopReason::kBudget);
    ASSERT_EQ(m->result.executed, budget);
  }
  EXPECT_EQ(m->counters.instructions, 190u);
  EXPECT_EQ(m->pc, 0x3000);
}

}  // namespace
}  // namespace warmfork::lc3
