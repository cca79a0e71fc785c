#include "lc3/jit/passes.hpp"

#include "warmfork/lc3/state.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace warmfork::lc3::jit {
namespace {

std::uint16_t sum(std::uint16_t a, std::uint16_t b) { return static_cast<std::uint16_t>(a + b); }

void fold_constants(Block& block) {
  std::array<std::optional<std::uint16_t>, 8> known;
  const auto to_const = [](Op& op, std::uint16_t value) {
    op.kind = OpKind::kConst;
    op.imm = value;
    op.a = op.b = 0;
  };
  const auto to_move = [](Op& op, std::uint8_t from) {
    op.kind = OpKind::kMove;
    op.a = from;
    op.b = 0;
    op.imm = 0;
  };
  for (Op& op : block.ops) {
    const auto a = known[op.a], b = known[op.b];
    switch (op.kind) {
      case OpKind::kConst: break;
      case OpKind::kMove:
        if (a) to_const(op, *a);
        break;
      case OpKind::kAdd:
        if (a && b) {
          to_const(op, sum(*a, *b));
        } else if (a || b) {
          op.imm = a ? *a : *b;
          op.a = a ? op.b : op.a;
          op.b = 0;
          op.kind = OpKind::kAddImm;
          if (op.imm == 0) to_move(op, op.a);
        }
        break;
      case OpKind::kAddImm:
        if (a) {
          to_const(op, sum(*a, op.imm));
        } else if (op.imm == 0) {
          to_move(op, op.a);
        }
        break;
      case OpKind::kAnd:
        if (a && b) {
          to_const(op, *a & *b);
        } else if (a || b) {
          op.imm = a ? *a : *b;
          op.a = a ? op.b : op.a;
          op.b = 0;
          op.kind = OpKind::kAndImm;
          if (op.imm == 0) to_const(op, 0);
        } else if (op.a == op.b) {
          to_move(op, op.a);
        }
        break;
      case OpKind::kAndImm:
        if (a) {
          to_const(op, *a & op.imm);
        } else if (op.imm == 0) {
          to_const(op, 0);
        } else if (op.imm == 0xffff) {
          to_move(op, op.a);
        }
        break;
      case OpKind::kNot:
        if (a) to_const(op, static_cast<std::uint16_t>(~*a));
        break;
      case OpKind::kLoadBase:
        // An address in device space stays as it is: it leaves when it runs.
        if (a && sum(*a, op.imm) < kDeviceBase) {
          op.kind = OpKind::kLoad;
          op.imm = sum(*a, op.imm);
          op.a = 0;
        }
        break;
      case OpKind::kStoreBase:
        if (b && sum(*b, op.imm) < kDeviceBase) {
          op.kind = OpKind::kStore;
          op.imm = sum(*b, op.imm);
          op.b = 0;
        }
        break;
      case OpKind::kLoad:
      case OpKind::kLoadIndirect:
      case OpKind::kStore:
      case OpKind::kStoreIndirect: break;
    }
    if (writes_register(op.kind)) {
      known[op.dr] = op.kind == OpKind::kConst ? std::optional(op.imm) : std::nullopt;
    }
  }
}

// What memory is known to hold, by absolute address: the value of a register that has not changed since.
void forward(Block& block) {
  struct Known {
    std::uint16_t address;
    std::uint8_t in;
  };
  std::vector<Known> known;
  const auto forget_register = [&](std::uint8_t changed) {
    std::erase_if(known, [&](const Known& k) { return k.in == changed; });
  };
  for (Op& op : block.ops) {
    if (op.kind == OpKind::kLoad) {
      const auto found = std::ranges::find(known, op.imm, &Known::address);
      const std::uint16_t address = op.imm;
      if (found != known.end()) {
        op.kind = OpKind::kMove;
        op.a = found->in;
        op.imm = 0;
        if (op.dr != op.a) forget_register(op.dr);
      } else {
        forget_register(op.dr);
        known.push_back({address, op.dr});
      }
      continue;
    }
    if (op.kind == OpKind::kStore) {
      std::erase_if(known, [&](const Known& k) { return k.address == op.imm; });
      known.push_back({op.imm, op.a});
      continue;
    }
    if (is_store(op.kind)) known.clear();  // it may be anywhere
    if (writes_register(op.kind)) forget_register(op.dr);
  }
}

// Backwards: at the end somebody may look, and so they may wherever a machine can leave.
void drop_dead_flags(Block& block) {
  bool looked_at = true;
  for (auto op = block.ops.rbegin(); op != block.ops.rend(); ++op) {
    if (op->sets_cc) {
      op->sets_cc = looked_at;
      looked_at = false;
    }
    if (may_leave(op->kind)) looked_at = true;
  }
}

}  // namespace

void run_passes(Unit& unit, const Passes& passes) {
  for (auto& [first, block] : unit.blocks) {
    if (passes.constants) fold_constants(block);
    if (passes.forwarding) forward(block);
    if (passes.dead_flags) drop_dead_flags(block);
  }
}

}  // namespace warmfork::lc3::jit
