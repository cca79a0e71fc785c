// The two engines are one machine: random programs must leave them in the same state. And what only the careful engine
// does: statistics, breakpoints, watchpoints.
#include "machine_fixture.hpp"

#include <memory>
#include <random>

namespace warmfork::lc3 {
namespace {

void expect_same(const State& a, const State& b) {
  for (unsigned n = 0; n < 8; ++n) ASSERT_EQ(a.registers[n], b.registers[n]) << "R" << n;
  ASSERT_EQ(a.pc, b.pc);
  ASSERT_EQ(psr(a), psr(b));
  ASSERT_EQ(a.saved_ssp, b.saved_ssp);
  ASSERT_EQ(a.saved_usp, b.saved_usp);
  ASSERT_EQ(a.kbsr, b.kbsr);
  ASSERT_EQ(a.kbdr, b.kbdr);
  ASSERT_EQ(a.mcr, b.mcr);
  ASSERT_EQ(a.result.stop, b.result.stop);
  ASSERT_EQ(a.result.executed, b.result.executed);
  ASSERT_EQ(a.result.vector, b.result.vector);
  ASSERT_EQ(a.counters.instructions, b.counters.instructions);
  ASSERT_EQ(a.counters.interrupts, b.counters.interrupts);
  ASSERT_EQ(a.counters.exceptions, b.counters.exceptions);
  ASSERT_EQ(a.input.tail, b.input.tail);
  ASSERT_EQ(a.output.head, b.output.head);
  ASSERT_EQ(std::memcmp(a.output.data, b.output.data, kOutputCapacity), 0);
  ASSERT_EQ(std::memcmp(a.guard_low, b.guard_low, sizeof(State) - offsetof(State, guard_low)), 0);
  for (std::uint32_t address = kDeviceBase; address < kMemoryWords; ++address) ASSERT_EQ(a.memory[address], kTrapWord);
  for (const std::uint16_t word : a.guard_low) ASSERT_EQ(word, kTrapWord);
  for (const std::uint16_t word : a.guard_high) ASSERT_EQ(word, kTrapWord);
}

/// A word that is an instruction of any operation, all of them equally likely.
std::uint16_t random_instruction(std::mt19937& random) {
  const InstructionInfo& entry = kInstructions[random() % kOperationCount];
  return static_cast<std::uint16_t>(entry.match | (random() & ~entry.mask & 0xffffu));
}

struct Variant {
  const char* name;
  std::uint32_t config;
};

class Engines : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(
    Configs, Engines,
    ::testing::Values(Variant{"third", kRunIntoEmptyVectors}, Variant{"second", kRunIntoEmptyVectors | kSecondEdition},
                      Variant{"native", kNativeTraps | kRunIntoEmptyVectors},
                      Variant{"native_second", kNativeTraps | kRunIntoEmptyVectors | kSecondEdition},
                      Variant{"stopping", kDefaultConfig}),
    [](const auto& param) { return std::string(param.param.name); });

TEST_P(Engines, RandomProgramsLeaveAllInTheSameState) {
  for (const Engine engine : kFastEngines) {
    const unsigned first_seed = 20'000;
    for (unsigned seed = first_seed; seed < first_seed + kRandomPrograms; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      std::mt19937 random(seed);
      Machine fast(engine, GetParam().config), careful(Engine::kCareful, GetParam().config);
      // Sparse programs run far; dense random memory exercises the rare paths. Vectors lead back into the program.
      for (Machine* m : {&fast, &careful}) {
        std::mt19937 same(seed + 1);
        if (seed % 2 == 0) randomise(**m, seed);
        for (unsigned address = 0; address < 0x200; ++address)
          m->at(static_cast<std::uint16_t>(address)) = 0x3000 + same() % 64;
        for (unsigned i = 0; i < 256; ++i) m->at(static_cast<std::uint16_t>(0x3000 + i)) = random_instruction(same);
        capture_trap_vectors(**m);
        for (unsigned n = 0; n < 8; ++n) {
          // Pointers to interesting places: the program itself, both ends of memory, device registers.
          static constexpr std::uint16_t kPlaces[] = {0x3000, 0x3080, 0x0000, 0xfe00, 0xfdff, 0xffff, kDdr - 1, kPsr};
          m->r(n) = static_cast<std::uint16_t>(kPlaces[same() % 8] + same() % 4);
        }
        m->feed("Some input that the program may or may not read.");
      }
      for (int slice = 0; slice < 12; ++slice) {
        const std::uint64_t budget = random() % 700;
        fast.run(budget), careful.run(budget);
        ASSERT_NO_FATAL_FAILURE(expect_same(*fast, *careful)) << "slice " << slice;
        if (random() % 4 == 0) {
          const std::uint16_t kbsr = random() % 2 == 0 ? kKbsrInterruptEnable : 0;
          fast->kbsr = careful->kbsr = kbsr;
        }
        if (fast->result.stop == StopReason::kHalted) fast->mcr = careful->mcr = kMcrRun;
        if (fast->result.stop == StopReason::kOutputFull || fast->result.stop == StopReason::kOutputPending) {
          ASSERT_EQ(fast.drain(), careful.drain());
        }
        if (fast->result.stop >= StopReason::kUnhandledException) {
          fast->pc = careful->pc = static_cast<std::uint16_t>(0x3000 + random() % 256);
        }
      }
    }
  }
}

// The fast engine keeps carries above bit 15 of its registers: no address, jump or condition may see them. One run, as
// registers lose their carries when a run ends.
TEST_P(Engines, CarriesReachNeitherAddressesNorConditions) {
  constexpr std::uint16_t kSums[] = {
      0x1642,  // ADD R3, R1, R2: xFFFF + x3011
      0x1665,  // ADD R3, R1, #5
      0x173f,  // ADD R3, R4, #-1, R4 = 0
      0x973f,  // NOT R3, R4
      0x56c3,  // AND R3, R3, R3, of whatever is there
  };
  constexpr std::uint16_t kUses[] = {
      0xc0c0,  // JMP R3
      0x40c0,  // JSRR R3
      0x6ac0,  // LDR R5, R3, #0
      0x7ac1,  // STR R5, R3, #1
      0x0402,  // BRz #2
      0x0802,  // BRn #2
      0x0202,  // BRp #2
      0x36c0,  // ST R3
      0xf021,  // TRAP x21
  };
  for (const std::uint16_t sum : kSums) {
    for (const std::uint16_t use : kUses) {
      SCOPED_TRACE(::testing::Message() << std::hex << sum << " " << use);
      Machine fast(Engine::kFast, GetParam().config), careful(Engine::kCareful, GetParam().config);
      for (Machine* m : {&fast, &careful}) {
        m->r(1) = 0xffff;
        m->r(2) = 0x3011;
        m->r(5) = 0x1234;
        const std::uint16_t program[] = {sum, 0x16c3, sum, use, 0x1da1, 0x1da1};  // R6 += 1
        for (unsigned i = 0; i < std::size(program); ++i) m->at(static_cast<std::uint16_t>(0x3000 + i)) = program[i];
        m->at(0x3010) = m->at(0x0004) = 0x1da1;  // shows where a jump went
        m->run(5);
      }
      ASSERT_NO_FATAL_FAILURE(expect_same(*fast, *careful));
    }
  }
}

TEST_P(Engines, HowARunIsCutIntoBudgetsDoesNotMatter) {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    Machine whole(Engine::kFast, GetParam().config & ~(kDetectIdle | kStopForOutput));
    Machine cut(Engine::kFast, GetParam().config & ~(kDetectIdle | kStopForOutput));
    for (Machine* m : {&whole, &cut}) {
      std::mt19937 same(seed);
      for (unsigned address = 0; address < 0x200; ++address) m->at(static_cast<std::uint16_t>(address)) = 0x3000;
      for (unsigned i = 0; i < 64; ++i) m->at(static_cast<std::uint16_t>(0x3000 + i)) = random_instruction(same);
      capture_trap_vectors(**m);
      m->feed("0123456789");
      (*m)->kbsr = seed % 2 == 0 ? kKbsrInterruptEnable : 0;
    }
    const std::uint64_t executed = whole.run(3000).executed;
    std::uint64_t total = 0;
    while (total < executed) {
      const std::uint64_t budget = std::min<std::uint64_t>(1 + random() % 100, executed - total);
      ASSERT_EQ(cut.run(budget).executed, budget);
      total += budget;
    }
    whole->result = cut->result = {};
    ASSERT_NO_FATAL_FAILURE(expect_same(*whole, *cut));
  }
}

TEST(Trace, RecordsTheMachineAfterEachInstruction) {
  Machine m(Engine::kFast);
  m.words(0x3000, {0x1021, 0x1261, 0xf037});
  TraceRecord records[5] = {};
  EXPECT_EQ(trace(*m, 5, records), 2u);
  EXPECT_EQ(records[0].registers[0], 1);
  EXPECT_EQ(records[0].registers[1], 0);
  EXPECT_EQ(records[0].pc, 0x3001);
  EXPECT_EQ(records[0].psr, 0x8001);
  EXPECT_EQ(records[1].registers[1], 1);
  EXPECT_EQ(m->result.stop, StopReason::kUnhandledTrap);
}

TEST(Trace, IncludesTheInstructionThatHalts) {
  Machine m(Engine::kFast, kNativeTraps);
  m.words(0x3000, {0x1021, 0xf025});
  capture_trap_vectors(*m);
  TraceRecord records[5] = {};
  EXPECT_EQ(trace(*m, 5, records), 2u);
  EXPECT_EQ(m->result.stop, StopReason::kHalted);
}

// --- Instrumentation
// -----------------------------------------------------------------------------------------------------
class Instrumented : public ::testing::Test {
 protected:
  Machine m{Engine::kCareful, kNativeTraps};
  std::unique_ptr<Instrumentation> i = std::make_unique<Instrumentation>();
  const RunResult& run(std::uint64_t budget) { return warmfork::lc3::run(*m, budget, i.get()); }
};

TEST_F(Instrumented, CountsWhatTheProgramDoes) {
  i->collect = 1;
  m.words(0x3000, {0x5020, 0x1023, 0x103f, 0x03fe, 0x2003, 0x3003, 0xf025, 0, 7});
  // AND R0,R0,#0; ADD R0,R0,#3; loop: ADD R0,R0,#-1; BRp loop; LD R0,x3008; ST R0,x3009; HALT
  capture_trap_vectors(*m);
  EXPECT_EQ(run(100).stop, StopReason::kHalted);
  EXPECT_EQ(i->opcodes[0x1], 4u);
  EXPECT_EQ(i->opcodes[0x5], 1u);
  EXPECT_EQ(i->opcodes[0x0], 3u);
  EXPECT_EQ(i->opcodes[0xf], 1u);
  EXPECT_EQ(i->branches_taken[0x3003], 2u);
  EXPECT_EQ(i->branches_not_taken[0x3003], 1u);
  EXPECT_EQ(i->executions[0x3002], 3u);
  EXPECT_EQ(i->executions[0x3007], 0u);
  EXPECT_EQ(i->memory_reads[0x3008], 1u);
  EXPECT_EQ(i->memory_writes[0x3009], 1u);
  EXPECT_EQ(i->memory_reads[0x3009], 0u);
  EXPECT_EQ(i->register_writes[0], 6u);  // AND, four ADDs, LD
  EXPECT_EQ(i->register_reads[0], 6u);   // AND, four ADDs, ST
}

TEST_F(Instrumented, AnInstructionThatHasToWaitCountsOnce) {
  i->collect = 1;
  m.words(0x3000, {0xb001, 0, kDdr});
  m.fill_output(0);
  EXPECT_EQ(run(1).stop, StopReason::kOutputFull);
  m.drain();
  EXPECT_EQ(run(1).stop, StopReason::kBudget);
  EXPECT_EQ(i->opcodes[0xb], 1u);
  EXPECT_EQ(i->memory_reads[0x3002], 1u);
  EXPECT_EQ(i->memory_writes[kDdr], 1u);
}

TEST_F(Instrumented, ABreakpointStopsBeforeItsInstructionAndLetsTheNextRunPass) {
  m.words(0x3000, {0x1021, 0x1021, 0x0ffd});
  set_watch(*i, 0x3001, kBreakExecute);
  EXPECT_EQ(run(100).stop, StopReason::kBreakpoint);
  EXPECT_EQ(m->pc, 0x3001);
  EXPECT_EQ(m->result.executed, 1u);
  EXPECT_EQ(run(100).stop, StopReason::kBreakpoint);
  EXPECT_EQ(m->result.executed, 3u);
  set_watch(*i, 0x3001, 0);
  EXPECT_EQ(i->watch_count, 0u);
  EXPECT_EQ(run(100).stop, StopReason::kBudget);
}

TEST_F(Instrumented, WatchpointsStopAfterTheAccessAndNameIt) {
  m.words(0x3000, {0x3010, 0x2010, 0x0ffd});  // ST R0 -> x3011; LD R0 <- x3012
  set_watch(*i, 0x3011, kWatchWrite);
  set_watch(*i, 0x3012, kWatchRead);
  m.r(0) = 3;
  EXPECT_EQ(run(100).stop, StopReason::kWatchpoint);
  EXPECT_EQ(m->result.address, 0x3011);
  EXPECT_EQ(m->result.access, kWatchWrite);
  EXPECT_EQ(m.at(0x3011), 3);
  EXPECT_EQ(run(100).stop, StopReason::kWatchpoint);
  EXPECT_EQ(m->result.address, 0x3012);
  EXPECT_EQ(m->result.access, kWatchRead);
  EXPECT_EQ(m->pc, 0x3002);
}

TEST_F(Instrumented, TakingAnInterruptIsSeen) {
  i->collect = 1;
  m.words(0x0180, {0x1000});
  m->kbsr = kKbsrInterruptEnable;
  m.feed("k");
  set_watch(*i, 0x2fff, kWatchWrite);
  EXPECT_EQ(run(5).stop, StopReason::kWatchpoint);
  EXPECT_EQ(m->result.executed, 0u);
  EXPECT_EQ(m->pc, 0x1000);
  EXPECT_EQ(i->memory_reads[0x0180], 1u);
  EXPECT_EQ(i->memory_writes[0x2ffe], 1u);
}

TEST_F(Instrumented, WatchingDoesNotCount) {
  m.words(0x3000, {0x1021});
  run(1);
  EXPECT_EQ(i->opcodes[1], 0u);
}

}  // namespace
}  // namespace warmfork::lc3
