// The disassembler writes what the assembler reads: words -> text -> the same words.
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/listing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace warmfork::lc3 {
namespace {

void expect_round_trip(const Program& program) {
  const std::string text = disassemble(program);
  const auto again = assemble(text, "listing.asm");
  ASSERT_TRUE(again) << again.error().message.substr(0, 2000);
  ASSERT_EQ(again->segments.size(), program.segments.size());
  for (std::size_t i = 0; i < program.segments.size(); ++i) {
    EXPECT_EQ(again->segments[i].origin, program.segments[i].origin);
    EXPECT_TRUE(again->segments[i].words == program.segments[i].words) << "segment " << i;
  }
  for (const Symbol& symbol : program.symbols) {
    const Symbol* kept = again->find_symbol(symbol.name);
    if (kept != nullptr) EXPECT_EQ(kept->address, program.find_symbol(symbol.name)->address) << symbol.name;
  }
  EXPECT_TRUE(disassemble(*again) == text);  // megabytes: too long for a message
}

TEST(RoundTrip, EveryWordAtEitherEndOfTheAddressSpace) {
  Program program;
  program.files = {"all"};
  program.segments.push_back({0, {}, 0});
  for (std::uint32_t word = 0; word < 0x10000; ++word) {
    program.segments[0].words.push_back(static_cast<std::uint16_t>(word * 40503U));  // odd: every word once, shuffled
  }
  expect_round_trip(program);
}

TEST(RoundTrip, RandomSegmentsAndSymbols) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t limit) { return static_cast<std::uint32_t>(random() % limit); };
  for (int round = 0; round < 200; ++round) {
    Program program;
    program.files = {"random"};
    std::uint32_t at = below(0x8000);
    for (std::uint32_t n = 1 + below(4); n > 0 && at < 0xFFFF; --n) {
      Segment segment{static_cast<std::uint16_t>(at), {}, 0};
      const std::uint32_t size = std::min(1 + below(600), kAddressSpaceWords - at);
      for (std::uint32_t i = 0; i < size; ++i) segment.words.push_back(static_cast<std::uint16_t>(random()));
      at = segment.end() + below(300);  // 0: segments that touch
      program.segments.push_back(std::move(segment));
    }
    std::shuffle(program.segments.begin(), program.segments.end(), random);
    for (std::uint32_t n = below(40); n > 0; --n) {
      const Segment& segment = program.segments[below(static_cast<std::uint32_t>(program.segments.size()))];
      const auto address =
          static_cast<std::uint16_t>(segment.origin + below(static_cast<std::uint32_t>(segment.words.size())));
      // Equal names in another case, names of generated labels and names that are no labels all occur.
      const char* const forms[] = {"S{}", "s{}", "L_{:04X}", "x{}", "R{}"};
      program.symbols.push_back(
          {fmt::format(fmt::runtime(forms[below(5)]), below(2) == 0 ? below(30) : address), address, 0});
    }
    expect_round_trip(program);
    if (HasFailure()) break;
  }
}

TEST(RoundTrip, AssembledSourceKeepsItsWordsAndLabels) {
  const auto program = assemble(R"(
        .ORIG x3000
MAIN    LEA R0, TEXT
        PUTS
        LD R1, COUNT
LOOP    ADD R1, R1, #-1
        BRp LOOP
        JSR SUB
        HALT
SUB     RET
COUNT   .FILL 10
TEXT    .STRINGZ "hi"
        .END
        .ORIG x4000
        .FILL MAIN
        .END
)",
                                "t.asm");
  ASSERT_TRUE(program) << program.error().message;
  expect_round_trip(*program);
  const std::string text = disassemble(*program);
  EXPECT_NE(text.find("LOOP\n        ADD R1, R1, #-1"), std::string::npos) << text;
  EXPECT_NE(text.find("BRp LOOP"), std::string::npos) << text;
  EXPECT_NE(text.find("JSR SUB                     ; x3005 x4801"), std::string::npos) << text;
}

}  // namespace
}  // namespace warmfork::lc3
