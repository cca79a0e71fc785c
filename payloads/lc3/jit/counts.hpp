// Statistics at the speed of compiled code: what its counters are, and what follows from them.
//
// The counters of a unit lie in Instrumentation::code_counts, block by block, by address. Those of a block:
//   - how often it was begun
//   - if it ends with a branch that may go both ways: how often that was taken
//   - for each operation that may leave, in their order: how often it did
// With them, opcodes, registers, branches and executions by address follow from the block's words, and so do loads and
// stores of known addresses. The others are counted by the code itself in memory_reads and memory_writes.
//
// Threads: any; everything is a function of its arguments.
#pragma once

#include "lc3/jit/ir.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstdint>
#include <span>

namespace warmfork::lc3::jit {

[[nodiscard]] bool counts_taken(const End& end);
/// How many counters a block, or all of a unit's blocks, have.
[[nodiscard]] std::uint32_t counters_of(const Block& block);
[[nodiscard]] std::uint32_t counters_of(const Unit& unit);

/// Adds what these counters of a unit mean to all tables of `into` but code_counts. `words`: those the unit was made
/// of, with passes that keep every load and store. The counters may be a guest's claims: wrong ones give wrong sums,
/// modulo 2^64, no more. There must be counters_of(unit) of them.
void add_counts(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words,
                std::span<const std::uint64_t> counters, Instrumentation& into);

}  // namespace warmfork::lc3::jit
