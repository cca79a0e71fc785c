// Every program of payloads/lc3/programs in the guest, in every way the manifest lists, against its expected output.
#include "lc3/asm/load_program.hpp"
#include "lc3_fixture.hpp"
#include "lc3_programs/manifest.hpp"

#include <algorithm>

namespace warmfork::test {
namespace {

struct Way {
  int edition;
  bool native_traps;
  lc3::Engine engine = lc3::Engine::kAuto;
};

class Lc3Programs : public Lc3Test, public ::testing::WithParamInterface<Way> {
 protected:
  void run(lc3::Lc3Vm& vm, const lc3_programs::Case& program, lc3::Engine engine,
           lc3::InstrumentMode mode = lc3::InstrumentMode::kOff) {
    lc3::Lc3Options options;
    options.engine = engine;
    options.edition = program.edition;
    options.traps = program.native_traps ? lc3::TrapMode::kNative : lc3::TrapMode::kOs;
    options.strict_privilege = program.strict_privilege;
    options.load_os = program.load_os;
    options.supervisor_start = program.supervisor_start;
    ASSERT_TRUE(vm.power_on(options));
    ASSERT_TRUE(vm.instrument(mode));
    const auto loaded = lc3::load_program(program.files);
    ASSERT_TRUE(loaded) << loaded.error().message;
    ASSERT_TRUE(vm.load(*loaded));
    std::span<const std::uint8_t> input(reinterpret_cast<const std::uint8_t*>(program.input.data()),
                                        program.input.size());
    std::string output;
    std::uint64_t executed = 0;
    for (;;) {
      const auto fed = vm.feed(input);
      ASSERT_TRUE(fed) << fed.error().message;
      input = input.subspan(*fed);
      if (input.empty()) ASSERT_TRUE(vm.close_input());
      const auto result = vm.run(program.instruction_limit - executed, {.timeout_ns = 10 * kTimeout});
      ASSERT_TRUE(result) << result.error().message;
      executed += result->executed;
      ASSERT_TRUE(vm.drain(output));
      using enum lc3::StopReason;
      if (result->stop == kOutputFull || result->stop == kOutputPending) continue;
      if ((result->stop == kInputNeeded || result->stop == kIdle) && !input.empty()) continue;
      ASSERT_EQ(result->stop, kHalted) << lc3::describe(result->stop) << " after " << executed << "\n" << output;
      break;
    }
    EXPECT_EQ(output, program.expected);
  }
};

TEST_P(Lc3Programs, DisplayWhatIsExpectedAndHalt) {
  const auto cases = lc3_programs::load_manifest(test_data("lc3_programs"));
  ASSERT_TRUE(cases) << cases.error().message;
  const auto vm = make_lc3({.engine = GetParam().engine});
  ASSERT_NE(vm, nullptr);
  int count = 0;
  for (const lc3_programs::Case& program : *cases) {
    if (program.edition != GetParam().edition || program.native_traps != GetParam().native_traps) continue;
    SCOPED_TRACE(program.name);
    ASSERT_NO_FATAL_FAILURE(run(*vm, program, GetParam().engine));
    ++count;
  }
  EXPECT_GE(count, 20);
}

// What compiled code counts is what the careful interpreter counts, in every table and at every address.
class Lc3Statistics : public Lc3Programs {};

TEST_P(Lc3Statistics, AreThoseOfTheCarefulInterpreter) {
  const auto cases = lc3_programs::load_manifest(test_data("lc3_programs"));
  ASSERT_TRUE(cases) << cases.error().message;
  const auto careful = make_lc3({.engine = lc3::Engine::kInterpreter});
  const auto compiled = make_lc3({.engine = GetParam().engine});
  ASSERT_TRUE(careful && compiled);
  int count = 0;
  for (const lc3_programs::Case& program : *cases) {
    if (program.edition != GetParam().edition || program.native_traps != GetParam().native_traps) continue;
    SCOPED_TRACE(program.name);
    ASSERT_NO_FATAL_FAILURE(run(*careful, program, lc3::Engine::kInterpreter, lc3::InstrumentMode::kCollect));
    ASSERT_NO_FATAL_FAILURE(run(*compiled, program, GetParam().engine, lc3::InstrumentMode::kCollect));
    const auto expected = careful->statistics(), counted = compiled->statistics();
    ASSERT_TRUE(expected && counted);
    const lc3::Instrumentation &a = **expected, &b = **counted;
    EXPECT_TRUE(std::ranges::equal(a.opcodes, b.opcodes));
    EXPECT_TRUE(std::ranges::equal(a.register_reads, b.register_reads));
    EXPECT_TRUE(std::ranges::equal(a.register_writes, b.register_writes));
    EXPECT_TRUE(std::ranges::equal(a.branches_taken, b.branches_taken));
    EXPECT_TRUE(std::ranges::equal(a.branches_not_taken, b.branches_not_taken));
    EXPECT_TRUE(std::ranges::equal(a.executions, b.executions));
    EXPECT_TRUE(std::ranges::equal(a.memory_reads, b.memory_reads));
    EXPECT_TRUE(std::ranges::equal(a.memory_writes, b.memory_writes));
    if (++count != 1) continue;
    const auto again = compiled->statistics();
    ASSERT_TRUE(again);
    EXPECT_TRUE(std::ranges::equal((*again)->executions, b.executions)) << "read twice, counted twice";
  }
  EXPECT_GE(count, 20);
  EXPECT_GT(compiled->code_counters().versions, 0U);
  EXPECT_EQ(compiled->code_counters().optimised, 0U);
}

INSTANTIATE_TEST_SUITE_P(Ways, Lc3Statistics,
                         ::testing::Values(Way{2, false, lc3::Engine::kXbyak}, Way{3, false, lc3::Engine::kAuto},
                                           Way{3, true, lc3::Engine::kOrc}),
                         [](const auto& parameter) {
                           return fmt::format("Edition{}{}", parameter.param.edition,
                                              parameter.param.native_traps ? "Native" : "Os");
                         });

class Lc3Run : public Lc3Test {};

TEST_F(Lc3Run, GoesOnAfterADeadlineToTheExactInstruction) {
  const auto vm = make_lc3();
  ASSERT_NE(vm, nullptr);
  lc3::Program program;
  program.files = {"loop"};
  program.segments = {{0x3000, {0x1021, 0x0ffe}, 0}};  // ADD R0, R0, #1; BR back
  ASSERT_TRUE(vm->load(program));
  const std::uint64_t budget = 2 * scaled(200'000'000);
  auto result = vm->run(budget, {.timeout_ns = 2'000'000});
  int stops = 0;
  while (!result) {
    ASSERT_EQ(result.error().kind, ErrorKind::kDeadline) << result.error().message;
    ++stops;
    EXPECT_FALSE(vm->run(1)) << "a run within a run";
    result = vm->resume({.timeout_ns = 50'000'000});
  }
  EXPECT_GT(stops, 0);
  EXPECT_EQ(result->executed, budget);
  const auto registers = vm->registers();
  ASSERT_TRUE(registers);
  EXPECT_EQ(registers->general[0], static_cast<std::uint16_t>(budget / 2));
}

INSTANTIATE_TEST_SUITE_P(Ways, Lc3Programs,
                         ::testing::Values(Way{2, false}, Way{2, true}, Way{3, false}, Way{3, true},
                                           Way{3, true, lc3::Engine::kInterpreter}, Way{2, false, lc3::Engine::kXbyak},
                                           Way{3, false, lc3::Engine::kXbyak}, Way{3, true, lc3::Engine::kXbyak},
                                           Way{3, false, lc3::Engine::kOrc}, Way{2, true, lc3::Engine::kOrc}),
                         [](const auto& parameter) {
                           const Way& way = parameter.param;
                           return fmt::format("Edition{}{}{}", way.edition, way.native_traps ? "Native" : "Os",
                                              way.engine == lc3::Engine::kInterpreter ? "Interpreted"
                                              : way.engine == lc3::Engine::kXbyak     ? "Xbyak"
                                              : way.engine == lc3::Engine::kOrc       ? "Orc"
                                                                                      : "");
                         });

}  // namespace
}  // namespace warmfork::test
