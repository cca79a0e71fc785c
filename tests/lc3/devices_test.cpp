// Traps, exceptions, interrupts, privilege, devices and the console rings, on both engines.
#include "machine_fixture.hpp"

#include <thread>

namespace warmfork::lc3 {
namespace {

constexpr std::uint32_t kNative = kNativeTraps;

/// Words to poll KBSR: loop: LDI R0, KBSR; BRzp loop.
Machine& poll_loop(Machine& m) { return m.words(0x3000, {0xa002, 0x07fe, 0, kKbsr}); }

// --- TRAP and RTI
// --------------------------------------------------------------------------------------------------------
class Traps : public EngineTest {};
WARMFORK_ON_EVERY_ENGINE(Traps);

TEST_P(Traps, ThirdEditionTrapPushesPsrThenPcOnTheSupervisorStack) {
  auto m = machine().words(0x3000, {0x1021, 0xf040}).words(0x0040, {0x0400});  // ADD R0, R0, #1; TRAP x40
  m.r(6) = 0x4000, m.r(7) = 0x7777;
  m.step(2);
  EXPECT_EQ(m->pc, 0x0400);
  EXPECT_EQ(m.at(0x2fff), 0x8001) << "PSR of the caller";
  EXPECT_EQ(m.at(0x2ffe), 0x3002) << "return address";
  EXPECT_EQ(m.r(6), 0x2ffe);
  EXPECT_EQ(m->saved_usp, 0x4000);
  EXPECT_EQ(psr(*m), 0x0001) << "supervisor mode, condition code unchanged";
  EXPECT_EQ(m.r(7), 0x7777);
}

TEST_P(Traps, RtiReturnsToUserModeWithItsStackAndConditionCode) {
  auto m = machine().words(0x3000, {0x103f, 0xf040}).words(0x0040, {0x0400}).words(0x0400, {0x1261, 0x8000});
  m.r(6) = 0x4000;
  m.step(4);
  EXPECT_EQ(m->pc, 0x3002);
  EXPECT_EQ(m.r(6), 0x4000);
  EXPECT_EQ(m->saved_ssp, 0x3000);
  EXPECT_EQ(psr(*m), 0x8004) << "N of R0, not P of the routine's ADD";
}

TEST_P(Traps, TrapInSupervisorModeStaysOnTheSameStack) {
  auto m = machine().words(0x3000, {0xf040}).words(0x0040, {0x0400}).words(0x0400, {0x8000});
  set_psr(*m, 0x0302);
  m.r(6) = 0x2800, m->saved_usp = 0x1111;
  m.step();
  EXPECT_EQ(m.r(6), 0x27fe);
  EXPECT_EQ(m.at(0x27ff), 0x0302);
  m.step();
  EXPECT_EQ(m->pc, 0x3001);
  EXPECT_EQ(m.r(6), 0x2800);
  EXPECT_EQ(psr(*m), 0x0302);
  EXPECT_EQ(m->saved_usp, 0x1111);
}

TEST_P(Traps, SecondEditionTrapKeepsItsReturnAddressInR7) {
  auto m = machine(kSecondEdition).words(0x3000, {0xf040}).words(0x0040, {0x0400}).words(0x0400, {0xc1c0});
  m.step();
  EXPECT_EQ(m->pc, 0x0400);
  EXPECT_EQ(m.r(7), 0x3001);
  EXPECT_EQ(m.r(6), 0xfe00);
  EXPECT_EQ(psr(*m), 0x8002);
  m.step();
  EXPECT_EQ(m->pc, 0x3001);
}

TEST_P(Traps, AnEmptyVectorStopsTheMachineAndNamesIt) {
  auto m = machine().words(0x3000, {0x0000, 0xf037});
  EXPECT_EQ(m.run(10).stop, StopReason::kUnhandledTrap);
  EXPECT_EQ(m->result.vector, 0x37u);
  EXPECT_EQ(m->result.executed, 1u);
  EXPECT_EQ(m->pc, 0x3001);
}

TEST_P(Traps, AnEmptyVectorMayBeRunInto) {
  auto m = machine(kRunIntoEmptyVectors).words(0x3000, {0xf037});
  m.step();
  EXPECT_EQ(m->pc, 0x0000);
}

TEST_P(Traps, RtiWithSeveralConditionCodesTakesNThenZ) {
  auto m = machine().words(0x3000, {0x8000});
  for (const auto& [popped, expected] :
       {std::pair{0x8007, 0x8004}, {0x8003, 0x8002}, {0x8000, 0x8002}, {0x8001, 0x8001}}) {
    m->pc = 0x3000;
    set_psr(*m, 0x0002);
    m.r(6) = 0x2000;
    m.words(0x2000, {0x3500, static_cast<std::uint16_t>(popped)});
    m.step();
    EXPECT_EQ(m->pc, 0x3500);
    EXPECT_EQ(psr(*m), expected);
  }
}

// --- Exceptions
// ----------------------------------------------------------------------------------------------------------
class Exceptions : public EngineTest {};
WARMFORK_ON_EVERY_ENGINE(Exceptions);

TEST_P(Exceptions, IllegalOpcodePushesTheAddressOfTheInstructionItself) {
  auto m = machine().words(0x3000, {0x0000, 0xd123}).words(0x0101, {0x0600});
  m.step(2);
  EXPECT_EQ(m->pc, 0x0600);
  EXPECT_EQ(m.at(0x2ffe), 0x3001);
  EXPECT_EQ(m.at(0x2fff), 0x8002);
  EXPECT_EQ(m->counters.exceptions, 1u);
}

TEST_P(Exceptions, WithoutARoutineTheMachineStopsAndNamesIt) {
  auto m = machine().words(0x3000, {0xd000});
  EXPECT_EQ(m.run(10).stop, StopReason::kUnhandledException);
  EXPECT_EQ(m->result.vector, kIllegalOpcodeException);
  EXPECT_EQ(m->result.executed, 0u);
  EXPECT_EQ(m->pc, 0x3000);
}

TEST_P(Exceptions, RtiInUserModeIsAPrivilegeException) {
  auto m = machine().words(0x3000, {0x8000}).words(0x0100, {0x0600});
  m.step();
  EXPECT_EQ(m->pc, 0x0600);
  EXPECT_EQ(m.at(0x2ffe), 0x3000);
  EXPECT_EQ(psr(*m) & kPsrUser, 0);
}

TEST_P(Exceptions, RelaxedPrivilegeLetsUserProgramsReachEverything) {
  auto m = machine().words(0x3000, {0x6040, 0x7041, 0xc080});  // LDR R0, R1, #0; STR R0, R1, #1; JMP R2
  m.at(0x0200) = 77;
  m.r(1) = 0x0200, m.r(2) = 0x0100;
  m.step(3);
  EXPECT_EQ(m.at(0x0201), 77);
  EXPECT_EQ(m->pc, 0x0100);
}

// Strict privilege is the careful engine's alone.
class Strict : public ::testing::Test {
 protected:
  Machine m{Engine::kCareful, kStrictPrivilege};
  void expect_refused(std::uint16_t pc, std::uint16_t address) {
    EXPECT_EQ(m.run(1).stop, StopReason::kUnhandledException);
    EXPECT_EQ(m->result.vector, kAccessException);
    EXPECT_EQ(m->result.address, address);
    EXPECT_EQ(m->pc, pc);
    EXPECT_EQ(m->result.executed, 0u);
  }
};

TEST_F(Strict, UserLoadsAndStoresOutsideUserSpaceAreRefused) {
  m.words(0x3000, {0x6040, 0x7040, 0xa020, 0xb01f}).words(0x3023, {0x2fff});
  m.r(0) = 5;
  for (const int number : {0x0000, 0x2fff, 0xfe00, 0xffff}) {
    const auto address = static_cast<std::uint16_t>(number);
    m.r(1) = address;
    m->pc = 0x3000;
    expect_refused(0x3000, address);
    m->pc = 0x3001;
    expect_refused(0x3001, address);
  }
  m->pc = 0x3002;
  m.at(0x3023) = 0x2fff;
  expect_refused(0x3002, 0x2fff);
  m->pc = 0x3003;
  expect_refused(0x3003, 0x2fff);
  EXPECT_EQ(m.r(0), 5);
  EXPECT_EQ(m.at(0x2fff), 0);
  EXPECT_FALSE(can_run_fast(*m));
}

TEST_F(Strict, UserSpaceEndsAtXFdff) {
  m.words(0x3000, {0x6040});
  m.at(0xfdff) = 3;
  m.r(1) = 0xfdff;
  m.step();
  EXPECT_EQ(m.r(0), 3);
}

TEST_F(Strict, UserFetchOutsideUserSpaceIsRefusedAtTheTarget) {
  m.words(0x3000, {0xc040}).words(0x0102, {0x0600});
  m.r(1) = 0x0200;
  m.step(2);
  EXPECT_EQ(m->pc, 0x0600);
  EXPECT_EQ(m.at(0x2ffe), 0x0200);
}

TEST_F(Strict, SupervisorModeReachesEverything) {
  m.words(0x0200, {0x6040});
  m.at(0x0300) = 9;
  m.r(1) = 0x0300;
  set_psr(*m, 0x0002);
  m->pc = 0x0200;
  m.step();
  EXPECT_EQ(m.r(0), 9);
}

TEST_F(Strict, TrapsReachTheOsAndReturn) {
  m.words(0x3000, {0xf040}).words(0x0040, {0x0400}).words(0x0400, {0x8000});
  m.step(2);
  EXPECT_EQ(m->pc, 0x3001);
}

TEST_F(Strict, SecondEditionHasNoAccessControl) {
  m->config |= kSecondEdition;
  m.words(0x3000, {0x6040});
  m.r(1) = 0x0200;
  m.step();
  EXPECT_TRUE(can_run_fast(*m));
}

// --- Devices
// -------------------------------------------------------------------------------------------------------------
class Devices : public EngineTest {};
WARMFORK_ON_EVERY_ENGINE(Devices);

TEST_P(Devices, ReadingKbdrTakesTheCharacterAndClearsReady) {
  auto m = machine().words(0x3000, {0x6040, 0x6441, 0x6242});  // LDR R0,R1,#0; LDR R2,R1,#1; LDR R1,R1,#2
  m.feed("Z");
  m.r(1) = kKbsr;
  m.step(2);
  EXPECT_EQ(m.r(0), kReady);
  EXPECT_EQ(m.r(2), 0) << "xFE01 is no register";
  m.step();
  EXPECT_EQ(m.r(1), 'Z');
  EXPECT_EQ(peek(*m, kKbsr), 0);
  EXPECT_EQ(peek(*m, kKbdr), 'Z') << "KBDR keeps the last character";
  EXPECT_EQ(m->counters.input_bytes, 1u);
}

TEST_P(Devices, DdrPrintsTheLowByte) {
  auto m = machine().words(0x3000, {0xb001, 0x0000, kDdr});  // STI R0, #1
  m.r(0) = 0x4141;
  m.step();
  EXPECT_EQ(m.drain(), "A");
}

TEST_P(Devices, AFullOutputRingStopsBeforeTheStore) {
  auto m = machine().words(0x3000, {0xb001, 0x0000, kDdr});
  m.fill_output(0);
  EXPECT_EQ(m.run(5).stop, StopReason::kOutputFull);
  EXPECT_EQ(m->result.executed, 0u);
  EXPECT_EQ(m->pc, 0x3000);
  m->output.tail += 1;
  m.r(0) = 'x';
  m.step();
  EXPECT_EQ(m->output.data[(m->output.head - 1) % kOutputCapacity], 'x');
}

TEST_P(Devices, DsrIsReadyOrStopsTheMachine) {
  auto m = machine().words(0x3000, {0xa001, 0x0000, kDsr});
  m.step();
  EXPECT_EQ(m.r(0), kReady);
  m->pc = 0x3000;
  m.fill_output(0);
  EXPECT_EQ(m.run(5).stop, StopReason::kOutputFull);
}

TEST_P(Devices, ACorruptOutputCursorCountsAsAFullRing) {
  auto m = machine().words(0x3000, {0xb001, 0x0000, kDdr});
  m->output.tail = m->output.head + 5;
  EXPECT_EQ(m.run(5).stop, StopReason::kOutputFull);
}

TEST_P(Devices, PsrCanBeReadAndWritten) {
  auto m = machine().words(0x3000, {0xa002, 0xb402, 0x0000, kPsr, kPsr});  // LDI R0, PSR; STI R2, PSR
  m.r(2) = 0x7f01;
  m.step();
  EXPECT_EQ(m.r(0), 0x8002);
  m.step();
  EXPECT_EQ(psr(*m), 0x0701) << "only mode, priority and condition code exist";
}

TEST_P(Devices, McrKeepsAllItsBits) {
  auto m = machine().words(0x3000, {0x7040, 0x6440});  // STR R0, R1, #0; LDR R2, R1, #0
  m.r(0) = 0xfdf3, m.r(1) = kMcr;
  m.step(2);
  EXPECT_EQ(m.r(2), 0xfdf3);
  EXPECT_EQ(m->mcr, 0xfdf3);
}

TEST_P(Devices, ClearingMcr15StopsTheClock) {
  auto m = machine().words(0x3000, {0xb002, 0x1021, 0x0000, kMcr});  // STI R0, MCR
  m.r(0) = 0x7fff;
  EXPECT_EQ(m.run(5).stop, StopReason::kHalted);
  EXPECT_EQ(m->result.executed, 1u);
  EXPECT_EQ(m->pc, 0x3001);
  EXPECT_EQ(m.run(5).stop, StopReason::kHalted) << "a stopped clock stays stopped";
  EXPECT_EQ(m->result.executed, 0u);
  m->mcr = kMcrRun;
  m.step();
  EXPECT_EQ(m.r(0), 0x8000);
}

TEST_P(Devices, UnassignedAddressesReadZeroAndIgnoreWrites) {
  auto m = machine().words(0x3000, {0x7040, 0x6440});  // STR R0, R1, #0; LDR R2, R1, #0
  for (std::uint32_t address = kDeviceBase; address < 0x10000; ++address) {
    if (address == kKbsr || address == kDsr || address == kDdr || address == kPsr || address == kMcr) continue;
    m->pc = 0x3000;
    m.r(0) = 0xbeef, m.r(1) = static_cast<std::uint16_t>(address), m.r(2) = 1;
    m.step(2);
    ASSERT_EQ(m.r(2), 0) << std::hex << address;
    ASSERT_EQ(m->memory[address], kTrapWord);
  }
}

// --- Interrupts
// ----------------------------------------------------------------------------------------------------------
class Interrupts : public EngineTest {
 protected:
  // A loop that counts in R0, and a routine that reads KBDR into R1 and returns.
  Machine counting() const {
    auto m = machine();
    m.words(0x3000, {0x1021, 0x0ffe}).words(0x0180, {0x1000}).words(0x1000, {0xa201, 0x8000, kKbdr});
    m->kbsr = kKbsrInterruptEnable;
    m.r(6) = 0x4000;
    return m;
  }
};
WARMFORK_ON_EVERY_ENGINE(Interrupts);

TEST_P(Interrupts, ThePendingInterruptIsTakenBeforeTheNextInstruction) {
  auto m = counting();
  m.step(3);
  m.feed("k");
  m.step();
  EXPECT_EQ(m.r(1), 'k') << "the first instruction is the routine's: taking the interrupt is none";
  EXPECT_EQ(psr(*m) & ~7, 0x0400);
  EXPECT_EQ(m.at(0x2fff), 0x8001);
  EXPECT_EQ(m.at(0x2ffe), 0x3001);
  m.step();
  EXPECT_EQ(psr(*m), 0x8001);
  EXPECT_EQ(m.r(6), 0x4000);
  EXPECT_EQ(m->pc, 0x3001);
  EXPECT_EQ(m->counters.interrupts, 1u);
}

TEST_P(Interrupts, WaitUntilThePriorityIsBelowFour) {
  auto m = counting();
  m.feed("k");
  for (const int priority : {7, 5, 4}) {
    set_psr(*m, static_cast<std::uint16_t>(0x8002 | priority << 8));
    m.step(5);
    ASSERT_EQ(m->counters.interrupts, 0u);
  }
  set_psr(*m, 0x8302);
  m.step();
  EXPECT_EQ(m->counters.interrupts, 1u);
}

TEST_P(Interrupts, AreTakenAsSoonAsTheProgramEnablesThem) {
  auto m = counting();
  m->kbsr = 0;
  m.words(0x3000, {0xb402, 0x1021, 0x0ffe, kKbsr});  // STI R2, KBSR; loop
  m.r(2) = kKbsrInterruptEnable;
  m.feed("e");
  m.step(2);
  EXPECT_EQ(m.r(0), 0);
  EXPECT_EQ(m.r(1), 'e');
  EXPECT_EQ(m.at(0x2ffe), 0x3001);
}

TEST_P(Interrupts, TheNextCharacterInterruptsAgainAfterRti) {
  auto m = counting();
  m.feed("ab");
  m.step(3);
  EXPECT_EQ(m.r(1), 'b');
  EXPECT_EQ(m->counters.interrupts, 2u);
}

TEST_P(Interrupts, WithoutARoutineTheMachineStopsAndNamesIt) {
  auto m = counting();
  m.at(0x0180) = 0;
  m.feed("k");
  EXPECT_EQ(m.run(9).stop, StopReason::kUnhandledInterrupt);
  EXPECT_EQ(m->result.vector, kKeyboardInterrupt);
  EXPECT_EQ(m->result.executed, 0u);
}

TEST_P(Interrupts, LongRunsStayExactWhileTheyPoll) {
  auto m = counting();
  EXPECT_EQ(m.run(100'001).stop, StopReason::kBudget);
  EXPECT_EQ(m->result.executed, 100'001u);
  EXPECT_EQ(m.r(0), 50'001);
}

// --- Native traps
// --------------------------------------------------------------------------------------------------------
class NativeTraps : public EngineTest {
 protected:
  Machine calling(std::uint16_t trap, std::uint32_t config = kNative) const {
    auto m = machine(config).words(0x3000, {static_cast<std::uint16_t>(0xf000 | trap), 0x0000});
    capture_trap_vectors(*m);
    return m;
  }
};
WARMFORK_ON_EVERY_ENGINE(NativeTraps);

TEST_P(NativeTraps, GetcReadsWithoutEchoAndLeavesTheRestAlone) {
  auto m = calling(0x20);
  m.feed("q");
  m->last_result = 0x8000;
  m.r(0) = 0xffff, m.r(7) = 0x7777;
  m.step();
  EXPECT_EQ(m.r(0), 'q');
  EXPECT_EQ(m.r(7), 0x7777);
  EXPECT_EQ(m.cc(), kPsrN);
  EXPECT_EQ(m.at(0x2fff), 0) << "the supervisor stack is not used";
  EXPECT_EQ(m.drain(), "");
  EXPECT_EQ(m->counters.native_traps, 1u);
}

TEST_P(NativeTraps, SecondEditionLeavesTheReturnAddressInR7) {
  for (const std::uint16_t trap : std::initializer_list<std::uint16_t>{0x21, 0x22, 0x24}) {
    auto m = calling(trap, kNative | kSecondEdition);
    m.r(0) = 0x5000;
    m.step();
    EXPECT_EQ(m.r(7), 0x3001);
  }
}

TEST_P(NativeTraps, OutPrintsTheLowByte) {
  auto m = calling(0x21);
  m.r(0) = 0x1242;
  m.step();
  EXPECT_EQ(m.drain(), "B");
}

TEST_P(NativeTraps, PutsPrintsOneCharacterPerWord) {
  auto m = calling(0x22).words(0x4000, {'H', 'i', 0xff21, 0, 'x'});
  m.r(0) = 0x4000;
  m.step();
  EXPECT_EQ(m.drain(), "Hi!");
  EXPECT_EQ(m.r(0), 0x4000);
}

TEST_P(NativeTraps, PutspPrintsTwoCharactersPerWordAndStopsAtEitherNul) {
  auto m = calling(0x24).words(0x4000, {'a' | 'b' << 8, 'c', 'x'}).words(0x5000, {'d' | 'e' << 8, 'f' << 8});
  m.r(0) = 0x4000;
  m.step();
  EXPECT_EQ(m.drain(), "abc");
  m->pc = 0x3000;
  m.r(0) = 0x5000;
  m.step();
  EXPECT_EQ(m.drain(), "de");
}

TEST_P(NativeTraps, PutsGoesOnWhereAFullRingStoppedIt) {
  auto m = calling(0x22).words(0x4000, {'1', '2', '3', '4', '5', 0});
  m.r(0) = 0x4000;
  m.fill_output(2);
  EXPECT_EQ(m.run(1).stop, StopReason::kOutputFull);
  EXPECT_EQ(m->result.executed, 0u);
  EXPECT_EQ(m->pc, 0x3000);
  EXPECT_EQ(m.drain().substr(kOutputCapacity - 2), "12");
  m.step();
  EXPECT_EQ(m.drain(), "345");
}

// A native trap is one instruction, also when a full ring divides it: an interrupt comes before it or after it.
TEST_P(NativeTraps, AnInterruptWaitsForAStringThatHasBegun) {
  auto m = calling(0x22).words(0x4000, {'1', '2', '3', '4', '5', 0}).words(0x0180, {0x4800});
  m.r(0) = 0x4000;
  m.fill_output(2);
  EXPECT_EQ(m.run(1).stop, StopReason::kOutputFull);
  EXPECT_EQ(m.drain().substr(kOutputCapacity - 2), "12");
  m->kbsr = kKbsrInterruptEnable;
  m.feed("k");
  m.step();
  EXPECT_EQ(m.drain(), "345");
  EXPECT_EQ(m->pc, 0x3001);
  EXPECT_EQ(m->counters.interrupts, 0u);
  m.run(1);
  EXPECT_EQ(m->counters.interrupts, 1u);
}

TEST_P(NativeTraps, PutspGoesOnInTheMiddleOfAWord) {
  auto m = calling(0x24).words(0x4000, {'1' | '2' << 8, '3' | '4' << 8, 0});
  m.r(0) = 0x4000;
  m.fill_output(1);
  EXPECT_EQ(m.run(1).stop, StopReason::kOutputFull);
  m.drain();
  m.step();
  EXPECT_EQ(m.drain(), "234");
}

TEST_P(NativeTraps, AnInterruptedStringIsForgottenWhenTheDebuggerMovesOn) {
  auto m = calling(0x22).words(0x4000, {'1', '2', '3', 0}).words(0x5000, {'a', 'b', 0});
  m.r(0) = 0x4000;
  m.fill_output(2);
  EXPECT_EQ(m.run(1).stop, StopReason::kOutputFull);
  m.drain();
  m.r(0) = 0x5000;
  m.step();
  EXPECT_EQ(m.drain(), "ab");
}

TEST_P(NativeTraps, PutsIsTheSameTwiceInARow) {
  auto m = calling(0x22).words(0x4000, {'1', '2', 0});
  m.at(0x3001) = 0x0ffe;  // BRnzp -2
  m.r(0) = 0x4000;
  m.step(3);
  EXPECT_EQ(m.drain(), "1212");
}

TEST_P(NativeTraps, AStringWithoutEndStopsAfterTheWholeMemory) {
  auto m = calling(0x24);
  for (std::uint32_t address = 0; address < kDeviceBase; ++address) {
    if (address != 0x24 && address != 0x3000) m.at(static_cast<std::uint16_t>(address)) = 0x4141;
  }
  m.r(0) = 0x3001;
  std::size_t printed = 0;
  while (m.run(1).stop == StopReason::kOutputFull) printed += m.drain().size();
  EXPECT_EQ(m->result.executed, 1u);
  printed += m.drain().size();
  EXPECT_EQ(printed, 2u * (kDeviceBase - 0x3001)) << "xFE00, an idle KBSR, reads as zero";
}

TEST_P(NativeTraps, InPromptsOnceEchoesAndAddsNoNewline) {
  auto m = calling(0x23);
  EXPECT_EQ(m.run(1).stop, StopReason::kInputNeeded);
  EXPECT_EQ(m.run(1).stop, StopReason::kInputNeeded);
  m.feed("y");
  m.step();
  EXPECT_EQ(m.r(0), 'y');
  EXPECT_EQ(m.drain(), "Input a character> y");
}

TEST_P(NativeTraps, InSurvivesAFullRingAtAnyCharacter) {
  for (std::uint32_t room = 0; room <= 20; ++room) {
    auto m = calling(0x23);
    m.feed("y");
    m.fill_output(room);
    std::string text;
    if (m.run(1).stop == StopReason::kOutputFull) {
      ASSERT_LT(room, 20u);
      text = m.drain().substr(kOutputCapacity - room);
      m.step();
      text += m.drain();
    } else {
      ASSERT_EQ(room, 20u);
      text = m.drain().substr(kOutputCapacity - room);
    }
    EXPECT_EQ(text, "Input a character> y");
    EXPECT_EQ(m->counters.input_bytes, 1u);
  }
}

TEST_P(NativeTraps, HaltPrintsNothingAndCounts) {
  auto m = calling(0x25);
  EXPECT_EQ(m.run(7).stop, StopReason::kHalted);
  EXPECT_EQ(m->result.executed, 1u);
  EXPECT_EQ(m->pc, 0x3001);
  EXPECT_EQ(m->mcr & kMcrRun, 0);
  EXPECT_EQ(m.drain(), "");
}

TEST_P(NativeTraps, AReplacedVectorGoesToTheProgramsRoutine) {
  auto m = calling(0x21);
  m.at(0x21) = 0x0500;
  m.step();
  EXPECT_EQ(m->pc, 0x0500);
  EXPECT_EQ(m->counters.os_traps, 1u);
  m.at(0x21) = 0;  // put back: native again
  m->pc = 0x3000;
  m.step();
  EXPECT_EQ(m->pc, 0x3001);
}

TEST_P(NativeTraps, NothingIsNativeBeforeVectorsAreCapturedOrWhenTurnedOff) {
  auto off = calling(0x25, 0);
  EXPECT_EQ(off.run(1).stop, StopReason::kUnhandledTrap);
  auto uncaptured = machine(kNative).words(0x3000, {0xf025});
  EXPECT_EQ(uncaptured.run(1).stop, StopReason::kUnhandledTrap);
}

// --- Input, its end, idleness
// --------------------------------------------------------------------------------------------
class Input : public EngineTest {};
WARMFORK_ON_EVERY_ENGINE(Input);

TEST_P(Input, BlockingReadsStopUntilInputComesOrEnds) {
  auto m = machine(kNative).words(0x3000, {0xf020});
  capture_trap_vectors(*m);
  EXPECT_EQ(m.run(9).stop, StopReason::kInputNeeded);
  EXPECT_EQ(m->result.executed, 0u);
  EXPECT_EQ(m->pc, 0x3000);
  m.feed("1");
  close_input(*m);
  m.step();
  EXPECT_EQ(m.r(0), '1');
  m->pc = 0x3000;
  EXPECT_EQ(m.run(9).stop, StopReason::kInputExhausted);
  EXPECT_EQ(m.run(9).stop, StopReason::kInputExhausted);
  EXPECT_EQ(m->result.executed, 0u);
}

TEST_P(Input, TheRingTakesItsCapacityAndNoMore) {
  auto m = machine();
  const std::vector<std::uint8_t> bytes(kInputCapacity + 10, 'i');
  EXPECT_EQ(feed_input(*m, bytes.data(), kInputCapacity + 10), kInputCapacity);
  EXPECT_EQ(feed_input(*m, bytes.data(), 1), 0u);
}

TEST_P(Input, RingsWrapWithoutLosingBytes) {
  auto m = machine(kNative).words(0x3000, {0xf020, 0xf021, 0x0ffd});  // GETC; OUT; BRnzp
  capture_trap_vectors(*m);
  // Cursors are about to overflow 32 bits, not only the ring.
  m->input.head = m->input.tail = 0xffffff00;
  m->output.head = m->output.tail = 0xffffff80;
  std::string sent, received;
  for (int round = 0; round < 40; ++round) {
    std::string chunk;
    for (int i = 0; i < 333; ++i) chunk += static_cast<char>(' ' + (round * 333 + i) % 90);
    m.feed(chunk);
    sent += chunk;
    ASSERT_EQ(m.run(1'000'000).stop, StopReason::kInputNeeded);
    received += m.drain();
  }
  EXPECT_EQ(received, sent);
}

TEST_P(Input, APollingLoopIsIdleOnceProven) {
  auto m = machine(kDetectIdle);
  poll_loop(m);
  EXPECT_EQ(m.run(1'000'000).stop, StopReason::kIdle);
  EXPECT_LT(m->result.executed, 20u);
  EXPECT_EQ(m->result.executed, m->counters.instructions);
  m.feed("p");
  EXPECT_EQ(m.run(2).stop, StopReason::kBudget);
  EXPECT_EQ(m.r(0), kReady);
}

TEST_P(Input, APollingLoopAfterTheEndOfInputIsExhausted) {
  auto m = machine(kDetectIdle);
  poll_loop(m);
  close_input(*m);
  EXPECT_EQ(m.run(1'000'000).stop, StopReason::kInputExhausted);
}

TEST_P(Input, ALoopThatPollsAtTwoPlacesIsIdleToo) {
  auto m = machine(kDetectIdle).words(0x3000, {0xa004, 0x0801, 0xa002, 0x07fc, 0, kKbsr});
  EXPECT_EQ(m.run(1'000'000).stop, StopReason::kIdle);
}

TEST_P(Input, ALoopThatCountsInARegisterIsNotIdle) {
  auto m = machine(kDetectIdle).words(0x3000, {0x1261, 0xa002, 0x07fd, 0, kKbsr});
  EXPECT_EQ(m.run(100'000).stop, StopReason::kBudget);
}

TEST_P(Input, ALoopThatCountsInMemoryIsNotIdle) {
  // The registers are the same at every poll; the store in between is what counts.
  auto m = machine(kDetectIdle)
               .words(0x3000, {0x2206,  // LD R1, counter
                               0x1261,  // ADD R1, R1, #1
                               0x3204,  // ST R1, counter
                               0x5260,  // AND R1, R1, #0
                               0xa003,  // LDI R0, KBSR
                               0x07fa,  // BRzp
                               0, 0, kKbsr});
  EXPECT_EQ(m.run(100'000).stop, StopReason::kBudget);
  EXPECT_GT(m.at(0x3007), 10'000);
}

TEST_P(Input, ALoopThatPrintsIsNotIdle) {
  auto m = machine(kDetectIdle | kNative).words(0x3000, {0xa003, 0xf021, 0x0ffd, 0, kKbsr});
  capture_trap_vectors(*m);
  EXPECT_EQ(m.run(3'000).stop, StopReason::kBudget);
}

TEST_P(Input, IdleDetectionCanBeTurnedOff) {
  auto m = machine();
  poll_loop(m);
  EXPECT_EQ(m.run(100'001).stop, StopReason::kBudget);
  EXPECT_EQ(m->result.executed, 100'001u);
}

TEST_P(Input, APollStopsForOutputThatNobodyHasSeen) {
  auto m = machine(kStopForOutput);
  poll_loop(m);
  m->output.data[0] = '>';
  m->output.head = 1;
  EXPECT_EQ(m.run(100).stop, StopReason::kOutputPending);
  EXPECT_EQ(m->result.executed, 0u);
  EXPECT_EQ(m.drain(), ">");
  EXPECT_EQ(m.run(100).stop, StopReason::kBudget);
}

TEST_P(Input, APointerReadFromKbdrTakesOneCharacter) {
  auto m = machine();
  m.at(0xfdff) = 0xb002;  // STI R0, #2: the pointer is KBDR
  m->pc = 0xfdff;
  m.r(0) = 0x1234;
  m.feed("ab");
  m.step();
  EXPECT_EQ(m.at('a'), 0x1234);
  EXPECT_EQ(input_waiting(*m), 1u);
}

TEST_P(Input, AnotherThreadMayServeTheRings) {
  auto m = machine(kNative).words(0x3000, {0xf020, 0xf021, 0x0ffd});  // GETC; OUT; BRnzp
  capture_trap_vectors(*m);
  constexpr std::uint32_t kBytes = 50'000;
  std::vector<std::uint8_t> received;
  std::thread host([&] {
    std::uint32_t sent = 0;
    while (received.size() < kBytes) {
      std::uint8_t chunk[200];
      std::uint32_t count = 0;
      for (; count < sizeof chunk && sent + count < kBytes; ++count) {
        chunk[count] = static_cast<std::uint8_t>((sent + count) % 251);
      }
      sent += feed_input(*m, chunk, count);
      count = drain_output(*m, chunk, sizeof chunk);
      received.insert(received.end(), chunk, chunk + count);
      if (sent == kBytes) close_input(*m);
      if (count == 0) std::this_thread::yield();
    }
  });
  StopReason stop = StopReason::kNone;
  while (stop != StopReason::kInputExhausted) {
    stop = m.run(100'000).stop;
    if (stop == StopReason::kInputNeeded || stop == StopReason::kOutputFull) std::this_thread::yield();
  }
  host.join();
  ASSERT_EQ(received.size(), kBytes);
  for (std::uint32_t i = 0; i < kBytes; ++i) ASSERT_EQ(received[i], i % 251);
}

}  // namespace
}  // namespace warmfork::lc3
