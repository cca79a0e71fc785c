// Programs for lockstep, each a function of its seed. A generator aims at one way in which engines could part.
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "lc3/lockstep/case.hpp"

#include <cstdint>
#include <span>
#include <string_view>

namespace warmfork::lc3 {

struct LockstepGenerator {
  std::string_view name;
  std::string_view about;
  void (*make)(std::uint64_t seed, LockstepCase& one);
};

[[nodiscard]] std::span<const LockstepGenerator> lockstep_generators();

/// The case of a seed. Budgets are what the generator finds interesting, at most `budget`.
[[nodiscard]] LockstepCase generate(const LockstepGenerator& generator, std::uint64_t seed, std::uint64_t budget);

/// Errors (kUsage): there is no such generator.
[[nodiscard]] Result<const LockstepGenerator*> find_generator(std::string_view name);

}  // namespace warmfork::lc3
