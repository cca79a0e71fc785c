// An LC-3 guest that lies: it offers the calls of the real one, scribbles over its state at every call and returns
// whatever it likes. The host's handle on it must never believe, crash or loop.
#include "warmfork/abi/vmcall.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using warmfork::lc3::State;

State machine;
std::uint64_t random_state;
std::uint64_t honest_calls = 5;  // enough to get through the host's first questions

std::uint64_t next() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

std::uint64_t answer(std::uint64_t expected) {
  if (honest_calls > 0) {
    --honest_calls;
    return expected;
  }
  auto* words = reinterpret_cast<std::uint64_t*>(&machine);
  for (int i = 0; i < 64; ++i) words[next() % (sizeof machine / 8)] = next() % 3 == 0 ? next() : next() % 20;
  // The fields the host reads, more often than chance would have it.
  machine.result.stop = static_cast<warmfork::lc3::StopReason>(next() % 16);
  machine.result.executed = next() % 4 == 0 ? next() : next() % 100;
  if (next() % 2 == 0) machine.output.head = static_cast<std::uint32_t>(next() % 4 == 0 ? next() : next() % 20000);
  if (next() % 2 == 0) machine.input.tail = static_cast<std::uint32_t>(next() % 4 == 0 ? next() : next() % 5000);
  switch (next() % 6) {
    case 0: return next();
    case 1: return 0;
    case 2: return 1;
    case 3: return reinterpret_cast<std::uint64_t>(&machine) + next() % 100000;
    case 4: return static_cast<std::uint64_t>(machine.result.stop);
    default: return expected;
  }
}

}  // namespace

extern "C" {
std::uint64_t set_seed(std::uint64_t seed) {
  random_state = seed | 1;
  return 0;
}
std::uint64_t lc3_state() { return answer(reinterpret_cast<std::uint64_t>(&machine)); }
std::uint64_t lc3_configure() { return answer(0); }
std::uint64_t lc3_use_code() { return answer(0); }
std::uint64_t lc3_load() { return answer(1); }
std::uint64_t lc3_capture_vectors() { return answer(0); }
std::uint64_t lc3_start() { return answer(0); }
std::uint64_t lc3_run() { return answer(1); }
std::uint64_t lc3_time_runs(std::uint64_t, std::uint64_t count) { return answer(count); }
std::uint64_t lc3_trace(std::uint64_t count) { return answer(count); }
std::uint64_t lc3_read_register() { return answer(0); }
std::uint64_t lc3_write_register() { return answer(0); }
std::uint64_t lc3_read_memory() { return answer(0); }
std::uint64_t lc3_write_memory() { return answer(0); }
std::uint64_t lc3_instrument() { return answer(reinterpret_cast<std::uint64_t>(&machine)); }
std::uint64_t lc3_watch() { return answer(1); }
}

WARMFORK_REGISTER_VMCALL(set_seed);
WARMFORK_REGISTER_VMCALL(lc3_state);
WARMFORK_REGISTER_VMCALL(lc3_configure);
WARMFORK_REGISTER_VMCALL(lc3_use_code);
WARMFORK_REGISTER_VMCALL(lc3_load);
WARMFORK_REGISTER_VMCALL(lc3_capture_vectors);
WARMFORK_REGISTER_VMCALL(lc3_start);
WARMFORK_REGISTER_VMCALL(lc3_run);
WARMFORK_REGISTER_VMCALL(lc3_time_runs);
WARMFORK_REGISTER_VMCALL(lc3_trace);
WARMFORK_REGISTER_VMCALL(lc3_read_register);
WARMFORK_REGISTER_VMCALL(lc3_write_register);
WARMFORK_REGISTER_VMCALL(lc3_read_memory);
WARMFORK_REGISTER_VMCALL(lc3_write_memory);
WARMFORK_REGISTER_VMCALL(lc3_instrument);
WARMFORK_REGISTER_VMCALL(lc3_watch);

int main() { warmfork::wait_for_calls(); }
