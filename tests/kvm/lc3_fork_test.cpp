// A warm LC-3, its program loaded, forked for each input: what a grader or a service does with it.
#include "lc3_fixture.hpp"

#include <string>

namespace warmfork::test {
namespace {

using lc3::Lc3Vm;
using lc3::StopReason;

// Echoes one character's successor for ever.
constexpr const char* kSuccessor = R"(
        .ORIG x3000
LOOP    GETC
        ADD R0, R0, #1
        OUT
        LD R1, COUNT
        ADD R1, R1, #1
        ST R1, COUNT
        BRnzp LOOP
COUNT   .FILL #0
        .END
)";

class Lc3Fork : public Lc3ForkTest {
 protected:
  void SetUp() override {
    Lc3ForkTest::SetUp();
    if (IsSkipped()) return;
    master_ = make_lc3();
    ASSERT_NE(master_, nullptr);
    ASSERT_TRUE(master_->load(program(kSuccessor)));
    // Warm: it waits in GETC for its first character.
    const auto waiting = master_->run(1'000'000);
    ASSERT_TRUE(waiting) << waiting.error().message;
    ASSERT_EQ(waiting->stop, StopReason::kInputNeeded);
    take_snapshot();
  }
  static std::string answer(Lc3Vm& lc3, const std::string& input) {
    const auto fed = lc3.feed({reinterpret_cast<const std::uint8_t*>(input.data()), input.size()});
    EXPECT_TRUE(fed && *fed == input.size());
    const auto ran = lc3.run(1'000'000);
    EXPECT_TRUE(ran) << ran.error().message;
    if (ran) EXPECT_EQ(ran->stop, StopReason::kInputNeeded);
    std::string output;
    EXPECT_TRUE(lc3.drain(output));
    return output;
  }
};

TEST_P(Lc3Fork, EachForkAnswersItsOwnInput) {
  const auto a = fork();
  const auto b = fork();
  ASSERT_TRUE(a && b);
  bind(*a);
  EXPECT_EQ(answer(*master_->attach(*a), "HAL"), "IBM");
  bind(*b);
  EXPECT_EQ(answer(*master_->attach(*b), "VMS"), "WNT");
  for (int round = 0; round < 5; ++round) {
    bind(*a);
    ASSERT_TRUE(a->reset());
    const auto lc3 = master_->attach(*a);
    EXPECT_EQ(answer(*lc3, "@"), "A");
    EXPECT_EQ(answer(*lc3, "AB"), "BC") << "a fork goes on until it is reset";
    const auto count = lc3->read_memory(0x3007, 1);
    ASSERT_TRUE(count);
    EXPECT_EQ(count->front(), 3);
  }
}

TEST_P(Lc3Fork, TheInstructionBudgetIsExact) {
  const auto one = fork();
  ASSERT_TRUE(one);
  bind(*one);
  const auto lc3 = master_->attach(*one, 10);
  const std::string input(100, 'a');
  ASSERT_TRUE(lc3->feed({reinterpret_cast<const std::uint8_t*>(input.data()), input.size()}));
  std::uint64_t executed = 0;
  for (int i = 0; i < 3; ++i) {
    const auto ran = lc3->run(7);
    ASSERT_TRUE(ran) << ran.error().message;
    EXPECT_EQ(ran->stop, StopReason::kBudget);
    executed += ran->executed;
  }
  EXPECT_EQ(executed, 10U);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Lc3Fork, ::testing::ValuesIn(kForkKinds),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace warmfork::test
