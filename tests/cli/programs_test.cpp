// Every program of payloads/lc3/programs, in every way that its manifest lists, by `warmfork run`.
#include "lc3_programs/manifest.hpp"
#include "process.hpp"
#include "program_arguments.hpp"

namespace warmfork::test {
namespace {

class ProgramsTest : public CliKvmTest {};

TEST_F(ProgramsTest, DisplayWhatIsExpected) {
  const auto cases = lc3_programs::load_manifest(WARMFORK_LC3_PROGRAMS);
  ASSERT_TRUE(cases) << cases.error().message;
  ASSERT_GT(cases->size(), 50U);
  for (const lc3_programs::Case& one : *cases) {
    SCOPED_TRACE(one.name);
    Arguments arguments = program_arguments(one, file("input", one.input));
    arguments.insert(arguments.begin(), "run");
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.out, one.expected);
    // The OS's own last words mean that it had to end the program.
    EXPECT_EQ(ended.code, one.expected.find("*** ") == std::string::npos ? 0 : 5) << ended.err;
  }
}

}  // namespace
}  // namespace warmfork::test
