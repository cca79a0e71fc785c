// The debugger's engine: one LC-3 guest that can be run forwards and backwards, with break- and watchpoints. No
// terminal, no text commands (session.hpp has those).
//
// Time is counted in executed instructions. A Position also counts interrupts taken, because taking one is no
// instruction: a breakpoint on an interrupt routine stops between the two.
//
//   position   0 ───────────── 100 ────────────────────── 250 ──────── now
//   events     input "abc"      │                          R3 = 5
//   checkpoints ■               ■                  ■                        bounded, thinned towards the past
//
// Going back restores the last checkpoint before the target and runs forward again. That is exact because nothing but
// instructions and events changes the machine, and every event (input, end of input, a register or word that the user
// set) is recorded with its position. Events after the present are kept while the user looks around in the past and
// happen again at their positions; a new event discards them. Arriving at a position means: all events there have
// happened.
//
// What the program has printed is kept per position: going back takes output back, running again prints it again.
//
// Threads: one at a time; interrupt() from any thread and from signal handlers.
#pragma once

#include "lc3/debugger/call_tracker.hpp"
#include "lc3/debugger/expression.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <atomic>
#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::lc3 {

struct Position {
  std::uint64_t instructions = 0;
  std::uint64_t interrupts = 0;
  friend auto operator<=>(const Position&, const Position&) = default;
};

/// A break- or watchpoint.
struct Point {
  enum class Kind : std::uint8_t { kBreak, kWrite, kRead, kAccess, kRegister };
  int number = 0;
  Kind kind = Kind::kBreak;
  std::uint16_t address = 0;  // all kinds but kRegister
  Name name = Name::kR0;      // kRegister: R0 … R7, PSR, SSP, USP
  std::string where;          // as the user named the place
  bool temporary = false;
  bool enabled = true;
  std::uint64_t ignore = 0;  // this many hits are passed over first
  std::uint64_t hits = 0;
  std::optional<Expression> condition;
};

/// What stopped a movement through the program.
enum class HaltKind : std::uint8_t {
  kDone,         // moved as far as was asked
  kPoint,        // `hits` says which break- or watchpoints
  kProgram,      // the machine cannot go on: `reason`
  kInterrupted,  // interrupt()
  kBeginning,    // going back ended at the first instruction
};

/// One point that stopped the program.
struct PointHit {
  int number = 0;
  std::optional<std::uint16_t> before;  // kWrite, kAccess, kRegister: the value, if it changed
  std::uint16_t after = 0;
  std::uint8_t access = 0;               // of WatchFlag
  std::optional<Error> condition_error;  // the condition could not be evaluated: that stops, too
};

struct Halt {
  HaltKind kind = HaltKind::kDone;
  StopReason reason = StopReason::kNone;
  std::uint32_t vector = 0;   // kUnhandled…
  std::uint16_t address = 0;  // kUnhandledException x02
  std::vector<PointHit> hits;
};

struct DebuggerOptions {
  Lc3Options machine;  // stop_for_output is overruled: the debugger drains the console itself
  std::string input;   // typed before the program starts
  std::uint64_t checkpoint_interval = 1'000'000;
  std::size_t most_checkpoints = 64;                     // 164 KiB each
  std::size_t most_output_bytes = std::size_t{1} << 20;  // of output that can be shown again
  std::function<void(std::string_view)> on_output;       // what a forward movement prints, as it comes
  // Instructions that were just executed, also to come back to a position in the past.
  std::function<void(std::uint64_t)> on_executed;
};

class Debugger : public ExpressionContext {
 public:
  /// Boots the guest and loads the program. It stands before its first instruction.
  [[nodiscard]] static Result<std::unique_ptr<Debugger>> create(const kvm::Kvm& kvm, Program program,
                                                                DebuggerOptions options);

  // --- Movement. Errors are of the host or the guest's protocol, never the program's.
  [[nodiscard]] Result<Halt> step(std::uint64_t count);
  [[nodiscard]] Result<Halt> next(std::uint64_t count);
  [[nodiscard]] Result<Halt> finish();
  /// Runs for at most `count` instructions.
  [[nodiscard]] Result<Halt> resume(std::optional<std::uint64_t> count = std::nullopt);
  [[nodiscard]] Result<Halt> until(std::uint16_t address);
  /// To the beginning; discards what was typed and set since, and starts again with the input of the options.
  [[nodiscard]] Status restart();
  /// As restart() and resume(), but a breakpoint at the first instruction counts.
  [[nodiscard]] Result<Halt> run();
  [[nodiscard]] Result<Halt> step_back(std::uint64_t count);
  /// Back to the last place before this one where an enabled point would stop (ignore counts play no part), or to the
  /// beginning.
  [[nodiscard]] Result<Halt> resume_back();
  [[nodiscard]] Result<Halt> go_to(std::uint64_t instructions);
  void interrupt() { interrupted_.store(true); }

  // --- Events
  [[nodiscard]] Status type(std::string_view text);
  [[nodiscard]] Status close_input();
  [[nodiscard]] Status set(Name name, std::uint16_t value);
  [[nodiscard]] Status set_memory(std::uint16_t address, std::uint16_t value);

  // --- The machine
  [[nodiscard]] Position position() const { return position_; }
  [[nodiscard]] Result<Registers> registers() { return vm_->registers(); }
  [[nodiscard]] Result<std::vector<std::uint16_t>> memory(std::uint16_t address, std::uint32_t count) {
    return vm_->read_memory(address, count);
  }
  [[nodiscard]] Result<std::uint16_t> value_of(Name name) override;
  [[nodiscard]] Result<std::uint16_t> memory_at(std::uint16_t address) override;
  /// What the program has printed up to here (the last most_output_bytes of it), and how much that is in all.
  [[nodiscard]] const std::string& output() const { return output_; }
  [[nodiscard]] std::uint64_t output_bytes() const { return output_begin_ + output_.size(); }
  /// Characters that were typed and that the program has not read.
  [[nodiscard]] std::string unread_input() const { return input_.substr(consumed_, available_ - consumed_); }
  [[nodiscard]] std::size_t later_events() const { return events_.size() - next_event_; }
  [[nodiscard]] std::size_t checkpoint_count() const { return checkpoints_.size(); }
  [[nodiscard]] const Program& program() const { return program_; }
  [[nodiscard]] const DebuggerOptions& options() const { return options_; }
  /// What the guest can write, together.
  [[nodiscard]] std::uint64_t memory_bytes() { return vm_->guest().memory().window().size(); }

  // --- Points
  int add_point(Point point);
  [[nodiscard]] const std::vector<Point>& points() const { return points_; }
  [[nodiscard]] Point* find_point(int number);
  bool remove_point(int number);

 private:
  struct Event {
    enum class Kind : std::uint8_t { kInput, kClose, kRegister, kMemory };
    Position position;
    bool attempted;  // IN had printed its prompt here and waited
    Kind kind;
    Name name;
    std::uint16_t address, value;
    std::size_t input_end;  // kInput: size of input_ with it
  };
  /// What the host has to know about a position besides the machine's state.
  struct Ledger {
    Position position;
    std::size_t available = 0;  // input up to here has been typed
    std::size_t fed = 0;        // input up to here has been given to the machine
    std::size_t consumed = 0;   // input up to here has been read by the program
    bool closed = false;
    std::size_t next_event = 0;
    std::uint64_t output_bytes = 0;
  };
  struct Checkpoint {
    Ledger ledger;
    std::vector<std::byte> state;
  };
  struct Plan {
    std::uint64_t limit = ~std::uint64_t{0};  // instructions, counted from the beginning
    bool use_points = true;
    bool judge_first = false;  // breakpoints at the PC count before anything is executed
    bool idle_stops = true;
    std::optional<std::uint16_t> until;
    CallTracker* tracker = nullptr;
    std::optional<Position> last;  // searching backwards: only what stops there or before counts
    bool searching = false;        // points are not used up
  };

  Debugger() = default;
  void begin_movement() { interrupted_.store(false); }
  [[nodiscard]] Result<Halt> move(Plan plan);
  [[nodiscard]] Result<RunResult> run_traced(const Plan& plan, std::uint64_t batch, bool& reached);
  [[nodiscard]] Result<RunResult> execute(std::uint64_t budget);
  [[nodiscard]] Result<std::uint64_t> batch_size(const Plan& plan) const;
  [[nodiscard]] Status arm(const Plan& plan);
  [[nodiscard]] Status arm(std::map<std::uint16_t, std::uint8_t> flags);
  [[nodiscard]] Result<bool> interrupt_pending();
  [[nodiscard]] Result<bool> judge_breakpoints(const Plan& plan, Halt& halt);
  [[nodiscard]] Result<bool> judge_watchpoints(const Plan& plan, const RunResult& run, Halt& halt);
  [[nodiscard]] Result<bool> judge_registers(const Plan& plan, Halt& halt);
  [[nodiscard]] bool judge(const Plan& plan, Point& point, PointHit hit, Halt& halt);
  [[nodiscard]] Status refresh_watched();
  void remove_temporary(const Halt& halt);

  [[nodiscard]] Status happen(Event event);
  [[nodiscard]] Status apply(const Event& event);
  [[nodiscard]] Result<bool> absorb_events();
  [[nodiscard]] Status take_interrupt();
  [[nodiscard]] Status top_up();
  [[nodiscard]] Status collect_output();
  [[nodiscard]] Status count_events_of_machine();

  [[nodiscard]] Result<Checkpoint> take();
  [[nodiscard]] Status restore(const Checkpoint& checkpoint);
  [[nodiscard]] Status keep_checkpoint();
  [[nodiscard]] std::size_t checkpoint_before(Position position) const;
  void thin_checkpoints();
  [[nodiscard]] Result<Halt> travel(Position target, bool exact_interrupts);

  Program program_;
  DebuggerOptions options_;
  std::unique_ptr<Lc3Vm> vm_;
  std::atomic<bool> interrupted_{false};

  Position position_;
  bool attempted_ = false;  // IN has printed its prompt at this position and waits
  std::vector<Event> events_;
  std::size_t next_event_ = 0;
  std::size_t initial_events_ = 0;
  std::string input_;  // everything that all events type
  std::size_t available_ = 0, fed_ = 0, consumed_ = 0;
  bool closed_ = false, close_given_ = false;
  std::string output_;
  std::uint64_t output_begin_ = 0;       // output before output_[0]
  bool silent_ = false;                  // replaying: on_output is not called
  std::vector<Checkpoint> checkpoints_;  // by position; the first is the beginning

  std::vector<Point> points_;
  int last_number_ = 0;
  std::map<std::uint16_t, std::uint8_t> armed_;  // flags in the guest
  std::map<int, std::uint16_t> watched_;         // point number -> last value seen
};

}  // namespace warmfork::lc3
