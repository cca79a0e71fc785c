// The LC-3 handle against a guest that speaks its protocol and lies: every lie is noticed, none is followed.
#include "lc3_fixture.hpp"

namespace warmfork::test {
namespace {

class HostileLc3 : public Lc3Test, public ::testing::WithParamInterface<std::uint64_t> {
 protected:
  std::unique_ptr<lc3::Lc3Vm> make_liar(std::uint64_t lie) {
    const auto elf = read_file(test_data("probe_lying_lc3.elf"), 1 << 24);
    EXPECT_TRUE(elf);
    if (!elf) return nullptr;
    auto vm = lc3::Lc3Vm::create(system(), {.randomise = lie}, *elf);
    EXPECT_TRUE(vm) << vm.error().message;
    return vm ? std::move(*vm) : nullptr;
  }
};

TEST_F(HostileLc3, HonestAnswersAreBelieved) {
  const auto vm = make_liar(0);
  ASSERT_NE(vm, nullptr);
  const auto result = vm->run(100);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->executed, 100u);
  std::string output;
  EXPECT_TRUE(vm->drain(output));
  EXPECT_EQ(output, "");
}

TEST_P(HostileLc3, LieIsAGuestFault) {
  const auto vm = make_liar(GetParam());
  ASSERT_NE(vm, nullptr);
  Status status;
  std::string output;
  if (GetParam() <= 2) {
    status = vm->drain(output);
  } else if (GetParam() <= 4) {
    const std::array<std::uint8_t, 3> bytes{1, 2, 3};
    if (const auto fed = vm->feed(bytes); !fed) status = Failure(fed.error());
  } else if (GetParam() <= 11 || GetParam() == 16) {
    if (const auto result = vm->run(100); !result) status = Failure(result.error());
  } else if (GetParam() <= 14) {
    status = vm->instrument(lc3::InstrumentMode::kCollect);
  } else if (const auto trace = vm->trace(10); !trace) {
    status = Failure(trace.error());
  }
  ASSERT_FALSE(status) << "it was believed";
  EXPECT_EQ(status.error().kind, ErrorKind::kGuestFault) << status.error().message;
  EXPECT_EQ(output, "");
  // A guest that was caught is not talked to again.
  if (status.error().message.find("breaks its protocol") != std::string::npos) {
    EXPECT_FALSE(vm->machine().ready());
    EXPECT_FALSE(vm->run(1));
  }
}

// Each time it claims to have executed one instruction and to want a compiler: that may go on, but not past a deadline.
TEST_F(HostileLc3, CompilingForEverEndsAtTheDeadline) {
  const auto vm = make_liar(17);
  ASSERT_NE(vm, nullptr);
  const auto result = vm->run(std::uint64_t{1} << 60, {.timeout_ns = 50'000'000});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kDeadline) << result.error().message;
  EXPECT_EQ(vm->code_counters().instructions, 0U) << "its memory is empty";
  const auto resumed = vm->resume({.timeout_ns = 50'000'000});
  ASSERT_FALSE(resumed);
  EXPECT_EQ(resumed.error().kind, ErrorKind::kDeadline) << resumed.error().message;
}

INSTANTIATE_TEST_SUITE_P(Lies, HostileLc3, ::testing::Range(std::uint64_t{1}, std::uint64_t{17}),
                         [](const auto& parameter) { return std::to_string(parameter.param); });

}  // namespace
}  // namespace warmfork::test
