// The fork figures of the lifecycle suite: brand-new forks, forks from a pool, every reset mode over a sweep of dirty
// pages, whole requests, scaling over threads, density. Each beside its floor, interleaved.
#pragma once

#include "base/result.hpp"
#include "bench/suites.hpp"

#include <vector>

namespace warmfork::bench {

[[nodiscard]] Status measure_forks(const SuiteOptions& options, std::vector<Figure>& figures);

/// lifecycle/density: 20,000 space forks and 2,000 vm forks (scaled by the effort) alive at once, each having answered;
/// lifecycle/scaling/…: requests per second on one and on two threads.
[[nodiscard]] Status measure_density_and_scaling(const SuiteOptions& options, std::vector<Figure>& figures);

}  // namespace warmfork::bench
