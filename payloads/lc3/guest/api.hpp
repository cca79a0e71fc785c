// The vmcalls of the LC-3 guest as C functions; what they do is written in warmfork/lc3/protocol.hpp. The same
// functions are a host library (warmfork::lc3_guest_api) for tests without KVM: there, addresses are the process's own.
// Not thread-safe: there is one machine.
#pragma once

#include "warmfork/lc3/protocol.hpp"

#include <cstdint>

extern "C" {
std::uint64_t lc3_state();
std::uint64_t lc3_configure(std::uint64_t config, std::uint64_t randomise, std::uint64_t seed);
std::uint64_t lc3_set_config(std::uint64_t config);
std::uint64_t lc3_use_code(std::uint64_t compiling, std::uint64_t version, std::uint64_t patience);
std::uint64_t lc3_load(std::uint64_t words, std::uint64_t origin, std::uint64_t count);
std::uint64_t lc3_capture_vectors();
std::uint64_t lc3_start(std::uint64_t pc);
std::uint64_t lc3_run(std::uint64_t budget, std::uint64_t version, std::uint64_t patience);
std::uint64_t lc3_time_runs(std::uint64_t budget, std::uint64_t count, std::uint64_t runs);
std::uint64_t lc3_step();
std::uint64_t lc3_trace(std::uint64_t count, std::uint64_t records);
std::uint64_t lc3_read_register(std::uint64_t id);
std::uint64_t lc3_write_register(std::uint64_t id, std::uint64_t value);
std::uint64_t lc3_read_memory(std::uint64_t address, std::uint64_t words, std::uint64_t count);
std::uint64_t lc3_write_memory(std::uint64_t address, std::uint64_t words, std::uint64_t count);
std::uint64_t lc3_feed(std::uint64_t bytes, std::uint64_t count);
std::uint64_t lc3_close_input();
std::uint64_t lc3_drain(std::uint64_t bytes, std::uint64_t capacity);
std::uint64_t lc3_counters();
std::uint64_t lc3_instrument(std::uint64_t mode);
std::uint64_t lc3_watch(std::uint64_t address, std::uint64_t count, std::uint64_t flags);
std::uint64_t lc3_connect(std::uint64_t port, std::uint64_t kind, std::uint64_t own, std::uint64_t peer,
                          std::uint64_t capacity, std::uint64_t options);
std::uint64_t lc3_end_port(std::uint64_t port, std::uint64_t sends);
std::uint64_t lc3_finish_port(std::uint64_t port);
std::uint64_t lc3_port_report(std::uint64_t port);
}

/// No vmcall: how the program rings doorbells. Without it, none is rung.
void lc3_use_doorbell(void (*ring)(std::uint8_t bell));
