// The benchmark kernels: the LC-3 programs and their C++ twins give the same checksums.
#include "lc3/asm/load_program.hpp"
#include "lc3/os/os_image.hpp"
#include "lc3_bench/native_kernels.hpp"
#include "reference/reference_machine.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <set>
#include <string>
#include <vector>

namespace warmfork {
namespace {

using lc3_reference::ReferenceMachine;

TEST(Lc3Kernels, AgreeWithTheNativeOnes) {
  ASSERT_EQ(lc3_bench::native_kernels().size(), 9U);
  for (const auto& kernel : lc3_bench::native_kernels()) {
    const auto program = lc3::load_program(
        std::vector<std::string>{std::string(WARMFORK_LC3_KERNELS) + "/" + std::string(kernel.name) + ".asm"});
    ASSERT_TRUE(program) << program.error().message;
    const auto* iterations_at = program->find_symbol("ITERATIONS");
    const auto* result_at = program->find_symbol("RESULT");
    ASSERT_NE(iterations_at, nullptr) << kernel.name;
    ASSERT_NE(result_at, nullptr) << kernel.name;
    std::set<std::uint16_t> results;
    for (const std::uint16_t iterations : std::initializer_list<std::uint16_t>{1, 2, 3, 7, 20}) {
      SCOPED_TRACE(testing::Message() << kernel.name << ", " << iterations << " iterations");
      for (const auto edition : {lc3_reference::Edition::kSecond, lc3_reference::Edition::kThird}) {
        ReferenceMachine machine({.edition = edition});
        const auto& os =
            lc3::os_image(edition == lc3_reference::Edition::kSecond ? lc3::Edition::kSecond : lc3::Edition::kThird);
        for (const auto& segment : os.segments) machine.load_os(segment.origin, segment.words);
        for (const auto& segment : program->segments) machine.load(segment.origin, segment.words);
        machine.poke(iterations_at->address, iterations);
        machine.start(program->entry());
        ASSERT_EQ(machine.run(20'000'000), lc3_reference::State::kHalted);
        const std::uint16_t expected = kernel.run(iterations);
        EXPECT_EQ(machine.reg(0), expected);
        EXPECT_EQ(machine.peek(result_at->address), expected);
        EXPECT_GT(machine.instructions(), 400U * iterations);  // real work in every round
        results.insert(expected);
      }
    }
    EXPECT_GE(results.size(), 4U) << kernel.name << ": the checksum hardly depends on the work";
  }
}

}  // namespace
}  // namespace warmfork
