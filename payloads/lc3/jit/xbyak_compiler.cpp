#include "lc3/jit/xbyak_compiler.hpp"

#include "lc3/jit/counts.hpp"
#include "warmfork/lc3/code.hpp"
#include "warmfork/lc3/state.hpp"

#include <xbyak/xbyak.h>

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace warmfork::lc3::jit {
namespace {

constexpr std::size_t kBytesPerInstruction = 112, kBytesPerBlock = 96, kBytesForAll = 4096;
constexpr std::size_t kBytesToCount = 48;  // more for each instruction and block
constexpr int kInAx = -1;

/// Displacements are added to addresses as the processor adds them: modulo 2^64.
constexpr std::size_t displacement(int value) { return static_cast<std::size_t>(value); }
constexpr std::uint32_t immediate(int value) { return static_cast<std::uint32_t>(value); }
constexpr std::size_t in_state(int offset) { return displacement(offset - WARMFORK_LC3_MEMORY); }
constexpr std::size_t kExitStay = in_state(WARMFORK_LC3_EXIT_STAY), kExitMiss = in_state(WARMFORK_LC3_EXIT_MISS);

class Compiler : public Xbyak::CodeGenerator {
 public:
  Compiler(const Unit& unit, const XbyakOptions& options, std::vector<std::uint8_t>& buffer)
      : CodeGenerator(buffer.size(), buffer.data()), unit_(unit), options_(options) {}

  void run(MachineCode& result) {
    starts_.assign(unit_.blocks.size(), kNowhere);
    std::size_t index = 0;
    if (!unit_.blocks.empty()) {
      lowest_ = unit_.blocks.begin()->first;
      index_of_.assign(unit_.blocks.rbegin()->first - lowest_ + 1U, kNone);
    }
    for (const auto& [first, block] : unit_.blocks) index_of_[first - lowest_] = static_cast<std::int32_t>(index++);
    std::vector<std::optional<std::int32_t>> elsewhere(starts_.size());
    for (const Elsewhere& block : options_.elsewhere) {
      if (const std::int32_t found = index_of(block.address); found >= 0) {
        elsewhere[static_cast<std::size_t>(found)] = block.offset;
      }
    }
    index = 0;
    for (auto at = unit_.blocks.begin(); at != unit_.blocks.end(); ++at, ++index) {
      const auto next = std::next(at);
      const std::uint32_t first_counter = next_counter_;
      if (options_.counting) next_counter_ += counters_of(at->second);
      if (elsewhere[index]) {
        // Jumps go there at once; only what falls into the block needs one here.
        starts_[index] = static_cast<std::size_t>(std::int64_t{*elsewhere[index]});
        land(jump(kAlways), starts_[index]);
        continue;
      }
      starts_[index] = getSize();
      result.entries.push_back({offset(), at->first});
      counter_ = first_counter;
      emit(at->second, next == unit_.blocks.end() ? -1 : static_cast<int>(next->first), result);
    }
    result.out_of_line = offset();
    for (const Leave& leave : leaves_) {
      land(leave.jump);
      mark(result, leave.pc);
      if (leave.give_back != 0) add(rdi, leave.give_back);
      if (leave.counter != kNoCounter) count(leave.counter);
      if (leave.cc != kInAx) mov(eax, reg(leave.cc));
      mov(esi, leave.pc);
      jmp(ptr[rbx + leave.exit]);
    }
    for (const std::size_t jump : misses_) land(jump);
    mov(esi, ecx);
    jmp(ptr[rbx + kExitMiss]);
    for (const Forward& jump : forwards_) land(jump.jump, starts_[jump.block]);
    result.bytes.assign(getCode(), getCode() + getSize());
    if (options_.counting) result.counters = next_counter_;
  }

 private:
  /// Conditions of jumps, as the processor numbers them (Intel SDM vol. 2, B.1.4.7 "Condition Test (tttn) Field").
  enum Condition : std::uint8_t {
    kBelow = 2,
    kAboveOrEqual,
    kZero,
    kNotZero,
    kSign = 8,
    kNotSign,
    kLessOrEqual = 14,
    kGreater,
    kAlways
  };

  // Jumps are patched by hand: labels cost more than all the rest of compiling.
  struct Leave {
    std::size_t jump;         // of its displacement
    std::uint32_t give_back;  // instructions of the block that have not been executed
    int cc;
    std::uint16_t pc;
    std::size_t exit;
    std::uint32_t counter;
  };

  [[nodiscard]] std::uint32_t offset() const { return static_cast<std::uint32_t>(getSize()); }
  void mark(MachineCode& result, std::uint16_t pc) {
    if (options_.marks) result.marks.push_back({offset(), pc});
  }

  static Xbyak::Reg32 reg(int r) { return Xbyak::Reg32(8 + r); }
  static Xbyak::Reg64 reg64(int r) { return Xbyak::Reg64(8 + r); }
  static Xbyak::Reg16 reg16(int r) { return Xbyak::Reg16(8 + r); }
  static int value(std::uint16_t imm) { return static_cast<std::int16_t>(imm); }
  Xbyak::Address word(std::uint16_t address) { return Xbyak::util::word[rbx + std::size_t{2} * address]; }

  /// A jump to somewhere; returns where its displacement is.
  std::size_t jump(Condition condition) {
    if (condition == kAlways) {
      db(0xe9);
    } else {
      db(0x0f);
      db(0x80 + condition);
    }
    const std::size_t at = getSize();
    dd(0);
    return at;
  }
  /// Makes a jump go to an offset.
  void land(std::size_t jump, std::size_t to) { rewrite(jump, to - (jump + 4), 4); }
  void land(std::size_t jump) { land(jump, getSize()); }

  void leave(Condition condition, std::uint32_t give_back, int cc, std::uint16_t pc, std::size_t exit) {
    leaves_.push_back({jump(condition), give_back, cc, pc, exit, std::exchange(leave_counter_, kNoCounter)});
  }

  [[nodiscard]] std::int32_t index_of(std::uint16_t address) const {
    const auto index = static_cast<std::uint32_t>(address - lowest_);
    return index < index_of_.size() ? index_of_[index] : kNone;
  }

  /// A jump to an address: to its block, or out to the interpreter.
  void transfer(Condition condition, std::uint16_t address) {
    const std::int32_t index = index_of(address);
    if (index < 0) return leave(condition, 0, kInAx, address, kExitMiss);
    const auto block = static_cast<std::size_t>(index);
    const std::size_t from = jump(condition);
    if (starts_[block] != kNowhere) return land(from, starts_[block]);
    forwards_.push_back({from, block});
  }

  void emit(const Block& block, int next_block, MachineCode& result) {
    mark(result, block.first);
    sub(rdi, block.count);
    leave(kBelow, block.count, kInAx, block.first, kExitStay);
    if (options_.counting) count(counter_++);
    const std::uint32_t taken = counter_;
    if (counts_taken(block.end)) ++counter_;
    find_needs(block);
    int cc = kInAx;
    bool flags = false;
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const Op& op = block.ops[i];
      mark(result, op.pc);
      if (writes_register(op.kind) && cc == op.dr && !op.sets_cc && needed_[i + 1]) {
        mov(eax, reg(cc));
        cc = kInAx;
      }
      if (options_.counting && may_leave(op.kind)) leave_counter_ = counter_++;
      const bool last = i + 1 == block.ops.size();
      flags = last && block.end.kind == EndKind::kBranch && flags_suffice(op, block.end.nzp);
      emit(op, static_cast<std::uint32_t>(block.count) - op.index, cc, flags);
      if (op.sets_cc) cc = op.dr;
    }
    mark(result, block.end.pc);
    emit(block.end, next_block, cc, flags, taken);
  }

  // Counts one, in a version that counts: rdx is State::counts everywhere in it.
  void count(std::uint32_t counter) {
    inc(qword[rdx + (offsetof(Instrumentation, code_counts) + std::size_t{8} * counter)]);
  }
  // The word whose address is in ecx.
  void count_word(std::size_t table) {
    if (options_.counting) inc(qword[rdx + rcx * 8 + table]);
  }

  // needed_[i]: whether somebody may look at the last result after the operations before i, before it is set again.
  void find_needs(const Block& block) {
    needed_.assign(block.ops.size() + 1, true);
    for (std::size_t i = block.ops.size(); i-- > 0;) {
      needed_[i] = may_leave(block.ops[i].kind) || (!block.ops[i].sets_cc && needed_[i + 1]);
    }
  }

  /// True if a 16-bit operation in place leaves the processor's flags as the branch needs them.
  static bool flags_suffice(const Op& op, std::uint8_t nzp) {
    if (!op.sets_cc || op.dr != op.a) return false;
    const int imm = value(op.imm);
    switch (op.kind) {
      case OpKind::kAdd:
      case OpKind::kAnd: break;
      case OpKind::kAddImm:
      case OpKind::kAndImm:
        if (imm < -128 || imm > 127) return false;  // a longer immediate in a 16-bit operation is slow to decode
        break;
      default: return false;
    }
    return nzp == 4 || nzp == 2 || nzp == 3 || nzp == 5;  // N and Z alone: an overflow spoils comparisons
  }

  void emit(const Op& op, std::uint32_t give_back, int cc, bool flags) {
    const Xbyak::Reg32 d = reg(op.dr);
    const int imm = value(op.imm);
    switch (op.kind) {
      case OpKind::kConst: mov(d, op.imm); return;
      case OpKind::kMove:
        if (op.dr != op.a) mov(d, reg(op.a));
        return;
      case OpKind::kAdd:
        if (flags) {
          add(reg16(op.dr), reg16(op.b));
        } else if (op.dr == op.a) {
          add(d, reg(op.b));
        } else if (op.dr == op.b) {
          add(d, reg(op.a));
        } else {
          lea(d, ptr[reg64(op.a) + reg64(op.b)]);
        }
        return;
      case OpKind::kAddImm:
        if (flags) {
          add(reg16(op.dr), immediate(imm));
        } else if (op.dr == op.a) {
          add(d, immediate(imm));
        } else {
          lea(d, ptr[reg64(op.a) + displacement(imm)]);
        }
        return;
      case OpKind::kAnd:
        if (flags) {
          and_(reg16(op.dr), reg16(op.b));
        } else if (op.dr == op.b) {
          and_(d, reg(op.a));
        } else {
          if (op.dr != op.a) mov(d, reg(op.a));
          and_(d, reg(op.b));
        }
        return;
      case OpKind::kAndImm:
        if (flags) {
          and_(reg16(op.dr), immediate(imm));
        } else {
          if (op.dr != op.a) mov(d, reg(op.a));
          and_(d, immediate(imm));
        }
        return;
      case OpKind::kNot:
        if (op.dr != op.a) mov(d, reg(op.a));
        not_(d);
        return;
      case OpKind::kLoad: movzx(d, word(op.imm)); return;
      case OpKind::kLoadBase:
        based(op.a, imm);
        cmp(ecx, kDeviceBase);
        leave(kAboveOrEqual, give_back, cc, op.pc, kExitStay);
        count_word(offsetof(Instrumentation, memory_reads));
        movzx(d, Xbyak::util::word[rbx + rcx * 2]);
        return;
      case OpKind::kLoadIndirect:
        movzx(ecx, word(op.imm));
        cmp(ecx, kDeviceBase);
        leave(kAboveOrEqual, give_back, cc, op.pc, kExitStay);
        count_word(offsetof(Instrumentation, memory_reads));
        movzx(d, Xbyak::util::word[rbx + rcx * 2]);
        return;
      case OpKind::kStore:
        cmp(byte[rbp + std::size_t{kCodeGuarded} + op.imm], 0);
        leave(kNotZero, give_back, cc, op.pc, kExitStay);
        mov(word(op.imm), reg16(op.a));
        return;
      case OpKind::kStoreBase: based(op.b, imm); return store(op, give_back, cc);
      case OpKind::kStoreIndirect: movzx(ecx, word(op.imm)); return store(op, give_back, cc);
    }
  }

  void based(int base, int imm) {
    if (imm == 0) {
      movzx(ecx, reg16(base));
    } else {
      lea(ecx, ptr[reg64(base) + displacement(imm)]);
      movzx(ecx, cx);
    }
  }
  void store(const Op& op, std::uint32_t give_back, int cc) {
    cmp(byte[rbp + rcx + kCodeGuarded], 0);  // device space is guarded
    leave(kNotZero, give_back, cc, op.pc, kExitStay);
    count_word(offsetof(Instrumentation, memory_writes));
    mov(Xbyak::util::word[rbx + rcx * 2], reg16(op.a));
  }

  void emit(const End& end, int next_block, int cc, bool flags, std::uint32_t taken) {
    if (cc != kInAx) mov(eax, reg(cc));  // leaves the processor's flags alone
    switch (end.kind) {
      case EndKind::kFall: go(end.next, next_block); return;
      case EndKind::kBranch:
        if (end.nzp == 7) return go(end.target, next_block);
        if (!flags) test(cc == kInAx ? ax : reg16(cc), cc == kInAx ? ax : reg16(cc));
        if (options_.counting) {
          // The other way around, so that what is counted lies in the way: one jump taken, as without counting.
          const std::size_t not_taken = jump(static_cast<Condition>(condition(end.nzp) ^ 1));
          count(taken);
          transfer(kAlways, end.target);
          land(not_taken);
        } else {
          transfer(condition(end.nzp), end.target);
        }
        go(end.next, next_block);
        return;
      case EndKind::kCall:
        mov(reg(7), end.next);
        go(end.target, next_block);
        return;
      case EndKind::kJump: movzx(ecx, reg16(end.a)); return indirect();
      case EndKind::kCallTo:
        movzx(ecx, reg16(end.a));  // before R7 changes: it may be the one
        mov(reg(7), end.next);
        return indirect();
      case EndKind::kInterpret:
        mov(esi, end.next);
        jmp(ptr[rbx + kExitStay]);
        return;
    }
  }

  static Condition condition(std::uint8_t nzp) {
    constexpr Condition kConditions[] = {kAlways, kGreater, kZero, kNotSign, kSign, kNotZero, kLessOrEqual, kAlways};
    return kConditions[nzp];
  }

  void go(std::uint16_t address, int next_block) {
    if (index_of(address) >= 0 && int{address} == next_block) return;  // falls into it
    transfer(kAlways, address);
  }

  void indirect() {
    mov(esi, ptr[rbp + rcx * 4 + kCodeEntries]);
    test(esi, esi);
    misses_.push_back(jump(kZero));
    add(rsi, rbp);
    jmp(rsi);
  }

  const Unit& unit_;
  const XbyakOptions options_;
  static constexpr std::size_t kNowhere = ~std::size_t{0};
  struct Forward {
    std::size_t jump, block;
  };
  std::vector<std::size_t> starts_;  // of blocks, in their order; kNowhere: still to come
  std::vector<Forward> forwards_;    // jumps to those
  static constexpr std::int32_t kNone = -1;
  std::uint16_t lowest_ = 0;
  std::vector<std::int32_t> index_of_;  // by address from `lowest_` on
  std::vector<Leave> leaves_;
  std::vector<std::size_t> misses_;
  std::vector<bool> needed_;
  static constexpr std::uint32_t kNoCounter = ~std::uint32_t{0};
  std::uint32_t next_counter_ = 0;            // of the block to come
  std::uint32_t counter_ = 0;                 // next of the block at hand
  std::uint32_t leave_counter_ = kNoCounter;  // of the operation at hand, if it can leave
};

}  // namespace

Result<MachineCode> compile_with_xbyak(const Unit& unit, const XbyakOptions& options) {
  std::size_t instructions = 0;
  for (const auto& [first, block] : unit.blocks) instructions += block.count;
  std::size_t size = instructions * kBytesPerInstruction + unit.blocks.size() * kBytesPerBlock + kBytesForAll;
  if (options.counting) {
    size += (instructions + unit.blocks.size()) * kBytesToCount;
    if (const std::uint32_t counters = counters_of(unit); counters > kCodeCounters)
      return fail(ErrorKind::kLimit, "{} counters for {} instructions, the most is {}", counters, instructions,
                  kCodeCounters);
  }
  std::vector<std::uint8_t> buffer(size);
  MachineCode result;
  try {
    Compiler(unit, options, buffer).run(result);
  } catch (const Xbyak::Error& error) {
    return fail(ErrorKind::kLimit, "machine code of {} instructions does not fit into {} bytes: {}", instructions,
                buffer.size(), error.what());
  }
  return result;
}

}  // namespace warmfork::lc3::jit
