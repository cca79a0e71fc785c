// The OS on the reference machine: what its trap routines preserve, and that they do what native traps do.
#include "lc3/os/os_image.hpp"
#include "reference/reference_machine.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace warmfork {
namespace {

using namespace lc3_reference;

ReferenceMachine machine_with_os(Edition edition, Traps traps, std::vector<Word> program, Word origin = 0x3000) {
  ReferenceMachine machine({.edition = edition, .traps = traps});
  const auto& os = lc3::os_image(edition == Edition::kSecond ? lc3::Edition::kSecond : lc3::Edition::kThird);
  for (const auto& segment : os.segments) machine.load_os(segment.origin, segment.words);
  machine.load(origin, program);
  machine.start(origin);
  return machine;
}

constexpr Edition kEditions[] = {Edition::kSecond, Edition::kThird};

TEST(Lc3Os, LeavesUserSpaceAndItsStackAlone) {
  for (const auto edition : {lc3::Edition::kSecond, lc3::Edition::kThird}) {
    for (const auto& segment : lc3::os_image(edition).segments) EXPECT_LE(segment.end(), 0x0700U);
    EXPECT_TRUE(lc3::check_layout(lc3::os_image(edition)));
    ASSERT_NE(lc3::os_image(edition).find_symbol("OS_PUTS"), nullptr);
  }
}

TEST(Lc3Os, EveryVectorLeadsToARoutine) {
  for (const Edition edition : kEditions) {
    const auto machine = machine_with_os(edition, Traps::kOs, {});
    for (Word vector = 0; vector < 0x0200; ++vector) {
      EXPECT_GE(machine.peek(vector), 0x0200) << vector;
      EXPECT_LT(machine.peek(vector), 0x0700) << vector;
      EXPECT_NE(machine.peek(machine.peek(vector)), 0) << vector;
    }
  }
}

TEST(Lc3Os, TrapsPreserveRegistersAndAgreeWithNativeTraps) {
  for (const Edition edition : kEditions) {
    for (Word vector = 0x20; vector <= 0x25; ++vector) {
      SCOPED_TRACE(testing::Message() << "vector " << std::hex << vector << " edition " << static_cast<int>(edition));
      std::array<std::string, 2> output;
      std::array<std::array<Word, 8>, 2> after{};
      for (const Traps traps : {Traps::kOs, Traps::kNative}) {
        auto machine = machine_with_os(edition, traps, {static_cast<Word>(0xF000 | vector), 0x0FFF});
        machine.load(0x4000, std::vector<Word>{0x6241, 0xFF43, 0x0044, 0});
        machine.type("zy");
        for (unsigned i = 0; i < 8; ++i) machine.set_reg(i, static_cast<Word>(0x8101 * i + 0x4000));
        machine.set_reg(6, 0xFDF0);
        machine.set_psr(0x8001);
        for (int steps = 0; machine.pc() != 0x3001 && machine.state() == State::kRunning; ++steps) {
          ASSERT_LT(steps, 10000);
          machine.step();
        }
        const bool halts = vector == 0x25;
        EXPECT_EQ(machine.state(), halts ? State::kHalted : State::kRunning);
        const std::size_t which = traps == Traps::kOs ? 0 : 1;
        output[which] = machine.take_output();
        for (unsigned i = 0; i < 8; ++i) {
          after[which][i] = machine.reg(i);
          const bool result = i == 0 && (vector == 0x20 || vector == 0x23);
          Word expected = result ? 'z' : static_cast<Word>(0x8101 * i + 0x4000);
          if (i == 7 && edition == Edition::kSecond) expected = 0x3001;
          if (i == 6) {
            if (halts && traps == Traps::kOs && edition == Edition::kThird) continue;  // stopped on the OS's stack
            expected = 0xFDF0;
          }
          EXPECT_EQ(machine.reg(i), expected) << "R" << i;
        }
        if (!halts && edition == Edition::kThird) EXPECT_EQ(machine.psr(), 0x8001);
        EXPECT_EQ(machine.input_left(), vector == 0x20 || vector == 0x23 ? 1U : 2U);
      }
      EXPECT_EQ(output[0], output[1]);
      if (vector == 0x22) EXPECT_EQ(output[0], "ACD");
      if (vector == 0x23) EXPECT_EQ(output[0], "Input a character> z");
      if (vector == 0x24)
        EXPECT_EQ(output[0],
                  "AbC\xFF"
                  "D");
    }
  }
}

TEST(Lc3Os, HaltStopsWhereverTheProgramAndItsStackAre) {
  for (const Edition edition : kEditions) {
    for (const Word origin : {Word{0x3000}, Word{0xF000}}) {
      auto machine = machine_with_os(edition, Traps::kOs, {0xF025}, origin);
      machine.set_reg(0, 0xBEEF);
      EXPECT_EQ(machine.run(100), State::kHalted);
      if (origin == 0x3000) EXPECT_EQ(machine.reg(0), 0xBEEF);
    }
  }
  auto supervisor = machine_with_os(Edition::kThird, Traps::kOs, {0xF025});
  supervisor.start(0x3000, true);
  supervisor.set_reg(6, 0xFD00);
  EXPECT_EQ(supervisor.run(100), State::kHalted);
}

TEST(Lc3Os, AFatalMessagePutsTheRegistersBack) {
  for (const Edition edition : kEditions) {
    for (const Word instruction : {Word{0xD001}, Word{0xF0FF}}) {
      auto machine = machine_with_os(edition, Traps::kOs, {instruction});
      for (unsigned i = 0; i < 6; ++i) machine.set_reg(i, static_cast<Word>(0xA000 + i));
      machine.set_reg(7, 0x7777);
      EXPECT_EQ(machine.run(20000), State::kHalted);
      EXPECT_NE(machine.take_output().find(" at x3000: halted\n"), std::string::npos);
      for (unsigned i = 0; i < 6; ++i) EXPECT_EQ(machine.reg(i), 0xA000 + i) << i;
      if (edition == Edition::kThird) EXPECT_EQ(machine.reg(7), 0x7777);
    }
  }
}

}  // namespace
}  // namespace warmfork
