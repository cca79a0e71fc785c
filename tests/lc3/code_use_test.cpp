// When a machine uses compiled code, and when it stops: attaching, losing, and what may change memory in between.
#include "lc3/core/code_use.hpp"

#include "machine_fixture.hpp"

#include <memory>

namespace warmfork::lc3 {
namespace {

/// A machine with compiled code beside one without; they must stay equal.
class CodeUse : public ::testing::Test {
 protected:
  void start(std::uint32_t config = 0, const jit::RunnerOptions& options = {}) {
    runner = *jit::HostRunner::create(options);
    initialise(*m, config);
  }
  void words(std::uint16_t origin, std::initializer_list<std::uint16_t> values) {
    ASSERT_TRUE(load(*m, origin, values.begin(), values.size()));
  }
  const RunResult& run(std::uint64_t budget) {
    // The same from here on, carefully.
    std::memcpy(careful.get(), m.get(), sizeof(State));
    run_careful(*careful, budget);
    const RunResult& result = runner->run(*m, budget);
    for (unsigned r = 0; r < 8; ++r) EXPECT_EQ(m->registers[r], careful->registers[r]) << "R" << r;
    EXPECT_EQ(m->pc, careful->pc);
    EXPECT_EQ(psr(*m), psr(*careful));
    EXPECT_EQ(result.stop, careful->result.stop);
    EXPECT_EQ(result.executed, careful->result.executed);
    EXPECT_EQ(m->counters.instructions, careful->counters.instructions);
    EXPECT_EQ(std::memcmp(m->memory, careful->memory, sizeof m->memory), 0);
    return result;
  }
  [[nodiscard]] bool attached() const { return m->code != 0; }

  std::unique_ptr<State> m = std::make_unique<State>(), careful = std::make_unique<State>();
  std::unique_ptr<jit::HostRunner> runner;
};

TEST_F(CodeUse, ALoopIsCompiledAndStaysAttached) {
  start();
  words(0x3000, {0x1021, 0x0ffe});
  run(1000);
  EXPECT_TRUE(attached());
  EXPECT_EQ(runner->cache().counters().versions, 1U);
  run(100'001);
  EXPECT_EQ(runner->cache().counters().versions, 1U);
  EXPECT_EQ(m->code_use.lost_count, 0U);
}

TEST_F(CodeUse, StoringTheValueThatIsThereKeepsTheCode) {
  start();
  words(0x3000, {0x2001, 0x3000, 0x1021, 0x0ffc});  // LD R0, x3002; ST R0, x3002
  run(1000);
  EXPECT_TRUE(attached());
  EXPECT_EQ(m->code_use.lost_count, 0U);
}

TEST_F(CodeUse, StoringAnotherLosesItAndSaysWhere) {
  start();
  words(0x3000, {0x6080, 0x3001, 0x16e1, 0x1261, 0x0ffb});  // LDR R0, R2, #0; ST R0, x3003, which is in this block
  words(0x5000, {0x1261});                                  // as it is
  m->registers[2] = 0x5000;
  run(1000);
  EXPECT_TRUE(attached());
  EXPECT_EQ(m->code_use.lost_count, 0U);
  m->memory[0x5000] = 0x1262;
  run(10);
  EXPECT_FALSE(attached());
  EXPECT_EQ(m->code_use.lost_count, 1U);
  EXPECT_EQ(m->code_use.lost[0], 0x3003);
  run(1000);
  EXPECT_TRUE(attached());
  EXPECT_EQ(m->code_use.lost_count, 1U);
}

TEST_F(CodeUse, AWordThatKeepsChangingIsLeftOut) {
  start();
  words(0x3000, {0x2002, 0x1021, 0x3000, 0x1260, 0x0ffb});  // LD R0, x3003; ADD R0, R0, #1; ST R0, x3003; it; BR
  run(200);
  EXPECT_TRUE(attached());
  EXPECT_EQ(m->code_use.lost_count, 2U);
  EXPECT_EQ(m->code_use.lost[0], 0x3003);
  EXPECT_EQ(m->code_use.lost[1], 0x3003);
}

// What is lost in one run counts when the next one asks for code.
TEST_F(CodeUse, AWordThatChangesInSeveralRunsIsLeftOutAsWell) {
  start();
  words(0x3000, {0x2002, 0x1021, 0x3000, 0x1260, 0x0ffb});
  for (int i = 0; i < 20; ++i) {
    // The word goes back and forth, so that it stays an addition.
    m->memory[0x3003] = 0x1260;
    run(40);  // each asks for code about once
  }
  EXPECT_EQ(m->code_use.lost_count, 2U);
}

/// As above, with statistics.
class CodeThatCounts : public CodeUse {
 protected:
  CodeThatCounts() { counts->collect = 1; }
  const RunResult& count(std::uint64_t budget) { return runner->run(*m, budget, counts.get()); }
  [[nodiscard]] std::uint64_t counted() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t executions : counts->executions) sum += executions;
    return sum;
  }
  [[nodiscard]] std::uint32_t counters_of_code() const {
    return reinterpret_cast<const CodeVersion*>(m->code)->counters;  // NOLINT: attached
  }

  const std::unique_ptr<Instrumentation> counts = std::make_unique<Instrumentation>();
};

TEST_F(CodeThatCounts, AndCodeThatDoesNotAreNotMixed) {
  start();
  words(0x3000, {0x1021, 0x0ffe});
  run(1000);
  ASSERT_TRUE(attached());
  EXPECT_EQ(counters_of_code(), 0U);
  count(1001);
  EXPECT_EQ(counted(), 1001U);
  ASSERT_TRUE(attached());
  EXPECT_GT(counters_of_code(), 0U);
  run(1000);
  EXPECT_EQ(counted(), 1001U);
  ASSERT_TRUE(attached());
  EXPECT_EQ(counters_of_code(), 0U);
  count(1000);
  EXPECT_EQ(counted(), 2001U);
  EXPECT_EQ(counts->executions[0x3000], 501U + 500);
}

TEST_F(CodeThatCounts, CountsBeyond32Bits) {
  start();
  words(0x3000, {0x1021, 0x0ffe});
  counts->executions[0x3000] = counts->branches_taken[0x3001] = ~std::uint32_t{0};
  count(1000);
  EXPECT_TRUE(attached());
  EXPECT_EQ(counts->executions[0x3000], 500ULL + ~std::uint32_t{0});
  EXPECT_EQ(counts->branches_taken[0x3001], 500ULL + ~std::uint32_t{0});
  EXPECT_EQ(counts->opcodes[0] + counts->opcodes[1], 1000U);
}

TEST_F(CodeThatCounts, IsNotUsedWhileThereAreWatchFlags) {
  start();
  words(0x3000, {0x1021, 0x3010, 0x0ffd});  // ADD; ST R0, x3012; BR
  count(999);
  EXPECT_TRUE(attached());
  set_watch(*counts, 0x3012, kWatchWrite);
  EXPECT_EQ(count(100).stop, StopReason::kWatchpoint);
  set_watch(*counts, 0x3012, 0);
  EXPECT_EQ(count(1000).stop, StopReason::kBudget);
  EXPECT_EQ(counted(), 999U + 2 + 1000);
  EXPECT_EQ(counts->memory_writes[0x3012], counts->opcodes[3]);
}

TEST_F(CodeUse, WhatATrapPushesOverCodeLosesIt) {
  start(kRunIntoEmptyVectors);
  words(0x3000, {0x1021, 0x1261, 0xf030, 0x1021, 0x0ffb});  // six instructions a turn
  words(0x0030, {0x0400});
  words(0x0400, {0x8000});
  run(96);
  EXPECT_TRUE(attached());
  // From now on PSR and PC go over the loop's end, which then is executed as it is.
  m->saved_ssp = 0x3005;
  run(3);
  EXPECT_FALSE(attached());
  EXPECT_EQ(m->code_use.lost_count, 2U);
  run(100);
}

TEST_F(CodeUse, LoadingPokingAndWritingBetweenRunsAreSeen) {
  start();
  words(0x3000, {0x1021, 0x0ffe});
  run(1000);
  ASSERT_TRUE(attached());
  words(0x3000, {0x1022});
  run(1000);
  poke(*m, 0x3000, 0x1023);
  run(1000);
  m->memory[0x3000] = 0x127f;
  run(1000);
  // Put back: the first version would be right again, the machine has a newer one or interprets.
  words(0x3000, {0x1021});
  run(1000);
  // A second segment: elsewhere, so that what is attached stays true.
  words(0x5000, {0x1021, 0x0ffe});
  run(1000);
  m->pc = 0x5000;
  run(1000);
  EXPECT_TRUE(attached());
}

TEST_F(CodeUse, CodeOfTheOtherEditionIsNotUsed) {
  start();
  words(0x3000, {0xe1ff, 0x1260, 0x0ffd});
  run(1000);
  ASSERT_TRUE(attached());
  const std::uint64_t version = m->code_use.wanted;
  initialise(*m, kSecondEdition);
  words(0x3000, {0xe1ff, 0x1260, 0x0ffd});
  m->code_use.wanted = version;
  use_newest_code(*m);
  EXPECT_FALSE(attached());
  run(1000);
}

TEST_F(CodeUse, AnAddressWithoutAVersionIsNotUsed) {
  start();
  words(0x3000, {0x1021, 0x0ffe});
  const auto nothing = std::make_unique<CodeVersion>();
  m->code_use.wanted = reinterpret_cast<std::uint64_t>(nothing.get());  // SAFETY: a version without its magic
  use_newest_code(*m);
  EXPECT_FALSE(attached());
  nothing->successor = 8;  // what was a version once: this is no address
  use_newest_code(*m);
  EXPECT_FALSE(attached());
  m->code_use.wanted = 0;
  use_newest_code(*m);
  EXPECT_FALSE(attached());
}

TEST_F(CodeUse, NewerVersionsAreFollowed) {
  start();
  words(0x3000, {0x1021, 0x0ffe});
  run(1000);
  const std::uint64_t first = m->code_use.wanted;
  words(0x4000, {0x1021, 0x0ffe});
  m->pc = 0x4000;
  run(1000);
  const std::uint64_t second = m->code_use.wanted;
  ASSERT_NE(first, second);
  // As the host publishes it: through the writable mapping, which the runner keeps to itself; a copy serves here.
  std::vector<std::uint8_t> copy(sizeof(CodeVersion));
  std::memcpy(copy.data(), reinterpret_cast<const void*>(first), copy.size());  // NOLINT: see above
  std::memcpy(copy.data() + offsetof(CodeVersion, successor), &second, sizeof second);
  forget_code(*m);
  m->code_use.wanted = reinterpret_cast<std::uint64_t>(copy.data());
  use_newest_code(*m);
  EXPECT_EQ(m->code_use.wanted, second);
  EXPECT_EQ(m->code, second);
}

TEST_F(CodeUse, StrictPrivilegeIsTheCarefulInterpreters) {
  start(kStrictPrivilege);
  words(0x3000, {0x2fff, 0x0ffe});
  words(0x3000, {0x21fe, 0x0ffe});  // LD R0, x31FF
  run(1000);
  EXPECT_EQ(runner->cache().counters().versions, 0U);
  words(0x3000, {0x5020, 0x6000});  // LDR R0, R0, #0 of x0000
  m->pc = 0x3000;
  EXPECT_EQ(run(1000).stop, StopReason::kUnhandledException);
  EXPECT_EQ(m->result.vector, kAccessException);
  // In the 2nd edition it means nothing, and code is compiled.
  start(kStrictPrivilege | kSecondEdition);
  words(0x3000, {0x1021, 0x0ffe});
  run(1000);
  EXPECT_TRUE(attached());
}

TEST_F(CodeUse, BudgetsAreExactWhereverTheyEndInABlock) {
  start();
  words(0x3000, {0x1021, 0x1261, 0x14a1, 0x16e1, 0x3610, 0x0ffa});
  run(1000);
  for (std::uint64_t budget = 0; budget < 40; ++budget) EXPECT_EQ(run(budget).executed, budget);
}

TEST_F(CodeUse, EveryWordABlock) {
  jit::RunnerOptions options;
  options.code_bytes = std::size_t{32} << 20;
  options.cache.max_instructions = kMemoryWords;
  start(0, options);
  for (std::uint32_t address = 0; address < kDeviceBase; ++address) {
    m->memory[address] = address % 2 == 0 ? 0x0e00 : 0x0200;  // BRnzp, BRp to what follows
  }
  m->memory[0xfdff] = 0x4c00;  // JSR far back
  m->pc = 0;
  run(500'000);
  EXPECT_TRUE(attached());
  EXPECT_FALSE(runner->failure());
  EXPECT_GE(runner->cache().counters().instructions, std::uint64_t{kDeviceBase} - 8);  // but for where it began
}

TEST_F(CodeUse, WithoutSpaceForCodeItInterprets) {
  jit::RunnerOptions options;
  options.code_bytes = 64 << 10;
  start(0, options);
  words(0x3000, {0x1021, 0x0ffe});
  run(10'000);
  EXPECT_FALSE(attached());
  EXPECT_EQ(runner->cache().counters().versions, 0U);
  EXPECT_GE(runner->cache().counters().refusals, 1U);
}

TEST_F(CodeUse, SpaceForOneVersionServesOneAfterTheOther) {
  jit::RunnerOptions options;
  options.code_bytes = WARMFORK_LC3_CODE_TEXT + 8192;
  start(0, options);
  for (std::uint16_t origin = 0x3000; origin < 0x3800; origin += 0x80) {
    words(origin, {0x1021, 0x0ffe});
    m->pc = origin;
    run(1 << 16);
    EXPECT_EQ(m->lea_sets_cc, 0U);
  }
  EXPECT_GE(runner->cache().counters().restarts, 2U);
}

}  // namespace
}  // namespace warmfork::lc3
