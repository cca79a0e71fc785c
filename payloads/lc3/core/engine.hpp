// Running a machine. One thread at a time per State.
//
//   run()          the fast interpreter where it can be used, or code that counts, else the careful one
//   run_fast()     tail-call threaded; cannot do strict privilege (3rd edition) nor instrumentation
//   run_counting() code that counts, and between it the careful interpreter; no strict privilege, no watch flags
//   run_careful()  one shared step function; does everything
//
// All give the same machine after the same number of instructions. The keyboard interrupt is looked for when a run
// begins, after every instruction that touches devices, modes or priorities, and every kInterruptQuantum instructions.
#pragma once

#include "lc3/core/machine.hpp"

namespace warmfork::lc3 {

inline constexpr std::uint64_t kInterruptQuantum = 1024;

/// Runs until something stops the machine, at the latest after exactly `budget` instructions (0: kBudget at once,
/// unless the machine is halted). An instruction that raises an exception counts; taking an interrupt does not; a
/// native trap is one instruction. The result is also left in state.result. `instrumentation` may be null.
const RunResult& run(State& state, std::uint64_t budget, Instrumentation* instrumentation = nullptr);
const RunResult& run_fast(State& state, std::uint64_t budget);
/// `instrumentation` also has counters of the code that was executed (jit::add_counts() says what they mean).
const RunResult& run_counting(State& state, std::uint64_t budget, Instrumentation& instrumentation);
const RunResult& run_careful(State& state, std::uint64_t budget, Instrumentation* instrumentation = nullptr);

/// True when run_fast() may be used: strict privilege is off, or has no meaning (2nd edition).
bool can_run_fast(const State& state);

/// Executes up to `count` instructions, one at a time, with the fast interpreter (or the careful one, where the fast
/// one cannot be used), and records the machine after each. Stops early when the machine does. Returns the number of
/// records.
std::uint64_t trace(State& state, std::uint64_t count, TraceRecord* records);

/// Sets the watch flags of an address (0 removes them).
void set_watch(Instrumentation& instrumentation, std::uint16_t address, std::uint8_t flags);

}  // namespace warmfork::lc3
