// Engines as lockstep sees them: whatever can run a machine for a number of instructions.
//
// Threads: one at a time per engine.
#pragma once

#include "base/result.hpp"
#include "warmfork/lc3/state.hpp"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

class LockstepEngine {
 public:
  LockstepEngine() = default;
  virtual ~LockstepEngine() = default;
  LockstepEngine(const LockstepEngine&) = delete;
  LockstepEngine& operator=(const LockstepEngine&) = delete;

  [[nodiscard]] virtual std::string_view name() const = 0;
  /// As run_careful(): exactly the budget, unless the machine stops before. The result is also left in state.result.
  virtual const RunResult& run(State& state, std::uint64_t budget) = 0;
  /// What the engine itself has found to be wrong since the program began; empty if nothing. Counts as a difference.
  [[nodiscard]] virtual std::string complaint() const { return {}; }
  /// Another program begins: nothing is known of those before, so that runs repeat exactly.
  virtual void forget() {}
  /// What the engine makes of the instructions around PC, for reports: its intermediate form, its machine code.
  [[nodiscard]] virtual std::string explain(const State&) { return {}; }
};

/// "careful", "fast", "xbyak", "orc": what make_engine() knows. The first is what the others are measured against.
[[nodiscard]] std::span<const std::string_view> engine_names();

/// Errors: kUsage, there is no such engine; kHost, no memory for code; kUnsupported, no LLVM.
[[nodiscard]] Result<std::unique_ptr<LockstepEngine>> make_engine(std::string_view name);
[[nodiscard]] Result<std::vector<std::unique_ptr<LockstepEngine>>> make_engines(std::span<const std::string> names);

}  // namespace warmfork::lc3
