#include "lc3/jit/counts.hpp"

#include "lc3/core/counts.hpp"

#include <algorithm>

namespace warmfork::lc3::jit {
namespace {

// Executions of an operation, as far as its address is known without running.
void count_memory(const Op& op, std::uint64_t times, Instrumentation& into) {
  switch (op.kind) {
    case OpKind::kLoad:
    case OpKind::kLoadIndirect:
    case OpKind::kStoreIndirect: into.memory_reads[op.imm] += times; break;  // of the pointer
    case OpKind::kStore: into.memory_writes[op.imm] += times; break;
    default: break;
  }
}

}  // namespace

bool counts_taken(const End& end) { return end.kind == EndKind::kBranch && end.nzp != 7; }

std::uint32_t counters_of(const Block& block) {
  const auto leaving = std::ranges::count_if(block.ops, [](const Op& op) { return may_leave(op.kind); });
  return 1U + (counts_taken(block.end) ? 1U : 0U) + static_cast<std::uint32_t>(leaving);
}

std::uint32_t counters_of(const Unit& unit) {
  std::uint32_t all = 0;
  for (const auto& [first, block] : unit.blocks) all += counters_of(block);
  return all;
}

void add_counts(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words,
                std::span<const std::uint64_t> counters, Instrumentation& into) {
  std::size_t next = 0;
  for (const auto& [first, block] : unit.blocks) {
    std::uint64_t times = counters[next++];
    const std::uint64_t taken = counts_taken(block.end) ? counters[next++] : times;
    auto op = block.ops.begin();
    for (std::uint16_t index = 0; index < block.count; ++index) {
      const auto pc = static_cast<std::uint16_t>(first + index);
      for (; op != block.ops.end() && op->index == index; ++op) {
        if (may_leave(op->kind)) times -= counters[next++];
        if (times != 0) count_memory(*op, times, into);
      }
      if (times != 0) count_executions(into, pc, words[pc], times);
    }
    if (block.end.kind != EndKind::kBranch) continue;
    const bool both = counts_taken(block.end);
    into.branches_taken[block.end.pc] += both ? taken : times;
    if (both) into.branches_not_taken[block.end.pc] += times - taken;
  }
}

}  // namespace warmfork::lc3::jit
