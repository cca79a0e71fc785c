// Compiled LC-3 code in guests: the same machine as the interpreter's, shared by forks, never believed for a fork that
// has changed what it was made from.
#include "fork/pool.hpp"
#include "fork/snapshot_file.hpp"
#include "lc3/core/instruction.hpp"
#include "lc3_fixture.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <thread>

namespace warmfork::test {
namespace {

using lc3::Engine;
using lc3::Lc3Vm;
using lc3::StopReason;

class Lc3Code : public Lc3Test {};

// Sums 1 … N into R0, N in memory, for ever.
constexpr const char* kSum = R"(
        .ORIG x3000
START   LD R1, N
        AND R0, R0, #0
LOOP    ADD R0, R0, R1
STEP    ADD R1, R1, #-1
        BRp LOOP
        ST R0, RESULT
        LEA R2, START
        JMP R2
N       .FILL #1000
RESULT  .FILL #0
        .END
)";
constexpr std::uint16_t kStep = 0x3003, kResult = 0x3009;
constexpr std::uint64_t kRound = 2 + 3 * 1000 + 3;  // instructions from START to START
constexpr std::uint16_t kSumOf1000 = static_cast<std::uint16_t>(1000 * 1001 / 2);

TEST_F(Lc3Code, IsExecutedAndExact) {
  for (const Engine engine : {Engine::kInterpreter, Engine::kXbyak, Engine::kOrc, Engine::kAuto}) {
    SCOPED_TRACE(static_cast<int>(engine));
    const auto vm = make_lc3({.engine = engine});
    ASSERT_NE(vm, nullptr);
    ASSERT_TRUE(vm->load(program(kSum)));
    const auto ran = vm->run(100 * kRound + 7);
    ASSERT_TRUE(ran) << ran.error().message;
    EXPECT_EQ(ran->executed, 100 * kRound + 7);
    const auto registers = vm->registers();
    ASSERT_TRUE(registers);
    EXPECT_EQ(registers->pc, 0x3004) << "two instructions, then five of the loop";
    EXPECT_EQ(registers->general[0], 1000 + 999);
    const auto result = vm->read_memory(kResult, 1);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->front(), kSumOf1000);
    EXPECT_EQ(vm->code_counters().versions > 0, engine != Engine::kInterpreter);
    const auto counters = vm->counters();
    ASSERT_TRUE(counters);
    EXPECT_EQ(counters->instructions, 100 * kRound + 7);
  }
}

// The machine runs all the while: better code reaches it between two slices, and changes nothing but its speed.
TEST_F(Lc3Code, IsOptimisedWhileItRuns) {
  const auto vm = make_lc3({.engine = Engine::kOrc});
  ASSERT_NE(vm, nullptr);
  ASSERT_TRUE(vm->load(program(kSum)));
  std::uint64_t rounds = 0;
  // Each of these runs is a few milliseconds, compiling some tens.
  while (vm->code_counters().optimised == 0 && vm->code_counters().failures == 0 && rounds < 2'000'000) {
    const auto ran = vm->run(10'000 * kRound);
    ASSERT_TRUE(ran) << ran.error().message;
    ASSERT_EQ(ran->executed, 10'000 * kRound);
    ASSERT_EQ(vm->read_memory(kResult, 1)->front(), kSumOf1000);
    rounds += 10'000;
  }
  EXPECT_EQ(vm->code_counters().failures, 0U);
  ASSERT_GT(vm->code_counters().optimised, 0U);
  const auto before = vm->counters();
  const auto ran = vm->run(1000 * kRound + 3);
  ASSERT_TRUE(ran);
  EXPECT_EQ(ran->executed, 1000 * kRound + 3);
  EXPECT_EQ(vm->registers()->pc, 0x3003);
  const auto after = vm->counters();
  ASSERT_TRUE(before && after);
  EXPECT_EQ(after->instructions, before->instructions + 1000 * kRound + 3);
}

TEST_F(Lc3Code, TimedRunsSayWhatHappenedInThem) {
  const auto vm = make_lc3({.engine = Engine::kXbyak});
  ASSERT_NE(vm, nullptr);
  ASSERT_TRUE(vm->load(program(kSum)));
  // The first run stops to be compiled, goes on in the code, and is the last of its call.
  const auto first = vm->time_runs(1000, 50);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_TRUE(first->compiled);
  ASSERT_EQ(first->runs.size(), 1U);
  EXPECT_EQ(vm->counters()->instructions, 1000U);
  const auto warm = vm->time_runs(1000, 50);
  ASSERT_TRUE(warm) << warm.error().message;
  EXPECT_FALSE(warm->compiled);
  ASSERT_EQ(warm->runs.size(), 50U);
  EXPECT_EQ(vm->counters()->instructions, 51'000U);
  for (const lc3::TimedRun& run : warm->runs) {
    EXPECT_GT(run.ticks, 0U);
    EXPECT_EQ(run.attached + run.lost, 0U);
  }
  EXPECT_GT(first->runs[0].ticks, 10 * warm->runs[49].ticks) << "exits and a compiler, against nothing of that";
  // It halts in the second run: that is not one of them.
  ASSERT_TRUE(vm->load(program(".ORIG x3000\nLOOP ADD R0, R0, #1\nBRnzp LOOP\nHALT\n.END\n")));
  ASSERT_TRUE(vm->write_memory(0x3001, std::array<std::uint16_t, 1>{0x0000}));  // never taken
  ASSERT_TRUE(vm->write_register(lc3::kRegisterPc, 0x3000));
  const auto halted = vm->time_runs(2, 50);
  ASSERT_TRUE(halted) << halted.error().message;
  EXPECT_EQ(halted->runs.size(), 1U);
  EXPECT_FALSE(halted->compiled);
}

TEST_F(Lc3Code, KvmCountsTheExitsOfItsProcessor) {
  const auto vm = make_lc3({.engine = Engine::kInterpreter});
  ASSERT_NE(vm, nullptr);
  kvm::VcpuFd& vcpu = vm->machine().vcpu();
  const auto before = vcpu.statistic("exits");
  ASSERT_TRUE(before) << before.error().message;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(vm->run(1));
  const auto after = vcpu.statistic("exits");
  ASSERT_TRUE(after);
  EXPECT_GE(*after, *before + 10) << "a call ends with one";
  const auto nothing = vcpu.statistic("exit");
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(nothing.error().message, ::testing::HasSubstr("does not count exit"));
}

TEST_F(Lc3Code, TimedRunsCountWhatTheyLose) {
  const auto vm = make_lc3({.engine = Engine::kXbyak});
  ASSERT_NE(vm, nullptr);
  // Changes a word of its own loop after every thousand rounds: the code is lost, made again, and at last made without
  // that word.
  ASSERT_TRUE(
      vm->load(program(".ORIG x3000\nLOOP LD R1, N\nINNER ADD R1, R1, #-1\nBRp INNER\nLD R0, WORD\n"
                       "ADD R0, R0, #1\nST R0, WORD\nWORD ADD R2, R2, #0\nBRnzp LOOP\nN .FILL #1000\n.END\n")));
  std::uint64_t lost = 0, compiled = 0;
  for (int call = 0; call < 20; ++call) {
    const auto timed = vm->time_runs(100, 100);
    ASSERT_TRUE(timed) << timed.error().message;
    for (const lc3::TimedRun& run : timed->runs) lost += run.lost;
    compiled += timed->compiled ? 1 : 0;
  }
  EXPECT_EQ(lost, 2U) << "a word is left out after two";
  EXPECT_GE(compiled, 2U);
}

TEST_F(Lc3Code, ANewProgramIsNotTheOldOne) {
  const auto vm = make_lc3({.engine = Engine::kXbyak});
  ASSERT_NE(vm, nullptr);
  ASSERT_TRUE(vm->load(program(kSum)));
  ASSERT_TRUE(vm->run(10 * kRound));
  // Loaded over it: counts down by two.
  ASSERT_TRUE(vm->write_memory(kStep, std::array<std::uint16_t, 1>{0x127e}));
  ASSERT_TRUE(vm->run(10 * kRound));
  EXPECT_EQ(vm->read_memory(kResult, 1)->front(), static_cast<std::uint16_t>(500 * 501));
  // A checkpoint of before brings the old one back.
  ASSERT_TRUE(vm->power_on({.engine = Engine::kXbyak}));
  ASSERT_TRUE(vm->load(program(kSum)));
  ASSERT_TRUE(vm->run(kRound));
  const auto state = vm->save_state();
  ASSERT_TRUE(state);
  ASSERT_TRUE(vm->write_memory(kStep, std::array<std::uint16_t, 1>{0x127e}));
  ASSERT_TRUE(vm->run(3 * kRound));
  EXPECT_NE(vm->read_memory(kResult, 1)->front(), kSumOf1000);
  ASSERT_TRUE(vm->restore_state(*state));
  ASSERT_TRUE(vm->run(3 * kRound));
  EXPECT_EQ(vm->read_memory(kResult, 1)->front(), kSumOf1000);
}

// The state of a machine with compiled code says where that lies; a machine without has nothing there.
TEST_F(Lc3Code, AMachineThatInterpretsGoesOnFromTheStateOfOneThatDoesNot) {
  const auto compiled = make_lc3({.engine = Engine::kXbyak}), interpreted = make_lc3({.engine = Engine::kInterpreter});
  ASSERT_TRUE(compiled && interpreted);
  ASSERT_TRUE(compiled->load(program(kSum)));
  ASSERT_TRUE(compiled->run(kRound / 2));
  const auto state = compiled->save_state();
  ASSERT_TRUE(state);
  ASSERT_TRUE(interpreted->restore_state(*state));
  const auto ran = interpreted->run(kRound);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->executed, kRound);
  EXPECT_EQ(interpreted->read_memory(kResult, 1)->front(), kSumOf1000);
}

// Straight code of `count` instructions, for ever, behind a jump that does not show where it goes.
lc3::Program long_loop(std::uint16_t count) {
  lc3::Program result;
  std::vector<std::uint16_t> words{0x2401, 0xc080, 0x4000};  // LD R2; JMP R2; x4000
  words.resize(0x1000);
  words.resize(0x1000U + count, 0x1021);  // ADD R0, R0, #1
  words.push_back(0xc080);                // JMP R2
  result.segments.push_back({.origin = 0x3000, .words = std::move(words)});
  return result;
}

TEST_F(Lc3Code, ADeadlineIsForAllOfARun) {
  using Clock = std::chrono::steady_clock;
  constexpr std::uint16_t kCount = 20'000;
  const auto interpreted = make_lc3({.engine = Engine::kInterpreter}), vm = make_lc3({.engine = Engine::kAuto});
  ASSERT_TRUE(interpreted && vm);
  ASSERT_TRUE(interpreted->load(long_loop(kCount)));
  ASSERT_TRUE(vm->load(long_loop(kCount)));
  Clock::time_point begin = Clock::now();
  ASSERT_TRUE(interpreted->run(8192ULL * kCount));  // after as much the other one stops to be compiled
  const auto before_compiling = Clock::now() - begin;
  const auto timeout = before_compiling * 3;
  begin = Clock::now();
  const auto ran = vm->run(~std::uint64_t{0}, {.timeout_ns = static_cast<std::uint64_t>(timeout.count())});
  const auto took = Clock::now() - begin;
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().kind, ErrorKind::kDeadline);
  EXPECT_GT(vm->code_counters().versions, 0U);
  EXPECT_LT(took, timeout + before_compiling / 2);
}

TEST_F(Lc3Code, ADeadlineThatPassesWhileCompilingLeavesARunToResume) {
  constexpr std::uint16_t kCount = 12'000;
  constexpr std::uint64_t kBudget = 1'000'000'000;
  bool seen = false;
  for (std::uint64_t timeout_ns = 100'000; !seen && timeout_ns < 20'000'000; timeout_ns += timeout_ns / 4) {
    const auto vm = make_lc3({.engine = Engine::kXbyak});
    ASSERT_NE(vm, nullptr);
    ASSERT_TRUE(vm->load(long_loop(kCount)));
    const auto ran = vm->run(kBudget, {.timeout_ns = timeout_ns});
    if (ran) continue;
    ASSERT_EQ(ran.error().kind, ErrorKind::kDeadline);
    seen = vm->guest().ready();  // it does not wait inside of the call
    const auto another = vm->run(2 * kBudget);
    ASSERT_FALSE(another);
    EXPECT_EQ(another.error().kind, ErrorKind::kUsage) << another.error().message;
    const std::uint64_t versions = vm->code_counters().versions;
    const auto resumed = vm->resume();
    ASSERT_TRUE(resumed) << resumed.error().message;
    EXPECT_EQ(resumed->executed, kBudget);
    if (seen) EXPECT_EQ(vm->code_counters().versions, versions) << "what was compiled is not compiled again";
  }
  EXPECT_TRUE(seen);
}

class Lc3CodeEngines : public Lc3Code, public ::testing::WithParamInterface<Engine> {};

TEST_P(Lc3CodeEngines, RandomProgramsAreTheInterpreters) {
  const auto interpreted = make_lc3({.engine = Engine::kInterpreter});
  const auto compiled = make_lc3({.engine = GetParam()});
  ASSERT_TRUE(interpreted && compiled);
  for (std::uint64_t seed = 1; seed <= scaled(GetParam() == Engine::kOrc ? 20 : 60); ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
    std::vector<std::uint16_t> words(256);
    for (std::uint16_t& word : words) {
      const lc3::InstructionInfo& info = lc3::kInstructions[random() % lc3::kOperationCount];
      word = static_cast<std::uint16_t>(info.match | (random() & ~info.mask & 0xffffU));
    }
    const lc3::Program loaded{.files = {"random"}, .segments = {{0x3000, words, 0}}};
    lc3::Lc3Options options{.edition = seed % 3 == 0 ? 2 : 3, .detect_idle = false, .stop_at_empty_vectors = false};
    for (Lc3Vm* vm : {interpreted.get(), compiled.get()}) {
      options.engine = vm == compiled.get() ? GetParam() : Engine::kInterpreter;
      ASSERT_TRUE(vm->power_on(options));
      ASSERT_TRUE(vm->load(loaded));
    }
    for (int slice = 0; slice < 4; ++slice) {
      const std::uint64_t budget = random() % 5000;
      const auto a = interpreted->run(budget), b = compiled->run(budget);
      compiled->finish_optimising();
      ASSERT_TRUE(a && b);
      ASSERT_EQ(a->stop, b->stop);
      ASSERT_EQ(a->executed, b->executed);
      ASSERT_EQ(*interpreted->registers(), *compiled->registers());
    }
    ASSERT_EQ(*interpreted->read_memory(0, lc3::kMemoryWords), *compiled->read_memory(0, lc3::kMemoryWords));
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, Lc3CodeEngines, ::testing::Values(Engine::kXbyak, Engine::kOrc),
                         [](const auto& info) { return info.param == Engine::kOrc ? "Orc" : "Xbyak"; });

class Lc3CodeForks : public Lc3ForkTest {
 protected:
  void SetUp() override {
    Lc3ForkTest::SetUp();
    if (IsSkipped()) return;
    master_ = make_lc3({.engine = Engine::kXbyak});
    ASSERT_NE(master_, nullptr);
    ASSERT_TRUE(master_->load(program(kSum)));
    ASSERT_TRUE(master_->run(10 * kRound));
    take_snapshot();
  }
  static void expect_result(Lc3Vm& vm, std::uint64_t rounds, std::uint16_t result) {
    const auto ran = vm.run(rounds * kRound);
    ASSERT_TRUE(ran) << ran.error().message;
    ASSERT_EQ(ran->executed, rounds * kRound);
    const auto words = vm.read_memory(kResult, 1);
    ASSERT_TRUE(words);
    ASSERT_EQ(words->front(), result);
  }
};

TEST_P(Lc3CodeForks, AForkRunsWhatItsMasterCompiled) {
  const auto one = fork();
  ASSERT_TRUE(one);
  bind(*one);
  const std::uint64_t versions = master_->code_counters().versions;
  ASSERT_GT(versions, 0U);
  const auto vm = master_->attach(*one);
  const auto before = vm->counters();
  ASSERT_NO_FATAL_FAILURE(expect_result(*vm, 100, kSumOf1000));
  EXPECT_EQ(master_->code_counters().versions, versions);
  const auto after = vm->counters();
  ASSERT_TRUE(before && after);
  EXPECT_EQ(after->slow_steps, before->slow_steps);
}

TEST_P(Lc3CodeForks, AForkThatChangesItsCodeIsAlone) {
  const auto changed = fork(), other = fork();
  ASSERT_TRUE(changed && other);
  const std::uint16_t by_two = 0x127e;
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    bind(*changed);
    auto vm = master_->attach(*changed);
    ASSERT_TRUE(vm->write_memory(kStep, std::span(&by_two, 1)));
    ASSERT_NO_FATAL_FAILURE(expect_result(*vm, 50, static_cast<std::uint16_t>(500 * 501)));
    bind(*other);
    ASSERT_NO_FATAL_FAILURE(expect_result(*master_->attach(*other), 50, kSumOf1000));
    bind(*changed);
    ASSERT_TRUE(changed->reset());
    ASSERT_NO_FATAL_FAILURE(expect_result(*master_->attach(*changed), 50, kSumOf1000));
    bind(*other);
    ASSERT_TRUE(other->reset());
  }
}

// What LLVM makes of a fork's program is kept, and the next master's forks find it.
class Lc3CachedForks : public Lc3ForkTest {
 protected:
  void SetUp() override {
    Lc3ForkTest::SetUp();
    std::string name = ::testing::TempDir() + "warmfork-forks-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  /// A fork of a new master runs first of all of its family. Returns what has been compiled for it.
  lc3::jit::CacheCounters run_fork() {
    source_.reset();
    master_ = make_lc3({.engine = Engine::kOrc, .cache_dir = directory_});
    EXPECT_NE(master_, nullptr);
    if (master_ == nullptr) return {};
    EXPECT_TRUE(master_->load(program(kSum)));
    take_snapshot();
    const auto one = fork();
    if (one == nullptr) return {};
    bind(*one);
    const auto vm = master_->attach(*one);
    for (int slice = 0; slice < 2; ++slice) {
      const auto ran = vm->run(1000 * kRound);
      EXPECT_TRUE(ran) << ran.error().message;
      vm->finish_optimising();
    }
    EXPECT_EQ(vm->read_memory(kResult, 1)->front(), kSumOf1000);
    EXPECT_EQ(vm->cache_complaint(), "");
    return vm->code_counters();
  }
  std::string directory_;
};

TEST_P(Lc3CachedForks, FindWhatForksOfAnotherMasterHaveLeft) {
  const lc3::jit::CacheCounters first = run_fork();
  EXPECT_EQ(first.disk_hits, 0U);
  EXPECT_GT(first.disk_written, 0U);
  EXPECT_EQ(first.failures, 0U);
  const lc3::jit::CacheCounters second = run_fork();
  // Of the last unit at least: one that another follows at once may not have been optimised.
  EXPECT_GT(second.disk_hits, 0U);
  EXPECT_EQ(second.disk_misses, second.versions - second.disk_hits);
  EXPECT_EQ(second.disk_refused + second.failures, 0U);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Lc3CachedForks, ::testing::ValuesIn(kForkKinds),
                         [](const auto& info) { return std::string(name_of(info.param)); });
INSTANTIATE_TEST_SUITE_P(Kinds, Lc3CodeForks, ::testing::ValuesIn(kForkKinds),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// A snapshot's file holds no code: a guest from it finds its version gone, and interprets.
TEST_F(Lc3Code, AForkOfALoadedSnapshotInterprets) {
  const auto master = make_lc3({.engine = Engine::kXbyak});
  ASSERT_NE(master, nullptr);
  ASSERT_TRUE(master->load(program(kSum)));
  ASSERT_TRUE(master->run(10 * kRound));
  const auto snapshot = Snapshot::take(system(), master->machine());
  ASSERT_TRUE(snapshot);
  const std::string path = ::testing::TempDir() + "lc3_code_" + std::to_string(::getpid()) + ".snap";
  ASSERT_TRUE(save_snapshot(**snapshot, path));
  const auto loaded = load_snapshot(system(), path);
  ::unlink(path.c_str());
  ASSERT_TRUE(loaded) << loaded.error().message;
  const auto source = make_fork_source(system(), *loaded, {.kind = ForkKind::kVm}, 1);
  ASSERT_TRUE(source);
  const auto fork = (*source)->make();
  ASSERT_TRUE(fork);
  const auto vm = master->attach(**fork);
  const auto ran = vm->run(100 * kRound);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->executed, 100 * kRound);
  EXPECT_EQ(vm->read_memory(kResult, 1)->front(), kSumOf1000);
}

// Forks of two threads, each changing its own code again and again, ask the one compiler at the same time.
TEST_F(Lc3Code, ForksOfTwoThreadsCompileAtOnce) {
  const auto master = make_lc3({.engine = Engine::kXbyak});
  ASSERT_NE(master, nullptr);
  ASSERT_TRUE(master->load(program(kSum)));
  ASSERT_TRUE(master->run(2 * kRound));
  const auto snapshot = Snapshot::take(system(), master->machine());
  ASSERT_TRUE(snapshot);
  static_cast<void>(master->attach(master->machine()));  // shared from here on
  auto pool = Pool::create(system(), *snapshot, {.ready = 2, .most = 2});
  ASSERT_TRUE(pool) << pool.error().message;
  std::atomic<int> wrong = 0;
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (std::uint64_t i = 0; i < scaled(40); ++i) {
      auto lease = (*pool)->acquire();
      if (!lease) {
        ++wrong;
        continue;
      }
      const auto vm = master->attach(lease->fork());
      const std::uint16_t steps[] = {0x127f, 0x127e};  // ADD R1, R1, #-1 or #-2
      for (int change = 0; change < 3; ++change) {
        const std::size_t which = random() % 2;
        const bool written = static_cast<bool>(vm->write_memory(kStep, std::span(&steps[which], 1)));
        const auto ran = vm->run(5 * kRound);
        const auto result = vm->read_memory(kResult, 1);
        const auto expected = which == 0 ? kSumOf1000 : static_cast<std::uint16_t>(500 * 501);
        // Five rounds are at least four whole ones of either kind: the last result is this change's.
        if (!written || !ran || ran->executed != 5 * kRound || !result || result->front() != expected) ++wrong;
      }
    }
  };
  std::thread other(work, 2);
  work(1);
  other.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace warmfork::test
