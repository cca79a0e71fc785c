// The intermediate form between LC-3 words and machine code: basic blocks of operations on the eight registers, with
// what is known about them written down. Small on purpose: both compilers start from it, and people read it.
//
// The condition code is not computed: it is the sign of the *last result*, and an operation with `sets_cc` makes its
// register the last result. A block knows how many LC-3 instructions it stands for; every operation knows the
// instruction it comes from, so that a machine can leave before any of them exactly.
#pragma once

#include "lc3/core/instruction.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace warmfork::lc3::jit {

enum class OpKind : std::uint8_t {
  kConst,          // dr = imm
  kMove,           // dr = a
  kAdd,            // dr = a + b
  kAddImm,         // dr = a + imm
  kAnd,            // dr = a & b
  kAndImm,         // dr = a & imm
  kNot,            // dr = ~a
  kLoad,           // dr = memory[imm], imm below device space
  kLoadBase,       // dr = memory[a + imm]
  kLoadIndirect,   // dr = memory[memory[imm]], imm below device space
  kStore,          // memory[imm] = a, imm below device space
  kStoreBase,      // memory[b + imm] = a
  kStoreIndirect,  // memory[memory[imm]] = a, imm below device space
};
inline constexpr std::size_t kOpKindCount = 13;

struct Op {
  OpKind kind{};
  std::uint8_t dr = 0, a = 0, b = 0;
  std::uint16_t imm = 0;
  std::uint16_t pc = 0;    // of the instruction it comes from
  std::uint8_t index = 0;  // of that instruction in its block
  bool sets_cc = false;

  friend bool operator==(const Op&, const Op&) = default;
};

[[nodiscard]] bool writes_register(OpKind kind);
[[nodiscard]] bool reads_a(OpKind kind);
[[nodiscard]] bool reads_b(OpKind kind);
[[nodiscard]] bool is_store(OpKind kind);
/// True if compiled code may have to leave before this operation: device space, or a guarded word.
[[nodiscard]] bool may_leave(OpKind kind);

enum class EndKind : std::uint8_t {
  kFall,       // go on at `next`; no instruction
  kBranch,     // BR: to `target` if the last result matches `nzp`, else to `next`
  kCall,       // JSR: R7 = next, to `target`
  kJump,       // JMP, RET: to register a
  kCallTo,     // JSRR: to register a as it was, R7 = next
  kInterpret,  // the instruction at `next` is the interpreter's (TRAP, RTI, devices, words that change); not counted
};

struct End {
  EndKind kind{};
  std::uint8_t a = 0;
  std::uint8_t nzp = 0;  // 7: always, and `next` means nothing
  std::uint16_t target = 0;
  std::uint16_t next = 0;
  std::uint16_t pc = 0;

  friend bool operator==(const End&, const End&) = default;
};

struct Block {
  std::uint16_t first = 0;
  std::uint16_t count = 0;  // LC-3 instructions, that of a kBranch, kCall, kJump or kCallTo at the end included
  std::vector<Op> ops;
  End end;

  friend bool operator==(const Block&, const Block&) = default;
};

/// No block stands for more: budgets are subtracted as signed bytes.
inline constexpr std::uint16_t kMaxBlock = 100;

/// What was found from some roots. Blocks do not overlap: an instruction is in one of them only.
struct Unit {
  std::map<std::uint16_t, Block> blocks;
  bool lea_sets_cc = false;  // second edition

  friend bool operator==(const Unit&, const Unit&) = default;
};

/// "R1 = R2 + R3 !" and the like; `!` says that it sets the condition code.
[[nodiscard]] std::string to_string(const Op& op);
[[nodiscard]] std::string to_string(const End& end);
[[nodiscard]] std::string to_string(const Block& block);

/// Checks what the compilers rely on. Returns what is wrong, or nothing.
[[nodiscard]] std::string verify(const Unit& unit);

}  // namespace warmfork::lc3::jit
