// The LC-3 guest program: powers the machine on, then waits for calls. Everything it touches in main() is warm in the
// snapshot that forks start from.
#include "lc3/guest/api.hpp"
#include "warmfork/abi/vmcall.hpp"

WARMFORK_REGISTER_VMCALL(lc3_state);
WARMFORK_REGISTER_VMCALL(lc3_configure);
WARMFORK_REGISTER_VMCALL(lc3_set_config);
WARMFORK_REGISTER_VMCALL(lc3_use_code);
WARMFORK_REGISTER_VMCALL(lc3_load);
WARMFORK_REGISTER_VMCALL(lc3_capture_vectors);
WARMFORK_REGISTER_VMCALL(lc3_start);
WARMFORK_REGISTER_VMCALL(lc3_run);
WARMFORK_REGISTER_VMCALL(lc3_time_runs);
WARMFORK_REGISTER_VMCALL(lc3_step);
WARMFORK_REGISTER_VMCALL(lc3_trace);
WARMFORK_REGISTER_VMCALL(lc3_read_register);
WARMFORK_REGISTER_VMCALL(lc3_write_register);
WARMFORK_REGISTER_VMCALL(lc3_read_memory);
WARMFORK_REGISTER_VMCALL(lc3_write_memory);
WARMFORK_REGISTER_VMCALL(lc3_feed);
WARMFORK_REGISTER_VMCALL(lc3_close_input);
WARMFORK_REGISTER_VMCALL(lc3_drain);
WARMFORK_REGISTER_VMCALL(lc3_counters);
WARMFORK_REGISTER_VMCALL(lc3_instrument);
WARMFORK_REGISTER_VMCALL(lc3_watch);
WARMFORK_REGISTER_VMCALL(lc3_connect);
WARMFORK_REGISTER_VMCALL(lc3_end_port);
WARMFORK_REGISTER_VMCALL(lc3_finish_port);
WARMFORK_REGISTER_VMCALL(lc3_port_report);

namespace {
void ring_doorbell(std::uint8_t bell) {
  asm volatile("outb %0, %1" : : "a"(bell), "i"(WARMFORK_PORT_DOORBELL) : "memory");
}
}  // namespace

int main() {
  lc3_use_doorbell(ring_doorbell);
  lc3_configure(warmfork::lc3::kDefaultConfig, 0, 0);
  lc3_capture_vectors();
  warmfork::wait_for_calls();
}
