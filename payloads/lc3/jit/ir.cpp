#include "lc3/jit/ir.hpp"

#include "warmfork/lc3/state.hpp"

#include <fmt/format.h>

namespace warmfork::lc3::jit {

bool is_store(OpKind kind) {
  return kind == OpKind::kStore || kind == OpKind::kStoreBase || kind == OpKind::kStoreIndirect;
}
bool writes_register(OpKind kind) { return !is_store(kind); }
bool reads_a(OpKind kind) { return kind != OpKind::kConst && kind != OpKind::kLoad && kind != OpKind::kLoadIndirect; }
bool reads_b(OpKind kind) { return kind == OpKind::kAdd || kind == OpKind::kAnd || kind == OpKind::kStoreBase; }
bool may_leave(OpKind kind) {
  switch (kind) {
    case OpKind::kLoadBase:
    case OpKind::kLoadIndirect:
    case OpKind::kStore:
    case OpKind::kStoreBase:
    case OpKind::kStoreIndirect: return true;
    default: return false;
  }
}

std::string to_string(const Op& op) {
  const char* mark = op.sets_cc ? " !" : "";
  const int offset = static_cast<std::int16_t>(op.imm);
  switch (op.kind) {
    case OpKind::kConst: return fmt::format("R{} = x{:04X}{}", op.dr, op.imm, mark);
    case OpKind::kMove: return fmt::format("R{} = R{}{}", op.dr, op.a, mark);
    case OpKind::kAdd: return fmt::format("R{} = R{} + R{}{}", op.dr, op.a, op.b, mark);
    case OpKind::kAddImm: return fmt::format("R{} = R{} + {}{}", op.dr, op.a, offset, mark);
    case OpKind::kAnd: return fmt::format("R{} = R{} & R{}{}", op.dr, op.a, op.b, mark);
    case OpKind::kAndImm: return fmt::format("R{} = R{} & x{:04X}{}", op.dr, op.a, op.imm, mark);
    case OpKind::kNot: return fmt::format("R{} = ~R{}{}", op.dr, op.a, mark);
    case OpKind::kLoad: return fmt::format("R{} = [x{:04X}]{}", op.dr, op.imm, mark);
    case OpKind::kLoadBase: return fmt::format("R{} = [R{} + {}]{}", op.dr, op.a, offset, mark);
    case OpKind::kLoadIndirect: return fmt::format("R{} = [[x{:04X}]]{}", op.dr, op.imm, mark);
    case OpKind::kStore: return fmt::format("[x{:04X}] = R{}", op.imm, op.a);
    case OpKind::kStoreBase: return fmt::format("[R{} + {}] = R{}", op.b, offset, op.a);
    case OpKind::kStoreIndirect: return fmt::format("[[x{:04X}]] = R{}", op.imm, op.a);
  }
  return "?";
}

std::string to_string(const End& end) {
  switch (end.kind) {
    case EndKind::kFall: return fmt::format("go to x{:04X}", end.next);
    case EndKind::kBranch:
      if (end.nzp == 7) return fmt::format("go to x{:04X}", end.target);
      return fmt::format("if {}{}{} go to x{:04X} else x{:04X}", (end.nzp & 4) != 0 ? "n" : "",
                         (end.nzp & 2) != 0 ? "z" : "", (end.nzp & 1) != 0 ? "p" : "", end.target, end.next);
    case EndKind::kCall: return fmt::format("R7 = x{:04X}, go to x{:04X}", end.next, end.target);
    case EndKind::kJump: return fmt::format("go to R{}", end.a);
    case EndKind::kCallTo: return fmt::format("R7 = x{:04X}, go to R{} of before", end.next, end.a);
    case EndKind::kInterpret: return fmt::format("interpret x{:04X}", end.next);
  }
  return "?";
}

std::string to_string(const Block& block) {
  std::string text = fmt::format("x{:04X}, {} instructions\n", block.first, block.count);
  for (const Op& op : block.ops) text += fmt::format("  x{:04X}  {}\n", op.pc, to_string(op));
  text += fmt::format("  x{:04X}  {}\n", block.end.pc, to_string(block.end));
  return text;
}

std::string verify(const Unit& unit) {
  std::uint32_t free_from = 0;
  for (const auto& [first, block] : unit.blocks) {
    const auto wrong = [&](const std::string& what) { return fmt::format("block x{:04X}: {}", first, what); };
    if (block.first != first) return wrong("stands under another address");
    if (first < free_from) return wrong("overlaps the one before");
    free_from = std::uint32_t{first} + block.count;
    if (free_from > kDeviceBase) return wrong("reaches device space");
    if (block.count == 0 || block.count > kMaxBlock) return wrong(fmt::format("{} instructions", block.count));
    unsigned at = 0;
    for (const Op& op : block.ops) {
      const auto bad = [&](const char* why) { return wrong(to_string(op) + why); };
      if (static_cast<std::size_t>(op.kind) >= kOpKindCount || op.dr > 7 || op.a > 7 || op.b > 7) {
        return bad(": no such operation or register");
      }
      if (op.index < at || op.index >= block.count) return bad(": out of order");
      at = op.index;
      if (op.pc != first + op.index) return bad(": its address is not its index");
      if (op.sets_cc && is_store(op.kind)) return bad(": a store has no result");
      const bool absolute = op.kind == OpKind::kLoad || op.kind == OpKind::kLoadIndirect || op.kind == OpKind::kStore ||
                            op.kind == OpKind::kStoreIndirect;
      if (absolute && op.imm >= kDeviceBase) return bad(": device space");
    }
    const End& end = block.end;
    const bool counted = end.kind != EndKind::kFall && end.kind != EndKind::kInterpret;
    if (end.pc != static_cast<std::uint16_t>(first + block.count - (counted ? 1 : 0)))
      return wrong("its end is elsewhere");
    if (end.a > 7 || end.nzp > 7 || (end.kind == EndKind::kBranch && end.nzp == 0)) return wrong(to_string(end));
    if (!counted && end.next != end.pc) return wrong(to_string(end) + ": not what follows");
  }
  return {};
}

}  // namespace warmfork::lc3::jit
