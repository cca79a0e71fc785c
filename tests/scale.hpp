#pragma once
// How much a test does: everything by default, less where code is slow (instrumented, or on the emulated machine).
#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace warmfork::test {

/// A number of iterations, scaled by WARMFORK_TEST_SCALE (1.0 without it; ./dev sets 0.2 under sanitizers, and the
/// emulated machine 0.1): at least one.
[[nodiscard]] inline std::uint64_t scaled(std::uint64_t iterations) {
  const char* const text = std::getenv("WARMFORK_TEST_SCALE");
  const double scale = text == nullptr ? 1.0 : std::strtod(text, nullptr);
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<double>(iterations) * scale));
}

}  // namespace warmfork::test
