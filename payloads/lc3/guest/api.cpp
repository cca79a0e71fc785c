#include "lc3/guest/api.hpp"

#include "lc3/core/code_use.hpp"
#include "lc3/core/engine.hpp"
#include "lc3/core/ports.hpp"

#include <stdlib.h>

namespace {

using namespace warmfork::lc3;

State machine;
Ports ports;  // not in the State: most machines have none, and every checkpoint would carry them
Instrumentation* instrumentation = nullptr;  // heap: most machines never have it, and every fork would carry it

// SAFETY: addresses come from the host, which is trusted with the whole guest (and in native tests is the process
// itself).
template <class T>
T* pointer(std::uint64_t address) {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));  // NOLINT(performance-no-int-to-ptr)
}
std::uint64_t address_of(const void* object) { return reinterpret_cast<std::uintptr_t>(object); }

std::uint16_t word(std::uint64_t value) { return static_cast<std::uint16_t>(value); }

/// Configuration bits live twice: as flags, and unpacked for the fast path.
void apply_config(std::uint32_t config) {
  machine.config = config;
  machine.lea_sets_cc = (config & kSecondEdition) != 0 ? 1 : 0;
}

}  // namespace

std::uint64_t lc3_state() { return address_of(&machine); }

std::uint64_t lc3_configure(std::uint64_t config, std::uint64_t randomise, std::uint64_t seed) {
  initialise(machine, static_cast<std::uint32_t>(config));
  if (randomise != 0) warmfork::lc3::randomise(machine, seed);
  return 0;
}

std::uint64_t lc3_set_config(std::uint64_t config) {
  apply_config(static_cast<std::uint32_t>(config));
  forget_code(machine);
  return 0;
}

std::uint64_t lc3_use_code(std::uint64_t compiling, std::uint64_t version, std::uint64_t patience) {
  forget_code(machine);
  machine.compiling = compiling != 0 ? 1 : 0;
  machine.code_use.wanted = version;
  machine.code_use.patience = static_cast<std::uint32_t>(patience);
  return 0;
}

std::uint64_t lc3_load(std::uint64_t words, std::uint64_t origin, std::uint64_t count) {
  if (origin >= kMemoryWords) return 0;
  forget_code(machine);
  return load(machine, word(origin), pointer<const std::uint16_t>(words), count) ? 1 : 0;
}

std::uint64_t lc3_capture_vectors() {
  capture_trap_vectors(machine);
  return 0;
}

std::uint64_t lc3_start(std::uint64_t pc) {
  machine.pc = word(pc);
  set_psr(machine, kPsrUser | kPsrZ);
  return 0;
}

std::uint64_t lc3_run(std::uint64_t budget, std::uint64_t version, std::uint64_t patience) {
  if (version != 0) machine.code_use.wanted = version;
  if (patience != 0) machine.code_use.patience = static_cast<std::uint32_t>(patience);
  return static_cast<std::uint64_t>(run(machine, budget, instrumentation).stop);
}

std::uint64_t lc3_time_runs(std::uint64_t budget, std::uint64_t count, std::uint64_t runs) {
  auto* out = pointer<TimedRun>(runs);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t code = machine.code;
    const std::uint32_t lost = machine.code_use.lost_count;
    const std::uint64_t begin = __builtin_ia32_rdtsc();
    const StopReason stop = run(machine, budget, instrumentation).stop;
    out[i].ticks = __builtin_ia32_rdtsc() - begin;
    out[i].attached = machine.code != 0 && machine.code != code ? 1 : 0;
    out[i].lost = machine.code_use.lost_count - lost;
    if (stop != StopReason::kBudget) return i;
  }
  return count;
}

std::uint64_t lc3_step() { return lc3_run(1, 0, 0); }

std::uint64_t lc3_trace(std::uint64_t count, std::uint64_t records) {
  return trace(machine, count, pointer<TraceRecord>(records));
}

std::uint64_t lc3_read_register(std::uint64_t id) {
  switch (id) {
    case kRegisterPc: return machine.pc;
    case kRegisterPsr: return psr(machine);
    case kRegisterSsp: return machine.saved_ssp;
    case kRegisterUsp: return machine.saved_usp;
    case kRegisterMcr: return machine.mcr;
    default: return id < 8 ? machine.registers[id] : 0;
  }
}

std::uint64_t lc3_write_register(std::uint64_t id, std::uint64_t value) {
  switch (id) {
    case kRegisterPc: machine.pc = word(value); break;
    case kRegisterPsr: set_psr(machine, word(value)); break;
    case kRegisterSsp: machine.saved_ssp = word(value); break;
    case kRegisterUsp: machine.saved_usp = word(value); break;
    case kRegisterMcr: machine.mcr = word(value); break;
    default:
      if (id < 8) machine.registers[id] = word(value);
      break;
  }
  return 0;
}

std::uint64_t lc3_read_memory(std::uint64_t address, std::uint64_t words, std::uint64_t count) {
  auto* out = pointer<std::uint16_t>(words);
  for (std::uint64_t i = 0; i < count; ++i) out[i] = peek(machine, word(address + i));
  return 0;
}

std::uint64_t lc3_write_memory(std::uint64_t address, std::uint64_t words, std::uint64_t count) {
  const auto* in = pointer<const std::uint16_t>(words);
  forget_code(machine);
  for (std::uint64_t i = 0; i < count; ++i) poke(machine, word(address + i), in[i]);
  return 0;
}

std::uint64_t lc3_feed(std::uint64_t bytes, std::uint64_t count) {
  const auto limited = static_cast<std::uint32_t>(count < kInputCapacity ? count : kInputCapacity);
  return feed_input(machine, pointer<const std::uint8_t>(bytes), limited);
}

std::uint64_t lc3_close_input() {
  close_input(machine);
  return 0;
}

std::uint64_t lc3_drain(std::uint64_t bytes, std::uint64_t capacity) {
  const auto limited = static_cast<std::uint32_t>(capacity < kOutputCapacity ? capacity : kOutputCapacity);
  return drain_output(machine, pointer<std::uint8_t>(bytes), limited);
}

std::uint64_t lc3_counters() { return address_of(&machine.counters); }

std::uint64_t lc3_instrument(std::uint64_t mode) {
  // Always a new one: zeroed pages are cheaper than clearing, and old counts must not be mixed with new ones.
  free(instrumentation);
  machine.counts = 0;
  forget_code(machine);  // it may count there
  instrumentation = nullptr;
  if (mode == static_cast<std::uint64_t>(InstrumentMode::kOff)) return 0;
  instrumentation = static_cast<Instrumentation*>(calloc(1, sizeof(Instrumentation)));
  if (instrumentation == nullptr) return 0;
  instrumentation->collect = mode == static_cast<std::uint64_t>(InstrumentMode::kCollect) ? 1 : 0;
  return address_of(instrumentation);
}

std::uint64_t lc3_watch(std::uint64_t address, std::uint64_t count, std::uint64_t flags) {
  if (instrumentation == nullptr) return 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    set_watch(*instrumentation, word(address + i), static_cast<std::uint8_t>(flags));
  }
  return 1;
}

std::uint64_t lc3_connect(std::uint64_t port, std::uint64_t kind, std::uint64_t own, std::uint64_t peer,
                          std::uint64_t capacity, std::uint64_t options) {
  if (port >= kPortCount || kind > static_cast<std::uint64_t>(PortKind::kFeed)) return 0;
  return connect_port(machine, ports, static_cast<std::uint32_t>(port), static_cast<PortKind>(kind), pointer<void>(own),
                      pointer<const void>(peer), capacity, options)
             ? 1
             : 0;
}

std::uint64_t lc3_end_port(std::uint64_t port, std::uint64_t sends) {
  if (port < kPortCount) (sends != 0 ? forget_receiver : end_port)(ports, static_cast<std::uint32_t>(port));
  return 0;
}

std::uint64_t lc3_finish_port(std::uint64_t port) {
  return port < kPortCount && finish_port(ports, static_cast<std::uint32_t>(port)) ? 1 : 0;
}

std::uint64_t lc3_port_report(std::uint64_t number) {
  static std::uint64_t words[kPortReportWords];
  if (number >= kPortCount) return 0;
  const Port& port = ports.ports[number];
  const auto put = [](const warmfork::ring::Violation& violation, std::uint32_t at) {
    words[at] = static_cast<std::uint64_t>(violation.reason);
    words[at + 1] = violation.value;
    words[at + 2] = violation.limit;
  };
  words[kPortReportReceived] = port.link ? port.received : port.feed ? port.feed->sequence() - port.feed->lost() : 0;
  words[kPortReportSent] = port.out ? port.sent : 0;
  // A feed is trusted, and never caught.
  put(port.link ? port.link->violation() : warmfork::ring::Violation{}, kPortReportIn);
  put(port.out ? port.out->violation() : warmfork::ring::Violation{}, kPortReportOut);
  return address_of(words);
}

void lc3_use_doorbell(void (*ring)(std::uint8_t bell)) { ports.ring_doorbell = ring; }
