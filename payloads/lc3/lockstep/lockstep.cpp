#include "lc3/lockstep/lockstep.hpp"

#include "lc3/core/instruction.hpp"
#include "lc3/core/machine.hpp"
#include "lc3/lockstep/random.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace warmfork::lc3 {
namespace {

// A long run is searched from here on, not from its beginning.
constexpr std::uint64_t kCheckpointEvery = std::uint64_t{1} << 24;

constexpr std::size_t kMemoryBytes = sizeof(State) - offsetof(State, guard_low);

// The ring's bytes that have ever been written.
std::size_t output_written(const State& state) {
  return std::min<std::uint64_t>(std::max<std::uint64_t>(state.counters.output_bytes, state.output.head),
                                 kOutputCapacity);
}

struct Field {
  std::string_view name;
  std::uint64_t (*value)(const State&);
};
// slow_steps is how the fast interpreter works, not what the machine does.
constexpr Field kFields[] = {
    {"R0", [](const State& s) { return std::uint64_t{s.registers[0]}; }},
    {"R1", [](const State& s) { return std::uint64_t{s.registers[1]}; }},
    {"R2", [](const State& s) { return std::uint64_t{s.registers[2]}; }},
    {"R3", [](const State& s) { return std::uint64_t{s.registers[3]}; }},
    {"R4", [](const State& s) { return std::uint64_t{s.registers[4]}; }},
    {"R5", [](const State& s) { return std::uint64_t{s.registers[5]}; }},
    {"R6", [](const State& s) { return std::uint64_t{s.registers[6]}; }},
    {"R7", [](const State& s) { return std::uint64_t{s.registers[7]}; }},
    {"PC", [](const State& s) { return std::uint64_t{s.pc}; }},
    {"PSR", [](const State& s) { return std::uint64_t{psr(s)}; }},
    {"saved SSP", [](const State& s) { return std::uint64_t{s.saved_ssp}; }},
    {"saved USP", [](const State& s) { return std::uint64_t{s.saved_usp}; }},
    {"KBSR", [](const State& s) { return std::uint64_t{s.kbsr}; }},
    {"KBDR", [](const State& s) { return std::uint64_t{s.kbdr}; }},
    {"MCR", [](const State& s) { return std::uint64_t{s.mcr}; }},
    {"result.vector", [](const State& s) { return std::uint64_t{s.result.vector}; }},
    {"result.executed", [](const State& s) { return s.result.executed; }},
    {"result.pc", [](const State& s) { return std::uint64_t{s.result.pc}; }},
    {"result.address", [](const State& s) { return std::uint64_t{s.result.address}; }},
    {"result.access", [](const State& s) { return std::uint64_t{s.result.access}; }},
    {"instructions", [](const State& s) { return s.counters.instructions; }},
    {"native traps", [](const State& s) { return s.counters.native_traps; }},
    {"OS traps", [](const State& s) { return s.counters.os_traps; }},
    {"interrupts", [](const State& s) { return s.counters.interrupts; }},
    {"exceptions", [](const State& s) { return s.counters.exceptions; }},
    {"input bytes", [](const State& s) { return s.counters.input_bytes; }},
    {"output bytes", [](const State& s) { return s.counters.output_bytes; }},
    {"last exception", [](const State& s) { return std::uint64_t{s.last_exception}; }},
    {"trap progress", [](const State& s) { return std::uint64_t{s.trap_progress.done}; }},
    {"input tail", [](const State& s) { return std::uint64_t{s.input.tail}; }},
    {"output head", [](const State& s) { return std::uint64_t{s.output.head}; }},
};

bool same_bytes(const void* a, const void* b, std::size_t size) { return std::memcmp(a, b, size) == 0; }

std::string hex(std::uint64_t value) {
  return value > 0xffff ? fmt::format("{}", value) : fmt::format("x{:04X}", value);
}

std::string listing_around(const State& state) {
  constexpr int kBefore = 8, kAfter = 8;
  std::string text;
  for (int offset = -kBefore; offset <= kAfter; ++offset) {
    const auto address = static_cast<std::uint16_t>(state.pc + offset);
    const std::uint16_t word = peek(state, address);
    text += fmt::format("{} x{:04X}  {:04X}  {}\n", offset == 0 ? '>' : ' ', address, word,
                        disassemble(word, address).view());
  }
  return text;
}

std::string registers_of(const State& state) {
  std::string text;
  for (unsigned r = 0; r < 8; ++r) text += fmt::format("R{} x{:04X}  ", r, state.registers[r]);
  return text + fmt::format("PC x{:04X}  PSR x{:04X}", state.pc, psr(state));
}

}  // namespace

std::string_view to_string(StopReason reason) {
  static constexpr std::array<std::string_view, kStopReasonCount> kNames{
      "none",           "budget", "halted",     "input needed", "input exhausted",     "output full",
      "output pending", "idle",   "breakpoint", "watchpoint",   "unhandled exception", "unhandled interrupt",
      "unhandled trap", "compile"};
  const auto index = static_cast<std::size_t>(reason);
  return index < kNames.size() ? kNames[index] : "unknown";
}

bool same(const State& a, const State& b) {
  return std::ranges::all_of(kFields, [&](const Field& field) { return field.value(a) == field.value(b); }) &&
         a.result.stop == b.result.stop && same_bytes(a.guard_low, b.guard_low, kMemoryBytes) &&
         same_bytes(a.output.data, b.output.data, output_written(a));
}

std::vector<std::string> differences(const State& a, const State& b, std::string_view a_name, std::string_view b_name,
                                     std::size_t limit) {
  std::vector<std::string> lines;
  std::size_t more = 0;
  const auto note = [&](const std::string& where, const std::string& in_a, const std::string& in_b) {
    if (lines.size() < limit) {
      lines.push_back(fmt::format("{}: {} {}, {} {}", where, a_name, in_a, b_name, in_b));
    } else {
      ++more;
    }
  };
  if (a.result.stop != b.result.stop) {
    note("stop", std::string(to_string(a.result.stop)), std::string(to_string(b.result.stop)));
  }
  for (const Field& field : kFields) {
    const std::uint64_t in_a = field.value(a), in_b = field.value(b);
    if (in_a != in_b) note(std::string(field.name), hex(in_a), hex(in_b));
  }
  for (std::uint32_t address = 0; address < kMemoryWords; ++address) {
    if (a.memory[address] == b.memory[address]) continue;
    note(fmt::format("[x{:04X}]", address), hex(a.memory[address]), hex(b.memory[address]));
  }
  for (std::uint32_t i = 0; i < kGuardWords; ++i) {
    if (a.guard_low[i] != b.guard_low[i])
      note(fmt::format("low guard {}", i), hex(a.guard_low[i]), hex(b.guard_low[i]));
    if (a.guard_high[i] != b.guard_high[i]) {
      note(fmt::format("high guard {}", i), hex(a.guard_high[i]), hex(b.guard_high[i]));
    }
  }
  for (std::size_t i = 0; i < output_written(a); ++i) {
    if (a.output.data[i] != b.output.data[i]) {
      note(fmt::format("output slot {}", i), hex(a.output.data[i]), hex(b.output.data[i]));
    }
  }
  if (more != 0) lines.push_back(fmt::format("and {} more", more));
  return lines;
}

Lockstep::Lockstep(std::vector<std::unique_ptr<LockstepEngine>> engines) : engines_(std::move(engines)) {
  for (std::size_t i = 0; i < engines_.size(); ++i) machines_.push_back(std::make_unique<State>());
}

void Lockstep::begin(const LockstepCase& one, Position& position) {
  prepare(*machines_[0], one);
  for (std::size_t i = 1; i < machines_.size(); ++i) std::memcpy(machines_[i].get(), machines_[0].get(), sizeof(State));
  for (const auto& engine : engines_) engine->forget();
  position = {};
}

// What is due; if the machine waits, the next that there is, or the end of the input.
void Lockstep::feed(const LockstepCase& one, Position& position, bool waiting) {
  while (position.next_input < one.input.size()) {
    const LockstepCase::Input& input = one.input[position.next_input];
    if (input.at > position.done && !waiting) return;
    // SAFETY: characters viewed as bytes. What finds no room is lost, on every machine alike.
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(input.text.data());
    for (const auto& machine : machines_) feed_input(*machine, bytes, static_cast<std::uint32_t>(input.text.size()));
    ++position.next_input;
    waiting = waiting && input.text.empty();
  }
  if (waiting) {
    for (const auto& machine : machines_) close_input(*machine);
    position.closed = true;
  }
}

Lockstep::Advance Lockstep::advance(const LockstepCase& one, Position& position, std::uint64_t limit) {
  feed(one, position, false);
  std::uint64_t budget = std::min(one.budget, limit) - position.done;
  if (one.longest_slice != 0) {
    Random random(one.slice_seed * 0x9e37 + position.slice);
    budget = std::min(budget, random.next() % (one.longest_slice + 1));
  }
  if (position.next_input < one.input.size()) {
    budget = std::min(budget, one.input[position.next_input].at - position.done);
  }
  for (std::size_t i = 0; i < engines_.size(); ++i) engines_[i]->run(*machines_[i], budget);
  const State& reference = *machines_[0];
  for (std::size_t i = 1; i < machines_.size(); ++i) {
    if (same(reference, *machines_[i]) && engines_[i]->complaint().empty()) continue;
    different_ = i;
    return Advance::kDifferent;
  }
  position.done += reference.result.executed;
  position.stop = reference.result.stop;
  ++position.slice;
  switch (position.stop) {
    case StopReason::kBudget: break;
    case StopReason::kInputNeeded:
    case StopReason::kIdle:
      if (position.closed) return Advance::kEnded;
      feed(one, position, true);
      break;
    case StopReason::kOutputFull:
    case StopReason::kOutputPending:
      for (const auto& machine : machines_) machine->output.tail = machine->output.head;
      break;
    default: return Advance::kEnded;
  }
  return position.done < one.budget ? Advance::kEqual : Advance::kEnded;
}

void Lockstep::save(const Position& position) {
  checkpoint_.position = position;
  checkpoint_.machines.resize(machines_.size());
  for (std::size_t i = 0; i < machines_.size(); ++i) {
    if (checkpoint_.machines[i] == nullptr) checkpoint_.machines[i] = std::make_unique<State>();
    std::memcpy(checkpoint_.machines[i].get(), machines_[i].get(), sizeof(State));
  }
}

void Lockstep::restore(const LockstepCase& one, Position& position, bool from_begin) {
  if (from_begin) return begin(one, position);
  position = checkpoint_.position;
  for (std::size_t i = 0; i < machines_.size(); ++i) {
    std::memcpy(machines_[i].get(), checkpoint_.machines[i].get(), sizeof(State));
  }
}

bool Lockstep::differs_at(const LockstepCase& one, std::uint64_t limit, bool from_begin) {
  Position position;
  restore(one, position, from_begin);
  while (position.done < limit) {
    const Advance advanced = advance(one, position, limit);
    if (advanced != Advance::kEqual) return advanced == Advance::kDifferent;
  }
  return false;
}

LockstepOutcome Lockstep::run(const LockstepCase& one) {
  LockstepOutcome outcome;
  Position position;
  begin(one, position);
  checkpoint_ = {};
  Advance advanced = Advance::kEqual;
  while (advanced == Advance::kEqual) {
    if (position.done - checkpoint_.position.done >= kCheckpointEvery) save(position);
    // Checkpoints need slices that are not longer.
    const Position before = position;
    advanced = advance(one, position, before.done + kCheckpointEvery);
    if (advanced != Advance::kDifferent) continue;
    std::uint64_t after = before.done;
    for (const auto& machine : machines_) after = std::max(after, before.done + machine->result.executed);
    position.stop = machines_[0]->result.stop;
    // An engine that stopped too late, or not at all, would have stopped at the next instruction at the latest.
    outcome.difference = locate(one, before, after + 1);
  }
  outcome.instructions = position.done;
  outcome.stop = position.stop;
  return outcome;
}

std::optional<std::uint64_t> Lockstep::differs(const LockstepCase& one) {
  Position position;
  begin(one, position);
  while (true) {
    const std::uint64_t before = position.done;
    const Advance advanced = advance(one, position, ~std::uint64_t{0});
    if (advanced == Advance::kEnded) return std::nullopt;
    if (advanced == Advance::kDifferent) return before + std::max(machines_[0]->result.executed, std::uint64_t{1});
  }
}

LockstepDifference Lockstep::locate(const LockstepCase& one, const Position& before, std::uint64_t after) {
  LockstepDifference difference;
  const auto note = [&] {
    LockstepEngine& engine = *engines_[different_];
    difference.engine = engine.name();
    difference.what = differences(*machines_[0], *machines_[different_], engines_[0]->name(), difference.engine);
    if (const std::string wrong = engine.complaint(); !wrong.empty()) {
      difference.what.push_back(fmt::format("{}: {}", difference.engine, wrong));
    }
  };
  note();

  // Where engines keep what they have learnt, a part of the run may go differently: then all of it is run again.
  bool from_begin = checkpoint_.machines.empty();
  bool found = differs_at(one, after, from_begin);
  if (!found && !from_begin) found = differs_at(one, after, from_begin = true);
  std::uint64_t equal = before.done, different = after;
  while (found && different - equal > 1) {
    const std::uint64_t middle = equal + (different - equal) / 2;
    (differs_at(one, middle, from_begin) ? different : equal) = middle;
  }
  difference.instruction = different;
  if (found && differs_at(one, different, from_begin)) note();
  // The machines before it, and what the engine has made of the code by then.
  const bool settled = !differs_at(one, different - 1, from_begin);
  const State& state = *machines_[0];
  difference.pc = state.pc;
  difference.report = fmt::format("{} and {} part at instruction {} of {}\n", engines_[0]->name(), difference.engine,
                                  different, one.name.empty() ? "the program" : one.name);
  if (!found) {
    difference.report += fmt::format(
        "(the run does not repeat: they were equal after {} instructions, and not after the slice that followed)\n",
        before.done);
  }
  if (!settled) difference.report += "(stopping one instruction earlier shows another difference)\n";
  difference.report += fmt::format("before: {}\n", registers_of(state));
  for (const std::string& line : difference.what) difference.report += fmt::format("  {}\n", line);
  difference.report += listing_around(state);
  for (const auto& one_engine : engines_) {
    if (one_engine->name() != difference.engine) continue;
    if (const std::string text = one_engine->explain(state); !text.empty()) {
      difference.report += fmt::format("{}: {}", one_engine->name(), text);
    }
  }
  return difference;
}

}  // namespace warmfork::lc3
