// What `warmfork bench lifecycle` shows to people: one table of a fork's life with its floors, the sweep of reset modes
// over dirty pages, threads, density, a recommendation in words, and plots. Pure functions of figures.
#pragma once

#include "base/result.hpp"
#include "bench/figure.hpp"

#include <string>
#include <vector>

namespace warmfork::bench {

/// The report; empty if the figures are not of the lifecycle suite.
[[nodiscard]] std::string lifecycle_report(const std::vector<Figure>& figures);

/// What to choose on this machine, from these figures.
[[nodiscard]] std::string lifecycle_advice(const std::vector<Figure>& figures);

/// Draws the latency of resets and of requests against dirty pages, one line per mode: `base`-reset.{png,svg} and
/// `base`-request.{png,svg}, as far as there are figures. Errors: as write_plot(); kUsage, there are none.
[[nodiscard]] Status plot_lifecycle(const std::vector<Figure>& figures, const std::string& base);

}  // namespace warmfork::bench
