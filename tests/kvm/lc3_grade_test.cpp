// Graded runs, isolated from each other: nothing leaks from one to the next, counts are exact, many are quick.
#include "lc3/asm/assembler.hpp"
#include "lc3/fleet/grade.hpp"
#include "lc3_fixture.hpp"

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

namespace warmfork::test {
namespace {

using lc3::Verdict;

// Writes xFEED into every word from x4000 to xFDFF and from x0000 up to itself, vectors and OS too, into all registers,
// into the KBSR's interrupt bit; then it lies there.
constexpr const char* kMarker = R"(
        .ORIG x3000
        LD R1, MARK
        LD R2, FROM
        LD R3, COUNT
FILL    STR R1, R2, #0
        ADD R2, R2, #1
        ADD R3, R3, #-1
        BRnp FILL
        LD R0, MARK
        STI R0, KBSR
        LD R2, MARK
        LD R3, MARK
        LD R4, MARK
        LD R5, MARK
        LD R6, MARK
        LD R7, MARK
HERE    BRnzp HERE
MARK    .FILL xFEED
KBSR    .FILL xFE00
FROM    .FILL x4000
COUNT   .FILL xEE00           ; x4000 … xFDFF, around through device space (which ignores it) and x0000 … x2DFF
        .END
)";

// Prints Y if a register, KBSR or a word of memory from x4000 to xFDFF or x2000 to x2DFF holds what nobody has put
// there, else N. Uses no OS but for OUT and HALT.
constexpr const char* kFinder = R"(
        .ORIG x3000
        ST R0, S0
        ST R7, S7
        LD R1, S0
        BRnp FOUND
        LD R1, S7
        BRnp FOUND
        ADD R2, R2, #0
        BRnp FOUND
        ADD R3, R3, #0
        BRnp FOUND
        ADD R4, R4, #0
        BRnp FOUND
        ADD R5, R5, #0
        BRnp FOUND
        LDI R1, KBSR
        ADD R1, R1, R1
        BRn FOUND
        LD R2, FROM
        LD R3, COUNT
NEXT    LDR R1, R2, #0
        BRnp FOUND
        ADD R2, R2, #1
        ADD R3, R3, #-1
        BRnp NEXT
        LD R2, FROM_LOW
        LD R3, COUNT_LOW
NEXT_LOW
        LDR R1, R2, #0
        BRnp FOUND
        ADD R2, R2, #1
        ADD R3, R3, #-1
        BRnp NEXT_LOW
        LD R0, NO
        OUT
        HALT
FOUND   LD R0, YES
        OUT
        HALT
YES     .FILL x59
NO      .FILL x4E
S0      .BLKW 1
S7      .BLKW 1
KBSR    .FILL xFE00
FROM    .FILL x4000
COUNT   .FILL xBE00
FROM_LOW
        .FILL x2000
COUNT_LOW
        .FILL x0E00
        .END
)";

class Lc3Grade : public Lc3Test, public ::testing::WithParamInterface<ForkKind> {
 protected:
  void SetUp() override {
    Lc3Test::SetUp();
    if (IsSkipped()) return;
    std::string pattern = (std::filesystem::temp_directory_path() / "grade-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }
  lc3::Submission submission(const std::string& name, const std::string& source) {
    const std::string path = directory_ / name;
    std::ofstream(path) << source;
    return {name, path};
  }
  static lc3::TestCase test(const std::string& name, const std::string& input, const std::string& output) {
    lc3::TestCase test;
    test.name = name;
    test.input.text = input;
    test.output.text = output;
    test.limits.instructions = 1'000'000;
    return test;
  }
  lc3::GradeReport grade(const lc3::TestSet& tests, std::span<const lc3::Submission> submissions, unsigned threads) {
    lc3::GradeOptions options;
    options.fork = GetParam();
    options.threads = threads;
    auto report = lc3::grade(system(), tests, submissions, options);
    EXPECT_TRUE(report) << report.error().message;
    return report ? std::move(*report) : lc3::GradeReport{};
  }

  std::filesystem::path directory_;
};

TEST_P(Lc3Grade, NothingLeaksFromOneRunToTheNext) {
  lc3::TestSet set;
  set.tests = {test("probe", "", "N"), test("again", "left-over input", "N")};
  const lc3::Submission finder = submission("finder.asm", kFinder);
  const lc3::Submission marker = submission("marker.asm", kMarker);
  // One thread: one fork, which each of them gets in turn.
  const std::vector<lc3::Submission> order{finder, marker, finder, marker, marker, finder};
  const auto report = grade(set, order, 1);
  ASSERT_EQ(report.submissions.size(), order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const bool marks = order[i].name == marker.name;
    for (const lc3::Cell& cell : report.submissions[i].cells) {
      EXPECT_EQ(cell.verdict, marks ? Verdict::kInstructionLimit : Verdict::kPassed) << i << ": " << cell.detail;
      EXPECT_EQ(cell.executed, marks ? 1'000'000U : report.submissions[0].cells[0].executed);
    }
  }
  EXPECT_EQ(report.resets_failed, 0U);

  // The marker does mark, and the finder finds: on a machine that is not reset in between.
  auto master = make_lc3({.engine = lc3::Engine::kInterpreter});
  ASSERT_NE(master, nullptr);
  const auto run_on_master = [&](const char* source, std::uint64_t budget) {
    const auto program = lc3::assemble(source, "x.asm");
    ASSERT_TRUE(program) << program.error().message;
    ASSERT_TRUE(master->place(*program));
    ASSERT_TRUE(master->run(budget));
  };
  run_on_master(".ORIG x3000\nL LD R5, M\nBRnzp L\nM .FILL x1\n.END\n", 100);
  run_on_master(kFinder, 1'000'000);
  std::string output;
  ASSERT_TRUE(master->drain(output));
  EXPECT_EQ(output, "Y");
  ASSERT_TRUE(master->power_on({.engine = lc3::Engine::kInterpreter}));
  run_on_master(kMarker, 1'000'000);
  constexpr std::uint16_t kMarked[] = {0x0000, 0x0025, 0x2dff, 0x4000, 0xfdff};
  for (const std::uint16_t address : kMarked) {
    const auto word = master->read_memory(address, 1);
    ASSERT_TRUE(word);
    EXPECT_EQ(word->front(), 0xfeed) << std::hex << address;
  }
}

TEST_P(Lc3Grade, CountsAreTheSameOnAnyThreadAndInputsOfAnyLengthArrive) {
  // Echoes to the end of the line; more than a ring's worth of input.
  const lc3::Submission echo = submission("echo.asm", R"(
        .ORIG x3000
LOOP    GETC
        ADD R1, R0, #-10
        BRz DONE
        OUT
        BRnzp LOOP
DONE    HALT
        .END
)");
  lc3::TestSet set;
  set.seeds = {1, 2, 3};
  const auto tests = static_cast<std::size_t>(scaled(100));
  for (std::size_t i = 0; i < tests; ++i) {
    const std::string text(i * 100, 'a');
    set.tests.push_back(test(std::to_string(i), text + "\n", text));
  }
  const std::vector<lc3::Submission> all(4, echo);
  const auto report = grade(set, all, 4);
  ASSERT_EQ(report.submissions.size(), 4U);
  for (const auto& one : report.submissions) {
    for (std::size_t i = 0; i < one.cells.size(); ++i) {
      EXPECT_EQ(one.cells[i].verdict, Verdict::kPassed) << one.cells[i].detail;
      EXPECT_EQ(one.cells[i].seeds_passed, 3U);
      EXPECT_EQ(one.cells[i].executed, i * 100 * 5 + 4);
    }
  }
  EXPECT_EQ(report.runs, 4 * tests * 3);
}

TEST_P(Lc3Grade, RunsAreOneExitEachAndTwoThousandAreQuick) {
  const lc3::Submission count = submission("count.asm", R"(
        .ORIG x3000
        GETC
        LD R1, N
LOOP    ADD R1, R1, #-1
        BRp LOOP
        OUT
        HALT
N       .FILL #498
        .END
)");
  lc3::TestSet set;
  const std::uint64_t runs = scaled(2000);
  for (std::uint64_t i = 0; i < runs; ++i) set.tests.push_back(test(std::to_string(i), "x", "x"));
  const auto report = grade(set, {&count, 1}, 2);
  EXPECT_TRUE(report.all_passed());
  EXPECT_EQ(report.runs, runs);
  EXPECT_EQ(report.submissions[0].cells[0].executed, 1000U);
  // Some hundred milliseconds where an exit takes 25 us; a bound for machines that do other things as well, or emulate.
  EXPECT_LT(report.runs_ns, std::uint64_t{10'000'000} * runs);

  auto master = make_lc3({.engine = lc3::Engine::kInterpreter, .stop_for_output = false});
  ASSERT_NE(master, nullptr);
  const auto program = lc3::assemble(".ORIG x3000\nGETC\nOUT\nHALT\n.END\n", "x.asm");
  ASSERT_TRUE(program);
  const std::uint64_t before = master->guest().counters().kvm_run;
  ASSERT_TRUE(master->place(*program));
  lc3::Lc3Options options;
  lc3::IsolatedRun run(*master, options, "a", {});
  const auto ended = run.advance();
  ASSERT_TRUE(ended && *ended);
  EXPECT_EQ(run.output(), "a");
  EXPECT_EQ(master->guest().counters().kvm_run - before, 1U);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Lc3Grade, ::testing::ValuesIn(kForkKinds),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace warmfork::test
