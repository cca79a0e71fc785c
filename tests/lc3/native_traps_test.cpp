// Native traps and the project's own OS must not be told apart by a program: same output, same registers afterwards.
#include "lc3/os/os_image.hpp"
#include "machine_fixture.hpp"

#include <random>

namespace warmfork::lc3 {
namespace {

class NativeAndOs : public ::testing::TestWithParam<Edition> {
 protected:
  /// A machine with the OS and one trap at x3000.
  Machine calling(std::uint16_t trap, bool native) const {
    const std::uint32_t config = (GetParam() == Edition::kSecond ? kSecondEdition : 0u) | (native ? kNativeTraps : 0u);
    Machine m(Engine::kFast, config);
    for (const auto& segment : os_image(GetParam()).segments) {
      EXPECT_TRUE(load(*m, segment.origin, segment.words.data(), segment.words.size()));
    }
    capture_trap_vectors(*m);
    m.words(0x3000, {static_cast<std::uint16_t>(0xf000 | trap)});
    return m;
  }
};
INSTANTIATE_TEST_SUITE_P(Editions, NativeAndOs, ::testing::Values(Edition::kSecond, Edition::kThird),
                         [](const auto& param) { return param.param == Edition::kSecond ? "second" : "third"; });

TEST_P(NativeAndOs, LeaveTheSameRegistersAndOutput) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    for (const int trap : {0x20, 0x21, 0x22, 0x23, 0x24}) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", trap " + std::to_string(trap));
      Machine native = calling(static_cast<std::uint16_t>(trap), true);
      Machine os = calling(static_cast<std::uint16_t>(trap), false);
      for (Machine* m : {&native, &os}) {
        std::mt19937 random(seed);
        for (unsigned n = 0; n < 8; ++n) m->r(n) = static_cast<std::uint16_t>(random());
        m->r(6) = 0x4f00;
        (*m)->last_result = static_cast<std::uint16_t>(random() % 3 == 0 ? 0 : random());
        if (trap == 0x22 || trap == 0x24) {
          m->r(0) = 0x5000;
          const unsigned length = random() % 20;
          for (unsigned i = 0; i < length; ++i) {
            m->at(static_cast<std::uint16_t>(0x5000 + i)) =
                static_cast<std::uint16_t>(trap == 0x22 ? 1 + random() % 0xffff : random());
          }
        }
        const char input[2] = {static_cast<char>(random()), 'x'};
        m->feed(std::string_view(input, 2));
        // Up to the instruction behind the trap, however many the OS needs.
        for (int i = 0; i < 100'000 && (i == 0 || (*m)->pc != 0x3001); ++i) m->step();
      }
      ASSERT_EQ(native->pc, os->pc);
      for (unsigned n = 0; n < 8; ++n) ASSERT_EQ(native.r(n), os.r(n)) << "R" << n;
      ASSERT_EQ(psr(*native) & ~7, psr(*os) & ~7);
      // A 2nd edition routine returns by RET, with whatever condition code it came to; natively it stays.
      if (GetParam() == Edition::kThird) ASSERT_EQ(psr(*native), psr(*os));
      ASSERT_EQ(input_waiting(*native), input_waiting(*os));
      ASSERT_EQ(native.drain(), os.drain());
    }
  }
}

TEST_P(NativeAndOs, HaltStopsBoth) {
  for (const bool native : {true, false}) {
    Machine m = calling(0x25, native);
    EXPECT_EQ(m.run(100'000).stop, StopReason::kHalted);
    EXPECT_EQ(m.drain(), "");
  }
}

TEST_P(NativeAndOs, AProgramThatWaitsForInputStopsEitherWay) {
  Machine native = calling(0x20, true), os = calling(0x20, false);
  os->config |= kDetectIdle;
  EXPECT_EQ(native.run(1'000'000).stop, StopReason::kInputNeeded);
  EXPECT_EQ(os.run(1'000'000).stop, StopReason::kIdle);
  for (Machine* m : {&native, &os}) close_input(**m);
  EXPECT_EQ(native.run(1'000'000).stop, StopReason::kInputExhausted);
  EXPECT_EQ(os.run(1'000'000).stop, StopReason::kInputExhausted);
}

}  // namespace
}  // namespace warmfork::lc3
