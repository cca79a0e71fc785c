// Expressions: precedence, word semantics, errors that point at their place.
#include "lc3/debugger/expression.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace warmfork::lc3 {
namespace {

using ::testing::HasSubstr;

class Fake : public ExpressionContext {
 public:
  Result<std::uint16_t> value_of(Name name) override { return registers[static_cast<std::size_t>(name)]; }
  Result<std::uint16_t> memory_at(std::uint16_t address) override {
    ++reads;
    return static_cast<std::uint16_t>(address + 1);
  }
  std::array<std::uint16_t, 16> registers{10, 0xFFFF, 2, 3, 4, 5, 6, 7, 0x3000, 0x8001, 1, 2, 3, 0, 0, 1};
  int reads = 0;
};

std::optional<std::uint16_t> label(std::string_view name) {
  if (name == "LOOP") return 0x3005;
  if (name == "N") return 0x4000;
  return std::nullopt;
}

int value(std::string_view text) {
  const auto parsed = Expression::parse(text, label);
  if (!parsed) {
    ADD_FAILURE() << parsed.error().message;
    return -1;
  }
  Fake fake;
  return *parsed->evaluate(fake);
}

std::string error(std::string_view text) {
  const auto parsed = Expression::parse(text, label);
  return parsed ? "accepted" : parsed.error().message;
}

TEST(DebuggerExpression, NumbersInAllForms) {
  EXPECT_EQ(value("x1F"), 0x1F);
  EXPECT_EQ(value("0x1F"), 0x1F);
  EXPECT_EQ(value("x-1"), 0xFFFF);
  EXPECT_EQ(value("#-3"), 0xFFFD);
  EXPECT_EQ(value("#10"), 10);
  EXPECT_EQ(value("10"), 10);
  EXPECT_EQ(value("b101"), 5);
  EXPECT_EQ(value("'a'"), 'a');
  EXPECT_EQ(value("'\\n'"), '\n');
  EXPECT_EQ(value("' '"), ' ');
  EXPECT_EQ(value("65535"), 0xFFFF);
}

TEST(DebuggerExpression, Names) {
  EXPECT_EQ(value("R0"), 10);
  EXPECT_EQ(value("r0 + pc"), 0x300A);
  EXPECT_EQ(value("PSR"), 0x8001);
  EXPECT_EQ(value("N"), 0);
  EXPECT_EQ(value("P"), 1);
  EXPECT_EQ(value("@N"), 0x4000);
  EXPECT_EQ(value("LOOP + 2"), 0x3007);
  EXPECT_EQ(value("mem[LOOP]"), 0x3006);
  EXPECT_EQ(value("MEM [ mem[0] + 1 ]"), 3);
}

TEST(DebuggerExpression, WordSemantics) {
  EXPECT_EQ(value("xFFFF + 1"), 0);
  EXPECT_EQ(value("0 - 1"), 0xFFFF);
  EXPECT_EQ(value("-x8000"), 0x8000);
  EXPECT_EQ(value("R1 < 0"), 1);
  EXPECT_EQ(value("x8000 < x7FFF"), 1);
  EXPECT_EQ(value("1 << 16"), 0);
  EXPECT_EQ(value("x8000 >> 15"), 1);
  EXPECT_EQ(value("~0"), 0xFFFF);
  EXPECT_EQ(value("!5"), 0);
  EXPECT_EQ(value("5 && 2"), 1);
}

TEST(DebuggerExpression, Precedence) {
  EXPECT_EQ(value("R0 & 1 == 0"), 1) << "unlike C: & binds tighter";
  EXPECT_EQ(value("1 + 2 << 1"), 6);
  EXPECT_EQ(value("1 | 2 ^ 3 & 1"), 1 | (2 ^ (3 & 1)));
  EXPECT_EQ(value("10 - 3 - 2"), 5);
  EXPECT_EQ(value("0 || 1 && 0"), 0);
  EXPECT_EQ(value("1 == 1 || 0"), 1);
  EXPECT_EQ(value("(1 + 2) & ~(1)"), 2);
  EXPECT_EQ(value("- - 3"), 3);
}

TEST(DebuggerExpression, AndOrLeaveOutTheirRightSide) {
  Fake fake;
  EXPECT_EQ(*Expression::parse("0 && mem[1]", label)->evaluate(fake), 0);
  EXPECT_EQ(*Expression::parse("1 || mem[1]", label)->evaluate(fake), 1);
  EXPECT_EQ(fake.reads, 0);
}

TEST(DebuggerExpression, ErrorsPointAtTheirPlace) {
  EXPECT_EQ(error("R0 + FOO"), "no label or register \"FOO\"\n  R0 + FOO\n       ^");
  EXPECT_EQ(error("(R0"), "expected )\n  (R0\n     ^");
  EXPECT_THAT(error(""), HasSubstr("expected a number"));
  EXPECT_THAT(error("1 +"), HasSubstr("expected a number"));
  EXPECT_THAT(error("1 2"), HasSubstr("expected an operator"));
  EXPECT_THAT(error("70000"), HasSubstr("16 bits"));
  EXPECT_THAT(error("mem[1"), HasSubstr("expected ]"));
  EXPECT_THAT(error("'ab'"), HasSubstr("'c'"));
  EXPECT_THAT(error(std::string(60, '(')), HasSubstr("nested too deeply"));
  EXPECT_THAT(error(std::string(2000, '1')), HasSubstr("at most"));
}

TEST(DebuggerExpression, WhatCanBeSet) {
  EXPECT_EQ(Expression::parse("R3", label)->as_register(), Name::kR3);
  EXPECT_TRUE(Expression::parse("mem[R3 + 1]", label)->is_memory());
  EXPECT_FALSE(Expression::parse("mem[R3] + 1", label)->is_memory());
  EXPECT_TRUE(Expression::parse("LOOP + 1", label)->is_constant());
  EXPECT_FALSE(Expression::parse("R3 + 1", label)->is_constant());
}

}  // namespace
}  // namespace warmfork::lc3
