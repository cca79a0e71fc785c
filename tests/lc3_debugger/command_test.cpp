// Commands: verbs by name, shortcut and prefix; their arguments; places in files. Calls and returns as the tracker sees
// them.
#include "lc3/debugger/command.hpp"

#include "lc3/debugger/call_tracker.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace warmfork::lc3 {
namespace {

using ::testing::HasSubstr;

class Constants : public ExpressionContext {
 public:
  Result<std::uint16_t> value_of(Name) override { return std::uint16_t{0}; }
  Result<std::uint16_t> memory_at(std::uint16_t) override { return std::uint16_t{0}; }
};

Program program() {
  Program made;
  made.files = {"one/main.asm", "two/other.asm"};
  made.segments = {{.origin = 0x3000, .words = std::vector<std::uint16_t>(16), .file = 0},
                   {.origin = 0x4000, .words = std::vector<std::uint16_t>(16), .file = 1}};
  made.lines = {{.address = 0x3000, .word_count = 1, .line = 2, .file = 0, .text = "a"},
                {.address = 0x3001, .word_count = 4, .line = 5, .file = 0, .text = "b"},
                {.address = 0x4000, .word_count = 1, .line = 3, .file = 1, .text = "c"}};
  return made;
}

std::optional<std::uint16_t> label(std::string_view name) {
  return name == "LOOP" ? std::optional<std::uint16_t>(0x3005) : std::nullopt;
}

Command parse(std::string_view line) {
  const auto command = parse_command(line, program(), label);
  if (!command || !*command) {
    ADD_FAILURE() << line << ": " << (command ? "nothing" : command.error().message);
    return {};
  }
  return **command;
}

std::string error(std::string_view line) {
  const auto command = parse_command(line, program(), label);
  return command ? "accepted" : command.error().message;
}

std::uint16_t target(std::string_view line) {
  Constants constants;
  const Command command = parse(line);
  return command.target ? *command.target->evaluate(constants) : std::uint16_t{0xDEAD};
}

TEST(DebuggerCommand, EveryVerbIsFoundByItsNamesAndNoShortcutTwice) {
  std::set<std::string> seen;
  for (const VerbInfo& info : verbs()) {
    EXPECT_EQ(*find_verb(info.name), &info);
    EXPECT_TRUE(seen.insert(info.name).second) << info.name;
    std::string word;
    for (const char c : std::string(info.shortcuts) + ' ') {
      if (c != ' ') {
        word += c;
      } else if (!word.empty()) {
        EXPECT_TRUE(seen.insert(word).second) << word;
        EXPECT_EQ(*find_verb(word), &info);
        word.clear();
      }
    }
  }
}

TEST(DebuggerCommand, PrefixesMustBeUnique) {
  EXPECT_EQ(parse("cont").verb, Verb::kContinue);
  EXPECT_THAT(error("re"), HasSubstr("could be"));
  EXPECT_THAT(error("frobnicate"), HasSubstr("no command"));
}

TEST(DebuggerCommand, Arguments) {
  EXPECT_EQ(parse("step 12").count, 12U);
  EXPECT_EQ(parse("step").count, std::nullopt);
  EXPECT_THAT(error("step x"), HasSubstr("not a count"));
  EXPECT_THAT(error("step -1"), HasSubstr("not a count"));
  EXPECT_THAT(error("goto"), HasSubstr("not a count"));
  EXPECT_EQ(parse("goto 12345678901").count, 12345678901U);
  EXPECT_EQ(target("break LOOP+1 if R0 == 3"), 0x3006);
  EXPECT_EQ(parse("b LOOP if R0 == 3").condition->text(), "R0 == 3");
  EXPECT_FALSE(parse("b if Z").target);
  EXPECT_THAT(error("b LOOP if"), HasSubstr("expected a number"));
  EXPECT_THAT(error("watch"), HasSubstr("PLACE"));
  EXPECT_EQ(parse("memory LOOP + 1 16").count, 16U);
  EXPECT_EQ(target("memory LOOP + 1 16"), 0x3006);
  EXPECT_EQ(target("memory LOOP + 1"), 0x3006);
  EXPECT_EQ(parse("ignore 2 7").number, 2);
  EXPECT_EQ(parse("set R0 = R1 == 2").value->text(), "R1 == 2");
  EXPECT_EQ(parse("set mem[R0 == 1] = 2").target_text, "mem[R0 == 1]");
  EXPECT_THAT(error("set R0 + 1 = 2"), HasSubstr("can be set"));
  EXPECT_THAT(error("set R0"), HasSubstr("set what"));
  EXPECT_THAT(error("quit now"), HasSubstr("no arguments"));
  EXPECT_EQ(parse("type  hello there ").text, "hello there\n");
}

TEST(DebuggerCommand, InputEscapes) {
  EXPECT_EQ(parse("input \"a\\n\\x41\\\"\\\\\"").text, "a\nA\"\\");
  EXPECT_EQ(parse("input abc").text, "abc");
  EXPECT_THAT(error("input \"a"), HasSubstr("closing quote"));
  EXPECT_THAT(error("input \"\\q\""), HasSubstr("escape"));
  EXPECT_THAT(error("input \"\\x4\""), HasSubstr("xHH"));
  EXPECT_THAT(error("input \"a\" b"), HasSubstr("behind"));
}

TEST(DebuggerCommand, PlacesInFiles) {
  EXPECT_EQ(target("break main.asm:2"), 0x3000);
  EXPECT_EQ(target("break :3"), 0x3001) << "the next line with words";
  EXPECT_EQ(target("break two/other.asm:1"), 0x4000);
  EXPECT_THAT(error("break ain.asm:2"), HasSubstr("no source lines"));
  EXPECT_THAT(error("break main.asm:6"), HasSubstr("no code"));
  EXPECT_THAT(error("break main.asm:x"), HasSubstr("not a count"));
}

TEST(DebuggerCommand, NothingToDo) {
  for (const char* line : {"", "   ", "# comment", "; comment"}) {
    const auto command = parse_command(line, program(), label);
    ASSERT_TRUE(command) << line;
    EXPECT_FALSE(*command) << line;
  }
}

TraceRecord record(std::uint16_t address, std::uint16_t word, std::uint16_t pc, std::uint16_t entered = 0) {
  return {.registers = {},
          .pc = pc,
          .psr = 0x8002,
          .saved_ssp = 0,
          .saved_usp = 0,
          .address = address,
          .word = word,
          .entered = entered,
          .reserved = 0};
}
constexpr std::uint16_t kJsr = 0x4800, kRet = 0xC1C0, kJmpR3 = 0xC0C0, kAdd = 0x1021, kRti = 0x8000;

TEST(DebuggerCallTracker, NextGoesOverRecursion) {
  CallTracker next(CallTracker::Goal::kNext, false);
  EXPECT_FALSE(next.feed(record(0x3000, kJsr, 0x3100), 0x3000));
  EXPECT_FALSE(next.feed(record(0x3100, kJsr, 0x3100), 0x3100));
  EXPECT_FALSE(next.feed(record(0x3100, kRet, 0x3101), 0x3100));
  EXPECT_TRUE(next.feed(record(0x3101, kRet, 0x3001), 0x3101));
}

TEST(DebuggerCallTracker, ReturnsByOtherRegistersAndPastInlineDataAndOverFrames) {
  CallTracker other(CallTracker::Goal::kNext, false);
  EXPECT_FALSE(other.feed(record(0x3000, kJsr, 0x3100), 0x3000));
  EXPECT_FALSE(other.feed(record(0x3100, kJmpR3, 0x3200), 0x3100)) << "a plain jump";
  EXPECT_TRUE(other.feed(record(0x3200, kJmpR3, 0x3001), 0x3200));
  CallTracker data(CallTracker::Goal::kNext, false);
  EXPECT_FALSE(data.feed(record(0x3000, kJsr, 0x3100), 0x3000));
  EXPECT_TRUE(data.feed(record(0x3100, kRet, 0x3004), 0x3100));
  CallTracker frames(CallTracker::Goal::kNext, false);
  EXPECT_FALSE(frames.feed(record(0x3000, kJsr, 0x3100), 0x3000));
  EXPECT_FALSE(frames.feed(record(0x3100, kJsr, 0x3200), 0x3100));
  EXPECT_TRUE(frames.feed(record(0x3200, kJmpR3, 0x3001), 0x3200));
}

TEST(DebuggerCallTracker, AnInterruptBeforeTheInstructionIsNotIt) {
  CallTracker next(CallTracker::Goal::kNext, false);
  EXPECT_FALSE(next.feed(record(0x0500, kAdd, 0x0501, kEnteredInterrupt), 0x3000));
  EXPECT_FALSE(next.feed(record(0x0501, kRti, 0x3000), 0x0501));
  EXPECT_TRUE(next.feed(record(0x3000, kAdd, 0x3001), 0x3000));
}

TEST(DebuggerCallTracker, FinishIsTheReturnWithoutACall) {
  CallTracker finish(CallTracker::Goal::kFinish, false);
  EXPECT_FALSE(finish.feed(record(0x3100, kAdd, 0x3101), 0x3100));
  EXPECT_FALSE(finish.feed(record(0x3101, 0xF030, 0x0500, kEnteredTrap), 0x3101));
  EXPECT_FALSE(finish.feed(record(0x0500, kRti, 0x3102), 0x0500));
  EXPECT_TRUE(finish.feed(record(0x3102, kRet, 0x3001), 0x3102));
}

}  // namespace
}  // namespace warmfork::lc3
