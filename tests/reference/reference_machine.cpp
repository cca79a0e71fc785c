#include "reference/reference_machine.hpp"

#include <utility>

namespace warmfork::lc3_reference {
namespace {

constexpr Word kKbsr = 0xFE00;
constexpr Word kKbdr = 0xFE02;
constexpr Word kDsr = 0xFE04;
constexpr Word kDdr = 0xFE06;
constexpr Word kPsr = 0xFFFC;
constexpr Word kMcr = 0xFFFE;

constexpr Word kPrivilegeViolation = 0x00;
constexpr Word kIllegalOpcode = 0x01;
constexpr Word kAccessViolation = 0x02;
constexpr Word kKeyboardVector = 0x80;
constexpr Word kKeyboardPriority = 4;

Word word(int value) { return static_cast<Word>(value & 0xFFFF); }

// The lowest `bits` bits of an instruction as a two's complement number.
int signed_field(Word instruction, int bits) {
  const int field = instruction & ((1 << bits) - 1);
  return (field & (1 << (bits - 1))) != 0 ? field - (1 << bits) : field;
}

}  // namespace

ReferenceMachine::ReferenceMachine(Options options) : options_(options) { start(0x3000); }

void ReferenceMachine::load_os(Word origin, std::span<const Word> words) {
  load(origin, words);
  for (unsigned vector = 0; vector < 256; ++vector) os_vectors_[vector] = memory_[vector];
}

void ReferenceMachine::load(Word origin, std::span<const Word> words) {
  for (const Word value : words) memory_[origin++] = value;
}

void ReferenceMachine::start(Word pc, bool supervisor) {
  r_ = {};
  r_[6] = supervisor ? 0x3000 : 0xFE00;
  pc_ = pc;
  psr_ = supervisor ? 0x0002 : 0x8002;
  saved_ssp_ = 0x3000;
  saved_usp_ = 0xFE00;
  mcr_ = 0x8000;
  keyboard_interrupts_ = false;
  last_key_ = 0;
  instructions_ = 0;
}

void ReferenceMachine::type(std::string_view characters) {
  for (const char c : characters) keyboard_.push_back(static_cast<unsigned char>(c));
}

std::string ReferenceMachine::take_output() { return std::exchange(output_, {}); }

void ReferenceMachine::set_psr(Word value) {
  Word condition = 0x2;
  if ((value & 0x4) != 0) {
    condition = 0x4;
  } else if ((value & 0x2) != 0) {
    condition = 0x2;
  } else if ((value & 0x1) != 0) {
    condition = 0x1;
  }
  psr_ = word((value & 0x8700) | condition);
}

void ReferenceMachine::set_condition(Word result) {
  Word condition = 0x1;
  if ((result & 0x8000) != 0) condition = 0x4;
  if (result == 0) condition = 0x2;
  psr_ = word((psr_ & ~0x7) | condition);
}

bool ReferenceMachine::forbidden(Word address) const {
  if (options_.privilege == Privilege::kRelaxed || options_.edition == Edition::kSecond || !user_mode()) return false;
  return address < 0x3000 || address > 0xFDFF;
}

Word ReferenceMachine::read(Word address) {
  if (address < 0xFE00) return memory_[address];
  switch (address) {
    case kKbsr: return word((keyboard_.empty() ? 0 : kReady) | (keyboard_interrupts_ ? 0x4000 : 0));
    case kKbdr:
      if (!keyboard_.empty()) {
        last_key_ = keyboard_.front();
        keyboard_.pop_front();
      }
      return last_key_;
    case kDsr: return kReady;
    case kPsr: return psr_;
    case kMcr: return mcr_;
    default: return 0;
  }
}

void ReferenceMachine::write(Word address, Word value) {
  if (address < 0xFE00) {
    memory_[address] = value;
    return;
  }
  switch (address) {
    case kKbsr: keyboard_interrupts_ = (value & 0x4000) != 0; break;
    case kDdr: show(value); break;
    case kPsr: set_psr(value); break;
    case kMcr: mcr_ = value; break;
    default: break;
  }
}

void ReferenceMachine::push(Word value) {
  r_[6] = word(r_[6] - 1);
  write(r_[6], value);
}

Word ReferenceMachine::pop() {
  const Word value = read(r_[6]);
  r_[6] = word(r_[6] + 1);
  return value;
}

void ReferenceMachine::enter_supervisor(Word pushed_pc, Word vector_address) {
  const Word old_psr = psr_;
  if (user_mode()) {
    saved_usp_ = r_[6];
    r_[6] = saved_ssp_;
  }
  psr_ = word(psr_ & ~kUserBit);
  push(old_psr);
  push(pushed_pc);
  pc_ = memory_[vector_address];
}

void ReferenceMachine::raise(Word vector, Word instruction_address) {
  enter_supervisor(instruction_address, word(0x0100 + vector));
}

void ReferenceMachine::take_interrupt() {
  const int priority = (psr_ >> 8) & 7;
  if (!keyboard_interrupts_ || keyboard_.empty() || priority >= kKeyboardPriority) return;
  enter_supervisor(pc_, 0x0100 + kKeyboardVector);
  psr_ = word((psr_ & ~0x0700) | (kKeyboardPriority << 8));
}

State ReferenceMachine::step() {
  if (!clock_runs()) return State::kHalted;
  take_interrupt();
  if (!clock_runs()) return State::kHalted;  // the push of the interrupt's frame reached MCR
  return execute();
}

State ReferenceMachine::run(std::uint64_t limit) {
  while (instructions_ < limit) {
    const State after = step();
    if (after != State::kRunning) return after;
  }
  return state();
}

State ReferenceMachine::execute() {
  const Word at = pc_;
  if (forbidden(at)) {
    ++instructions_;
    raise(kAccessViolation, at);
    return state();
  }
  const Word instruction = read(at);
  pc_ = word(at + 1);

  const unsigned opcode = instruction >> 12;
  const unsigned dr = (instruction >> 9) & 7;   // also SR of the stores, and n z p of BR
  const unsigned sr1 = (instruction >> 6) & 7;  // also BaseR
  const unsigned sr2 = instruction & 7;

  if (opcode == 0b1111) return trap(instruction & 0xFF, at);
  ++instructions_;

  switch (opcode) {
    case 0b0001:    // ADD
    case 0b0101: {  // AND
      const bool immediate = (instruction & 0x20) != 0;
      const int a = r_[sr1];
      const int b = immediate ? signed_field(instruction, 5) : r_[sr2];
      r_[dr] = word(opcode == 0b0001 ? a + b : a & b);
      set_condition(r_[dr]);
      break;
    }
    case 0b1001:  // NOT
      r_[dr] = word(~r_[sr1]);
      set_condition(r_[dr]);
      break;
    case 0b0000:  // BR
      if ((dr & psr_ & 7) != 0) pc_ = word(pc_ + signed_field(instruction, 9));
      break;
    case 0b1100:  // JMP, RET
      pc_ = r_[sr1];
      break;
    case 0b0100: {  // JSR, JSRR
      const Word return_address = pc_;
      const bool relative = (instruction & 0x0800) != 0;
      pc_ = relative ? word(pc_ + signed_field(instruction, 11)) : r_[sr1];  // before R7 changes: it may be the base
      r_[7] = return_address;
      break;
    }
    case 0b0010: {  // LD
      const Word address = word(pc_ + signed_field(instruction, 9));
      if (forbidden(address)) {
        raise(kAccessViolation, at);
        break;
      }
      r_[dr] = read(address);
      set_condition(r_[dr]);
      break;
    }
    case 0b1010: {  // LDI
      const Word pointer = word(pc_ + signed_field(instruction, 9));
      if (forbidden(pointer)) {
        raise(kAccessViolation, at);
        break;
      }
      const Word address = read(pointer);
      if (forbidden(address)) {
        raise(kAccessViolation, at);
        break;
      }
      r_[dr] = read(address);
      set_condition(r_[dr]);
      break;
    }
    case 0b0110: {  // LDR
      const Word address = word(r_[sr1] + signed_field(instruction, 6));
      if (forbidden(address)) {
        raise(kAccessViolation, at);
        break;
      }
      r_[dr] = read(address);
      set_condition(r_[dr]);
      break;
    }
    case 0b1110:  // LEA
      r_[dr] = word(pc_ + signed_field(instruction, 9));
      if (options_.edition == Edition::kSecond) set_condition(r_[dr]);
      break;
    case 0b0011: {  // ST
      const Word address = word(pc_ + signed_field(instruction, 9));
      if (forbidden(address)) {
        raise(kAccessViolation, at);
        break;
      }
      write(address, r_[dr]);
      break;
    }
    case 0b1011: {  // STI
      const Word pointer = word(pc_ + signed_field(instruction, 9));
      if (forbidden(pointer)) {
        raise(kAccessViolation, at);
        break;
      }
      const Word address = read(pointer);
      if (forbidden(address)) {
        raise(kAccessViolation, at);
        break;
      }
      write(address, r_[dr]);
      break;
    }
    case 0b0111: {  // STR
      const Word address = word(r_[sr1] + signed_field(instruction, 6));
      if (forbidden(address)) {
        raise(kAccessViolation, at);
        break;
      }
      write(address, r_[dr]);
      break;
    }
    case 0b1000: {  // RTI
      if (user_mode()) {
        raise(kPrivilegeViolation, at);
        break;
      }
      pc_ = pop();
      const Word restored = pop();
      set_psr(restored);
      if (user_mode()) {
        saved_ssp_ = r_[6];
        r_[6] = saved_usp_;
      }
      break;
    }
    default:  // 1101, reserved
      raise(kIllegalOpcode, at);
      break;
  }
  return state();
}

State ReferenceMachine::trap(Word vector, Word instruction_address) {
  const bool served_natively =
      options_.traps == Traps::kNative && vector >= 0x20 && vector <= 0x25 && memory_[vector] == os_vectors_[vector];
  if (served_natively) return native_trap(vector, instruction_address);
  ++instructions_;
  if (options_.edition == Edition::kSecond) {
    r_[7] = pc_;
    pc_ = memory_[vector];
  } else {
    enter_supervisor(pc_, vector);
  }
  return state();
}

State ReferenceMachine::native_trap(Word vector, Word instruction_address) {
  if ((vector == 0x20 || vector == 0x23) && keyboard_.empty()) {
    pc_ = instruction_address;
    return State::kWaitingForInput;
  }
  ++instructions_;
  if (options_.edition == Edition::kSecond) r_[7] = pc_;
  switch (vector) {
    case 0x20:  // GETC
      r_[0] = read(kKbdr);
      break;
    case 0x21:  // OUT
      show(r_[0]);
      break;
    case 0x22:  // PUTS. 65,536 words without an end have shown all there is.
      for (int i = 0; i < 65536; ++i) {
        const Word character = read(word(r_[0] + i));
        if (character == 0) break;
        show(character);
      }
      break;
    case 0x23:  // IN
      for (const char c : std::string_view("Input a character> ")) show(static_cast<unsigned char>(c));
      r_[0] = read(kKbdr);
      show(r_[0]);
      break;
    case 0x24:  // PUTSP
      for (int i = 0; i < 65536; ++i) {
        const Word pair = read(word(r_[0] + i));
        if ((pair & 0xFF) == 0) break;
        show(pair & 0xFF);
        if ((pair >> 8) == 0) break;
        show(pair >> 8);
      }
      break;
    default:  // HALT
      mcr_ = word(mcr_ & 0x7FFF);
      break;
  }
  return state();
}

}  // namespace warmfork::lc3_reference
