#include "lc3/core/engine.hpp"

#include "lc3/core/code_use.hpp"
#include "lc3/core/counts.hpp"
#include "lc3/core/step.hpp"

extern "C" {
// fast.S: runs state->fast_budget instructions (at least one) and leaves in it what remains.
[[gnu::visibility("hidden")]] std::uint32_t lc3_fast_enter(warmfork::lc3::State* state);
// The same, using compiled code where there is some.
[[gnu::visibility("hidden")]] std::uint32_t lc3_compiling_enter(warmfork::lc3::State* state);
// Code that counts, until it has to be left. 1: behind a transfer to where there is no code.
[[gnu::visibility("hidden")]] std::uint32_t lc3_counted_enter(warmfork::lc3::State* state);
// Called by fast.S: the instruction at PC, carefully. Nonzero (a StopReason, or kProveIdle): leave.
[[gnu::visibility("hidden")]] std::uint32_t lc3_fast_slow_step(warmfork::lc3::State* state);
}

namespace warmfork::lc3 {
namespace {

static_assert(static_cast<std::uint32_t>(StopReason::kBudget) == 1, "fast.S returns it as a number");
static_assert(static_cast<std::uint32_t>(StopReason::kCompile) == 13, "fast.S returns it as a number");

// How long compiled code runs before the machine looks for newer code: a fraction of a millisecond.
constexpr std::uint64_t kCompiledSlice = 1 << 20;

// What a slice ends with when a poll is to be looked at with all that remains of the run: a proof that the machine is
// idle must not depend on where slices end.
constexpr std::uint32_t kProveIdle = kStopReasonCount;

/// Statistics and watchpoints.
class InstrumentedHooks {
 public:
  InstrumentedHooks(Instrumentation& instrumentation, State& state) : i_(instrumentation), state_(state) {}

  void execute(std::uint16_t pc, std::uint16_t word) {
    if (i_.collect != 0) count_executions(i_, pc, word, 1);
  }
  void branch(std::uint16_t pc, bool taken) {
    if (i_.collect != 0) ++(taken ? i_.branches_taken : i_.branches_not_taken)[pc];
  }
  void read(std::uint16_t address) {
    if (i_.collect != 0) ++i_.memory_reads[address];
    watch(address, kWatchRead);
  }
  void write(std::uint16_t address) {
    if (i_.collect != 0) ++i_.memory_writes[address];
    watch(address, kWatchWrite);
  }
  bool may_store(std::uint16_t, std::uint32_t) const { return true; }
  void write_block(std::uint16_t first, const std::uint16_t*, std::uint32_t words) {
    for (std::uint32_t i = 0; i < words; ++i) write(static_cast<std::uint16_t>(first + i));
  }

  /// Breakpoints are ignored for the first instruction of a run, so that a stopped machine can go on.
  bool stops_before(std::uint16_t pc) const { return armed_ && (i_.watch[pc] & kBreakExecute) != 0; }
  void arm() { armed_ = true; }
  bool fired() const { return fired_; }

 private:
  void watch(std::uint16_t address, WatchFlag flag) {
    if ((i_.watch[address] & flag) == 0 || fired_) return;
    fired_ = true;
    state_.result.address = address;
    state_.result.access = flag;
  }

  Instrumentation& i_;
  State& state_;
  bool armed_ = false, fired_ = false;
};

/// Statistics of steps between compiled code.
class CountingHooks : public InstrumentedHooks {
 public:
  CountingHooks(Instrumentation& instrumentation, State& state)
      : InstrumentedHooks(instrumentation, state), code_(state) {}
  void write(std::uint16_t address) {
    InstrumentedHooks::write(address);
    code_.write(address);
  }
  void write_block(std::uint16_t first, const std::uint16_t* words, std::uint32_t count) {
    InstrumentedHooks::write_block(first, words, count);
    code_.write_block(first, words, count);
  }
  bool may_store(std::uint16_t first, std::uint32_t count) const { return code_.may_store(first, count); }
  void settle() { code_.settle(); }

 private:
  CodeHooks code_;
};

struct PlainHooks : NoHooks {
  void arm() {}
};

/// What every run begins and ends with; `loop` gets the budget and leaves in it what remains.
template <class Loop>
const RunResult& bracket(State& state, std::uint64_t budget, Loop loop) {
  // A run that only stopped to be compiled goes on as if it had not.
  if (state.result.stop != StopReason::kCompile) state.poll.valid = 0;
  state.result = {};
  std::uint64_t remaining = budget;
  StopReason stop = StopReason::kHalted;
  if ((state.mcr & kMcrRun) != 0) {
    stop = loop(remaining);
  }
  state.result.stop = stop;
  state.result.executed = budget - remaining;
  state.result.pc = state.pc;
  state.counters.instructions += budget - remaining;
  return state.result;
}

template <class Hooks>
StopReason careful_loop(State& state, Hooks& hooks, std::uint64_t& remaining) {
  while (remaining != 0) {
    if (const std::uint8_t vector = pending_interrupt(state); vector != 0) {
      const StepOutcome out = Step<Hooks>(state, hooks).interrupt(vector);
      if (out.stop != StopReason::kNone) return out.stop;
      if (hooks.fired()) return StopReason::kWatchpoint;
      hooks.arm();  // the PC is no longer where the run began
    }
    if (hooks.stops_before(state.pc)) return StopReason::kBreakpoint;
    hooks.arm();
    const StepOutcome out = step_once(state, hooks);
    if (out.executed) --remaining;
    if (out.stop != StopReason::kNone) return out.stop;
    if (hooks.fired()) return StopReason::kWatchpoint;
    if (out.polled) {
      if (const StopReason stop = after_poll(state, hooks, remaining); stop != StopReason::kNone) return stop;
    }
  }
  return StopReason::kBudget;
}

bool has_code_at_pc(const State& state) {
  if (state.code == 0) return false;
  // SAFETY: use_newest_code() attached it.
  return reinterpret_cast<const std::uint32_t*>(state.code + kCodeEntries)[state.pc] != 0;  // NOLINT
}

/// Instructions until the keyboard interrupt is looked for, when `retired` have been executed: a multiple of the
/// quantum, wherever the run began.
std::uint64_t until_poll(std::uint64_t retired) { return kInterruptQuantum - retired % kInterruptQuantum; }

}  // namespace

bool can_run_fast(const State& state) {
  return (state.config & (kStrictPrivilege | kSecondEdition)) != kStrictPrivilege;
}

const RunResult& run_careful(State& state, std::uint64_t budget, Instrumentation* instrumentation) {
  forget_code(state);  // nothing here looks at what stores do to it
  return bracket(state, budget, [&](std::uint64_t& remaining) {
    if (instrumentation != nullptr) {
      InstrumentedHooks hooks(*instrumentation, state);
      return careful_loop(state, hooks, remaining);
    }
    PlainHooks hooks;
    return careful_loop(state, hooks, remaining);
  });
}

const RunResult& run_fast(State& state, std::uint64_t budget) {
  count_in_code(state, 0);
  return bracket(state, budget, [&](std::uint64_t& remaining) {
    if (state.compiling != 0) state.cold_left = patience(state);
    while (remaining != 0) {
      std::uint64_t slice = remaining;
      if (state.compiling != 0) {
        use_newest_code(state);
        if (state.code_use.patience == 0) state.cold_left = patience(state);
        if (slice > kCompiledSlice) slice = kCompiledSlice;
      }
      if (interrupts_enabled(state)) {
        if (const std::uint8_t vector = pending_interrupt(state); vector != 0) {
          CodeHooks hooks(state);
          const StepOutcome out = Step<CodeHooks>(state, hooks).interrupt(vector);
          hooks.settle();
          if (out.stop != StopReason::kNone) return out.stop;
        }
        const std::uint64_t quantum = until_poll(state.counters.instructions + (budget - remaining));
        if (slice > quantum) slice = quantum;
      }
      state.fast_budget = slice;
      const std::uint32_t end = state.compiling != 0 ? lc3_compiling_enter(&state) : lc3_fast_enter(&state);
      remaining -= slice - state.fast_budget;
      if (slice == kCompiledSlice) {
        CodeUse& use = state.code_use;
        use.samples[use.slices++ % (sizeof use.samples / sizeof use.samples[0])] = state.pc;
      }
      auto stop = static_cast<StopReason>(end);
      if (end == kProveIdle) {
        CodeHooks hooks(state);
        stop = after_poll(state, hooks, remaining);
        hooks.settle();
        if (stop == StopReason::kNone) continue;
      }
      if (stop != StopReason::kBudget) return stop;
    }
    return StopReason::kBudget;
  });
}

const RunResult& run_counting(State& state, std::uint64_t budget, Instrumentation& instrumentation) {
  count_in_code(state, reinterpret_cast<std::uintptr_t>(&instrumentation));
  return bracket(state, budget, [&](std::uint64_t& remaining) {
    CountingHooks hooks(instrumentation, state);
    use_newest_code(state);
    state.cold_left = patience(state);
    while (remaining != 0) {
      if (const std::uint8_t vector = pending_interrupt(state); vector != 0) {
        const StepOutcome out = Step<CountingHooks>(state, hooks).interrupt(vector);
        hooks.settle();
        if (out.stop != StopReason::kNone) return out.stop;
      }
      if (has_code_at_pc(state)) {
        std::uint64_t slice = remaining;
        if (interrupts_enabled(state)) {
          const std::uint64_t quantum = until_poll(state.counters.instructions + (budget - remaining));
          if (slice > quantum) slice = quantum;
        }
        state.fast_budget = slice;
        const bool missed = lc3_counted_enter(&state) != 0;
        remaining -= slice - state.fast_budget;
        if (missed && --state.cold_left < 0) return StopReason::kCompile;
        if (remaining == 0) break;
        if (pending_interrupt(state) != 0) continue;
      }
      // At least one instruction between two entries: the code may have left before its first.
      const auto next = static_cast<std::uint16_t>(state.pc + 1);
      const StepOutcome out = step_once(state, hooks);
      hooks.settle();
      if (out.executed) --remaining;
      if (out.stop != StopReason::kNone) return out.stop;
      if (out.polled) {
        const StopReason stop = after_poll(state, hooks, remaining);
        hooks.settle();
        if (stop != StopReason::kNone) return stop;
      }
      if (state.pc != next && !has_code_at_pc(state) && --state.cold_left < 0) return StopReason::kCompile;
    }
    return StopReason::kBudget;
  });
}

const RunResult& run(State& state, std::uint64_t budget, Instrumentation* instrumentation) {
  if (instrumentation != nullptr && instrumentation->collect != 0 && instrumentation->watch_count == 0 &&
      state.compiling != 0 && can_run_fast(state)) {
    return run_counting(state, budget, *instrumentation);
  }
  if (instrumentation == nullptr && can_run_fast(state)) return run_fast(state, budget);
  return run_careful(state, budget, instrumentation);
}

std::uint64_t trace(State& state, std::uint64_t count, TraceRecord* records) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const Counters before = state.counters;
    const std::uint8_t vector = pending_interrupt(state);
    const std::uint16_t address = vector != 0 ? state.memory[kInterruptTable + vector] : state.pc;
    const std::uint16_t word = peek(state, address);
    const RunResult& result = run(state, 1);
    if (result.executed == 0) return i;
    TraceRecord& record = records[i];
    record.address = address;
    record.word = word;
    record.entered =
        static_cast<std::uint16_t>((state.counters.interrupts != before.interrupts ? kEnteredInterrupt : 0) |
                                   (state.counters.exceptions != before.exceptions ? kEnteredException : 0) |
                                   (state.counters.os_traps != before.os_traps ? kEnteredTrap : 0));
    record.reserved = 0;
    for (unsigned r = 0; r < 8; ++r) record.registers[r] = state.registers[r];
    record.pc = state.pc;
    record.psr = psr(state);
    record.saved_ssp = state.saved_ssp;
    record.saved_usp = state.saved_usp;
    if (result.stop != StopReason::kBudget) return i + 1;
  }
  return count;
}

void set_watch(Instrumentation& instrumentation, std::uint16_t address, std::uint8_t flags) {
  if (instrumentation.watch[address] != 0) --instrumentation.watch_count;
  instrumentation.watch[address] = flags;
  if (flags != 0) ++instrumentation.watch_count;
}

}  // namespace warmfork::lc3

std::uint32_t lc3_fast_slow_step(warmfork::lc3::State* state) {
  using namespace warmfork::lc3;
  CodeHooks hooks(*state);
  ++state->counters.slow_steps;
  const StepOutcome out = step_once(*state, hooks);
  hooks.settle();
  if (!out.executed) ++state->fast_budget;
  StopReason stop = out.stop;
  if (stop == StopReason::kNone && out.polled) {
    if ((state->config & kDetectIdle) != 0 && same_poll(state->poll, *state)) return kProveIdle;
    stop = after_poll(*state, hooks, state->fast_budget);  // no more than a record: nothing is executed
  }
  // Interrupts enabled: back to run_fast(), which looks for them and hands out short slices.
  if (stop == StopReason::kNone && interrupts_enabled(*state)) stop = StopReason::kBudget;
  return static_cast<std::uint32_t>(stop);
}
