// One instruction, carefully: the definition of the machine. The careful interpreter is a loop around it; the fast
// interpreter and compiled code call it for everything that is not plain arithmetic, plain memory or control flow.
//
// Internal to lc3_core. `Hooks` sees what happens (statistics, watchpoints); NoHooks compiles to nothing.
#pragma once

#include "lc3/core/machine.hpp"
#include "lc3/core/ports.hpp"

namespace warmfork::lc3 {

struct StepOutcome {
  StopReason stop = StopReason::kNone;
  bool executed = true;
  bool polled = false;  // KBSR was read as data and had no input
  bool pure = true;     // nothing but registers, condition code and PC can have changed
};

struct NoHooks {
  void execute(std::uint16_t, std::uint16_t) {}
  void read(std::uint16_t) {}
  void write(std::uint16_t) {}
  bool may_store(std::uint16_t, std::uint32_t) const { return true; }
  void write_block(std::uint16_t, const std::uint16_t*, std::uint32_t) {}
  void branch(std::uint16_t, bool) {}
  bool stops_before(std::uint16_t) const { return false; }
  bool fired() const { return false; }
};

/// True if the instruction at PC is a native trap that has shown a part of its characters and had to stop.
inline bool trap_in_progress(const State& state) {
  const TrapProgress& progress = state.trap_progress;
  return progress.done != 0 && progress.pc == state.pc && progress.r0 == state.registers[0];
}

/// Whether anything may interrupt: then what can is looked for often.
inline bool interrupts_enabled(const State& state) {
  return (state.kbsr & kKbsrInterruptEnable) != 0 || state.port_interrupts != 0;
}

/// The vector of the interrupt that must be taken before the next instruction; 0: none. The keyboard's goes first. A
/// native trap is one instruction, also when it is done in parts.
inline std::uint8_t pending_interrupt(const State& state) {
  if (!interrupts_enabled(state) || trap_in_progress(state) || (state.psr_system & kPsrPriority) >= (4 << 8)) return 0;
  if ((state.kbsr & kKbsrInterruptEnable) != 0 && input_waiting(state) != 0) return kKeyboardInterrupt;
  return state.port_interrupts != 0 && port_interrupts(state) ? kPortInterrupt : std::uint8_t{0};
}

template <class Hooks>
class Step {
 public:
  Step(State& state, Hooks& hooks) : s_(state), hooks_(hooks) {}

  /// Executes the instruction at PC.
  StepOutcome run() {
    pc_ = s_.pc;
    next_ = static_cast<std::uint16_t>(pc_ + 1);
    std::uint16_t word = 0;
    if (!allowed(pc_)) {
      exception(kAccessException, pc_);
    } else if (fetch(word)) {
      execute(word);
    }
    if (out_.executed) {
      if (pop_input_) {
        s_.kbdr = popped_;
        __atomic_store_n(&s_.input.tail, s_.input.tail + 1, __ATOMIC_RELEASE);
        ++s_.counters.input_bytes;
        out_.pure = false;
      }
      if ((s_.mcr & kMcrRun) == 0 && out_.stop == StopReason::kNone) out_.stop = StopReason::kHalted;
      if (fetched_) hooks_.execute(pc_, word);
      report_reads();
    }
    return out_;
  }

  /// Takes the pending interrupt. No instruction is executed.
  StepOutcome interrupt(std::uint8_t number) {
    pc_ = s_.pc;
    const auto vector = static_cast<std::uint16_t>(kInterruptTable + number);
    if (vector_is_empty(vector)) return stop(StopReason::kUnhandledInterrupt, number, 0), out_;
    if (!enter_supervisor(vector, pc_)) return out_;
    s_.psr_system = static_cast<std::uint16_t>((s_.psr_system & ~kPsrPriority) | (4 << 8));
    ++s_.counters.interrupts;
    report_reads();
    if ((s_.mcr & kMcrRun) == 0) out_.stop = StopReason::kHalted;
    return out_;
  }

 private:
  // --- Stops and exceptions ------------------------------------------------------------------------------------------
  void stop(StopReason reason, std::uint32_t vector = 0, std::uint16_t address = 0) {
    out_.stop = reason;
    out_.executed = false;
    s_.result.vector = vector;
    s_.result.address = address;
  }

  bool vector_is_empty(std::uint16_t vector) const {
    return s_.memory[vector] == 0 && (s_.config & kRunIntoEmptyVectors) == 0;
  }

  void exception(std::uint8_t vector, std::uint16_t address) {
    const std::uint16_t entry = static_cast<std::uint16_t>(kInterruptTable + vector);
    if (vector_is_empty(entry)) {
      stop(StopReason::kUnhandledException, vector, vector == kAccessException ? address : std::uint16_t{0});
    } else if (enter_supervisor(entry, pc_)) {
      ++s_.counters.exceptions;
      s_.last_exception = vector;
    }
  }

  /// Pushes PSR and `return_pc` on the supervisor stack and continues at the routine of a vector.
  bool enter_supervisor(std::uint16_t vector, std::uint16_t return_pc) {
    const bool user = (s_.psr_system & kPsrUser) != 0;
    const std::uint16_t stack = user ? s_.saved_ssp : s_.registers[6];
    const auto slot1 = static_cast<std::uint16_t>(stack - 1), slot2 = static_cast<std::uint16_t>(stack - 2);
    // Both pushes or none: a stack that covers DDR must not block halfway.
    if ((slot1 == kDdr || slot2 == kDdr) && output_room(s_) == 0) return stop(StopReason::kOutputFull), false;
    const std::uint16_t old_psr = psr(s_);
    if (user) s_.saved_usp = s_.registers[6];
    s_.psr_system &= static_cast<std::uint16_t>(~kPsrUser);
    s_.registers[6] = slot2;
    write(slot1, old_psr);
    write(slot2, return_pc);
    note_read(vector);
    s_.pc = s_.memory[vector];
    out_.pure = false;
    return true;
  }

  // --- Memory
  // ----------------------------------------------------------------------------------------------------------
  bool strict() const {
    return (s_.config & (kStrictPrivilege | kSecondEdition)) == kStrictPrivilege && (s_.psr_system & kPsrUser) != 0;
  }
  bool allowed(std::uint16_t address) const { return !strict() || (address >= kUserBase && address < kDeviceBase); }

  /// Reads without privilege check; false when the machine must stop instead.
  bool read(std::uint16_t address, std::uint16_t& value, bool is_fetch = false) {
    if (!is_fetch) note_read(address);
    if (address < kDeviceBase) {
      value = s_.memory[address];
      return true;
    }
    value = 0;
    switch (address) {
      case kKbsr:
        value = s_.kbsr;
        if (input_waiting(s_) != 0) {
          value |= kReady;
        } else if (!is_fetch) {
          if ((s_.config & kStopForOutput) != 0 && output_waiting(s_) != 0) {
            return stop(StopReason::kOutputPending), false;
          }
          out_.polled = true;
        }
        return true;
      case kKbdr:
        if (input_waiting(s_) != 0) {
          // Taken from the ring when the instruction completes: it may still have to stop.
          pop_input_ = true;
          popped_ = s_.input.data[s_.input.tail % kInputCapacity];
          value = popped_;
        } else {
          value = s_.kbdr;
        }
        return true;
      case kDsr:
        // A display that is busy for good would make programs spin: full means stop, so DSR is always ready.
        if (output_room(s_) == 0) return stop(StopReason::kOutputFull), false;
        value = kReady;
        return true;
      case kPsr: value = psr(s_); return true;
      case kMcr: value = s_.mcr; return true;
      default: break;
    }
    if (s_.ports != 0 && is_port(address)) {
      value = is_fetch ? peek_port(s_, address) : read_port(s_, address);
      out_.pure = false;  // what a port says next is up to its peer
    }
    return true;
  }

  /// Reads are reported when the instruction completes: one that has to stop is tried again, and counts once.
  void note_read(std::uint16_t address) { reads_[read_count_++] = address; }
  void report_reads() {
    for (unsigned i = 0; i < read_count_; ++i) hooks_.read(reads_[i]);
  }

  void write(std::uint16_t address, std::uint16_t value) {
    hooks_.write(address);
    out_.pure = false;
    if (address == kDdr) {
      put(static_cast<std::uint8_t>(value));
    } else if (s_.ports != 0 && is_port(address)) {
      write_port(s_, address, value);
    } else {
      poke(s_, address, value);
    }
  }

  void put(std::uint8_t character) {
    const std::uint32_t head = s_.output.head;
    s_.output.data[head % kOutputCapacity] = character;
    __atomic_store_n(&s_.output.head, head + 1, __ATOMIC_RELEASE);
    ++s_.counters.output_bytes;
    out_.pure = false;
  }

  bool fetch(std::uint16_t& word) { return fetched_ = read(pc_, word, true); }

  /// A load or store as programs make them: privilege first. False when the instruction is over.
  bool load(std::uint16_t address, std::uint16_t& value) {
    if (!allowed(address)) return exception(kAccessException, address), false;
    return read(address, value);
  }
  void store(std::uint16_t address, std::uint16_t value) {
    if (!allowed(address)) return exception(kAccessException, address);
    if (address == kDdr && output_room(s_) == 0) return stop(StopReason::kOutputFull);
    if (s_.ports != 0 && is_port(address) && !do_port(address, value)) {
      return stop(StopReason::kWaiting, 0, address);
    }
    s_.pc = next_;
    write(address, value);
  }

  // --- Ports: what waits for a peer, or moves memory
  // -------------------------------------------------------------------------------------------------------------------
  /// False: the peer has not done its part yet.
  bool do_port(std::uint16_t address, std::uint16_t value) {
    Ports& ports = *ports_of(s_);
    Port& port = port_at(ports, address);
    switch (port_register(address)) {
      case PortRegister::kWait:
        if (!port.link && !port.feed) return true;
        return poll_port(
            port.receive_looks, [&] { return take_message(port) || port.ended || port_broken(port); },
            [&] { return may_sleep_for_message(port); });
      case PortRegister::kReceive:
        if (port.link || port.feed) receive(ports, port, value);
        return true;
      case PortRegister::kSend: {
        if (!port.out) return true;
        const std::uint32_t count = value < kDeviceBase ? s_.memory[value] : kMemoryWords;
        if (value + 1 + count > kDeviceBase) return port.refused = true;
        if (!send(ports, port, s_.memory + value + 1, count)) return false;
        for (std::uint32_t i = 0; i <= count; ++i) hooks_.read(static_cast<std::uint16_t>(value + i));
        return true;
      }
      case PortRegister::kFlush: {
        if (!port.out) return true;
        // A message that is too long already cannot be sent at all.
        const std::uint32_t count = port.out_too_long ? kPortMessageWords + 1 : port.out_words;
        if (!send(ports, port, port.out_message, count)) return false;
        port.out_words = 0;
        port.out_too_long = false;
        return true;
      }
      default: return true;
    }
  }
  template <class Done, class MaySleep>
  bool poll_port(std::uint32_t looks, Done&& done, MaySleep&& may_sleep) {
    return done() || ring::poll(looks, done) || (!may_sleep() && done());
  }
  bool send(Ports& ports, Port& port, const std::uint16_t* words, std::uint32_t count) {
    return poll_port(
        port.send_looks, [&] { return send_message(ports, port, words, count) == Sent::kDone; },
        [&] { return may_sleep_for_room(port); });
  }
  void receive(Ports& ports, Port& port, std::uint32_t address) {
    port.count = 0;
    while (port.count != port.burst && address + port.stride <= kDeviceBase) {
      const std::uint32_t room = (kDeviceBase - address) / port.stride, wanted = port.burst - port.count;
      const std::uint32_t stored = store_messages(port, address, room < wanted ? room : wanted);
      if (stored == 0 && !(take_message(port) && store_taken(port, address))) break;
      port.count = static_cast<std::uint16_t>(port.count + (stored == 0 ? 1 : stored));
      address += (stored == 0 ? 1 : stored) * port.stride;
    }
    if (port.count != 0) release_messages(ports, port);
  }
  bool store_taken(Port& port, std::uint32_t address) {
    const std::uint32_t words = port.message[0] < port.stride ? port.message[0] + 1U : port.stride;
    const auto first = static_cast<std::uint16_t>(address);
    hooks_.write_block(first, port.message, words);
    __builtin_memcpy(s_.memory + first, port.message, words * sizeof(std::uint16_t));
    finish_message(port);
    return true;
  }
  /// From the ring to memory at once, as far as nobody has to see the words first. 0: the next one, if there is one,
  /// has to be taken.
  std::uint32_t store_messages(Port& port, std::uint32_t address, std::uint32_t most) {
    if (port.at_hand) return 0;
    return take_messages(port, most, [&](std::uint32_t bytes, auto&& copy_to) {
      const std::uint32_t length = bytes < 2 * kPortMessageWords ? (bytes + 1) / 2 : kPortMessageWords;
      const std::uint32_t words = length < port.stride ? length : port.stride - 1U;
      const auto first = static_cast<std::uint16_t>(address);
      if (!hooks_.may_store(first, words + 1)) return false;
      hooks_.write_block(first, nullptr, words + 1);
      std::uint16_t* const to = s_.memory + first;
      to[0] = static_cast<std::uint16_t>(length);
      // SAFETY: words of memory, none in device space: `most` messages have room.
      copy_to(std::span(reinterpret_cast<std::byte*>(to + 1), std::size_t{2} * words));
      if (2 * words > bytes) to[words] &= 0xff;  // an odd byte: the other half is 0
      address += port.stride;
      return true;
    });
  }

  // --- Instructions
  // ----------------------------------------------------------------------------------------------------
  void set(unsigned dr, unsigned value) {
    s_.registers[dr] = static_cast<std::uint16_t>(value);
    s_.last_result = static_cast<std::uint16_t>(value);
    s_.pc = next_;
  }
  void load_into(unsigned dr, std::uint16_t address) {
    std::uint16_t value = 0;
    if (load(address, value)) set(dr, value);
  }

  void execute(std::uint16_t word) {
    const auto operand = [word](OperandKind kind) { return operand_value(kind, word); };
    const auto reg = [&](OperandKind kind) -> std::uint16_t { return s_.registers[operand(kind)]; };
    const auto relative = [&](OperandKind kind) { return static_cast<std::uint16_t>(next_ + operand(kind)); };
    const auto dr = static_cast<unsigned>(operand(OperandKind::kDr));  // also where ST, STI, STR have their source
    const auto based = [&] {
      return static_cast<std::uint16_t>(reg(OperandKind::kBase) + operand(OperandKind::kOffset6));
    };
    const auto offset9 = [&] { return relative(OperandKind::kPcOffset9); };
    const auto immediate = [&] { return static_cast<unsigned>(operand(OperandKind::kImm5)); };

    switch (operation_of(word)) {
      case Operation::kAddRegister: return set(dr, unsigned{reg(OperandKind::kSr1)} + reg(OperandKind::kSr2));
      case Operation::kAddImmediate: return set(dr, reg(OperandKind::kSr1) + immediate());
      case Operation::kAndRegister: return set(dr, unsigned{reg(OperandKind::kSr1)} & reg(OperandKind::kSr2));
      case Operation::kAndImmediate: return set(dr, reg(OperandKind::kSr1) & immediate());
      case Operation::kNot: return set(dr, ~unsigned{reg(OperandKind::kSr1)});
      case Operation::kLd: return load_into(dr, offset9());
      case Operation::kLdr: return load_into(dr, based());
      case Operation::kLdi: {
        std::uint16_t pointer = 0;
        if (load(offset9(), pointer)) load_into(dr, pointer);
        return;
      }
      case Operation::kLea:
        s_.registers[dr] = offset9();
        if (edition(s_) == Edition::kSecond) s_.last_result = s_.registers[dr];
        s_.pc = next_;
        return;
      case Operation::kSt: return store(offset9(), s_.registers[dr]);
      case Operation::kStr: return store(based(), s_.registers[dr]);
      case Operation::kSti: {
        std::uint16_t pointer = 0;
        if (load(offset9(), pointer)) store(pointer, s_.registers[dr]);
        return;
      }
      case Operation::kBr: {
        const auto mask = static_cast<unsigned>(operand(OperandKind::kNzp));
        const bool taken = (mask & psr(s_)) != 0;
        if (mask != 0) hooks_.branch(pc_, taken);
        s_.pc = taken ? offset9() : next_;
        return;
      }
      case Operation::kJmp: s_.pc = reg(OperandKind::kBase); return;
      case Operation::kJsr:
        s_.registers[7] = next_;
        s_.pc = relative(OperandKind::kPcOffset11);
        return;
      case Operation::kJsrr: {
        const std::uint16_t target = reg(OperandKind::kBase);  // before R7 changes: it may be the base
        s_.registers[7] = next_;
        s_.pc = target;
        return;
      }
      case Operation::kTrap: return trap(static_cast<std::uint8_t>(operand(OperandKind::kTrapVect8)));
      case Operation::kRti: return rti();
      case Operation::kReserved: return exception(kIllegalOpcodeException, pc_);
    }
  }

  void rti() {
    if ((s_.psr_system & kPsrUser) != 0) return exception(kPrivilegeException, pc_);
    const std::uint16_t stack = s_.registers[6];
    std::uint16_t new_pc = 0, new_psr = 0;
    if (!read(stack, new_pc) || !read(static_cast<std::uint16_t>(stack + 1), new_psr)) return;
    s_.registers[6] = static_cast<std::uint16_t>(stack + 2);
    s_.pc = new_pc;
    set_psr(s_, new_psr);
    if ((new_psr & kPsrUser) != 0) {
      s_.saved_ssp = s_.registers[6];
      s_.registers[6] = s_.saved_usp;
    }
    out_.pure = false;
  }

  void trap(std::uint8_t vector) {
    if ((s_.config & kNativeTraps) != 0 && vector >= kFirstNativeTrap && vector <= kLastNativeTrap &&
        s_.native_vectors[vector - kFirstNativeTrap] == s_.memory[vector]) {
      return native_trap(vector);
    }
    if (vector_is_empty(vector)) return stop(StopReason::kUnhandledTrap, vector);
    if (edition(s_) == Edition::kSecond) {
      note_read(vector);
      s_.registers[7] = next_;
      s_.pc = s_.memory[vector];
      out_.pure = false;
    } else if (!enter_supervisor(vector, next_)) {
      return;
    }
    ++s_.counters.os_traps;
  }

  // --- Native traps
  // ---------------------------------------------------------------------------------------------------- Characters
  // already written, if this is the trap that had to stop before.
  std::uint32_t resumed() const {
    const TrapProgress& progress = s_.trap_progress;
    return progress.pc == pc_ && progress.r0 == s_.registers[0] ? progress.done : 0;
  }
  void remember(std::uint32_t done) { s_.trap_progress = {pc_, s_.registers[0], done}; }
  void finish_trap() {
    s_.trap_progress = {};
    if (edition(s_) == Edition::kSecond) s_.registers[7] = next_;
    s_.pc = next_;
    out_.pure = false;
    ++s_.counters.native_traps;
  }

  bool next_input(std::uint8_t& character) {
    // `closed` before the cursor: what was added before closing must still be found.
    const bool closed = input_closed(s_);
    if (input_waiting(s_) == 0) {
      return stop(closed ? StopReason::kInputExhausted : StopReason::kInputNeeded), false;
    }
    character = s_.input.data[s_.input.tail % kInputCapacity];
    return true;
  }
  void consume(std::uint8_t character) {
    popped_ = character;
    pop_input_ = true;
    s_.registers[0] = character;
  }

  void native_trap(std::uint8_t vector) {
    std::uint8_t character = 0;
    switch (vector) {
      case 0x20:  // GETC
        if (!next_input(character)) return;
        consume(character);
        break;
      case 0x21:  // OUT
        if (output_room(s_) == 0) return stop(StopReason::kOutputFull);
        put(static_cast<std::uint8_t>(s_.registers[0]));
        break;
      case 0x22:
        if (!put_string(false)) return;
        break;
      case 0x23: {  // IN
        static constexpr char kPrompt[] = "Input a character> ";
        std::uint32_t done = resumed();
        for (; done < sizeof kPrompt - 1; ++done) {
          if (output_room(s_) == 0) return remember(done), stop(StopReason::kOutputFull);
          put(static_cast<std::uint8_t>(kPrompt[done]));
        }
        remember(done);
        if (!next_input(character)) return;
        if (output_room(s_) == 0) return stop(StopReason::kOutputFull);
        put(character);
        consume(character);
        break;
      }
      case 0x24:
        if (!put_string(true)) return;
        break;
      default:  // x25 HALT
        s_.mcr &= static_cast<std::uint16_t>(~kMcrRun);
        out_.stop = StopReason::kHalted;
        break;
    }
    finish_trap();
  }

  /// PUTS, or PUTSP if packed. Device registers read as peek() sees them; a string without end stops after 65,536
  /// words, where the OS would print for ever.
  bool put_string(bool packed) {
    const std::uint32_t per_word = packed ? 2 : 1;
    for (std::uint32_t done = resumed(); done < per_word * kMemoryWords; ++done) {
      const auto address = static_cast<std::uint16_t>(s_.registers[0] + done / per_word);
      const unsigned word = peek(s_, address);
      const unsigned character = !packed ? word : done % 2 == 0 ? word & 0xff : word >> 8;
      if (character != 0 && output_room(s_) == 0) return remember(done), stop(StopReason::kOutputFull), false;
      if (done % per_word == 0) hooks_.read(address);
      if (character == 0) return true;
      put(static_cast<std::uint8_t>(character));
    }
    return true;
  }

  State& s_;
  Hooks& hooks_;
  StepOutcome out_;
  std::uint16_t pc_ = 0, next_ = 0;
  bool fetched_ = false, pop_input_ = false;
  std::uint8_t popped_ = 0;
  std::uint16_t reads_[4];  // at most three: TRAP's vector, or two of LDI or RTI
  unsigned read_count_ = 0;
};

template <class Hooks>
[[gnu::always_inline]] inline StepOutcome step_once(State& state, Hooks& hooks) {
  return Step<Hooks>(state, hooks).run();
}

/// After a poll without input: decides whether the machine is in a loop that only input can end, by executing up to
/// kIdleProofLimit further instructions. A proof is one whole iteration, from a poll to the same poll, that was pure
/// and left registers, condition code and PC as they were: the next iteration can only be the same again. Takes what it
/// executes from `budget`. Returns why to stop, or kNone.
inline constexpr int kIdleProofLimit = 256;

inline bool same_poll(const PollRecord& record, const State& state) {
  return record.valid != 0 && __builtin_memcmp(record.registers, state.registers, sizeof record.registers) == 0 &&
         record.pc == state.pc && record.last_result == state.last_result && record.psr_system == state.psr_system;
}

template <class Hooks>
StopReason after_poll(State& state, Hooks& hooks, std::uint64_t& budget) {
  if ((state.config & kDetectIdle) == 0) return StopReason::kNone;
  if (!same_poll(state.poll, state)) {
    // A loop may poll at several places: keep one record while its distance doubles (Brent), so that each is met again.
    PollRecord& record = state.poll;
    if (record.valid != 0 && ++record.seen < record.patience) return StopReason::kNone;
    record.patience = record.valid == 0 || record.patience >= 64 ? 1 : static_cast<std::uint16_t>(2 * record.patience);
    record.seen = 0;
    __builtin_memcpy(state.poll.registers, state.registers, sizeof state.poll.registers);
    state.poll.pc = state.pc;
    state.poll.last_result = state.last_result;
    state.poll.psr_system = state.psr_system;
    state.poll.valid = 1;
    return StopReason::kNone;
  }
  for (int i = 0; i < kIdleProofLimit && budget != 0; ++i) {
    if (pending_interrupt(state) != 0) break;
    if (hooks.stops_before(state.pc)) break;
    const StepOutcome out = step_once(state, hooks);
    if (out.executed) --budget;
    if (out.stop != StopReason::kNone) return out.stop;
    if (hooks.fired()) return StopReason::kWatchpoint;
    if (!out.pure) break;
    if (out.polled && same_poll(state.poll, state)) {
      const bool closed = input_closed(state);  // before the cursor, as in next_input()
      if (input_waiting(state) != 0) break;
      return closed ? StopReason::kInputExhausted : StopReason::kIdle;
    }
  }
  state.poll.valid = 0;
  return StopReason::kNone;
}

}  // namespace warmfork::lc3
