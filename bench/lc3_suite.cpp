// The LC-3 suite: every kernel on every engine in the guest, beside the same interpreter in this process, a plain C
// switch interpreter, and the same algorithm in C++. Results are checked against each other before anything is timed.
#include "base/tsc_clock.hpp"
#include "bench/suites.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/core/engine.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "lc3_bench/native_kernels.hpp"
#include "switch_interpreter.h"

#include <algorithm>
#include <memory>

namespace warmfork::bench {
namespace {

using lc3_bench::NativeKernel;

constexpr std::uint16_t kForever = 0;  // 65,536 rounds: longer than any measurement

// One kernel, loaded everywhere it is to run.
class KernelRun {
 public:
  KernelRun(lc3::Lc3Vm& vm, const NativeKernel& kernel) : vm_(vm), kernel_(kernel) {}

  [[nodiscard]] Status assemble() {
    WARMFORK_TRY_ASSIGN(program_, lc3::assemble(kernel_.source, std::string(kernel_.name) + ".asm"));
    for (const char* label : {"ITERATIONS", "RESULT"}) {
      if (program_.find_symbol(label) == nullptr) {
        return fail(ErrorKind::kInput, "kernel {}: no label {}", kernel_.name, label);
      }
    }
    return {};
  }

  /// Runs a few rounds everywhere and compares checksums; learns the instructions per round.
  [[nodiscard]] Status check() {
    std::uint64_t executed[2];
    for (const std::uint16_t iterations : {std::uint16_t{1}, std::uint16_t{3}}) {
      WARMFORK_TRY(load(iterations));
      constexpr std::uint64_t kLimit = 100'000'000;
      WARMFORK_TRY_ASSIGN(const lc3::RunResult guest, vm_.run(kLimit));
      const lc3::RunResult host = lc3::run_fast(*host_, kLimit);
      const std::uint64_t switched = switch_run(switch_.get(), kLimit);
      WARMFORK_TRY_ASSIGN(const lc3::Registers registers, vm_.registers());
      const std::uint16_t native = kernel_.run(iterations);
      const bool halted = guest.stop == lc3::StopReason::kHalted && host.stop == lc3::StopReason::kHalted;
      const bool same_counts = guest.executed == host.executed && guest.executed == switched;
      const bool same_results =
          registers.general[0] == native && host_->registers[0] == native && switch_->registers[0] == native;
      if (!halted || !same_counts || !same_results) {
        return fail(ErrorKind::kGuestFault,
                    "kernel {}: guest x{:04X} after {}, host x{:04X} after {}, switch x{:04X} after {}, native x{:04X}",
                    kernel_.name, registers.general[0], guest.executed, host_->registers[0], host.executed,
                    switch_->registers[0], switched, native);
      }
      executed[iterations == 1 ? 0 : 1] = guest.executed;
    }
    instructions_per_round_ = static_cast<double>(executed[1] - executed[0]) / 2;
    return {};
  }

  /// Instructions per second of one contender over about `slice_ns`. Each loads the kernel anew when it has halted.
  [[nodiscard]] Result<double> guest(std::uint64_t instructions) {
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY_ASSIGN(const lc3::RunResult result, vm_.run(instructions));
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    if (result.stop == lc3::StopReason::kHalted) WARMFORK_TRY(load_guest(kForever));
    return static_cast<double>(result.executed) / ns * 1e9;
  }
  [[nodiscard]] double host(std::uint64_t instructions) {
    const std::uint64_t begin = tsc_now();
    const lc3::RunResult result = lc3::run_fast(*host_, instructions);
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    if (result.stop == lc3::StopReason::kHalted) load_host(kForever);
    return static_cast<double>(result.executed) / ns * 1e9;
  }
  [[nodiscard]] double plain_switch(std::uint64_t instructions) {
    const std::uint64_t begin = tsc_now();
    const std::uint64_t executed = switch_run(switch_.get(), instructions);
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    if (switch_->halted != 0) load_switch(kForever);
    return static_cast<double>(executed) / ns * 1e9;
  }
  [[nodiscard]] double native(std::uint16_t iterations) {
    const std::uint64_t begin = tsc_now();
    const std::uint16_t result = kernel_.run(iterations);
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    asm volatile("" : : "r"(result));
    return instructions_per_round_ * iterations / ns * 1e9;
  }
  [[nodiscard]] Status load_all() { return load(kForever); }
  [[nodiscard]] double instructions_per_round() const { return instructions_per_round_; }

 private:
  [[nodiscard]] Status load(std::uint16_t iterations) {
    WARMFORK_TRY(load_guest(iterations));
    load_host(iterations);
    load_switch(iterations);
    return {};
  }
  [[nodiscard]] std::uint16_t iterations_address() const { return program_.find_symbol("ITERATIONS")->address; }

  [[nodiscard]] Status load_guest(std::uint16_t iterations) {
    WARMFORK_TRY(vm_.power_on({}));
    WARMFORK_TRY(vm_.load(program_));
    return vm_.write_memory(iterations_address(), std::span(&iterations, 1));
  }
  void load_host(std::uint16_t iterations) {
    if (host_ == nullptr) host_ = std::make_unique<lc3::State>();
    lc3::initialise(*host_, lc3::kDefaultConfig);
    lc3::capture_trap_vectors(*host_);
    for (const lc3::Segment& segment : program_.segments) {
      if (!lc3::load(*host_, segment.origin, segment.words.data(), segment.words.size())) continue;
    }
    host_->pc = program_.entry();
    lc3::poke(*host_, iterations_address(), iterations);
  }
  void load_switch(std::uint16_t iterations) {
    if (switch_ == nullptr) switch_ = std::make_unique<SwitchMachine>();
    *switch_ = {};
    for (const lc3::Segment& segment : program_.segments) {
      std::ranges::copy(segment.words, switch_->memory + segment.origin);
    }
    switch_->memory[iterations_address()] = iterations;
    switch_->pc = program_.entry();
    switch_->condition = 2;
    switch_->registers[6] = lc3::kInitialR6;
  }

  lc3::Lc3Vm& vm_;
  const NativeKernel& kernel_;
  lc3::Program program_;
  std::unique_ptr<lc3::State> host_;
  std::unique_ptr<SwitchMachine> switch_;
  double instructions_per_round_ = 0;
};

struct Rates {
  std::vector<double> interp, host, plain_switch, native;
};

double median_ratio(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> ratios(above.size());
  std::ranges::transform(above, below, ratios.begin(), [](double a, double b) { return b > 0 ? a / b : 0; });
  std::ranges::sort(ratios);
  return ratios.empty() ? 0 : ratios[ratios.size() / 2];
}

// Slices of about the same time for every contender, one after the other, round by round.
Result<Rates> measure(KernelRun& kernel, std::uint64_t rounds) {
  constexpr double kSliceSeconds = 0.01;
  const auto instructions = [](double rate) { return static_cast<std::uint64_t>(rate * kSliceSeconds) + 1; };
  WARMFORK_TRY(kernel.load_all());
  WARMFORK_TRY_ASSIGN(const double guest_rate, kernel.guest(1'000'000));
  const double host_rate = kernel.host(1'000'000);
  const double switch_rate = kernel.plain_switch(1'000'000);
  const double native_rate = kernel.native(1);
  const auto native_rounds = static_cast<std::uint16_t>(
      std::clamp(native_rate * kSliceSeconds / kernel.instructions_per_round(), 1.0, 65535.0));
  Rates rates;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    WARMFORK_TRY_ASSIGN(const double guest, kernel.guest(instructions(guest_rate)));
    rates.interp.push_back(guest);
    rates.host.push_back(kernel.host(instructions(host_rate)));
    rates.plain_switch.push_back(kernel.plain_switch(instructions(switch_rate)));
    rates.native.push_back(kernel.native(native_rounds));
  }
  return rates;
}

}  // namespace

SuiteResult run_lc3(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<lc3::Lc3Vm> vm, lc3::Lc3Vm::create(*options.kvm, {}));
  std::vector<Figure> figures;
  for (const NativeKernel& native_kernel : lc3_bench::native_kernels()) {
    options.say(fmt::format("lc3: {}", native_kernel.name));
    KernelRun kernel(*vm, native_kernel);
    WARMFORK_TRY(kernel.assemble());
    WARMFORK_TRY(kernel.check());
    WARMFORK_TRY_ASSIGN(const Rates rates, measure(kernel, options.samples(25, 3)));
    const std::string prefix = fmt::format("lc3/{}/", native_kernel.name);
    Figure interp = from_values(prefix + "interp", "instr/s", rates.interp);
    Figure native = from_values(prefix + "native", "instr/s", rates.native);
    set_floor(interp, native);
    interp.counters["ratio_to_switch"] = median_ratio(rates.interp, rates.plain_switch);
    interp.counters["ratio_to_host"] = median_ratio(rates.interp, rates.host);
    // Where code and data happen to lie moves single rounds by several percent, in the guest and here alike; the best
    // rounds compare the two machines rather than their luck.
    interp.counters["ratio_to_host_best"] =
        *std::ranges::max_element(rates.interp) / *std::ranges::max_element(rates.host);
    figures.push_back(std::move(interp));
    figures.push_back(from_values(prefix + "interp_host", "instr/s", rates.host));
    figures.push_back(from_values(prefix + "switch", "instr/s", rates.plain_switch));
    figures.push_back(std::move(native));
  }
  return figures;
}

}  // namespace warmfork::bench
