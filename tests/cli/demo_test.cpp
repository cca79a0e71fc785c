// warmfork demo.
#include "process.hpp"

#include <gmock/gmock.h>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;

class DemoTest : public CliKvmTest {};

TEST_F(DemoTest, ShowsEveryStepWithoutATerminal) {
  const Ended ended = run_cli({"demo"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  EXPECT_LT(ended.seconds, 20);
  for (const char* text : {"process start to first result", "Hello from the LC-3!", "asked for 1000003 instructions",
                           "the floor", "illegal opcode", "stopped from outside after", "Where to go next"}) {
    EXPECT_THAT(ended.out, HasSubstr(text));
  }
}

}  // namespace
}  // namespace warmfork::test
