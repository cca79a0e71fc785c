// What an executed instruction means for statistics: used where it is executed, and where executions of compiled code
// are added up.
#pragma once

#include "lc3/core/instruction.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstdint>

namespace warmfork::lc3 {

/// Counts `times` executions of `word` at `pc`: address, opcode, registers. Memory and branches are the caller's.
inline void count_executions(Instrumentation& counts, std::uint16_t pc, std::uint16_t word, std::uint64_t times) {
  counts.executions[pc] += times;
  counts.opcodes[word >> 12] += times;
  const Instruction instruction = decode(word);
  const InstructionInfo& info = instruction.info();
  for (const OperandKind kind : info.operands) {
    switch (kind) {
      case OperandKind::kDr: counts.register_writes[instruction.dr] += times; break;
      case OperandKind::kSr: counts.register_reads[instruction.dr] += times; break;
      case OperandKind::kSr1:
      case OperandKind::kBase: counts.register_reads[instruction.sr1] += times; break;
      case OperandKind::kSr2: counts.register_reads[instruction.sr2] += times; break;
      default: break;
    }
  }
  if (info.has(kWritesR7)) counts.register_writes[7] += times;
}

}  // namespace warmfork::lc3
