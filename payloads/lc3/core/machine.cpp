#include "lc3/core/machine.hpp"

#include "lc3/core/ports.hpp"

#include <string.h>

namespace warmfork::lc3 {
namespace {

std::uint64_t splitmix64(std::uint64_t& counter) {
  std::uint64_t z = counter += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

void initialise(State& state, std::uint32_t config) {
  memset(&state, 0, sizeof state);
  for (std::uint16_t& word : state.guard_low) word = kTrapWord;
  for (std::uint16_t& word : state.guard_high) word = kTrapWord;
  for (std::uint32_t address = kDeviceBase; address < kMemoryWords; ++address) state.memory[address] = kTrapWord;
  state.pc = kUserBase;
  state.psr_system = kPsrUser;
  state.registers[6] = kInitialR6;
  state.saved_ssp = kInitialSsp;
  state.saved_usp = kInitialR6;
  state.mcr = kMcrRun;
  state.config = config;
  state.lea_sets_cc = (config & kSecondEdition) != 0 ? 1 : 0;
  for (std::uint32_t& vector : state.native_vectors) vector = 0x10000;
}

void randomise(State& state, std::uint64_t seed) {
  std::uint64_t counter = seed;
  for (std::uint32_t address = 0; address < kDeviceBase; address += 4) {
    const std::uint64_t random = splitmix64(counter);
    for (unsigned i = 0; i < 4; ++i) state.memory[address + i] = static_cast<std::uint16_t>(random >> (16 * i));
  }
  for (unsigned i = 0; i < 8; ++i) {
    const std::uint64_t random = splitmix64(counter);
    if (i != 6) state.registers[i] = static_cast<std::uint16_t>(random);
  }
}

bool load(State& state, std::uint16_t origin, const std::uint16_t* words, std::size_t count) {
  if (origin > kDeviceBase || count > static_cast<std::size_t>(kDeviceBase - origin)) return false;
  if (count != 0) memcpy(&state.memory[origin], words, count * sizeof *words);
  return true;
}

void capture_trap_vectors(State& state) {
  for (std::uint32_t i = 0; i < 6; ++i) state.native_vectors[i] = state.memory[kFirstNativeTrap + i];
}

std::uint16_t psr(const State& state) {
  const unsigned cc = (state.last_result & 0x8000) != 0 ? kPsrN : state.last_result == 0 ? kPsrZ : kPsrP;
  return static_cast<std::uint16_t>(state.psr_system | cc);
}

void set_psr(State& state, std::uint16_t value) {
  state.psr_system = value & (kPsrUser | kPsrPriority);
  const bool positive = (value & (kPsrN | kPsrZ | kPsrP)) == kPsrP;
  state.last_result = (value & kPsrN) != 0 ? 0x8000 : positive ? 1 : 0;
}

std::uint16_t peek(const State& state, std::uint16_t address) {
  if (address < kDeviceBase) return state.memory[address];
  switch (address) {
    case kKbsr: return static_cast<std::uint16_t>(state.kbsr | (input_waiting(state) != 0 ? kReady : 0));
    case kKbdr: return input_waiting(state) != 0 ? state.input.data[state.input.tail % kInputCapacity] : state.kbdr;
    case kDsr: return kReady;
    case kPsr: return psr(state);
    case kMcr: return state.mcr;
    default: return state.ports != 0 && is_port(address) ? peek_port(state, address) : std::uint16_t{0};
  }
}

void poke(State& state, std::uint16_t address, std::uint16_t value) {
  if (address < kDeviceBase) {
    state.memory[address] = value;
    return;
  }
  switch (address) {
    case kKbsr: state.kbsr = value & kKbsrInterruptEnable; break;
    case kPsr: set_psr(state, value); break;
    case kMcr: state.mcr = value; break;
    default: break;
  }
}

std::uint32_t feed_input(State& state, const std::uint8_t* bytes, std::uint32_t count) {
  const std::uint32_t head = state.input.head;
  const std::uint32_t waiting = head - __atomic_load_n(&state.input.tail, __ATOMIC_ACQUIRE);
  const std::uint32_t room = waiting > kInputCapacity ? 0 : kInputCapacity - waiting;
  if (count > room) count = room;
  for (std::uint32_t i = 0; i < count; ++i) state.input.data[(head + i) % kInputCapacity] = bytes[i];
  __atomic_store_n(&state.input.head, head + count, __ATOMIC_RELEASE);
  return count;
}

void close_input(State& state) { __atomic_store_n(&state.input.closed, 1, __ATOMIC_RELEASE); }

std::uint32_t drain_output(State& state, std::uint8_t* bytes, std::uint32_t capacity) {
  const std::uint32_t tail = state.output.tail;
  std::uint32_t count = __atomic_load_n(&state.output.head, __ATOMIC_ACQUIRE) - tail;
  if (count > kOutputCapacity) return 0;
  if (count > capacity) count = capacity;
  for (std::uint32_t i = 0; i < count; ++i) bytes[i] = state.output.data[(tail + i) % kOutputCapacity];
  __atomic_store_n(&state.output.tail, tail + count, __ATOMIC_RELEASE);
  return count;
}

}  // namespace warmfork::lc3
