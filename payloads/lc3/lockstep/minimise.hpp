// Makes a case that fails smaller while it still fails: fewer words, instructions, input, registers.
//
// Threads: any; everything is a function of the arguments, if the predicate is.
#pragma once

#include "lc3/lockstep/case.hpp"

#include <cstdint>
#include <functional>
#include <optional>

namespace warmfork::lc3 {

/// After how many instructions a case has been seen to fail, or nothing if it does not (Lockstep::differs()).
using FailsAt = std::function<std::optional<std::uint64_t>(const LockstepCase&)>;

/// Delta debugging, at most `most_tries` runs. `one` fails; so does what is returned. Words that are dropped are zero,
/// which is a NOP.
[[nodiscard]] LockstepCase minimise(const LockstepCase& one, const FailsAt& fails, std::uint64_t most_tries = 20'000);

}  // namespace warmfork::lc3
