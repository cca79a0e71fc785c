#include "lc3/jit/frontend.hpp"

namespace warmfork::lc3::jit {
namespace {

std::uint16_t word_sum(unsigned a, int b) { return static_cast<std::uint16_t>(a + static_cast<unsigned>(b)); }

class Translation {
 public:
  Translation(const Source& source, std::uint32_t max_instructions) : source_(source), left_(max_instructions) {
    unit_.lea_sets_cc = source.lea_sets_cc;
  }

  Unit run(std::span<const std::uint16_t> roots) {
    for (const std::uint16_t root : roots) leader(root);
    // In the order of discovery: what the limit cuts off is what lies furthest from the roots.
    for (std::size_t i = 0; i < pending_.size(); ++i) reach(pending_[i]);
    // Now all leaders are known, but for those that build() makes where a block is full.
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (reached_[pending_[i]]) build(pending_[i]);
    }
    return std::move(unit_);
  }

 private:
  void leader(std::uint16_t pc) {
    if (pc >= kDeviceBase || leaders_[pc]) return;
    leaders_.set(pc);
    pending_.push_back(pc);
  }

  [[nodiscard]] std::uint16_t relative(std::uint16_t pc, const Instruction& instruction) const {
    return word_sum(pc + 1U, instruction.immediate);
  }

  /// Zeroed memory is a slide of BRs that never branch. Nobody means to execute much of it.
  [[nodiscard]] bool is_empty(std::uint16_t pc) const {
    constexpr std::uint32_t kSlide = 8;
    for (std::uint32_t at = pc; at < pc + kSlide; ++at) {
      if (at >= kDeviceBase || source_.words[at] != 0) return false;
    }
    return true;
  }

  /// False: the interpreter's.
  [[nodiscard]] bool compilable(std::uint16_t pc, const Instruction& instruction) const {
    if (source_.left_out[pc]) return false;
    switch (instruction.operation) {
      case Operation::kTrap:
      case Operation::kRti:
      case Operation::kReserved: return false;
      case Operation::kLd:
      case Operation::kLdi:
      case Operation::kSt:
      case Operation::kSti: return relative(pc, instruction) < kDeviceBase;
      default: return true;
    }
  }

  /// Marks what is executed from a leader on, and makes leaders of where it goes.
  void reach(std::uint16_t pc) {
    for (; pc < kDeviceBase && !reached_[pc]; ++pc) {
      const Instruction instruction = decode(source_.words[pc]);
      if (!compilable(pc, instruction)) {
        constexpr std::uint16_t kHalt = 0xf025;  // what follows is most often data
        const Operation operation = instruction.operation;
        const bool returns = source_.left_out[pc] || (operation != Operation::kRti &&
                                                      operation != Operation::kReserved && source_.words[pc] != kHalt);
        if (returns && pc + 1 < kDeviceBase) leader(static_cast<std::uint16_t>(pc + 1));
        return;
      }
      if (left_ == 0 || is_empty(pc)) return;
      --left_;
      reached_.set(pc);
      const auto next = static_cast<std::uint16_t>(pc + 1);
      switch (instruction.operation) {
        case Operation::kBr:
          if (instruction.nzp == 0) break;
          leader(relative(pc, instruction));
          if (instruction.nzp == 7) return;
          leader(next);
          return;
        case Operation::kJsr:
          leader(relative(pc, instruction));
          leader(next);
          return;
        case Operation::kJsrr: leader(next); return;
        case Operation::kJmp: return;
        default: break;
      }
    }
  }

  void build(std::uint16_t first) {
    Block block;
    block.first = first;
    std::uint32_t pc = first;
    while (true) {
      const auto here = static_cast<std::uint16_t>(pc);
      const bool full = block.count == kMaxBlock;
      if (pc != first && pc < kDeviceBase && reached_[pc] && (full || leaders_[pc])) {
        block.end = {.kind = EndKind::kFall, .next = here, .pc = here};
        leader(here);
        break;
      }
      if (pc >= kDeviceBase || !reached_[pc]) {
        block.end = {.kind = EndKind::kInterpret, .next = here, .pc = here};
        break;
      }
      ++block.count;
      if (end(here, block)) break;
      ++pc;
    }
    unit_.blocks.emplace(first, std::move(block));
  }

  /// Adds the instruction to the block; true if the block ends with it.
  bool end(std::uint16_t pc, Block& block) {
    const Instruction i = decode(source_.words[pc]);
    const auto next = static_cast<std::uint16_t>(pc + 1);
    const auto imm = static_cast<std::uint16_t>(i.immediate);
    Op op{.pc = pc, .index = static_cast<std::uint8_t>(block.count - 1)};
    const auto add = [&](OpKind kind, std::uint8_t dr, std::uint8_t a, std::uint8_t b, std::uint16_t value, bool cc) {
      op.kind = kind;
      op.dr = dr;
      op.a = a;
      op.b = b;
      op.imm = value;
      op.sets_cc = cc;
      block.ops.push_back(op);
      return false;
    };
    switch (i.operation) {
      case Operation::kAddRegister: return add(OpKind::kAdd, i.dr, i.sr1, i.sr2, 0, true);
      case Operation::kAddImmediate: return add(OpKind::kAddImm, i.dr, i.sr1, 0, imm, true);
      case Operation::kAndRegister: return add(OpKind::kAnd, i.dr, i.sr1, i.sr2, 0, true);
      case Operation::kAndImmediate: return add(OpKind::kAndImm, i.dr, i.sr1, 0, imm, true);
      case Operation::kNot: return add(OpKind::kNot, i.dr, i.sr1, 0, 0, true);
      case Operation::kLd: return add(OpKind::kLoad, i.dr, 0, 0, relative(pc, i), true);
      case Operation::kLdr: return add(OpKind::kLoadBase, i.dr, i.sr1, 0, imm, true);
      case Operation::kLdi: return add(OpKind::kLoadIndirect, i.dr, 0, 0, relative(pc, i), true);
      case Operation::kLea: return add(OpKind::kConst, i.dr, 0, 0, relative(pc, i), source_.lea_sets_cc);
      case Operation::kSt: return add(OpKind::kStore, 0, i.dr, 0, relative(pc, i), false);
      case Operation::kStr: return add(OpKind::kStoreBase, 0, i.dr, i.sr1, imm, false);
      case Operation::kSti: return add(OpKind::kStoreIndirect, 0, i.dr, 0, relative(pc, i), false);
      case Operation::kBr:
        if (i.nzp == 0) return false;
        block.end = {.kind = EndKind::kBranch, .nzp = i.nzp, .target = relative(pc, i), .next = next, .pc = pc};
        return true;
      case Operation::kJsr:
        block.end = {.kind = EndKind::kCall, .target = relative(pc, i), .next = next, .pc = pc};
        return true;
      case Operation::kJsrr: block.end = {.kind = EndKind::kCallTo, .a = i.sr1, .next = next, .pc = pc}; return true;
      case Operation::kJmp: block.end = {.kind = EndKind::kJump, .a = i.sr1, .next = next, .pc = pc}; return true;
      case Operation::kTrap:
      case Operation::kRti:
      case Operation::kReserved: break;
    }
    return true;  // not reached: compilable() kept them out
  }

  const Source& source_;
  std::uint32_t left_;
  WordSet leaders_, reached_;
  std::vector<std::uint16_t> pending_;
  Unit unit_;
};

}  // namespace

Unit translate(const Source& source, std::span<const std::uint16_t> roots, std::uint32_t max_instructions) {
  return Translation(source, max_instructions).run(roots);
}

}  // namespace warmfork::lc3::jit
