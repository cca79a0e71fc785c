// A second LC-3, written only to be read: the textbook's machine transcribed one line at a time, with no table, no
// cache and nothing shared with payloads/lc3/core. Tests hold the fast engines against it.
//
// Owns the whole machine: registers, 65,536 words of memory, keyboard and display. One thread; no global state.
// Address arithmetic wraps modulo 2^16 everywhere.
//
// Choices the textbook leaves open, kept in step with the compatibility table:
//   - a program starts in user mode (PSR x8002) with R6 = USP = xFE00 and SSP = x3000;
//   - an exception pushes the PC of the instruction that raised it; TRAP and interrupts push that of the next one;
//   - a PSR that is popped or written keeps bits 15, 10-8 and 2-0; of N, Z, P the first one set wins, Z if none is;
//   - the display is always ready; device registers nobody owns read 0 and ignore writes; so do writes to DSR and KBDR;
//   - the 2nd edition has no access control: strict privilege means relaxed there;
//   - a vector word of x0000 is jumped to like any other;
//   - an interrupt is taken at the start of step(), which then executes the first instruction of the handler.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>

namespace warmfork::lc3_reference {

using Word = std::uint16_t;

enum class Edition { kSecond, kThird };      // of the textbook
enum class Privilege { kRelaxed, kStrict };  // strict: user access outside x3000-xFDFF raises an exception
enum class Traps { kOs, kNative };           // native: x20-x25 served by the machine unless the program replaced them

struct Options {
  Edition edition = Edition::kThird;
  Privilege privilege = Privilege::kRelaxed;
  Traps traps = Traps::kOs;
};

enum class State {
  kRunning,
  kHalted,           // MCR[15] is clear
  kWaitingForInput,  // a native GETC or IN found no character; nothing has changed, type() and step again
};

class ReferenceMachine {
 public:
  explicit ReferenceMachine(Options options = {});

  /// Writes the words of the operating system. The trap vectors as they stand afterwards are the ones that native
  /// traps stand in for: load the OS first, the program after it.
  void load_os(Word origin, std::span<const Word> words);
  /// Writes words of a program. Addresses wrap; xFE00 and up (device registers) are not backed by memory.
  void load(Word origin, std::span<const Word> words);
  /// Sets every register for a start at `pc`: user mode, or supervisor mode for a program that brings its own OS.
  void start(Word pc, bool supervisor = false);

  /// Executes one instruction, after taking an interrupt if one is due.
  State step();
  /// Steps until the machine stops running or `limit` instructions have been executed.
  State run(std::uint64_t limit);

  void type(std::string_view characters);
  /// What was displayed since the last call.
  [[nodiscard]] std::string take_output();
  [[nodiscard]] std::size_t input_left() const { return keyboard_.size(); }

  [[nodiscard]] State state() const { return clock_runs() ? State::kRunning : State::kHalted; }
  /// Instructions executed since start(). One that raises an exception counts; entering an interrupt does not.
  [[nodiscard]] std::uint64_t instructions() const { return instructions_; }

  [[nodiscard]] Word reg(unsigned index) const { return r_.at(index); }
  [[nodiscard]] Word pc() const { return pc_; }
  [[nodiscard]] Word psr() const { return psr_; }
  [[nodiscard]] Word saved_ssp() const { return saved_ssp_; }
  [[nodiscard]] Word saved_usp() const { return saved_usp_; }
  void set_reg(unsigned index, Word value) { r_.at(index) = value; }
  void set_pc(Word value) { pc_ = value; }
  void set_psr(Word value);

  /// Memory as it is stored, without the side effects of device registers.
  [[nodiscard]] Word peek(Word address) const { return memory_[address]; }
  void poke(Word address, Word value) { memory_[address] = value; }
  [[nodiscard]] std::span<const Word> memory() const { return memory_; }

 private:
  static constexpr Word kUserBit = 0x8000;
  static constexpr Word kReady = 0x8000;

  [[nodiscard]] bool user_mode() const { return (psr_ & kUserBit) != 0; }
  [[nodiscard]] bool forbidden(Word address) const;
  Word read(Word address);
  void write(Word address, Word value);
  void set_condition(Word result);
  void push(Word value);
  Word pop();
  [[nodiscard]] bool clock_runs() const { return (mcr_ & 0x8000) != 0; }
  void enter_supervisor(Word pushed_pc, Word vector_address);
  void raise(Word vector, Word instruction_address);
  void take_interrupt();
  State execute();
  State trap(Word vector, Word instruction_address);
  State native_trap(Word vector, Word instruction_address);
  void show(Word character) { output_.push_back(static_cast<char>(character & 0xFF)); }

  Options options_;
  std::array<Word, 65536> memory_{};
  std::array<Word, 256> os_vectors_{};  // trap vectors when the OS had been loaded
  std::array<Word, 8> r_{};
  Word pc_ = 0x3000;
  Word psr_ = 0x8002;
  Word saved_ssp_ = 0x3000;
  Word saved_usp_ = 0xFE00;
  Word mcr_ = 0x8000;                 // bit 15: the clock runs; the others are only kept
  bool keyboard_interrupts_ = false;  // KBSR[14]
  Word last_key_ = 0;                 // KBDR between characters
  std::deque<unsigned char> keyboard_;
  std::string output_;
  std::uint64_t instructions_ = 0;
};

}  // namespace warmfork::lc3_reference
