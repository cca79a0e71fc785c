// Which NUMA nodes this machine has, and memory on one of them or on all. By system calls: what libnuma adds is not
// needed for two of them.
//
// Threads: any; no state.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace warmfork::bench {

/// The numbers in a kernel's list ("0", "0-2,5"; Linux Documentation/admin-guide/cputopology.rst), ascending; empty:
/// it is none.
[[nodiscard]] std::vector<int> parse_number_list(const std::string& text);
/// Nodes with memory; node 0 where the kernel does not know of any.
[[nodiscard]] std::vector<int> memory_nodes();
/// The node of a CPU, or -1: the kernel does not say.
[[nodiscard]] int node_of_cpu(int cpu);
/// Pages of `memory` (whole pages) that appear from now on come from `nodes`: from the one, or in turns from all.
/// Source: mbind(2). Errors: kUnsupported (no such system call, or not for us), kUsage (no nodes, or one beyond 1023),
/// kHost.
[[nodiscard]] Status place_on(std::span<std::byte> memory, const std::vector<int>& nodes);

}  // namespace warmfork::bench
