#include "lc3/lockstep/generators.hpp"

#include "lc3/asm/assembler.hpp"
#include "lc3/core/instruction.hpp"
#include "lc3/lockstep/random.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#define WARMFORK_PROGRAMS(X) \
  X(ackermann)               \
  X(calculator)              \
  X(echo)                    \
  X(factorial)               \
  X(hanoi)                   \
  X(hello)                   \
  X(interrupt_default)       \
  X(jump_table)              \
  X(keyboard_interrupt)      \
  X(matrix) X(own_os) X(prompt) X(putsp) X(replaced_traps_3) X(self_modify) X(sieve) X(sort) X(strings)
#define WARMFORK_DECLARE(name)                                       \
  extern "C" const unsigned char warmfork_lockstep_##name##_begin[]; \
  extern "C" const unsigned char warmfork_lockstep_##name##_end[];
WARMFORK_PROGRAMS(WARMFORK_DECLARE)

namespace warmfork::lc3 {
namespace {

constexpr std::uint16_t kHaltTrap = 0xf025;

template <class T>
std::uint16_t u16(T value) {
  return static_cast<std::uint16_t>(value);
}
std::uint16_t with(Operation operation, std::initializer_list<std::pair<OperandKind, int>> operands) {
  std::uint16_t word = info(operation).fixed_match;
  for (const auto& [kind, value] : operands) word = with_operand(word, kind, value);
  return word;
}
using enum OperandKind;
std::uint16_t add_imm(int dr, int sr, int imm) {
  return with(Operation::kAddImmediate, {{kDr, dr}, {kSr1, sr}, {kImm5, imm}});
}
std::uint16_t clear(int dr) { return with(Operation::kAndImmediate, {{kDr, dr}, {kSr1, dr}, {kImm5, 0}}); }
std::uint16_t br(int nzp, int offset) { return with(Operation::kBr, {{kNzp, nzp}, {kPcOffset9, offset}}); }
std::uint16_t jmp(int base) { return with(Operation::kJmp, {{kBase, base}}); }
std::uint16_t jsr(int offset) { return with(Operation::kJsr, {{kPcOffset11, offset}}); }
std::uint16_t jsrr(int base) { return with(Operation::kJsrr, {{kBase, base}}); }
std::uint16_t ld(int dr, int offset) { return with(Operation::kLd, {{kDr, dr}, {kPcOffset9, offset}}); }
std::uint16_t ldi(int dr, int offset) { return with(Operation::kLdi, {{kDr, dr}, {kPcOffset9, offset}}); }
std::uint16_t lea(int dr, int offset) { return with(Operation::kLea, {{kDr, dr}, {kPcOffset9, offset}}); }
std::uint16_t st(int sr, int offset) { return with(Operation::kSt, {{kSr, sr}, {kPcOffset9, offset}}); }
std::uint16_t sti(int sr, int offset) { return with(Operation::kSti, {{kSr, sr}, {kPcOffset9, offset}}); }
std::uint16_t str(int sr, int base, int offset) {
  return with(Operation::kStr, {{kSr, sr}, {kBase, base}, {kOffset6, offset}});
}
std::uint16_t trap(int vector) { return with(Operation::kTrap, {{kTrapVect8, vector}}); }

constexpr std::array kArithmetic{Operation::kAddRegister, Operation::kAddImmediate, Operation::kAndRegister,
                                 Operation::kAndImmediate, Operation::kNot};
constexpr std::array kPlain{Operation::kAddRegister,  Operation::kAddImmediate, Operation::kAndRegister,
                            Operation::kAndImmediate, Operation::kNot,          Operation::kLd,
                            Operation::kSt,           Operation::kLdr,          Operation::kStr,
                            Operation::kLdi,          Operation::kSti,          Operation::kLea};

/// A program as it grows.
class Code {
 public:
  Code(Random& random, std::uint16_t origin) : random_(random), origin_(origin) {}

  [[nodiscard]] int size() const { return static_cast<int>(words.size()); }
  void put(std::uint16_t word) { words.push_back(word); }
  /// Registers from `first_reserved` on are not written.
  void reserve_from(int first_reserved) { free_ = first_reserved; }
  [[nodiscard]] int free() const { return free_; }

  std::uint16_t of(Operation operation) {
    const InstructionInfo& entry = info(operation);
    std::uint16_t word = u16(entry.match | (random_.word() & ~entry.mask));
    // Mostly as the textbook writes it, mostly near.
    if (random_.chance(90)) word = u16((word & ~entry.fixed_mask) | entry.fixed_match);
    if (entry.operands[1] == kPcOffset9 && random_.chance(80)) {
      word = with_operand(word, kPcOffset9, random_.between(-40, 40));
    }
    if (entry.has(kWritesDr))
      word = with_operand(word, kDr, static_cast<int>(random_.below(static_cast<unsigned>(free_))));
    return word;
  }
  void arithmetic() { put(of(kArithmetic[random_.below(kArithmetic.size())])); }
  void plain() { put(of(kPlain[random_.below(kPlain.size())])); }
  void some(int count, bool memory) {
    for (int i = 0; i < count; ++i) memory ? plain() : arithmetic();
  }
  /// Goes on for ever: back to word 0, near or far.
  void again() {
    if (size() < 250 && random_.chance(70)) {
      put(br(7, -size() - 1));
    } else {
      put(jsr(-size() - 1));
    }
  }

  Random& random() { return random_; }
  [[nodiscard]] std::uint16_t origin() const { return origin_; }
  std::vector<std::uint16_t> words;

 private:
  Random& random_;
  std::uint16_t origin_;
  int free_ = 8;
};

std::uint16_t place(Random& random, std::uint16_t origin) {
  switch (random.below(8)) {
    case 0: return u16(kDeviceBase + random.between(-20, 20));
    case 1: return u16(random.between(-20, 20));
    case 2: return random.one_of<std::uint16_t>({kKbsr, kKbdr, kDsr, kDdr, kPsr, kMcr});
    case 3: return random.word();
    case 4: return u16(random.between(-3, 3));
    default: return u16(origin + random.between(-8, 120));
  }
}

std::uint32_t random_config(Random& random) {
  std::uint32_t config = kRunIntoEmptyVectors;
  if (random.chance(35)) config |= kSecondEdition;
  if (random.chance(70)) config |= kNativeTraps;
  if (random.chance(60)) config |= kDetectIdle;
  if (random.chance(60)) config |= kStopForOutput;
  if (random.chance(4)) config |= kStrictPrivilege;
  if (random.chance(20)) config &= ~std::uint32_t{kRunIntoEmptyVectors};
  return config;
}

// Comparing all memory takes as long as thousands of instructions: few slices, seldom many small ones.
void slices(Random& random, LockstepCase& one) {
  one.slice_seed = random.next();
  switch (random.below(16)) {
    case 0:
      one.longest_slice = 1 + random.below(16);
      one.budget = std::min<std::uint64_t>(one.budget, 16 * one.longest_slice);
      break;
    case 1:
    case 2:
    case 3: one.longest_slice = one.budget; break;
    default: one.longest_slice = 0; break;
  }
}

void begin(Random& random, LockstepCase& one, std::uint16_t origin) {
  one.config = random_config(random);
  one.pc = origin;
  for (std::uint16_t& value : one.registers) value = place(random, origin);
  one.psr = u16((random.chance(70) ? kPsrUser : 0U) | (random.below(8) << 8) | (1U << random.below(3)));
  if (random.chance(10)) one.fill = random.next() | 1;
  one.budget = 200 + random.below(3000);
  slices(random, one);
}

void type(Random& random, LockstepCase& one, int pieces) {
  std::uint64_t at = 0;
  for (int i = 0; i < pieces; ++i) {
    at += random.below(400);
    std::string text;
    for (std::uint32_t n = 1 + random.below(6); n != 0; --n) text += static_cast<char>(' ' + random.below(90));
    one.input.push_back({at, std::move(text)});
  }
}

void straight_line(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, kUserBase);
  Code code(random, kUserBase);
  code.some(random.between(1, 220), random.chance(80));
  code.again();
  one.add(kUserBase, code.words);
}

// Loops count down in registers that their bodies do not write: they end.
void structure(Code& code, int depth) {
  Random& random = code.random();
  for (int parts = random.between(1, 4); parts != 0 && code.size() < 200; --parts) {
    switch (random.below(depth == 0 ? 2 : 6)) {
      case 0:
      case 1: code.some(random.between(1, 8), random.chance(40)); break;
      case 2:
      case 3: {  // a loop
        const int counter = code.free() - 1;
        if (counter < 3) break;
        code.reserve_from(counter);
        code.put(clear(counter));
        code.put(add_imm(counter, counter, random.between(1, 9)));
        const int top = code.size();
        structure(code, depth - 1);
        code.put(add_imm(counter, counter, -1));
        if (code.size() - top < 250) code.put(br(1, top - code.size() - 1));
        code.reserve_from(counter + 1);
        break;
      }
      case 4: {  // if, else
        const int test = code.size();
        code.put(0);
        structure(code, depth - 1);
        const int middle = code.size();
        code.put(0);
        structure(code, depth - 1);
        code.words[static_cast<std::size_t>(test)] = br(random.between(1, 7), middle - test);
        code.words[static_cast<std::size_t>(middle)] = br(7, code.size() - middle - 1);
        break;
      }
      default: {  // a subroutine, where it is called
        const int size = random.between(1, 6);
        code.put(random.chance(50) ? jsr(1) : br(0, 0));
        code.put(br(7, size + 1));
        code.some(size, false);
        code.put(jmp(7));
        break;
      }
    }
  }
}

void control_flow(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, kUserBase);
  Code code(random, kUserBase);
  code.reserve_from(7);
  structure(code, 4);
  random.chance(80) ? code.again() : code.put(kHaltTrap);
  one.add(kUserBase, code.words);
}

// Words that are instructions lie in front; what follows loads them and stores them over itself.
void self_modifying(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, kUserBase);
  Code code(random, kUserBase);
  constexpr int kData = 12;
  const int size = random.between(20, 100);
  for (int i = 0; i < kData; ++i) {
    switch (random.below(8)) {
      case 0: code.put(br(random.between(0, 7), random.between(-12, 12))); break;
      case 1: code.put(random.one_of<std::uint16_t>({trap(0x21), 0xd000, 0x8000, jmp(7), 0})); break;
      default: code.plain(); break;
    }
  }
  while (code.size() < kData + size) {
    const int here = code.size();
    const int data = random.between(0, kData - 1);
    // Just ahead, in this block, behind, anywhere.
    const int target = random.chance(40)   ? here + random.between(2, 4)
                       : random.chance(40) ? here - random.between(0, 8)
                                           : kData + static_cast<int>(random.below(static_cast<unsigned>(size)));
    const int r = random.between(0, 5);
    switch (random.below(7)) {
      case 0:
      case 1:
        code.put(ld(r, data - here - 1));
        code.put(st(r, target - here - 2));
        break;
      case 2:  // the same value
        code.put(ld(r, target - here - 1));
        code.put(st(r, target - here - 2));
        break;
      case 3:
        code.put(lea(6, target - here - 1));
        code.put(ld(r, data - here - 2));
        code.put(str(r, 6, random.between(-2, 2)));
        break;
      case 4:  // another value, and back
        code.put(ld(r, target - here - 1));
        code.put(add_imm(r, r, random.one_of({1, 2, -1})));
        code.put(st(r, target - here - 3));
        if (random.chance(60)) {
          code.put(add_imm(r, r, -1));
          code.put(st(r, target - here - 5));
        }
        break;
      case 5: code.put(br(random.between(1, 7), random.between(-10, 6))); break;
      default: code.some(random.between(1, 4), false); break;
    }
  }
  code.again();
  one.pc = u16(kUserBase + kData);
  one.add(kUserBase, code.words);
}

// Few words under many names, and registers whose values are known: what an optimiser remembers, and must forget.
void memory(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, kUserBase);
  Code code(random, kUserBase);
  constexpr int kWords = 4, kData = 2 * kWords;
  const int size = random.between(8, 120);
  for (int i = 0; i < kWords; ++i) code.put(random.word());
  for (int i = 0; i < kWords; ++i) {
    const int to = random.chance(85) ? random.between(0, kWords - 1) : random.between(0, kData + size - 1);
    code.put(u16(kUserBase + to));
  }
  const int base = random.between(4, 7);
  while (code.size() < kData + size) {
    const int here = code.size();
    const int r = random.between(0, 3);
    const int word = random.between(0, kWords - 1);
    switch (random.below(12)) {
      case 0:
      case 1: code.put(ld(r, word - here - 1)); break;
      case 2: code.put(st(r, word - here - 1)); break;
      case 3: code.put(with(Operation::kLdr, {{kDr, r}, {kBase, base}, {kOffset6, word}})); break;
      case 4: code.put(str(r, base, word)); break;
      case 5: code.put(ldi(r, kWords + word - here - 1)); break;
      case 6: code.put(sti(r, kWords + word - here - 1)); break;
      case 7: code.put(lea(random.chance(70) ? base : r, -here - 1)); break;
      case 8: code.put(random.chance(60) ? clear(r) : add_imm(r, random.between(0, 3), random.between(-16, 15))); break;
      case 9: code.put(br(random.between(0, 7), random.between(0, 3))); break;
      default:
        code.reserve_from(4);
        code.arithmetic();
        break;
    }
  }
  code.again();
  one.pc = u16(kUserBase + kData);
  for (std::size_t r = 4; r < 8; ++r) one.registers[r] = kUserBase;
  one.add(kUserBase, code.words);
}

void devices(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, kUserBase);
  one.config |= random.chance(70) ? kRunIntoEmptyVectors : 0;
  Code code(random, kUserBase);
  constexpr std::array<std::uint16_t, 8> kPointers{kKbsr, kKbdr, kDsr, kDdr, kPsr, kMcr, 0xfe10, 0xfdff};
  for (const std::uint16_t pointer : kPointers) code.put(pointer);
  code.put(0x4000);
  code.put(u16(0x8000U | (random.below(8) << 8) | 2));
  const int first = code.size();
  const int size = random.between(10, 90);
  if (random.chance(60)) {  // interrupts from the beginning
    code.put(ld(5, 8 - code.size() - 1));
    code.put(sti(5, 0 - code.size() - 1));
  }
  while (code.size() < first + size) {
    const int here = code.size();
    const int r = random.between(0, 5);
    const int device = random.chance(90) ? random.between(0, 3) : random.between(0, 7);
    switch (random.below(9)) {
      case 0:  // waits for a key
        code.put(ldi(r, 0 - here - 1));
        if (random.chance(30)) code.some(1, false);
        code.put(br(3, -(code.size() - here) - 1));
        code.put(ldi(r, 1 - code.size() - 1));
        break;
      case 1:
        code.put(ldi(r, 2 - here - 1));
        code.put(br(3, -2));
        code.put(sti(random.between(0, 5), 3 - code.size() - 1));
        break;
      case 2: code.put(ldi(r, device - here - 1)); break;
      case 3: code.put(sti(r, device - here - 1)); break;
      case 4: {
        const bool string = random.chance(30);
        if (string) code.put(lea(0, random.between(1, 30)));
        code.put(trap(string ? random.one_of({0x22, 0x24}) : random.one_of({0x20, 0x21, 0x21, 0x23, 0x30, 0x31})));
        break;
      }
      case 5:
        code.put(ld(r, (random.chance(70) ? 8 : 9) - here - 1));
        code.put(sti(r, (random.chance(80) ? 0 : 4) - here - 2));
        break;
      case 6: code.put(br(random.between(1, 7), random.between(-8, 8))); break;
      case 7:
        if (random.chance(20)) code.put(random.one_of<std::uint16_t>({0x8000, 0xd000, kHaltTrap}));
        break;
      default: code.some(random.between(1, 5), random.chance(20)); break;
    }
  }
  code.again();
  one.pc = u16(kUserBase + first);
  one.kbsr = random.chance(30) ? kKbsrInterruptEnable : 0;
  if (random.chance(80)) one.registers[6] = 0x5000;
  type(random, one, random.between(0, 6));
  one.add(kUserBase, code.words);
  // Routines that return, with some work in them.
  for (const int vector : {0x20, 0x21, 0x23, 0x30, 0x31, 0x100, 0x101, 0x102, 0x180}) {
    if (random.chance(15)) continue;
    const auto routine = u16(0x1000 + 16 * (vector & 0xff) + (vector >> 4));
    one.words.push_back({u16(vector), routine});
    Code body(random, routine);
    body.reserve_from(5);
    body.some(random.between(0, 5), random.chance(20));
    if (vector == 0x180 && random.chance(70)) {
      body.put(ldi(4, 2));
      body.put(0x8000);
      body.put(0);
      body.put(kKbdr);
    } else {
      body.put((one.config & kSecondEdition) != 0 && vector < 0x100 ? jmp(7) : std::uint16_t{0x8000});
    }
    one.add(routine, body.words);
  }
}

// At both ends of memory: what follows xFDFF is device space, what follows xFFFF is x0000.
void wrap_around(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, 0);
  one.config &= ~std::uint32_t{kStrictPrivilege};
  const int length = random.between(4, 60);
  const auto high = u16(kDeviceBase - random.between(1, length));
  for (const std::uint16_t origin : {std::uint16_t{0}, high}) {
    Code code(random, origin);
    while (code.size() < length) {
      switch (random.below(6)) {
        case 0: code.put(br(random.between(0, 7), random.between(-70, 70))); break;
        case 1: code.put(random.chance(50) ? jsr(random.between(-600, 600)) : jsrr(random.between(0, 7))); break;
        case 2:
          code.put(random.chance(30) ? jmp(random.between(0, 7))
                                     : add_imm(random.between(0, 7), random.between(0, 7), 7));
          break;
        default: code.plain(); break;
      }
    }
    if (random.chance(50)) code.words.back() = br(7, -random.between(1, length + 4));
    if (origin != 0) code.words.resize(kDeviceBase - origin, br(7, -20));
    one.add(origin, code.words);
  }
  for (std::uint16_t& value : one.registers) {
    value =
        random.one_of<std::uint16_t>({high, 0, 0xffff, kDeviceBase, 0xfdff, u16(0xff00 + random.below(512)), value});
  }
  one.pc = random.chance(50) ? high : std::uint16_t{0};
}

// Computed jumps to anywhere in code and data.
void jumps(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, kUserBase);
  Code code(random, kUserBase);
  const int size = random.between(12, 120);
  while (code.size() < size) {
    switch (random.below(6)) {
      case 0: {
        const int base = random.between(0, 7);
        code.put(lea(base, random.between(-code.size(), size - code.size())));
        if (random.chance(50))
          code.put(with(Operation::kAddRegister, {{kDr, base}, {kSr1, base}, {kSr2, random.between(0, 7)}}));
        if (random.chance(50)) {
          const int mask = random.between(0, 7);
          code.put(with(Operation::kAndImmediate, {{kDr, mask}, {kSr1, mask}, {kImm5, random.between(1, 15)}}));
          code.put(with(Operation::kAddRegister, {{kDr, base}, {kSr1, base}, {kSr2, mask}}));
        }
        code.put(random.chance(60) ? jmp(base) : jsrr(base));
        break;
      }
      case 1: code.put(br(random.between(0, 7), random.between(-code.size() - 1, size - code.size()))); break;
      case 2: code.put(jsr(random.between(-code.size() - 1, size - code.size()))); break;
      case 3: code.put(random.chance(20) ? random.word() : jmp(7)); break;
      default: code.some(random.between(1, 6), random.chance(50)); break;
    }
  }
  code.again();
  one.add(kUserBase, code.words);
}

// No plan at all.
void dense(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  begin(random, one, kUserBase);
  if (random.chance(50)) one.fill = random.next() | 1;
  for (std::uint16_t address = 0; address < 0x200; ++address) {
    one.words.push_back({address, u16(kUserBase + random.between(0, 63))});
  }
  Code code(random, kUserBase);
  for (int i = 0; i < 256; ++i) code.put(code.of(static_cast<Operation>(random.below(kOperationCount))));
  one.add(kUserBase, code.words);
  one.kbsr = random.chance(30) ? kKbsrInterruptEnable : 0;
  type(random, one, random.between(0, 3));
}

const std::vector<Program>& real_programs() {
  static const std::vector<Program> programs = [] {
    std::vector<Program> made;
    const auto add = [&](const unsigned char* begin, const unsigned char* end, const char* name) {
      // SAFETY: the embedded file, as characters.
      const std::string_view source(reinterpret_cast<const char*>(begin), static_cast<std::size_t>(end - begin));
      auto program = assemble(source, name);
      if (program) made.push_back(*std::move(program));
    };
#define WARMFORK_ADD(name) add(warmfork_lockstep_##name##_begin, warmfork_lockstep_##name##_end, #name ".asm");
    WARMFORK_PROGRAMS(WARMFORK_ADD)
    return made;
  }();
  return programs;
}

void programs(std::uint64_t seed, LockstepCase& one) {
  Random random(seed);
  const auto& all = real_programs();
  const Program& program = all[random.below(static_cast<std::uint32_t>(all.size()))];
  const std::string name = one.name;
  one = case_of(program, random_config(random));
  one.name = fmt::format("{} ({})", name, program.files.front());
  if (program.files.front() == "own_os.asm") one.psr = kPsrZ;
  const std::size_t program_begin = one.words.size() - program.word_count();
  for (std::uint32_t changes = random.below(5); changes != 0; --changes) {
    // Sometimes the OS.
    const std::size_t from = random.chance(85) ? program_begin : 0;
    auto& [address, word] = one.words[from + random.below(static_cast<std::uint32_t>(one.words.size() - from))];
    switch (random.below(4)) {
      case 0: word = random.word(); break;
      case 1:
        word = one.words[program_begin + random.below(static_cast<std::uint32_t>(program.word_count()))].word;
        break;
      default: word = u16(word ^ (1U << random.below(16))); break;
    }
  }
  one.budget = 2000 + random.below(20'000);
  slices(random, one);
  type(random, one, random.between(0, 8));
}

constexpr std::array<LockstepGenerator, 9> kGenerators{{
    {"straight", "straight lines of arithmetic and memory", straight_line},
    {"flow", "loops that end, branches, subroutines", control_flow},
    {"self", "code that changes code: ahead, in its block, behind, to the same value, back and forth", self_modifying},
    {"memory", "few words under many names, and registers whose values are known", memory},
    {"devices", "KBSR, DSR and friends through pointers, TRAPs, interrupts, exceptions", devices},
    {"wrap", "both ends of memory", wrap_around},
    {"jumps", "computed jumps into the middle of blocks and into data", jumps},
    {"dense", "instructions of all kinds without a plan, random memory", dense},
    {"programs", "real programs with some words changed", programs},
}};

}  // namespace

std::span<const LockstepGenerator> lockstep_generators() { return kGenerators; }

LockstepCase generate(const LockstepGenerator& generator, std::uint64_t seed, std::uint64_t budget) {
  LockstepCase one;
  one.name = fmt::format("{}, seed {}", generator.name, seed);
  generator.make(seed, one);
  one.budget = std::min(one.budget, budget);
  return one;
}

Result<const LockstepGenerator*> find_generator(std::string_view name) {
  const auto found = std::ranges::find(kGenerators, name, &LockstepGenerator::name);
  if (found != kGenerators.end()) return &*found;
  std::vector<std::string_view> names;
  for (const LockstepGenerator& generator : kGenerators) names.push_back(generator.name);
  return fail(ErrorKind::kUsage, "there is no generator \"{}\"; there are {}", name, fmt::join(names, ", "));
}

}  // namespace warmfork::lc3
