// The compilers of LC-3 code by themselves: what they take, and what they leave in memory.
#pragma once

#include "bench/suites.hpp"

namespace warmfork::bench {

/// Each figure counts per LC-3 instruction compiled, for generated programs of 10, 100 and 1,000 of them:
///   jit/compile/xbyak[/10|/100]   ns   words to code that can be executed; without a number: 1,000 instructions
///   jit/compile/orc               ns   LLVM on the kernels' units; with a number: on generated loops
///   jit/memory/COMPILER/N         bytes of machine code, tables and the host's bookkeeping, by counters:
///     code_bytes_per_instruction      machine code
///     table_bytes_per_instruction     pages of the code region that were written, less the code: entries, guarded
///                                     words, copies of words, what is left of pages
///     host_bytes_per_instruction      the host's heap that stays for as long as the code does (where malloc tells)
///     waiting_bytes_per_instruction   heap beyond that until the optimiser has got to it; not in the sum
/// `orc` has both: the fast compiler's version, and the one by LLVM in its place. LLVM's own memory is not counted.
[[nodiscard]] SuiteResult run_lc3_compilers(const SuiteOptions& options);

}  // namespace warmfork::bench
