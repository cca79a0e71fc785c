#include "lc3/lockstep/engine.hpp"

#include "lc3/core/engine.hpp"
#include "lc3/jit/host_runner.hpp"
#include "lc3/jit/llvm_module.hpp"
#include "lc3/jit/xbyak_compiler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace warmfork::lc3 {
namespace {

class Careful final : public LockstepEngine {
 public:
  [[nodiscard]] std::string_view name() const override { return "careful"; }
  const RunResult& run(State& state, std::uint64_t budget) override { return run_careful(state, budget); }
};

class Fast final : public LockstepEngine {
 public:
  [[nodiscard]] std::string_view name() const override { return "fast"; }
  const RunResult& run(State& state, std::uint64_t budget) override { return lc3::run(state, budget); }
};

// One line per LC-3 instruction: offset, address, bytes.
std::string machine_code_text(const jit::Unit& unit, const jit::Block& block) {
  const auto code = jit::compile_with_xbyak(unit, {.marks = true});
  if (!code) return fmt::format("  does not compile: {}\n", code.error().message);
  const auto entry = std::ranges::find(code->entries, block.first, &jit::MachineCode::Mark::address);
  std::string text;
  for (std::size_t i = 0; i < code->marks.size(); ++i) {
    const auto [offset, address] = code->marks[i];
    // What lies before its entry is the end of the block in front, which may bear the same address.
    if (offset < entry->offset || address < block.first || address > block.end.pc) continue;
    const std::size_t end = i + 1 < code->marks.size() ? code->marks[i + 1].offset : code->bytes.size();
    if (end == offset) continue;
    text += fmt::format("  +{:05X}  x{:04X} ", offset, address);
    for (std::size_t at = offset; at < end; ++at) text += fmt::format(" {:02x}", code->bytes[at]);
    text += "\n";
  }
  return text;
}

class Compiling final : public LockstepEngine {
 public:
  Compiling(std::string_view name, std::unique_ptr<jit::HostRunner> runner) : name_(name), runner_(std::move(runner)) {}

  [[nodiscard]] std::string_view name() const override { return name_; }
  const RunResult& run(State& state, std::uint64_t budget) override { return runner_->run(state, budget); }
  void forget() override { runner_->clear(); }
  [[nodiscard]] std::string complaint() const override {
    return runner_->failure() ? runner_->failure()->message : std::string{};
  }

  [[nodiscard]] std::string explain(const State& state) override {
    const std::span<const std::uint16_t, kMemoryWords> words(state.memory);
    const jit::Unit unit = runner_->cache().unit(words, state.lea_sets_cc != 0);
    auto at = unit.blocks.upper_bound(state.pc);
    if (at == unit.blocks.begin()) return "no block: the instruction is interpreted\n";
    const jit::Block& block = (--at)->second;
    // What ends a block without being counted is the interpreter's.
    if (state.pc >= block.first + block.count && state.pc != block.end.pc) {
      return "no block: the instruction is interpreted\n";
    }
    // A block runs as a whole, or is interpreted if the budget ends in it: the cause may lie before PC.
    return fmt::format("block, optimised (it parts as a whole, the cause may lie before PC):\n{}machine code:\n{}",
                       jit::to_string(block), machine_code_text(unit, block));
  }

 private:
  std::string_view name_;
  std::unique_ptr<jit::HostRunner> runner_;
};

constexpr std::array<std::string_view, 4> kNames{"careful", "fast", "xbyak", "orc"};

}  // namespace

std::span<const std::string_view> engine_names() { return kNames; }

Result<std::unique_ptr<LockstepEngine>> make_engine(std::string_view name) {
  if (name == "careful") return std::make_unique<Careful>();
  if (name == "fast") return std::make_unique<Fast>();
  if (name == "xbyak") {
    WARMFORK_TRY_ASSIGN(auto runner, jit::HostRunner::create());
    return std::make_unique<Compiling>(kNames[2], std::move(runner));
  }
  if (name == "orc") {
    // At once and for everything, where a guest's machine would go on in the meantime.
    WARMFORK_TRY_ASSIGN(const jit::LlvmModule* llvm, jit::llvm_module());
    WARMFORK_TRY_ASSIGN(const auto compile, llvm->make_compiler(false));
    jit::RunnerOptions options;
    options.cache.compiler = [compile](const jit::Unit& unit, std::uint64_t) { return compile(unit); };
    WARMFORK_TRY_ASSIGN(auto runner, jit::HostRunner::create(options));
    return std::make_unique<Compiling>(kNames[3], std::move(runner));
  }
  return fail(ErrorKind::kUsage, "there is no engine \"{}\"; there are {}", name, fmt::join(kNames, ", "));
}

Result<std::vector<std::unique_ptr<LockstepEngine>>> make_engines(std::span<const std::string> names) {
  std::vector<std::unique_ptr<LockstepEngine>> engines;
  for (const std::string& name : names) {
    WARMFORK_TRY_ASSIGN(auto engine, make_engine(name));
    engines.push_back(std::move(engine));
  }
  return engines;
}

}  // namespace warmfork::lc3
