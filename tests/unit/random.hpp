// Random numbers for property tests. The seed is printed with every failure and can be given back:
//   WARMFORK_TEST_SEED=123 build/ci/tests/unit/x86_tests --gtest_filter='PageTables*'
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace warmfork::test {

class Random {
 public:
  Random()
      : seed_(choose_seed()),
        engine_(seed_),
        trace_(__FILE__, __LINE__, "WARMFORK_TEST_SEED=" + std::to_string(seed_)) {}

  /// Any number from 0 to `limit` - 1.
  std::uint64_t below(std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(engine_);
  }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  std::uint64_t word() { return engine_(); }

 private:
  static std::uint64_t choose_seed() {
    const char* const text = std::getenv("WARMFORK_TEST_SEED");
    return text == nullptr ? std::random_device{}() : std::strtoull(text, nullptr, 0);
  }

  std::uint64_t seed_;
  std::mt19937_64 engine_;
  ::testing::ScopedTrace trace_;
};

}  // namespace warmfork::test
