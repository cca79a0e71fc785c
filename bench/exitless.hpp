// Calls through the ring, without exits, beside what bounds them: a cache line that travels to another CPU and back.
#pragma once

#include "base/result.hpp"
#include "bench/figure.hpp"
#include "bench/suites.hpp"

#include <vector>

namespace warmfork::bench {

/// Appends lifecycle/request/exitless and, measured in turn with it, its floor floors/cacheline_pingpong; nothing if
/// there is only one CPU. The caller runs on options.cpu, the guest on options.other_cpu.
[[nodiscard]] Status measure_exitless(const SuiteOptions& options, std::vector<Figure>& out);

}  // namespace warmfork::bench
