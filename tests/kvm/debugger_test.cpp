// The debugger's engine: every movement, every kind of point, and that going back gives what a fresh run gives.
#include "lc3/debugger/debugger.hpp"

#include "lc3/asm/assembler.hpp"
#include "lc3/asm/load_program.hpp"
#include "machine_test.hpp"

#include <chrono>
#include <random>
#include <thread>

namespace warmfork::test {
namespace {

using namespace warmfork::lc3;
using lc3::StopReason;

class DebuggerTest : public MachineTest {
 protected:
  void start(const char* source, DebuggerOptions options = {}) {
    auto program = assemble(source, "test.asm");
    ASSERT_TRUE(program) << program.error().message;
    start(*std::move(program), std::move(options));
  }
  void start(Program program, DebuggerOptions options) {
    options.on_output = [this](std::string_view text) { printed_ += text; };
    auto made = Debugger::create(system(), std::move(program), std::move(options));
    ASSERT_TRUE(made) << made.error().message;
    d_ = std::move(*made);
  }

  Halt get(Result<Halt> halt) {
    EXPECT_TRUE(halt) << halt.error().message;
    return halt ? *halt : Halt{};
  }
  void ok(const Status& status) { EXPECT_TRUE(status) << status.error().message; }
  std::uint16_t reg(Name name) { return *d_->value_of(name); }
  std::uint16_t address(const char* label) { return d_->program().find_symbol(label)->address; }
  std::uint16_t word(const char* label) { return *d_->memory_at(address(label)); }
  std::uint64_t at() const { return d_->position().instructions; }
  bool is_at(const char* label) { return reg(Name::kPc) == address(label); }

  int add(Point::Kind kind, const char* label, const char* condition = nullptr) {
    Point point{.kind = kind, .address = address(label)};
    if (condition != nullptr) point.condition = parse(condition);
    return d_->add_point(std::move(point));
  }
  int add(Name name, const char* condition = nullptr) {
    Point point{.kind = Point::Kind::kRegister, .name = name};
    if (condition != nullptr) point.condition = parse(condition);
    return d_->add_point(std::move(point));
  }
  Expression parse(const char* text) {
    auto parsed = Expression::parse(text, [this](std::string_view name) -> std::optional<std::uint16_t> {
      const Symbol* symbol = d_->program().find_symbol(name);
      return symbol == nullptr ? std::nullopt : std::optional(symbol->address);
    });
    EXPECT_TRUE(parsed) << parsed.error().message;
    return *parsed;
  }

  std::unique_ptr<Debugger> d_;
  std::string printed_;
};

constexpr const char* kLoop = R"(
        .ORIG x3000
        AND R0, R0, #0
        LD R1, TIMES
LOOP    ADD R0, R0, #1
        ST R0, SUM
        ADD R1, R1, #-1
        BRp LOOP
DONE    HALT
TIMES   .FILL 100
SUM     .FILL 0
        .END)";

// Recursion by the textbook's convention: the result is left on the stack, so R6 differs after the return.
constexpr const char* kRecursive = R"(
        .ORIG x3000
        AND R0, R0, #0
        ADD R0, R0, #5
CALL    JSR SUM
AFTER   LEA R0, TEXT
        PUTS
        HALT
SUM     ADD R6, R6, #-2
        STR R7, R6, #0
        STR R0, R6, #1
        ADD R0, R0, #-1
        BRz BASE
INNER   JSR SUM
BACK    LDR R1, R6, #0
        ADD R6, R6, #1
BASE    LDR R7, R6, #0
        ADD R6, R6, #1
        RET
TEXT    .STRINGZ "done"
        .END)";

TEST_F(DebuggerTest, StepCountsInstructions) {
  start(kLoop);
  EXPECT_EQ(get(d_->step(1)).kind, HaltKind::kDone);
  EXPECT_EQ(at(), 1u);
  get(d_->step(5));
  EXPECT_EQ(at(), 6u);
  EXPECT_TRUE(is_at("LOOP"));
  EXPECT_EQ(reg(Name::kR0), 1);
  const Halt halt = get(d_->step(100000));
  EXPECT_EQ(halt.kind, HaltKind::kProgram);
  EXPECT_EQ(halt.reason, StopReason::kHalted);
  EXPECT_EQ(at(), 403u);
  EXPECT_EQ(get(d_->step(1)).reason, StopReason::kHalted);
  EXPECT_EQ(at(), 403u);
}

TEST_F(DebuggerTest, BreakpointsConditionsIgnoreCountsAndTemporaryOnes) {
  start(kLoop);
  const int number = add(Point::Kind::kBreak, "LOOP", "R0 == 10 || R0 == 20");
  Halt halt = get(d_->resume());
  EXPECT_EQ(halt.kind, HaltKind::kPoint);
  ASSERT_EQ(halt.hits.size(), 1u);
  EXPECT_EQ(halt.hits[0].number, number);
  EXPECT_EQ(reg(Name::kR0), 10);
  get(d_->resume());
  EXPECT_EQ(reg(Name::kR0), 20);
  d_->find_point(number)->condition.reset();
  d_->find_point(number)->ignore = 4;
  get(d_->resume());
  EXPECT_EQ(reg(Name::kR0), 25);
  d_->find_point(number)->enabled = false;
  d_->add_point({.address = address("DONE"), .temporary = true});
  EXPECT_EQ(get(d_->resume()).kind, HaltKind::kPoint);
  EXPECT_TRUE(is_at("DONE"));
  EXPECT_EQ(d_->points().size(), 1u);
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kHalted);
  d_->find_point(number)->enabled = true;
  EXPECT_EQ(get(d_->run()).kind, HaltKind::kPoint);
  EXPECT_EQ(at(), 2u);
}

TEST_F(DebuggerTest, RunStopsAtTheFirstInstructionAndContinueLeavesIt) {
  start(kLoop);
  d_->add_point({.address = 0x3000});
  EXPECT_EQ(get(d_->run()).kind, HaltKind::kPoint);
  EXPECT_EQ(at(), 0u);
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kHalted);
}

TEST_F(DebuggerTest, BreakpointsAtTheEndOfABatchAreSeen) {
  start(kLoop, {.checkpoint_interval = 2, .most_checkpoints = 4});
  add(Point::Kind::kBreak, "LOOP");
  for (std::uint16_t i = 0; i < 5; ++i) {
    EXPECT_EQ(get(d_->resume()).kind, HaltKind::kPoint);
    EXPECT_EQ(reg(Name::kR0), i);
  }
}

TEST_F(DebuggerTest, ContinueWithACountAndUntil) {
  start(kLoop);
  EXPECT_EQ(get(d_->resume(7)).kind, HaltKind::kDone);
  EXPECT_EQ(at(), 7u);
  EXPECT_EQ(get(d_->until(address("DONE"))).kind, HaltKind::kDone);
  EXPECT_TRUE(is_at("DONE"));
}

TEST_F(DebuggerTest, NextAndFinishTellRecursionApart) {
  start(kRecursive);
  get(d_->step(2));
  EXPECT_EQ(get(d_->next(1)).kind, HaltKind::kDone);
  EXPECT_TRUE(is_at("AFTER"));
  EXPECT_EQ(get(d_->next(2)).kind, HaltKind::kDone);
  EXPECT_EQ(printed_, "done");

  ok(d_->restart());
  add(Point::Kind::kBreak, "INNER", "R0 == 3");
  get(d_->resume());
  const std::uint16_t stack = reg(Name::kR6);
  get(d_->next(1));
  EXPECT_TRUE(is_at("BACK"));
  EXPECT_EQ(reg(Name::kR6), static_cast<std::uint16_t>(stack - 1)) << "the same depth, one word of result";
  get(d_->finish());
  EXPECT_TRUE(is_at("BACK"));
  EXPECT_EQ(reg(Name::kR6), static_cast<std::uint16_t>(stack + 1)) << "one frame up";
  get(d_->finish());
  EXPECT_TRUE(is_at("AFTER"));
}

TEST_F(DebuggerTest, NextOverATrapRoutineAndBreakpointsInside) {
  start(kRecursive, {.machine = {.traps = TrapMode::kOs}});
  get(d_->until(address("AFTER")));
  get(d_->step(2));
  EXPECT_LT(reg(Name::kPc), 0x3000);
  EXPECT_EQ(get(d_->finish()).kind, HaltKind::kDone);
  EXPECT_EQ(reg(Name::kPc), address("AFTER") + 2);
  EXPECT_EQ(printed_, "done");
  get(d_->step_back(1));
  EXPECT_LT(reg(Name::kPc), 0x3000);
  d_->add_point({.kind = Point::Kind::kBreak, .address = reg(Name::kPc)});
  ok(d_->restart());
  get(d_->until(address("AFTER")));
  get(d_->next(1));
  EXPECT_EQ(get(d_->next(1)).kind, HaltKind::kPoint) << "a breakpoint in what next goes over";
}

TEST_F(DebuggerTest, WatchpointsOnMemory) {
  start(kLoop);
  const int write = add(Point::Kind::kWrite, "SUM", "mem[SUM] > 2");
  Halt halt = get(d_->resume());
  ASSERT_EQ(halt.hits.size(), 1u);
  EXPECT_EQ(halt.hits[0].before, 2);
  EXPECT_EQ(halt.hits[0].after, 3);
  EXPECT_EQ(word("SUM"), 3);
  EXPECT_TRUE(d_->remove_point(write));
  ok(d_->restart());
  add(Point::Kind::kRead, "TIMES");
  halt = get(d_->resume());
  ASSERT_EQ(halt.hits.size(), 1u);
  EXPECT_EQ(halt.hits[0].access, kWatchRead);
  EXPECT_EQ(at(), 2u);
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kHalted);
}

TEST_F(DebuggerTest, WatchpointsOnRegistersStopAtTheExactInstruction) {
  start(kLoop);
  const int number = add(Name::kR1, "R1 == 90");
  Halt halt = get(d_->resume());
  ASSERT_EQ(halt.hits.size(), 1u);
  EXPECT_EQ(halt.hits[0].before, 91);
  EXPECT_EQ(at(), 2u + 9 * 4 + 3);
  d_->find_point(number)->condition.reset();
  get(d_->resume());
  EXPECT_EQ(at(), 2u + 10 * 4 + 3);
  add(Point::Kind::kBreak, "LOOP");
  EXPECT_TRUE(get(d_->resume()).hits[0].number != number);
  EXPECT_TRUE(is_at("LOOP"));
}

TEST_F(DebuggerTest, WatchpointsSeeCodeThatIsModified) {
  start(R"(
        .ORIG x3000
        LD R0, OTHER
        ST R0, PLACE
PLACE   AND R1, R1, #0
        HALT
OTHER   ADD R1, R1, #7
        .END)");
  add(Point::Kind::kAccess, "PLACE");
  const Halt halt = get(d_->resume());
  ASSERT_EQ(halt.hits.size(), 1u);
  EXPECT_EQ(halt.hits[0].access, kWatchWrite);
  EXPECT_TRUE(is_at("PLACE"));
  get(d_->step(1));
  EXPECT_EQ(reg(Name::kR1), 7);
  get(d_->step_back(2));
  EXPECT_EQ(word("PLACE"), 0x5260);
}

TEST_F(DebuggerTest, ReverseContinueFindsTheLastHit) {
  for (const std::uint64_t interval : {std::uint64_t{1'000'000}, std::uint64_t{7}}) {
    start(kLoop, {.checkpoint_interval = interval, .most_checkpoints = 5});
    get(d_->resume());
    add(Point::Kind::kBreak, "LOOP", "R0 & 15 == 0");
    const int watch = add(Point::Kind::kWrite, "SUM", "mem[SUM] == 90");
    EXPECT_EQ(get(d_->resume_back()).kind, HaltKind::kPoint);
    EXPECT_EQ(reg(Name::kR0), 96);
    const Halt halt = get(d_->resume_back());
    ASSERT_EQ(halt.hits.size(), 1u);
    EXPECT_EQ(halt.hits[0].number, watch);
    EXPECT_EQ(word("SUM"), 90);
    get(d_->resume_back());
    EXPECT_EQ(reg(Name::kR0), 80);
    get(d_->resume());
    EXPECT_EQ(word("SUM"), 90);
    for (int i = 0; i < 6; ++i) EXPECT_EQ(get(d_->resume_back()).kind, HaltKind::kPoint);
    EXPECT_TRUE(is_at("LOOP"));
    EXPECT_EQ(reg(Name::kR0), 0);
    EXPECT_EQ(get(d_->resume_back()).kind, HaltKind::kBeginning);
    EXPECT_EQ(at(), 0u);
  }
}

TEST_F(DebuggerTest, EveryWatchHitIsFoundBackwardsWhereverCheckpointsLie) {
  start(kLoop, {.checkpoint_interval = 4, .most_checkpoints = 200});
  add(Point::Kind::kWrite, "SUM");
  std::vector<std::uint64_t> hits;
  while (get(d_->resume()).kind == HaltKind::kPoint) hits.push_back(at());
  ASSERT_EQ(hits.size(), 100u);
  for (std::uint64_t i = 0; i < 20; ++i) {
    ASSERT_EQ(get(d_->resume_back()).kind, HaltKind::kPoint);
    ASSERT_EQ(at(), hits[hits.size() - 1 - i]);
  }
}

TEST_F(DebuggerTest, EditsAreRepeatedInPlaceOrDiscarded) {
  start(kLoop);
  get(d_->step(10));
  ok(d_->set(Name::kR0, 50));
  ok(d_->set_memory(address("TIMES"), 7));
  get(d_->step(10));
  const std::uint16_t later = reg(Name::kR0);
  get(d_->step_back(15));
  EXPECT_EQ(reg(Name::kR0), 1);
  EXPECT_EQ(word("TIMES"), 100);
  EXPECT_EQ(d_->later_events(), 2u);
  get(d_->step(15));
  EXPECT_EQ(reg(Name::kR0), later);
  EXPECT_EQ(word("TIMES"), 7);
  get(d_->step_back(15));
  ok(d_->set(Name::kR1, 30));
  EXPECT_EQ(d_->later_events(), 0u);
  get(d_->step(15));
  EXPECT_EQ(word("TIMES"), 100);
  ok(d_->restart());
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kHalted);
  EXPECT_EQ(at(), 403u);
}

TEST_F(DebuggerTest, AHaltedProgramGoesOnWhenTheClockIsStartedAgain) {
  start(kLoop);
  get(d_->resume());
  ok(d_->set_memory(kMcr, 0x8000));
  ok(d_->set(Name::kPc, 0x3000));
  get(d_->resume());
  EXPECT_EQ(at(), 806u);
  get(d_->step_back(500));
  EXPECT_EQ(at(), 306u);
  get(d_->step(500));
  EXPECT_EQ(at(), 806u);
}

constexpr const char* kPrompt = R"(
        .ORIG x3000
        IN
        ADD R1, R0, #0
        IN
        HALT
        .END)";

TEST_F(DebuggerTest, InputIsWaitedForTypedAndTakenBack) {
  start(kPrompt);
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kInputNeeded);
  EXPECT_EQ(printed_, "Input a character> ");
  ok(d_->set(Name::kR5, 5));
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kInputNeeded);
  ok(d_->type("ab"));
  get(d_->step(1));
  EXPECT_EQ(reg(Name::kR0), 'a');
  EXPECT_EQ(d_->unread_input(), "b");
  const std::string output = d_->output();
  get(d_->step(2));
  EXPECT_EQ(d_->unread_input(), "");
  get(d_->step_back(2));
  EXPECT_EQ(d_->unread_input(), "b");
  EXPECT_EQ(d_->output(), output);
  get(d_->step_back(1));
  get(d_->step(1));
  EXPECT_EQ(reg(Name::kR0), 'a');
  EXPECT_EQ(d_->output(), output);
  EXPECT_EQ(reg(Name::kR5), 5);
}

TEST_F(DebuggerTest, TheEndOfInputIsTold) {
  start(kPrompt);
  ok(d_->type("x"));
  ok(d_->close_input());
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kInputExhausted);
  EXPECT_EQ(at(), 2u);
}

TEST_F(DebuggerTest, InputThatIsLongerThanTheRing) {
  DebuggerOptions options;
  for (int i = 0; i < 10000; ++i) options.input += static_cast<char>('a' + i % 26);
  const std::string expected = options.input;
  start(R"(
        .ORIG x3000
NEXT    LDI R0, STATUS
        BRzp HALTED             ; never sees the input run dry before its end
        LDI R0, DATA
        STI R0, SHOW
        BRnzp NEXT
HALTED  HALT
STATUS  .FILL xFE00
DATA    .FILL xFE02
SHOW    .FILL xFE06
        .END)",
        std::move(options));
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kHalted);
  EXPECT_EQ(d_->output(), expected);
  get(d_->step_back(20000));
  get(d_->step(20000));
  EXPECT_EQ(d_->output(), expected);
}

TEST_F(DebuggerTest, AProgramThatPollsForEverIsSeenToWaitAndCanBeInterrupted) {
  start(R"(
        .ORIG x3000
WAIT    LDI R0, STATUS
        BRzp WAIT
        HALT
STATUS  .FILL xFE00
        .END)");
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kIdle);
  EXPECT_EQ(get(d_->step(1000)).kind, HaltKind::kDone) << "a count is a count";
  ok(d_->type("x"));
  EXPECT_EQ(get(d_->resume()).reason, StopReason::kHalted);
  const std::uint64_t end = at();
  get(d_->step_back(900));
  get(d_->resume());
  EXPECT_EQ(at(), end);
}

TEST_F(DebuggerTest, BreakpointsOnAnInterruptRoutineStopBeforeItsFirstInstruction) {
  auto program = load_program(std::vector{test_data("lc3_programs/keyboard_interrupt.asm")});
  ASSERT_TRUE(program) << program.error().message;
  start(*program, {});
  get(d_->step(100));
  const std::uint16_t stopped_at = reg(Name::kPc);
  const int number = add(Point::Kind::kBreak, "HANDLER");
  ok(d_->type("a"));
  EXPECT_EQ(get(d_->resume()).kind, HaltKind::kPoint);
  EXPECT_EQ(at(), 100u) << "the interrupt comes first, and is no instruction";
  EXPECT_TRUE(is_at("HANDLER"));
  ok(d_->set(Name::kR3, 9));
  ok(d_->type("b."));
  EXPECT_EQ(get(d_->resume()).kind, HaltKind::kPoint);
  EXPECT_EQ(get(d_->resume()).kind, HaltKind::kPoint);
  get(d_->resume_back());
  get(d_->resume_back());
  EXPECT_EQ(at(), 100u);
  EXPECT_TRUE(is_at("HANDLER"));
  EXPECT_EQ(reg(Name::kR3), 9);
  d_->remove_point(number);
  ok(d_->restart());
  get(d_->step(100));
  ok(d_->type("a"));
  get(d_->next(1));
  EXPECT_NE(reg(Name::kPc), stopped_at);
  EXPECT_GT(at(), 110u) << "the routine has been gone over";
  EXPECT_GE(reg(Name::kPc), 0x3000);
  EXPECT_LT(reg(Name::kPc), address("HANDLER"));
}

TEST_F(DebuggerTest, InterruptStopsALongRun) {
  start(".ORIG x3000\nHERE BR HERE\n.END");
  std::thread other([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    d_->interrupt();
  });
  EXPECT_EQ(get(d_->resume()).kind, HaltKind::kInterrupted);
  other.join();
  EXPECT_GT(at(), 0u);
}

TEST_F(DebuggerTest, HitsBackwardsAreTheHitsForwards) {
  struct Case {
    const char* file;
    const char* input;
    TrapMode traps;
    std::vector<const char*> breaks, writes;
    std::optional<Name> name;
  };
  const std::vector<Case> cases = {
      {"hanoi.asm", nullptr, TrapMode::kNative, {"HANOI"}, {"MOVES"}, Name::kR6},
      {"keyboard_interrupt.asm", "keyboard_interrupt.in", TrapMode::kNative, {"HANDLER", "WAIT"}, {"FREE"}, {}},
      {"keyboard_interrupt.asm", "keyboard_interrupt.in", TrapMode::kOs, {"HANDLER"}, {}, Name::kR4},
      {"calculator.asm", "calculator.in", TrapMode::kOs, {"READ"}, {}, Name::kPsr},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.file);
    auto program = load_program(std::vector{test_data(std::string("lc3_programs/") + one.file)});
    ASSERT_TRUE(program) << program.error().message;
    DebuggerOptions options;
    options.machine.traps = one.traps;
    options.checkpoint_interval = 37;
    options.most_checkpoints = 8;
    if (one.input != nullptr) {
      const auto bytes = read_file(test_data(std::string("lc3_programs/") + one.input), 1 << 20);
      ASSERT_TRUE(bytes);
      options.input.assign(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    }
    start(*program, options);
    for (const char* label : one.breaks) add(Point::Kind::kBreak, label);
    for (const char* label : one.writes) add(Point::Kind::kWrite, label);
    if (one.name) add(*one.name);
    std::vector<Position> hits;
    const std::uint64_t most = 8 + scaled(40);
    while (hits.size() < most && get(d_->resume()).kind == HaltKind::kPoint) hits.push_back(d_->position());
    ASSERT_GE(hits.size(), 3u);
    EXPECT_LE(d_->checkpoint_count(), 8u);
    get(d_->step(1));
    while (!hits.empty()) {
      if (d_->position() == hits.back()) {  // the last step was itself a hit, or the program had ended
        hits.pop_back();
        continue;
      }
      ASSERT_EQ(get(d_->resume_back()).kind, HaltKind::kPoint);
      if (d_->position() > hits.back()) continue;  // of the one step beyond
      ASSERT_EQ(d_->position(), hits.back()) << d_->position().instructions << "/" << d_->position().interrupts
                                             << " for " << hits.back().instructions << "/" << hits.back().interrupts;
    }
    EXPECT_EQ(get(d_->resume_back()).kind, HaltKind::kBeginning);
  }
}

/// What a machine that has never been debugged is after the same events and as many instructions.
struct Model {
  struct Event {
    std::uint64_t at;
    std::string typed;
    std::optional<std::pair<Name, std::uint16_t>> set;
  };
  std::vector<Event> events;

  void add(Event event) {
    std::erase_if(events, [&](const Event& other) { return other.at > event.at; });
    events.push_back(std::move(event));
  }
};

TEST_F(DebuggerTest, RandomWalksEndWhereFreshRunsDo) {
  struct Case {
    const char* file;
    const char* input;
    TrapMode traps;
    int edition = 3;
    bool strict = false;
    bool own_os = false;
  };
  static constexpr Case kCases[] = {
      {"hanoi.asm", nullptr, TrapMode::kOs},
      {"calculator.asm", "calculator.in", TrapMode::kNative},
      {"calculator.asm", nullptr, TrapMode::kOs, 2},
      {"keyboard_interrupt.asm", "keyboard_interrupt.in", TrapMode::kOs},
      {"keyboard_interrupt.asm", nullptr, TrapMode::kNative},
      {"self_modify.asm", nullptr, TrapMode::kNative, 3, true},
      {"own_os.asm", nullptr, TrapMode::kOs, 3, false, true},
      {"snake.asm", "snake.in", TrapMode::kNative},
  };
  const std::uint64_t moves = scaled(40);
  for (const Case& one : kCases) {
    const unsigned seed = 20260;
    SCOPED_TRACE(std::string(one.file) + ", seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    auto program = load_program(std::vector{test_data(std::string("lc3_programs/") + one.file)});
    ASSERT_TRUE(program) << program.error().message;
    DebuggerOptions options;
    options.machine = {.edition = one.edition, .strict_privilege = one.strict, .traps = one.traps};
    options.machine.load_os = !one.own_os;
    options.machine.supervisor_start = one.own_os;
    options.checkpoint_interval = 300;
    options.most_checkpoints = 6;
    if (one.input != nullptr) {
      const auto bytes = read_file(test_data(std::string("lc3_programs/") + one.input), 1 << 20);
      ASSERT_TRUE(bytes);
      options.input.assign(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    }
    Lc3Options plain = options.machine;
    plain.detect_idle = false;
    plain.stop_for_output = false;
    auto fresh = Lc3Vm::create(system(), plain);
    ASSERT_TRUE(fresh) << fresh.error().message;
    Model model;
    if (!options.input.empty()) model.add({0, options.input, {}});
    start(*program, options);

    for (std::uint64_t move = 0; move < moves; ++move) {
      const std::uint64_t distance = random() % (random() % 4 == 0 ? 3000 : 40);
      switch (random() % 8) {
        case 0: {
          const std::string text(1 + random() % 3, static_cast<char>('0' + random() % 10));
          model.add({at(), text, {}});
          ok(d_->type(text));
          break;
        }
        case 1: {
          const auto value = static_cast<std::uint16_t>(random());
          model.add({at(), {}, {{Name::kR5, value}}});
          ok(d_->set(Name::kR5, value));
          break;
        }
        case 2: get(d_->next(1 + random() % 3)); break;
        case 3:
        case 4: get(d_->step_back(distance)); break;
        default: get(d_->step(distance)); break;
      }
      // The same without a debugger.
      ok((*fresh)->power_on(plain));
      ok((*fresh)->load(*program));
      std::uint64_t count = 0;
      std::string output;
      const auto run_to = [&](std::uint64_t target) {
        while (count < target) {
          const auto result = (*fresh)->run(target - count);
          ASSERT_TRUE(result) << result.error().message;
          count += result->executed;
          ok((*fresh)->drain(output));
          if (result->executed == 0 && result->stop != StopReason::kOutputFull) break;
        }
      };
      for (const Model::Event& event : model.events) {
        if (event.at > at()) break;
        run_to(event.at);
        if (event.set) ok((*fresh)->write_register(static_cast<RegisterId>(event.set->first), event.set->second));
        ASSERT_TRUE((*fresh)->feed({reinterpret_cast<const std::uint8_t*>(event.typed.data()), event.typed.size()}));
      }
      run_to(at());
      ASSERT_EQ(count, at()) << "after move " << move;
      ASSERT_EQ(*d_->registers(), *(*fresh)->registers()) << "after move " << move << " at " << at();
      ASSERT_EQ(*d_->memory(0, 0x10000), *(*fresh)->read_memory(0, 0x10000)) << "after move " << move << " at " << at();
      ASSERT_EQ(d_->output(), output) << "after move " << move << " at " << at();
      ASSERT_EQ(d_->position().interrupts, (*fresh)->counters()->interrupts) << "after move " << move;
    }
  }
}

}  // namespace
}  // namespace warmfork::test
