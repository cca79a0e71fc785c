#include "lc3/jit/xbyak_compiler.hpp"

#include "unit_memory.hpp"

#include <gtest/gtest.h>

#include <cstddef>

namespace warmfork::lc3::jit {
namespace {

TEST(XbyakCompiler, MarksEveryInstructionInOrder) {
  Memory memory(0x3000, {0x1021, 0x3210, 0x03fd});
  const MachineCode code = *compile_with_xbyak(memory.unit({0x3000}), {.marks = true});
  ASSERT_GE(code.marks.size(), 4U);
  EXPECT_EQ(code.marks.front().address, 0x3000);
  for (std::size_t i = 1; i < code.marks.size(); ++i) EXPECT_LE(code.marks[i - 1].offset, code.marks[i].offset);
  EXPECT_LT(code.marks.back().offset, code.bytes.size());
}

}  // namespace
}  // namespace warmfork::lc3::jit
