// Speaks the LC-3 guest's protocol (warmfork/lc3/protocol.hpp) and lies in one way, which the seed of lc3_configure
// chooses. The host's handle (lc3/host) must notice every lie.
#include "warmfork/abi/vmcall.hpp"
#include "warmfork/lc3/protocol.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

using namespace warmfork::lc3;

namespace {

State machine;
std::uint64_t lie;

}  // namespace

extern "C" {

std::uint64_t lc3_state() { return reinterpret_cast<std::uint64_t>(&machine); }

std::uint64_t lc3_configure(std::uint64_t, std::uint64_t, std::uint64_t seed) {
  lie = seed;
  switch (lie) {
    case 1: machine.output.head = 0x80000000; break;
    case 2: machine.output.head = kOutputCapacity + 1; break;
    case 3: machine.input.tail = 1; break;  // consumed what was never fed
    case 4: machine.input.tail = 0x80000000; break;
    default: break;
  }
  return 0;
}

std::uint64_t lc3_run(std::uint64_t budget) {
  machine.result = {
      .stop = StopReason::kBudget, .vector = 0, .executed = budget, .pc = 0, .address = 0, .access = 0, .reserved = 0};
  const auto budget_stop = static_cast<std::uint64_t>(StopReason::kBudget);
  switch (lie) {
    case 5: machine.result.executed = budget + 1; break;
    case 6: machine.result.stop = StopReason::kNone; return 0;
    case 7: machine.result.stop = static_cast<StopReason>(kStopReasonCount); return kStopReasonCount;
    case 8: machine.result.stop = StopReason::kHalted; break;  // and the call says another
    case 9: return budget_stop | std::uint64_t{1} << 32;
    case 10: mprotect(&machine, sizeof machine, PROT_NONE); break;
    case 11: _exit(0);
    case 16: machine.result.executed = 0; [[fallthrough]];
    case 17:
      if (lie == 17) machine.result.executed = 1;
      machine.result.stop = StopReason::kCompile;
      return static_cast<std::uint64_t>(StopReason::kCompile);
    default: break;
  }
  return budget_stop;
}

std::uint64_t lc3_use_code(std::uint64_t, std::uint64_t, std::uint64_t) { return 0; }
std::uint64_t lc3_trace(std::uint64_t count, std::uint64_t) { return count + 1; }
std::uint64_t lc3_time_runs(std::uint64_t, std::uint64_t count, std::uint64_t) { return count + 1; }
std::uint64_t lc3_instrument(std::uint64_t) {
  switch (lie) {
    case 12: return WARMFORK_SYSTEM_BASE;
    case 13: return ~std::uint64_t{0} - 4096;
    default: return reinterpret_cast<std::uint64_t>(&lc3_instrument);  // read-only
  }
}
std::uint64_t lc3_load(std::uint64_t, std::uint64_t, std::uint64_t) { return 1; }
std::uint64_t lc3_capture_vectors() { return 0; }
std::uint64_t lc3_start(std::uint64_t) { return 0; }
std::uint64_t lc3_read_register(std::uint64_t) { return ~std::uint64_t{0}; }
std::uint64_t lc3_write_register(std::uint64_t, std::uint64_t) { return 0; }
std::uint64_t lc3_read_memory(std::uint64_t, std::uint64_t, std::uint64_t) { return 0; }
std::uint64_t lc3_write_memory(std::uint64_t, std::uint64_t, std::uint64_t) { return 0; }
std::uint64_t lc3_watch(std::uint64_t, std::uint64_t, std::uint64_t) { return 1; }

}  // extern "C"

WARMFORK_REGISTER_VMCALL(lc3_state);
WARMFORK_REGISTER_VMCALL(lc3_configure);
WARMFORK_REGISTER_VMCALL(lc3_use_code);
WARMFORK_REGISTER_VMCALL(lc3_run);
WARMFORK_REGISTER_VMCALL(lc3_time_runs);
WARMFORK_REGISTER_VMCALL(lc3_trace);
WARMFORK_REGISTER_VMCALL(lc3_instrument);
WARMFORK_REGISTER_VMCALL(lc3_load);
WARMFORK_REGISTER_VMCALL(lc3_capture_vectors);
WARMFORK_REGISTER_VMCALL(lc3_start);
WARMFORK_REGISTER_VMCALL(lc3_read_register);
WARMFORK_REGISTER_VMCALL(lc3_write_register);
WARMFORK_REGISTER_VMCALL(lc3_read_memory);
WARMFORK_REGISTER_VMCALL(lc3_write_memory);
WARMFORK_REGISTER_VMCALL(lc3_watch);

int main() { warmfork::wait_for_calls(); }
