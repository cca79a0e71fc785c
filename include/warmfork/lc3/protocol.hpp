// The vmcalls of the LC-3 guest program: what a host calls by name, with integers or addresses in guest memory.
//
// One machine per guest, one call at a time. The guest trusts its host: addresses, counts and register numbers are the
// host's responsibility. The host trusts nothing that the guest returns or that lies in its State.
//
//   call                    arguments                    result and effect
//   lc3_state               -                            address of the State (constant; may be cached)
//   lc3_configure           config, randomise, seed      0; power-on: every field is new, the rings' cursors as well.
//                                                        randomise nonzero: memory and registers from seed, else zero
//   lc3_set_config          config                       0; changes flags of a machine that has already been set up
//   lc3_use_code            compiling, version, patience 0; compiling nonzero: runs use compiled code (code.hpp) from
//   the
//                                                        version at that address (0: none yet), and stop with kCompile
//                                                        after `patience` transfers to interpreted code (0: never)
//   lc3_load                words, origin, count         1, or 0 and nothing stored: would reach xFE00 or wrap around
//   lc3_capture_vectors     -                            0; after the OS is loaded, before programs are: x20 … x25 of
//   now
//                                                        are the vectors that native traps may serve
//   lc3_start               pc                           0; user mode, priority 0, condition code Z, PC
//   lc3_run                 budget, version, patience    StopReason; details in State::result. Nonzero: a newer code
//                                                        version and patience, as of lc3_use_code
//   lc3_time_runs           budget, count, runs          number of runs of `budget` instructions made, at most count;
//                                                        what each took is in `runs` (TimedRun). Fewer: one more run
//                                                        stopped for another reason than its budget (State::result),
//                                                        and what it took until then is there too
//   lc3_step                -                            StopReason after at most one instruction; as lc3_run(1)
//   lc3_trace               count, records               number of TraceRecords written, one per executed instruction;
//                                                        fewer than count: State::result says why
//   lc3_read_register       RegisterId                   value
//   lc3_write_register      RegisterId, value            0
//   lc3_read_memory         address, words, count        0; no side effects, wraps at xFFFF
//   lc3_write_memory        address, words, count        0; as a debugger writes, wraps at xFFFF
//   lc3_feed                bytes, count                 bytes that found room in the input ring
//   lc3_close_input         -                            0; what is in the ring is the end of the input
//   lc3_drain               bytes, capacity              bytes copied from the output ring
//   lc3_counters            -                            address of the Counters in the State
//   lc3_instrument          InstrumentMode               address of the Instrumentation, 0 if off or out of memory;
//                                                        counts start at zero when it is switched on; those of compiled
//                                                        code are in code_counts until the host has added them
//   lc3_watch               address, count, WatchFlags   1, or 0 if there is no instrumentation; wraps at xFFFF
//   lc3_connect             port, PortKind, own, peer,   1, or 0: the addresses do not hold a ring of `capacity` bytes
//                           capacity, options            (ports.hpp). Addresses of shared memory in the guest
//   lc3_end_port            port, sends                  0; nothing more will come there than is in the ring, or
//   (sends:
//                                                         1) nobody will read what is sent
//   lc3_finish_port         port                         1: whoever receives from it has been told that nothing more
//                                                        will come; 0: its ring is full, or there is none
//   lc3_port_report         port                         address of kPortReportWords words (ports.hpp), or 0
//
// `words` are 16-bit words in the processor's order. Between calls a host may also use the rings, registers and memory
// of the State directly, within the rules of state.hpp.
#pragma once

#include "warmfork/lc3/state.hpp"

#include <cstdint>

namespace warmfork::lc3 {

inline constexpr std::uint32_t kProtocolVersion = 3;

/// Registers by number, as the register calls take them: 0 … 7, then these.
enum RegisterId : std::uint32_t {
  kRegisterPc = 8,
  kRegisterPsr,
  kRegisterSsp,  // saved SSP: the supervisor's stack pointer while in user mode
  kRegisterUsp,  // saved USP: the user's stack pointer while in supervisor mode
  kRegisterMcr,
  kRegisterIdCount,
};

/// One run as the guest saw it.
struct TimedRun {
  std::uint64_t ticks;     // of the TSC
  std::uint32_t attached;  // 1: it ended with other compiled code attached than it began with
  std::uint32_t lost;      // how often it lost code because it changed a word that code was made from
};

enum class InstrumentMode : std::uint32_t { kOff = 0, kWatch = 1, kCollect = 2 };

}  // namespace warmfork::lc3
