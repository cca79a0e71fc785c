// Figures as people read them.
#pragma once

#include "bench/figure.hpp"

#include <string>
#include <vector>

namespace warmfork::bench {

/// A table for people: name, p50, p99, p99.9, max, and the ratio to the floor.
[[nodiscard]] std::string to_table(const std::vector<Figure>& figures);

/// The name with what tells it from others of that name: "lifecycle/reset/auto 8 dirty".
[[nodiscard]] std::string full_name(const Figure& figure);

/// "26.1 µs", "1.43 G instr/s": a value with a unit people read.
[[nodiscard]] std::string format_value(double value, const std::string& unit);

}  // namespace warmfork::bench
