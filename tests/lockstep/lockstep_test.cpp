// All engines are one machine: programs made to part them do not. And lockstep itself: a fault that is planted is
// found, at the right instruction, and made small.
#include "lc3/lockstep/lockstep.hpp"

#include "lc3/asm/assembler.hpp"
#include "lc3/core/engine.hpp"
#include "lc3/core/instruction.hpp"
#include "lc3/jit/host_runner.hpp"
#include "lc3/lockstep/generators.hpp"
#include "lc3/lockstep/minimise.hpp"
#include "scale.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace warmfork::lc3 {
namespace {

using test::scaled;
using ::testing::HasSubstr;

std::string hex(std::uint16_t value) { return fmt::format("{:04X}", value); }

Lockstep lockstep(const std::vector<std::string>& names) { return Lockstep(*make_engines(names)); }

// --- The engines
// --------------------------------------------------------------------------------------------------------
class Generated : public ::testing::TestWithParam<LockstepGenerator> {};
INSTANTIATE_TEST_SUITE_P(Generators, Generated,
                         ::testing::ValuesIn(lockstep_generators().begin(), lockstep_generators().end()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(Generated, ProgramsRunTheSameOnAllEngines) {
  Lockstep all = lockstep({"careful", "fast", "xbyak"});
  std::uint64_t instructions = 0;
  const std::uint64_t programs = scaled(24'000);
  for (std::uint64_t seed = 1; seed <= programs; ++seed) {
    const LockstepCase one = generate(GetParam(), seed, 1'000'000);
    const LockstepOutcome outcome = all.run(one);
    ASSERT_FALSE(outcome.difference) << outcome.difference->report << to_source(one);
    instructions += outcome.instructions;
  }
  RecordProperty("instructions", std::to_string(instructions));
}

// LLVM takes milliseconds for a program: fewer of them, of other seeds.
TEST_P(Generated, ProgramsRunTheSameOptimised) {
  Lockstep all = lockstep({"careful", "orc"});
  for (std::uint64_t seed = 1'000'001; seed <= 1'000'000 + scaled(150); ++seed) {
    const LockstepCase one = generate(GetParam(), seed, 1'000'000);
    const LockstepOutcome outcome = all.run(one);
    ASSERT_FALSE(outcome.difference) << outcome.difference->report << to_source(one);
  }
}

// --- Statistics
// ---------------------------------------------------------------------------------------------------------
/// An engine that counts: the careful interpreter, or compiled code.
class Counting final : public LockstepEngine {
 public:
  explicit Counting(bool compiled) : counts(std::make_unique<Instrumentation>()) {
    if (compiled) runner_ = *jit::HostRunner::create();
    forget();
  }
  [[nodiscard]] std::string_view name() const override { return runner_ ? "compiled" : "careful"; }
  const RunResult& run(State& state, std::uint64_t budget) override {
    return runner_ ? runner_->run(state, budget, counts.get()) : run_careful(state, budget, counts.get());
  }
  void forget() override {
    std::memset(counts.get(), 0, sizeof *counts);
    counts->collect = 1;
    if (runner_) runner_->clear();
  }
  [[nodiscard]] std::string complaint() const override {
    return runner_ && runner_->failure() ? runner_->failure()->message : std::string{};
  }
  [[nodiscard]] std::uint64_t versions() { return runner_->cache().counters().versions; }

  const std::unique_ptr<Instrumentation> counts;

 private:
  std::unique_ptr<jit::HostRunner> runner_;
};

/// The tables of two statistics that are not the same, with the first difference of each.
std::string count_differences(const Instrumentation& a, const Instrumentation& b) {
  std::string text;
  const auto compare = [&](const char* name, std::span<const std::uint64_t> x, std::span<const std::uint64_t> y) {
    if (std::memcmp(x.data(), y.data(), x.size_bytes()) == 0) return;
    const auto [in_x, in_y] = std::ranges::mismatch(x, y);
    text += fmt::format("{} x{:04X}: {} and {}\n", name, in_x - x.begin(), *in_x, *in_y);
  };
  compare("opcode", a.opcodes, b.opcodes);
  compare("register reads", a.register_reads, b.register_reads);
  compare("register writes", a.register_writes, b.register_writes);
  compare("branches taken", a.branches_taken, b.branches_taken);
  compare("branches not taken", a.branches_not_taken, b.branches_not_taken);
  compare("executions", a.executions, b.executions);
  compare("memory reads", a.memory_reads, b.memory_reads);
  compare("memory writes", a.memory_writes, b.memory_writes);
  compare("code", a.code_counts, b.code_counts);
  return text;
}

TEST_P(Generated, ProgramsCountTheSameCompiled) {
  auto careful = std::make_unique<Counting>(false), compiled = std::make_unique<Counting>(true);
  Counting& expected = *careful;
  Counting& counted = *compiled;
  std::vector<std::unique_ptr<LockstepEngine>> engines;
  engines.push_back(std::move(careful));
  engines.push_back(std::move(compiled));
  Lockstep both(std::move(engines));
  for (std::uint64_t seed = 2'000'001; seed <= 2'000'000 + scaled(60); ++seed) {
    const LockstepCase one = generate(GetParam(), seed, 1'000'000);
    const LockstepOutcome outcome = both.run(one);
    ASSERT_FALSE(outcome.difference) << outcome.difference->report << to_source(one);
    ASSERT_EQ(count_differences(*expected.counts, *counted.counts), "") << to_source(one);
    std::uint64_t executions = 0;
    for (const std::uint64_t count : counted.counts->executions) executions += count;
    ASSERT_LE(executions, outcome.instructions);  // a fetch that is refused is none
  }
  EXPECT_GT(counted.versions(), 0U);
}

// Fast and compiled running is cut into slices, at which nothing may be forgotten that a proof needs.
TEST(Idle, IsProvenAtTheSameInstructionWhereverSlicesEnd) {
  Lockstep all = lockstep({"careful", "fast", "xbyak"});
  const std::uint16_t poll[] = {0xa003, 0x1260, 0x07fd, 0xf025, kKbsr};  // LDI R0; ADD R1, R1, #0; BRzp
  // Slices of 1,024 instructions while interrupts are enabled.
  for (int before = 1000; before < 1040; ++before) {
    LockstepCase one;
    one.name = fmt::format("polling after {} instructions", before);
    one.config = kDetectIdle;
    one.kbsr = kKbsrInterruptEnable;
    for (int i = 0; i < before; ++i) one.words.push_back({static_cast<std::uint16_t>(0x3000 + i), 0x1021});
    one.add(static_cast<std::uint16_t>(0x3000 + before), poll);
    const LockstepOutcome outcome = all.run(one);
    ASSERT_FALSE(outcome.difference) << outcome.difference->report;
    EXPECT_EQ(outcome.stop, StopReason::kInputExhausted);
  }
  // Slices of 2^20 instructions beside compiled code: the loops take 2^20 + 16 - 2 * less.
  const std::uint16_t loops[] = {0x127f, 0x0bfe, 0x14bf, 0x03fc};  // ADD R1, R1, #-1; BRnp; ADD R2, R2, #-1; BRp
  for (int less = 0; less < 20; ++less) {
    LockstepCase one;
    one.name = fmt::format("polling after two loops less {}", less);
    one.config = kDetectIdle;
    one.registers[1] = static_cast<std::uint16_t>(-less);
    one.registers[2] = 8;
    one.add(0x3000, loops);
    one.add(0x3004, poll);
    one.budget = 2'000'000;
    const LockstepOutcome outcome = all.run(one);
    ASSERT_FALSE(outcome.difference) << outcome.difference->report;
    EXPECT_EQ(outcome.stop, StopReason::kInputExhausted);
  }
}

// --- Lockstep itself
// ----------------------------------------------------------------------------------------------------
/// The careful interpreter with a fault.
class Faulty : public LockstepEngine {
 public:
  [[nodiscard]] std::string_view name() const override { return "faulty"; }
  const RunResult& run(State& state, std::uint64_t budget) override {
    RunResult all{};
    // One instruction at a time, so that the fault is where it is said to be.
    do {
      const Before before{state.pc, peek(state, state.pc), state.counters.instructions};
      run_careful(state, budget == 0 ? 0 : 1);
      all.executed += state.result.executed;
      if (state.result.executed != 0) fault(state, before);
    } while (state.result.stop == StopReason::kBudget && all.executed < budget);
    state.result.executed = all.executed;
    state.result.pc = state.pc;
    return state.result;
  }

 protected:
  struct Before {
    std::uint16_t pc, word;
    std::uint64_t executed;
  };
  virtual void fault(State& state, const Before& before) = 0;
};

class FlipsOneBit final : public Faulty {
 public:
  explicit FlipsOneBit(std::uint64_t after) : after_(after) {}

 private:
  void fault(State& state, const Before& before) override {
    if (before.executed + 1 == after_) state.memory[0x4321] ^= 0x10;
  }
  std::uint64_t after_;
};

/// NOT gives the two's complement of what is negative.
class WrongNot final : public Faulty {
  void fault(State& state, const Before& before) override {
    const Instruction instruction = decode(before.word);
    if (instruction.operation != Operation::kNot) return;
    std::uint16_t& result = state.registers[instruction.dr];
    if ((result & 0x8000) == 0) state.last_result = ++result;
  }
};

Lockstep with_fault(std::unique_ptr<LockstepEngine> engine) {
  std::vector<std::unique_ptr<LockstepEngine>> engines;
  engines.push_back(*make_engine("careful"));
  engines.push_back(std::move(engine));
  return Lockstep(std::move(engines));
}

std::size_t nonzero_words(const LockstepCase& one) {
  return static_cast<std::size_t>(
      std::ranges::count_if(one.words, [](const LockstepCase::Word& word) { return word.word != 0; }));
}

class Planted : public ::testing::Test {
 protected:
  static const LockstepGenerator& generator(std::string_view name) { return **find_generator(name); }
};

TEST_F(Planted, OneBitIsFoundAtExactlyItsInstruction) {
  for (const std::uint64_t after : {1U, 2U, 17U, 256U, 257U, 999U}) {
    SCOPED_TRACE(after);
    Lockstep pair = with_fault(std::make_unique<FlipsOneBit>(after));
    LockstepCase one = generate(generator("flow"), 3, 1'000'000);
    one.budget = 1000;
    for (const std::uint64_t slice : {0U, 10U, 300U}) {
      one.longest_slice = slice;
      const LockstepOutcome outcome = pair.run(one);
      ASSERT_TRUE(outcome.difference);
      EXPECT_EQ(outcome.difference->instruction, after);
      EXPECT_EQ(outcome.difference->engine, "faulty");
      ASSERT_FALSE(outcome.difference->what.empty());
      EXPECT_THAT(outcome.difference->what.front(), HasSubstr("[x4321]"));
      EXPECT_THAT(outcome.difference->report, HasSubstr("part at instruction " + std::to_string(after) + " of flow"));
    }
  }
}

TEST_F(Planted, AWrongInstructionIsFoundReportedAndMadeSmall) {
  std::uint64_t found = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Lockstep pair = with_fault(std::make_unique<WrongNot>());
    const LockstepCase one = generate(generator("straight"), seed, 1'000'000);
    const LockstepOutcome outcome = pair.run(one);
    if (!outcome.difference) continue;
    ++found;
    const LockstepDifference& difference = *outcome.difference;
    EXPECT_THAT(difference.report, HasSubstr("> x" + hex(difference.pc)));
    EXPECT_THAT(difference.report.substr(difference.report.find('>')),
                ::testing::MatchesRegex("> x....  9...  (NOT|\\.FILL)(.|\n)*"));
    // The same program stops short of it without a difference.
    LockstepCase shorter = one;
    shorter.budget = difference.instruction - 1;
    EXPECT_FALSE(pair.run(shorter).difference);

    const LockstepCase small = minimise(one, [&](const LockstepCase& c) { return pair.differs(c); });
    const LockstepOutcome again = pair.run(small);
    ASSERT_TRUE(again.difference) << to_source(small);
    EXPECT_LE(nonzero_words(small), 6U) << to_source(small);
    EXPECT_EQ(small.budget, again.difference->instruction);
    // It can be assembled, to the same words.
    const auto program = assemble(to_source(small), "small.asm");
    ASSERT_TRUE(program) << program.error().message;
    const auto state = std::make_unique<State>();
    prepare(*state, small);
    for (const Segment& segment : program->segments) {
      for (std::size_t i = 0; i < segment.words.size(); ++i) {
        EXPECT_EQ(segment.words[i], state->memory[segment.origin + i]) << to_source(small);
      }
    }
  }
  EXPECT_GE(found, 5U);
}

TEST_F(Planted, InALongRunItIsFoundFromTheLastCheckpoint) {
  constexpr std::uint64_t kAfter = (std::uint64_t{3} << 24) + 12'345;
  class Late final : public LockstepEngine {
   public:
    [[nodiscard]] std::string_view name() const override { return "late"; }
    const RunResult& run(State& state, std::uint64_t budget) override {
      const std::uint64_t before = state.counters.instructions;
      run_fast(state, budget);
      if (before < kAfter && state.counters.instructions >= kAfter) state.registers[3] ^= 1;
      return state.result;
    }
  };
  std::vector<std::unique_ptr<LockstepEngine>> engines;
  engines.push_back(*make_engine("fast"));
  engines.push_back(std::make_unique<Late>());
  Lockstep pair(std::move(engines));
  LockstepCase one;
  one.words = {{0x3000, 0x1021}, {0x3001, 0x0ffe}};
  one.budget = std::uint64_t{1} << 26;
  const LockstepOutcome outcome = pair.run(one);
  ASSERT_TRUE(outcome.difference);
  EXPECT_EQ(outcome.difference->instruction, kAfter);
  EXPECT_EQ(outcome.difference->what, std::vector<std::string>{"R3: fast x0000, late x0001"});
}

TEST(Cases, GeneratorsAreFunctionsOfTheirSeeds) {
  for (const LockstepGenerator& generator : lockstep_generators()) {
    EXPECT_EQ(generate(generator, 7, 1000), generate(generator, 7, 1000)) << generator.name;
    EXPECT_FALSE(generate(generator, 7, 1000) == generate(generator, 8, 1000)) << generator.name;
    EXPECT_LE(generate(generator, 7, 100).budget, 100U);
  }
}

TEST(Cases, ThereAreNoOtherEnginesAndGenerators) {
  EXPECT_EQ(make_engine("slow").error().message, "there is no engine \"slow\"; there are careful, fast, xbyak, orc");
  EXPECT_THAT(find_generator("all").error().message, HasSubstr("there is no generator \"all\"; there are straight, "));
}

TEST(Reports, ShowWhatTheCompilerMadeOfTheBlock) {
  const auto engine = *make_engine("xbyak");
  const auto state = std::make_unique<State>();
  LockstepCase one;
  one.words = {{0x3000, 0x1021}, {0x3001, 0x0ffe}};
  prepare(*state, one);
  engine->run(*state, 1000);
  EXPECT_THAT(engine->explain(*state), ::testing::StartsWith("block, optimised"));
  EXPECT_THAT(engine->explain(*state),
              HasSubstr("\nx3000, 2 instructions\n  x3000  R0 = R0 + 1 !\n  x3001  go to x3000\n"));
  EXPECT_THAT(engine->explain(*state), HasSubstr("machine code:\n  +00000  x3000  48 83 ef 02"));
  state->pc = 0x4000;
  EXPECT_EQ(engine->explain(*state), "no block: the instruction is interpreted\n");
}

}  // namespace
}  // namespace warmfork::lc3
