// warmfork lockstep.
#include "process.hpp"

#include <gmock/gmock.h>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class LockstepTest : public CliTest {};

TEST_F(LockstepTest, GeneratedProgramsAreEqual) {
  const Ended ended = run_cli({"lockstep", "--programs", "80", "--seed", "7"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, StartsWith("equal: 80 programs, "));
  EXPECT_THAT(ended.out, HasSubstr("careful, fast, xbyak"));
}

TEST_F(LockstepTest, AGivenProgramIsEqualAndSaysHowItEnded) {
  const std::string sieve = WARMFORK_LC3_PROGRAMS "/sieve.asm";
  const Ended ended = run_cli({"lockstep", sieve, "--engines", "careful,xbyak"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, StartsWith("equal: "));
  EXPECT_THAT(ended.out, HasSubstr("careful, xbyak, then halted"));
  EXPECT_THAT(run_cli({"lockstep", sieve, "--budget", "1000"}).out, HasSubstr("equal: 1000 instructions"));
}

TEST_F(LockstepTest, ReadsInputAndKnowsEditions) {
  const std::string programs = WARMFORK_LC3_PROGRAMS;
  for (const char* edition : {"2", "3"}) {
    const Ended ended = run_cli({"lockstep", programs + "/calculator.asm", "--input", programs + "/calculator.in",
                                 "--edition", edition, "--json"});
    EXPECT_EQ(ended.code, 0) << ended.err << ended.out;
    EXPECT_THAT(ended.out, HasSubstr("\"equal\": true"));
    EXPECT_THAT(ended.out, HasSubstr("\"stop\": \"halted\""));
  }
}

TEST_F(LockstepTest, WrongUsageNamesWhatThereIs) {
  EXPECT_EQ(run_cli({"lockstep", "--engines", "careful"}).code, 2);
  EXPECT_EQ(run_cli({"lockstep", "--engines", "careful,slow"}).code, 2);
  const Ended ended = run_cli({"lockstep", "--generator", "none"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.err, HasSubstr("there are straight, flow, self, memory, devices, wrap, jumps, dense, programs"));
  EXPECT_EQ(run_cli({"lockstep", path("missing.asm")}).code, 3);
}

}  // namespace
}  // namespace warmfork::test
