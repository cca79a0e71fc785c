// The guest's vmcalls, called natively as a host calls them in a guest.
#include "lc3/guest/api.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace warmfork::lc3 {
namespace {

std::uint64_t address(const void* object) { return reinterpret_cast<std::uintptr_t>(object); }
State& state() { return *reinterpret_cast<State*>(lc3_state()); }

class GuestApi : public ::testing::Test {
 protected:
  void SetUp() override {
    lc3_instrument(0);
    lc3_configure(kDefaultConfig, 0, 0);
    lc3_capture_vectors();
  }
  static std::uint64_t load(std::uint64_t origin, const std::vector<std::uint16_t>& words) {
    return lc3_load(address(words.data()), origin, words.size());
  }
  static StopReason run(std::uint64_t budget) { return static_cast<StopReason>(lc3_run(budget, 0, 0)); }
};

TEST_F(GuestApi, RunsAProgramFromLoadToOutput) {
  // PUTS "Hi", GETC, OUT, HALT
  ASSERT_EQ(load(0x4000, {0xe004, 0xf022, 0xf020, 0xf021, 0xf025, 'H', 'i', 0}), 1u);
  lc3_start(0x4000);
  EXPECT_EQ(run(1000), StopReason::kInputNeeded);
  EXPECT_EQ(lc3_feed(address("!"), 1), 1u);
  EXPECT_EQ(run(1000), StopReason::kHalted);
  EXPECT_EQ(state().result.executed, 3u);
  std::string text(16, '\0');
  text.resize(lc3_drain(address(text.data()), text.size()));
  EXPECT_EQ(text, "Hi!");
  const auto& counters = *reinterpret_cast<const Counters*>(lc3_counters());
  EXPECT_EQ(counters.instructions, 5u);
}

TEST_F(GuestApi, LoadRefusesWhatDoesNotFit) {
  EXPECT_EQ(load(0xfdff, {1, 2}), 0u);
  EXPECT_EQ(load(0x10000, {1}), 0u);
}

TEST_F(GuestApi, ConfigureBeginsAnew) {
  load(0x3000, {0x1021});
  lc3_run(1, 0, 0);
  lc3_feed(address("abc"), 3);
  lc3_configure(kDefaultConfig, 0, 0);
  EXPECT_EQ(lc3_read_register(0), 0u);
  EXPECT_EQ(state().memory[0x3000], 0);
  EXPECT_EQ(state().input.head, state().input.tail);
  lc3_configure(kDefaultConfig, 1, 42);
  const std::uint16_t word = state().memory[0x4321];
  lc3_configure(kDefaultConfig, 1, 42);
  EXPECT_EQ(state().memory[0x4321], word);
}

TEST_F(GuestApi, SetConfigSwitchesTheEditionForBothEngines) {
  load(0x3000, {0xe1ff});
  lc3_set_config(kSecondEdition);
  lc3_run(1, 0, 0);
  EXPECT_EQ(lc3_read_register(kRegisterPsr) & 7, kPsrP);
}

TEST_F(GuestApi, RegistersAreReadAndWrittenByNumber) {
  for (std::uint64_t id = 0; id < kRegisterIdCount; ++id) {
    if (id == kRegisterPsr) continue;
    lc3_write_register(id, 0x8100 + id);
  }
  lc3_write_register(kRegisterPsr, 0x0304);
  for (std::uint64_t id = 0; id < kRegisterIdCount; ++id) {
    EXPECT_EQ(lc3_read_register(id), id == kRegisterPsr ? 0x0304 : 0x8100 + id) << id;
  }
}

TEST_F(GuestApi, MemoryAccessWrapsAndNeverTouchesTheTrapWords) {
  const std::vector<std::uint16_t> in(0x300, 0x4141);
  lc3_write_memory(0xfd80, address(in.data()), in.size());
  EXPECT_EQ(state().memory[0xfdff], 0x4141);
  EXPECT_EQ(state().memory[0xfe10], kTrapWord);
  EXPECT_EQ(state().memory[0x007f], 0x4141);
  EXPECT_EQ(state().memory[0x0080], 0);
  std::vector<std::uint16_t> out(3);
  lc3_read_memory(0xfdff, address(out.data()), 3);
  EXPECT_EQ(out, (std::vector<std::uint16_t>{0x4141, kKbsrInterruptEnable & 0x4141, 0}));
}

TEST_F(GuestApi, StepExecutesOneInstruction) {
  load(0x3000, {0x1021, 0x1021});
  EXPECT_EQ(static_cast<StopReason>(lc3_step()), StopReason::kBudget);
  EXPECT_EQ(lc3_read_register(kRegisterPc), 0x3001u);
}

TEST_F(GuestApi, TraceWritesRecordsToTheBuffer) {
  load(0x3000, {0x1021, 0x1021, 0xf025});
  std::vector<TraceRecord> records(8);
  EXPECT_EQ(lc3_trace(8, address(records.data())), 3u);
  EXPECT_EQ(records[1].registers[0], 2);
  EXPECT_EQ(state().result.stop, StopReason::kHalted);
}

TEST_F(GuestApi, WatchNeedsInstrumentation) {
  load(0x3000, {0x1021, 0x1021});
  EXPECT_EQ(lc3_watch(0x3001, 1, kBreakExecute), 0u);
  const std::uint64_t where = lc3_instrument(static_cast<std::uint64_t>(InstrumentMode::kCollect));
  ASSERT_NE(where, 0u);
  EXPECT_EQ(lc3_watch(0x3001, 1, kBreakExecute), 1u);
  EXPECT_EQ(run(10), StopReason::kBreakpoint);
  EXPECT_EQ(reinterpret_cast<const Instrumentation*>(where)->opcodes[1], 1u);
  lc3_instrument(0);
  EXPECT_EQ(run(1), StopReason::kBudget);
}

TEST_F(GuestApi, ClosedInputIsExhaustedWhenTheRingIsEmpty) {
  load(0x3000, {0xf020, 0xf020});
  lc3_feed(address("x"), 1);
  lc3_close_input();
  EXPECT_EQ(run(10), StopReason::kInputExhausted);
  EXPECT_EQ(lc3_read_register(0), 'x');
}

}  // namespace
}  // namespace warmfork::lc3
