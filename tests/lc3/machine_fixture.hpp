// A machine to test rules on, with either engine.
#pragma once

#include "lc3/core/engine.hpp"
#include "lc3/jit/host_runner.hpp"
#ifdef WARMFORK_TEST_ORC
#include "lc3/jit/orc/combine.hpp"
#include "lc3/jit/orc/orc_compiler.hpp"
#endif

#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace warmfork::lc3 {

inline void PrintTo(StopReason reason, std::ostream* out) {
  static constexpr const char* kNames[] = {
      "none",           "budget",  "halted",     "input needed", "input exhausted",     "output full",
      "output pending", "idle",    "breakpoint", "watchpoint",   "unhandled exception", "unhandled interrupt",
      "unhandled trap", "compile", "waiting"};
  static_assert(std::size(kNames) == kStopReasonCount);
  *out << kNames[static_cast<std::uint32_t>(reason)];
}

/// kOrc: everything by the optimising compiler. kBoth: its code where that is best entered, xbyak's for the rest.
enum class Engine { kFast, kCareful, kXbyak, kOrc, kBoth };

inline std::string engine_name(const ::testing::TestParamInfo<Engine>& param) {
  switch (param.param) {
    case Engine::kFast: return "fast";
    case Engine::kCareful: return "careful";
    case Engine::kXbyak: return "xbyak";
    case Engine::kOrc: return "orc";
    case Engine::kBoth: break;
  }
  return "both";
}

/// Those that a test program is about: the optimising compiler has one of its own, as LLVM takes a while to load.
#ifdef WARMFORK_TEST_ORC
inline constexpr Engine kEngines[] = {Engine::kOrc, Engine::kBoth};
inline constexpr Engine kFastEngines[] = {Engine::kOrc, Engine::kBoth};
inline constexpr unsigned kRandomPrograms = 150;  // milliseconds to compile each time
inline jit::Compiler compiler_of(Engine engine) {
  static const std::unique_ptr<jit::OrcCompiler> compiler = *jit::OrcCompiler::create();
  return [engine](const jit::Unit& unit, std::uint64_t address) -> Result<jit::MachineCode> {
    std::vector<std::uint16_t> all;
    if (engine == Engine::kOrc) {
      for (const auto& [first, block] : unit.blocks) all.push_back(first);
    }
    auto code = compiler->compile(unit, all, address);
    if (code && engine == Engine::kBoth) code = jit::complete_with_xbyak(unit, *std::move(code));
    EXPECT_TRUE(code) << code.error().message;
    return code;
  };
}
#else
inline constexpr Engine kEngines[] = {Engine::kFast, Engine::kCareful, Engine::kXbyak};
inline constexpr Engine kFastEngines[] = {Engine::kFast, Engine::kXbyak};
inline constexpr unsigned kRandomPrograms = 400;
inline jit::Compiler compiler_of(Engine /*engine*/) { return {}; }
#endif

/// A machine with program space from x3000; every engine runs it.
class Machine {
 public:
  explicit Machine(Engine engine, std::uint32_t config = 0) : engine_(engine), state_(std::make_unique<State>()) {
    initialise(*state_, config);
    if (engine == Engine::kFast || engine == Engine::kCareful) return;
    jit::RunnerOptions options;
    options.cache.compiler = compiler_of(engine);
    runner_ = *jit::HostRunner::create(options);
  }

  State& operator*() { return *state_; }
  State* operator->() { return state_.get(); }
  std::uint16_t& r(unsigned n) { return state_->registers[n]; }
  std::uint16_t& at(std::uint16_t address) { return state_->memory[address]; }
  std::uint16_t cc() { return psr(*state_) & 7; }

  Machine& words(std::uint16_t origin, std::initializer_list<std::uint16_t> values) & {
    EXPECT_TRUE(load(*state_, origin, values.begin(), values.size()));
    return *this;
  }
  Machine words(std::uint16_t origin, std::initializer_list<std::uint16_t> values) && {
    words(origin, values);
    return std::move(*this);
  }
  const RunResult& run(std::uint64_t budget) {
    if (runner_ != nullptr) return runner_->run(*state_, budget);
    return engine_ == Engine::kFast ? run_fast(*state_, budget) : run_careful(*state_, budget);
  }
  /// Runs the words at PC's address, one instruction each, and expects exactly that.
  void step(std::uint64_t count = 1) {
    const RunResult& result = run(count);
    ASSERT_EQ(result.stop, StopReason::kBudget);
    ASSERT_EQ(result.executed, count);
  }
  void feed(std::string_view text) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
    ASSERT_EQ(feed_input(*state_, bytes, static_cast<std::uint32_t>(text.size())), text.size());
  }
  std::string drain() {
    std::string text(kOutputCapacity, '\0');
    text.resize(drain_output(*state_, reinterpret_cast<std::uint8_t*>(text.data()), kOutputCapacity));
    return text;
  }
  /// Leaves room for `room` characters in the output ring.
  void fill_output(std::uint32_t room) { state_->output.head = state_->output.tail + kOutputCapacity - room; }

 private:
  Engine engine_;
  std::unique_ptr<State> state_;
  std::unique_ptr<jit::HostRunner> runner_;
};

class EngineTest : public ::testing::TestWithParam<Engine> {
 protected:
  Machine machine(std::uint32_t config = 0) const { return Machine(GetParam(), config); }
};

#define WARMFORK_ON_EVERY_ENGINE(suite) \
  INSTANTIATE_TEST_SUITE_P(Engines, suite, ::testing::ValuesIn(kEngines), engine_name)

}  // namespace warmfork::lc3
