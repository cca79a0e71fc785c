// Every program of payloads/lc3/programs in the guest, in every way the manifest lists, against its expected output.
#include "lc3/asm/load_program.hpp"
#include "lc3_fixture.hpp"
#include "lc3_programs/manifest.hpp"

namespace warmfork::test {
namespace {

struct Way {
  int edition;
  bool native_traps;
};

class Lc3Programs : public Lc3Test, public ::testing::WithParamInterface<Way> {
 protected:
  void run(lc3::Lc3Vm& vm, const lc3_programs::Case& program) {
    lc3::Lc3Options options;
    options.edition = program.edition;
    options.traps = program.native_traps ? lc3::TrapMode::kNative : lc3::TrapMode::kOs;
    options.strict_privilege = program.strict_privilege;
    options.load_os = program.load_os;
    options.supervisor_start = program.supervisor_start;
    ASSERT_TRUE(vm.power_on(options));
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
  const auto vm = make_lc3();
  ASSERT_NE(vm, nullptr);
  int count = 0;
  for (const lc3_programs::Case& program : *cases) {
    if (program.edition != GetParam().edition || program.native_traps != GetParam().native_traps) continue;
    SCOPED_TRACE(program.name);
    ASSERT_NO_FATAL_FAILURE(run(*vm, program));
    ++count;
  }
  EXPECT_GE(count, 20);
}

INSTANTIATE_TEST_SUITE_P(Ways, Lc3Programs, ::testing::Values(Way{2, false}, Way{2, true}, Way{3, false}, Way{3, true}),
                         [](const auto& parameter) {
                           return fmt::format("Edition{}{}", parameter.param.edition,
                                              parameter.param.native_traps ? "Native" : "Os");
                         });

}  // namespace
}  // namespace warmfork::test
