// Operations on a State outside of execution: power-on, loading, peeking, the console rings. Freestanding; one thread
// at a time per State, except feed_input(), close_input() and drain_output(), whose side of a ring may be another
// thread.
#pragma once

#include "lc3/core/instruction.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstddef>
#include <cstdint>

namespace warmfork::lc3 {

inline constexpr std::uint16_t kInitialR6 = 0xfe00, kInitialSsp = 0x3000;

/// Power-on: user mode, priority 0, condition code Z, PC x3000, R6 and saved USP xFE00, saved SSP x3000, everything
/// else zero,
/// memory included. Rings are empty and open, counters zero, no vectors captured.
void initialise(State& state, std::uint32_t config);

/// Fills memory below xFE00 and R0-R5, R7 with a fixed function of `seed`: for programs that rely on zeroed memory by
/// accident. To be called after initialise() and before anything is loaded.
void randomise(State& state, std::uint64_t seed);

/// Stores words from `origin` up. Refuses (returns false, stores nothing) what would reach device space or wrap around.
[[nodiscard]] bool load(State& state, std::uint16_t origin, const std::uint16_t* words, std::size_t count);

/// Remembers the trap vectors x20-x25 of now: native traps serve a vector only while it holds this value. To be called
/// after the OS has been loaded (or with none), and before programs are.
void capture_trap_vectors(State& state);

std::uint16_t psr(const State& state);
/// Sets mode, priority and condition code. If not exactly one of N, Z, P is given: N wins over Z, Z over P, none is Z.
/// Does not exchange stack pointers.
void set_psr(State& state, std::uint16_t value);

/// What a read of `address` would give, without its side effects (KBDR: the character that would be read).
std::uint16_t peek(const State& state, std::uint16_t address);
/// Writes as a debugger does: memory, KBSR[14], PSR, MCR; other device addresses ignore it. Nothing is printed.
void poke(State& state, std::uint16_t address, std::uint16_t value);

/// Producer side of the input. Returns how many bytes found room.
std::uint32_t feed_input(State& state, const std::uint8_t* bytes, std::uint32_t count);
void close_input(State& state);
/// Consumer side of the output. Returns how many bytes were copied.
std::uint32_t drain_output(State& state, std::uint8_t* bytes, std::uint32_t capacity);

inline std::uint32_t input_waiting(const State& state) {
  return __atomic_load_n(&state.input.head, __ATOMIC_ACQUIRE) - state.input.tail;
}
inline bool input_closed(const State& state) { return __atomic_load_n(&state.input.closed, __ATOMIC_ACQUIRE) != 0; }
inline std::uint32_t output_waiting(const State& state) {
  return state.output.head - __atomic_load_n(&state.output.tail, __ATOMIC_ACQUIRE);
}
/// Room in the output ring. A cursor that makes no sense counts as a full ring: the machine stops and the host sees.
inline std::uint32_t output_room(const State& state) {
  const std::uint32_t waiting = output_waiting(state);
  return waiting > kOutputCapacity ? 0 : kOutputCapacity - waiting;
}

inline Edition edition(const State& state) {
  return (state.config & kSecondEdition) != 0 ? Edition::kSecond : Edition::kThird;
}

}  // namespace warmfork::lc3
