// What only the optimising compiler has: regions and their budgets, entries inside of loops, calls that are copied,
// and code that both compilers share.
#include "lc3/asm/assembler.hpp"
#include "lc3/jit/orc/region.hpp"
#include "machine_fixture.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>
#include <set>

#if __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>
#endif

namespace warmfork::lc3 {
namespace {

// Loops in loops, a call that is copied, recursion on a stack, a jump through a table, stores of every kind.
constexpr const char* kProgram = R"(
        .ORIG x3000
        LD R6, STACK
OUTER   AND R0, R0, #0
        ADD R0, R0, #5
        JSR SUM
        ST R1, RESULT
        LEA R2, TABLE
        LD R3, TURN
        AND R3, R3, #1
        ADD R2, R2, R3
        LDR R2, R2, #0
        JMP R2
EVEN    LD R4, RESULT
        STI R4, POINTER
        JSR DOUBLE
        BRnzp JOINED
ODD     LDI R4, POINTER
        JSR DOUBLE
        ADD R4, R4, R4
        BRn JOINED
        NOT R4, R4
JOINED  ST R4, RESULT
        AND R5, R5, #0
        ADD R5, R5, #7
INNER   LEA R2, CELLS
        AND R3, R5, #3
        ADD R2, R2, R3
        LDR R3, R2, #0
        ADD R3, R3, R4
        STR R3, R2, #0
        ADD R5, R5, #-1
        BRp INNER
        LD R3, TURN
        ADD R3, R3, #1
        ST R3, TURN
        LEA R2, DOUBLE
        JSRR R2
        BRnzp OUTER
DOUBLE  ADD R4, R4, R4
        BRzp DONE
        ADD R4, R4, #1
DONE    RET
SUM     ADD R0, R0, #0
        BRz NOTHING
        ADD R6, R6, #-2
        STR R7, R6, #0
        STR R0, R6, #1
        ADD R0, R0, #-1
        JSR SUM
        LDR R0, R6, #1
        LDR R7, R6, #0
        ADD R6, R6, #2
        ADD R1, R1, R0
        RET
NOTHING AND R1, R1, #0
        RET
STACK   .FILL xFDF0
TABLE   .FILL EVEN
        .FILL ODD
POINTER .FILL CELLS
TURN    .FILL 0
RESULT  .FILL 0
CELLS   .BLKW 4
        .END
)";

void load_program(Machine& machine, const char* source) {
  const auto program = assemble(source, "test");
  ASSERT_TRUE(program);
  for (const auto& segment : program->segments) {
    ASSERT_TRUE(load(*machine, segment.origin, segment.words.data(), segment.words.size()));
  }
  machine->pc = program->entry();
}

jit::Unit unit_of(const Machine& machine) {
  static const jit::WordSet kNone;
  const State& state = *const_cast<Machine&>(machine);  // NOLINT: reading
  const std::uint16_t roots[] = {state.pc};
  return jit::translate({std::span<const std::uint16_t, kMemoryWords>(state.memory), kNone, false}, roots);
}

class Orc : public EngineTest {};
WARMFORK_ON_EVERY_ENGINE(Orc);

TEST_P(Orc, StopsAfterExactlyTheBudgetWhereverThatIs) {
  for (const std::uint64_t start : {0U, 1U, 100U, 5000U}) {
    Machine compiled = machine(), careful(Engine::kCareful);
    for (Machine* m : {&compiled, &careful}) {
      load_program(*m, kProgram);
      m->run(start);
    }
    std::mt19937 random(17);
    for (std::uint64_t budget = 0; budget < 600; ++budget) {
      const std::uint64_t cut = budget < 300 ? budget : random() % 5000;
      compiled.run(cut), careful.run(cut);
      ASSERT_EQ(compiled->result.stop, StopReason::kBudget);
      ASSERT_EQ(compiled->result.executed, cut);
      ASSERT_EQ(compiled->pc, careful->pc) << "budget " << cut;
      ASSERT_EQ(psr(*compiled), psr(*careful));
      for (unsigned n = 0; n < 8; ++n) ASSERT_EQ(compiled.r(n), careful.r(n)) << "R" << n << ", budget " << cut;
      ASSERT_EQ(std::memcmp(compiled->memory, careful->memory, sizeof compiled->memory), 0);
    }
  }
}

TEST_P(Orc, ASubroutineThatChangesItsReturnAddressGoesWhereItSays) {
  Machine compiled = machine(), careful(Engine::kCareful);
  for (Machine* m : {&compiled, &careful}) {
    load_program(*m, R"(
        .ORIG x3000
LOOP    JSR SKIP
        ADD R0, R0, #1
        ADD R1, R1, #1
        BRnzp LOOP
SKIP    AND R2, R1, #1
        BRz EVEN
        ADD R7, R7, #1
EVEN    ADD R1, R1, #1
        RET
        .END)");
    m->run(10'000);
  }
  for (unsigned n = 0; n < 8; ++n) EXPECT_EQ(compiled.r(n), careful.r(n)) << "R" << n;
  EXPECT_EQ(compiled->pc, careful->pc);
}

/// Loops of any nesting, decisions, calls of small subroutines and of each other, data that is sometimes code.
std::vector<std::uint16_t> random_loops(std::mt19937& random) {
  const auto pick = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
  constexpr unsigned kBody = 64, kSubroutines = 4, kSize = 12;
  std::vector<std::uint16_t> words;
  const auto plain = [&] {
    const unsigned d = pick(6) << 9, a = pick(6) << 6, b = pick(6);
    switch (pick(10)) {
      case 0: return 0x5000U | d | a | b;
      case 1: return 0x5020U | d | a | pick(32);
      case 2: return 0x903fU | d | a;
      case 3: return 0x6000U | d | a | pick(64);
      case 4: return 0x7000U | d | a | pick(64);
      case 5: return 0x2000U | d | pick(128);        // LD
      case 6: return 0x3000U | d | (64 + pick(64));  // ST, most often behind the program
      case 7: return 0x1020U | d | a | pick(32);
      default: return 0x1000U | d | a | b;
    }
  };
  const auto branch = [&](int offset) { return (1 + pick(7)) << 9 | (static_cast<unsigned>(offset) & 0x1ff); };
  for (unsigned i = 0; i < kBody; ++i) {
    const unsigned kind = pick(12);
    if (kind < 3) {
      words.push_back(static_cast<std::uint16_t>(branch(static_cast<int>(pick(5)))));
    } else if (kind == 3 && i > 12) {
      words.push_back(static_cast<std::uint16_t>(branch(-static_cast<int>(2 + pick(11)))));
    } else if (kind == 4) {
      const unsigned to = kBody + 1 + kSize * pick(kSubroutines);
      words.push_back(static_cast<std::uint16_t>(0x4800 | (to - i - 1)));
    } else {
      words.push_back(static_cast<std::uint16_t>(plain()));
    }
  }
  words.push_back(static_cast<std::uint16_t>(0x0e00 | (static_cast<unsigned>(-static_cast<int>(kBody) - 1) & 0x1ff)));
  for (unsigned routine = 0; routine < kSubroutines; ++routine) {
    for (unsigned i = 0; i + 1 < kSize; ++i) {
      const unsigned kind = pick(8);
      const unsigned word = kind == 0   ? branch(static_cast<int>(pick(kSize - 1 - i)))
                            : kind == 1 ? 0xc1c0U
                            : kind == 2 && routine != 0 && pick(3) == 0
                                ? 0x4800U | (static_cast<unsigned>(-static_cast<int>(i + 1 + kSize * pick(2))) & 0x7ff)
                                : plain();
      words.push_back(static_cast<std::uint16_t>(word));
    }
    words.push_back(0xc1c0);
  }
  return words;
}

TEST_P(Orc, RandomLoopsAreExactWhereverTheyAreCut) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const std::vector<std::uint16_t> words = random_loops(random);
    Machine compiled = machine(seed % 2 == 0 ? kSecondEdition : 0);
    Machine plain(Engine::kFast, seed % 2 == 0 ? kSecondEdition : 0);
    for (Machine* m : {&compiled, &plain}) {
      ASSERT_TRUE(load(**m, 0x3000, words.data(), words.size()));
      std::mt19937 same(seed);
      for (std::uint32_t at = 0x4000; at < 0x5000; ++at) m->at(static_cast<std::uint16_t>(at)) = same() & 0x7fff;
      for (unsigned n = 0; n < 8; ++n) m->r(n) = static_cast<std::uint16_t>(0x4000 + same() % 0x1000);
    }
    for (int slice = 0; slice < 60; ++slice) {
      const std::uint64_t budget = slice % 4 == 0 ? random() % 20'000 : random() % 150;
      compiled.run(budget), plain.run(budget);
      ASSERT_EQ(compiled->result.stop, plain->result.stop) << "slice " << slice;
      ASSERT_EQ(compiled->result.executed, plain->result.executed) << "slice " << slice;
      ASSERT_EQ(compiled->pc, plain->pc) << "slice " << slice;
      ASSERT_EQ(psr(*compiled), psr(*plain)) << "slice " << slice;
      for (unsigned n = 0; n < 8; ++n) ASSERT_EQ(compiled.r(n), plain.r(n)) << "R" << n << ", slice " << slice;
      ASSERT_EQ(std::memcmp(compiled->memory, plain->memory, sizeof compiled->memory), 0) << "slice " << slice;
      if (compiled->result.stop != StopReason::kBudget) {
        for (Machine* m : {&compiled, &plain}) {
          (*m)->pc = 0x3000;
          (*m)->mcr = kMcrRun;
        }
      }
    }
  }
}

TEST(OrcRegion, EveryCycleHasACheckAndEveryPathIsCovered) {
  Machine machine(Engine::kFast);
  load_program(machine, kProgram);
  const jit::Unit unit = unit_of(machine);
  std::vector<std::uint16_t> all;
  for (const auto& [first, block] : unit.blocks) all.push_back(first);
  for (const auto& entries : {std::vector<std::uint16_t>{}, all, std::vector<std::uint16_t>{0x3000}}) {
    const std::vector<jit::Region> regions = jit::make_regions(unit, entries);
    ASSERT_FALSE(regions.empty());
    for (const jit::Region& region : regions) {
      for (const jit::Node& node : region.nodes) {
        const auto covers = [&](std::uint32_t to) {
          if (to == jit::kLeave) return;
          const jit::Node& next = region.nodes[to];
          EXPECT_GE(node.longest, node.block->count + (next.check ? 0U : next.longest));
        };
        covers(node.target), covers(node.next);
        for (const auto& [pc, to] : node.known) covers(to);
      }
      EXPECT_LT(jit::instructions_of(region), 1000U);
    }
  }
}

TEST(OrcRegion, IsEnteredAtTheHeadsOfLoops) {
  Machine machine(Engine::kFast);
  load_program(machine, R"(
        .ORIG x3000
        ADD R0, R0, #1
OUTER   ADD R1, R1, #1
INNER   ADD R2, R2, #1
        BRp INNER
        ADD R1, R1, #1
        BRp OUTER
NEXT    ADD R3, R3, #1
        BRp NEXT
        HALT
        .END)");
  std::vector<std::vector<std::uint16_t>> entries;
  const jit::Unit unit = unit_of(machine);  // which regions point into
  for (const jit::Region& region : jit::make_regions(unit, {})) {
    entries.emplace_back();
    for (const auto& [pc, node] : region.entries) entries.back().push_back(pc);
  }
  EXPECT_THAT(entries,
              testing::UnorderedElementsAre(testing::ElementsAre(0x3001, 0x3002), testing::ElementsAre(0x3006)));
}

TEST(OrcCompiler, AFatalErrorOfLlvmIsAnError) {
  // A processor of 32 bits: LLVM finds out deep in its code generator, and would end the process.
  const auto compiler = jit::OrcCompiler::create({.cpu = "i386", .features = "-64bit"});
  ASSERT_TRUE(compiler);
  Machine machine(Engine::kFast);
  machine.words(0x3000, {0x1021, 0x0ffe});
#if __has_feature(address_sanitizer)
  const __lsan::ScopedDisabler leaks_expected;  // the exception leaves LLVM's frames as they are, with what they hold
#endif
  for (int turn = 0; turn < 2; ++turn) {
    const auto code = (*compiler)->compile(unit_of(machine), {}, 0x1000);
    ASSERT_FALSE(code);
    EXPECT_EQ(code.error().kind, ErrorKind::kUnsupported);
    EXPECT_THAT(code.error().message, testing::HasSubstr("64-bit"));
  }
}

TEST(OrcCompiler, MarksSayWhereCodeComesFromAndDoNotChangeIt) {
  Machine machine(Engine::kFast);
  load_program(machine, kProgram);
  const jit::Unit unit = unit_of(machine);
  const auto plain = jit::OrcCompiler::create(), marking = jit::OrcCompiler::create({.marks = true});
  ASSERT_TRUE(plain && marking);
  const auto code = (*plain)->compile(unit, {}, 0x1000), marked = (*marking)->compile(unit, {}, 0x1000);
  ASSERT_TRUE(code && marked);
  EXPECT_EQ(code->bytes, marked->bytes);
  EXPECT_TRUE(code->marks.empty());
  std::set<std::uint16_t> all, found;
  for (const auto& [first, block] : unit.blocks) {
    for (std::uint16_t i = 0; i < block.count; ++i) all.insert(static_cast<std::uint16_t>(first + i));
  }
  for (const jit::MachineCode::Mark& mark : marked->marks) {
    EXPECT_LT(mark.offset, marked->bytes.size());
    EXPECT_TRUE(all.contains(mark.address)) << mark.address;
    found.insert(mark.address);
  }
  EXPECT_TRUE(std::ranges::is_sorted(marked->marks, {}, &jit::MachineCode::Mark::offset));
  EXPECT_GE(found.size(), 8U);
}

TEST(OrcCompiler, CompilesNothingWhereThereIsNoLoop) {
  const auto compiler = jit::OrcCompiler::create({.cpu = "x86-64", .features = "+bmi"});
  ASSERT_TRUE(compiler);
  Machine machine(Engine::kFast);
  machine.words(0x3000, {0x1021, 0xf025});
  const auto code = (*compiler)->compile(unit_of(machine), {}, 0x1000);
  ASSERT_TRUE(code) << code.error().message;
  EXPECT_TRUE(code->bytes.empty());
}

// As many instructions as a version may have.
constexpr std::size_t kMostInstructions = 16384;

jit::Unit unit_of_words(Machine& machine, const std::vector<std::uint16_t>& words) {
  EXPECT_TRUE(load(*machine, kUserBase, words.data(), words.size()));
  machine->pc = kUserBase;
  return unit_of(machine);
}

// Each of these took minutes, hours or all memory.
TEST(OrcRegion, ProgramsThatAreHardToUnderstandAreNotUnderstood) {
  const std::vector<std::uint16_t> calls(kMostInstructions, 0x4800);  // JSR to the next
  std::vector<std::uint16_t> back, loops;
  std::mt19937 random(1);
  for (std::size_t i = 0; i < kMostInstructions; ++i) {
    back.push_back(static_cast<std::uint16_t>(0x0300 | (random() & 0xff)));  // BRp to somewhere before
    loops.push_back(i % 2 == 0 ? 0x1021 : 0x03fe);                           // loops of two, one after the other
  }
  for (const std::vector<std::uint16_t>* words :
       std::initializer_list<const std::vector<std::uint16_t>*>{&calls, &back, &loops}) {
    Machine machine(Engine::kFast);
    const jit::Unit unit = unit_of_words(machine, *words);
    ASSERT_GT(unit.blocks.size(), kMostInstructions / 3);
    std::uint32_t instructions = 0;
    for (const jit::Region& region : jit::make_regions(unit, {})) instructions += jit::instructions_of(region);
    EXPECT_LE(instructions, jit::RegionOptions().instructions_in_all);
  }
}

TEST(OrcRegion, LoopsThatAreNestedTooDeeplyHaveChecksAllTheSame) {
  std::vector<std::uint16_t> words;
  std::mt19937 random(1);
  for (std::size_t i = 0; i < kMostInstructions; ++i) {
    words.push_back(static_cast<std::uint16_t>(0x0300 | (random() & 0xff)));
  }
  Machine machine(Engine::kFast);
  const std::vector<std::uint16_t> entry{kUserBase};
  const jit::Unit unit = unit_of_words(machine, words);  // which regions point into
  for (const jit::Region& region : jit::make_regions(unit, entry)) {
    for (const jit::Node& node : region.nodes) {
      for (const std::uint32_t to : {node.target, node.next}) {
        if (to == jit::kLeave) continue;
        const jit::Node& next = region.nodes[to];
        ASSERT_GE(node.longest, node.block->count + (next.check ? 0U : next.longest));
      }
    }
  }
}

}  // namespace
}  // namespace warmfork::lc3
