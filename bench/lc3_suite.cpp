// The LC-3 suite: every kernel on every engine in the guest, beside the same interpreter in this process, a plain C
// switch interpreter, and the same algorithm in C++. Results are checked against each other before anything is timed.
#include "base/mapping.hpp"
#include "base/tsc_clock.hpp"
#include "bench/lc3_compilers.hpp"
#include "bench/lc3_start.hpp"
#include "bench/outliers.hpp"
#include "bench/suites.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/core/engine.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "lc3/jit/host_runner.hpp"
#include "lc3_bench/native_kernels.hpp"
#include "switch_interpreter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>

namespace warmfork::bench {
namespace {

using lc3_bench::NativeKernel;

constexpr std::uint16_t kForever = 0;  // 65,536 rounds: longer than any measurement

// One machine in a guest, with its engine.
struct GuestEngine {
  std::string name;
  lc3::Engine engine;
  bool stats = false;  // counts as it runs
  std::unique_ptr<lc3::Lc3Vm> vm{};

  [[nodiscard]] Status power_on() const {
    WARMFORK_TRY(vm->power_on({.engine = engine}));
    return stats ? vm->instrument(lc3::InstrumentMode::kCollect) : Status{};
  }
};

// Every engine, and the two that count: in compiled code, and carefully.
std::vector<GuestEngine> guest_engines() {
  std::vector<GuestEngine> engines;
  for (const char* name : lc3::kEngineNames) engines.push_back({.name = name, .engine = *lc3::engine_named(name)});
  engines.push_back({.name = "xbyak_stats", .engine = lc3::Engine::kXbyak, .stats = true});
  engines.push_back({.name = "interp_stats", .engine = lc3::Engine::kInterpreter, .stats = true});
  return engines;
}

// One kernel, loaded everywhere it is to run.
class KernelRun {
 public:
  KernelRun(std::span<GuestEngine> guests, lc3::jit::HostRunner& compiled, const NativeKernel& kernel)
      : guests_(guests), compiled_runner_(compiled), kernel_(kernel) {}

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
      const std::uint64_t expected = switch_run(switch_.get(), kLimit);
      const std::uint16_t native = kernel_.run(iterations);
      const auto compare = [&](std::string_view who, bool halted, std::uint64_t count, std::uint16_t result) -> Status {
        if (halted && count == expected && result == native) return {};
        return fail(ErrorKind::kGuestFault, "kernel {}: {} {} after {} with x{:04X}, expected {} and x{:04X}",
                    kernel_.name, who, halted ? "halted" : "stopped", count, result, expected, native);
      };
      WARMFORK_TRY(compare("switch", switch_->halted != 0, expected, switch_->registers[0]));
      for (const GuestEngine& guest : guests_) {
        WARMFORK_TRY_ASSIGN(const lc3::RunResult run, guest.vm->run(kLimit));
        WARMFORK_TRY_ASSIGN(const lc3::Registers registers, guest.vm->registers());
        WARMFORK_TRY(compare(guest.name, run.stop == lc3::StopReason::kHalted, run.executed, registers.general[0]));
      }
      const lc3::RunResult host = lc3::run_fast(*host_, kLimit);
      WARMFORK_TRY(compare("host", host.stop == lc3::StopReason::kHalted, host.executed, host_->registers[0]));
      const lc3::RunResult compiled = compiled_runner_.run(*compiled_, kLimit);
      WARMFORK_TRY(compare("compiled on the host", compiled.stop == lc3::StopReason::kHalted, compiled.executed,
                           compiled_->registers[0]));
      executed[iterations == 1 ? 0 : 1] = expected;
    }
    instructions_per_round_ = static_cast<double>(executed[1] - executed[0]) / 2;
    return {};
  }

  /// Instructions per second of one contender over so many instructions. Each loads the kernel anew when it has halted.
  [[nodiscard]] Result<double> guest(std::size_t which, std::uint64_t instructions) {
    lc3::Lc3Vm& vm = *guests_[which].vm;
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY_ASSIGN(const lc3::RunResult result, vm.run(instructions));
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    if (result.stop == lc3::StopReason::kHalted) WARMFORK_TRY(load_guest(vm, kForever));
    return static_cast<double>(result.executed) / ns * 1e9;
  }
  [[nodiscard]] double host(std::uint64_t instructions) {
    const std::uint64_t begin = tsc_now();
    const lc3::RunResult result = lc3::run_fast(*host_, instructions);
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    if (result.stop == lc3::StopReason::kHalted) load_host(host_, kForever);
    return static_cast<double>(result.executed) / ns * 1e9;
  }
  [[nodiscard]] double compiled(std::uint64_t instructions) {
    const std::uint64_t begin = tsc_now();
    const lc3::RunResult result = compiled_runner_.run(*compiled_, instructions);
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    if (result.stop == lc3::StopReason::kHalted) load_host(compiled_, kForever);
    return static_cast<double>(result.executed) / ns * 1e9;
  }
  [[nodiscard]] double plain_switch(std::uint64_t instructions) {
    const std::uint64_t begin = tsc_now();
    const std::uint64_t executed = switch_run(switch_.get(), instructions);
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    if (switch_->halted != 0) load_switch(kForever);
    return static_cast<double>(executed) / ns * 1e9;
  }
  [[nodiscard]] double native(std::uint64_t iterations) {
    const std::uint64_t begin = tsc_now();
    const std::uint16_t result = kernel_.run(static_cast<std::uint16_t>(iterations));
    const double ns = tsc_to_ns(tsc_now_ordered() - begin);
    asm volatile("" : : "r"(result));
    return instructions_per_round_ * static_cast<double>(iterations) / ns * 1e9;
  }
  [[nodiscard]] Status load_all() { return load(kForever); }
  [[nodiscard]] double instructions_per_round() const { return instructions_per_round_; }
  [[nodiscard]] std::span<GuestEngine> guests() const { return guests_; }

 private:
  [[nodiscard]] Status load(std::uint16_t iterations) {
    for (const GuestEngine& guest : guests_) WARMFORK_TRY(load_guest(*guest.vm, iterations));
    load_host(host_, iterations);
    load_host(compiled_, iterations);
    load_switch(iterations);
    return {};
  }
  [[nodiscard]] std::uint16_t iterations_address() const { return program_.find_symbol("ITERATIONS")->address; }

  // The program, its data and its registers as at the start: the guest's whole State would be a power-on, after which
  // nothing is compiled.
  [[nodiscard]] Status load_guest(lc3::Lc3Vm& vm, std::uint16_t iterations) {
    WARMFORK_TRY(vm.load(program_));
    WARMFORK_TRY(vm.write_register(lc3::kRegisterMcr, lc3::kMcrRun));
    WARMFORK_TRY(vm.write_register(static_cast<lc3::RegisterId>(6), lc3::kInitialR6));
    return vm.write_memory(iterations_address(), std::span(&iterations, 1));
  }
  void load_host(std::unique_ptr<lc3::State>& state, std::uint16_t iterations) {
    if (state == nullptr) state = std::make_unique<lc3::State>();
    lc3::initialise(*state, lc3::kDefaultConfig);
    lc3::capture_trap_vectors(*state);
    for (const lc3::Segment& segment : program_.segments) {
      if (!lc3::load(*state, segment.origin, segment.words.data(), segment.words.size())) continue;
    }
    state->pc = program_.entry();
    lc3::poke(*state, iterations_address(), iterations);
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

  std::span<GuestEngine> guests_;
  lc3::jit::HostRunner& compiled_runner_;
  const NativeKernel& kernel_;
  lc3::Program program_;
  std::unique_ptr<lc3::State> host_, compiled_;
  std::unique_ptr<SwitchMachine> switch_;
  double instructions_per_round_ = 0;
};

double median_ratio(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> ratios(above.size());
  std::ranges::transform(above, below, ratios.begin(), [](double a, double b) { return b > 0 ? a / b : 0; });
  std::ranges::sort(ratios);
  return ratios.empty() ? 0 : ratios[ratios.size() / 2];
}

struct Rates {
  std::vector<std::vector<double>> guests;
  std::vector<double> host, compiled, plain_switch, native;
};

// Slices of about the same time for every contender, one after the other, round by round.
Result<Rates> measure(KernelRun& kernel, std::uint64_t rounds) {
  constexpr double kSliceSeconds = 0.01;
  const auto instructions = [](double rate) { return static_cast<std::uint64_t>(rate * kSliceSeconds) + 1; };
  // Long enough for what is compiled while it runs to be compiled, then once more to learn the speed.
  constexpr std::uint64_t kWarmUp = 20'000'000;
  WARMFORK_TRY(kernel.load_all());
  const std::size_t guests = kernel.guests().size();
  std::vector<std::uint64_t> guest_slices(guests);
  for (std::size_t i = 0; i < guests; ++i) {
    const GuestEngine& guest = kernel.guests()[i];
    // The careful path is slow, and has nothing to compile.
    const bool careful = guest.stats && guest.engine == lc3::Engine::kInterpreter;
    const std::uint64_t warm_up = careful ? 1'000'000 : kWarmUp;
    WARMFORK_TRY(kernel.guest(i, warm_up));
    guest.vm->finish_optimising();
    WARMFORK_TRY_ASSIGN(const double rate, kernel.guest(i, warm_up));
    guest_slices[i] = instructions(rate);
  }
  const std::uint64_t host_slice = instructions(kernel.host(kWarmUp));
  static_cast<void>(kernel.compiled(kWarmUp));
  const std::uint64_t compiled_slice = instructions(kernel.compiled(kWarmUp));
  const std::uint64_t switch_slice = instructions(kernel.plain_switch(1'000'000));
  const double native_rate = kernel.native(1);
  const auto native_rounds = static_cast<std::uint64_t>(
      std::clamp(native_rate * kSliceSeconds / kernel.instructions_per_round(), 1.0, 65535.0));
  Rates rates;
  rates.guests.resize(guests);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < guests; ++i) {
      WARMFORK_TRY_ASSIGN(const double rate, kernel.guest(i, guest_slices[i]));
      rates.guests[i].push_back(rate);
    }
    rates.host.push_back(kernel.host(host_slice));
    rates.compiled.push_back(kernel.compiled(compiled_slice));
    rates.plain_switch.push_back(kernel.plain_switch(switch_slice));
    rates.native.push_back(kernel.native(native_rounds));
  }
  return rates;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

// Where code and data happen to lie moves single rounds by several percent, in the guest and here alike; the best
// rounds compare the two machines rather than their luck.
double best_ratio(const std::vector<double>& above, const std::vector<double>& below) {
  return *std::ranges::max_element(above) / *std::ranges::max_element(below);
}

// The geometric mean over the kernels that do not modify themselves.
class GeometricMeans {
 public:
  void add(const std::string& name, double value) {
    auto& [sum, count] = of_[name];
    sum += std::log(value);
    ++count;
  }
  void report(std::vector<Figure>& figures) const {
    for (const auto& [name, entry] : of_) {
      figures.push_back(from_values("lc3/geomean/" + name, "instr/s", {std::exp(entry.first / entry.second)}));
    }
  }

 private:
  std::map<std::string, std::pair<double, int>> of_;
};

// How long 1,000 instructions take, run by run, timed in the guest, and what happened in those that took much longer.
// Short calls, because what the host counts beside them is known per call only.
Result<Figure> instruction_latency(const SuiteOptions& options, const GuestEngine& guest, std::string name) {
  constexpr std::uint64_t kQuantum = 1000, kRunsPerCall = 1000;
  lc3::Lc3Vm& vm = *guest.vm;
  const std::uint64_t wanted = kRunsPerCall * options.samples(200, 5);
  std::vector<TimedCall> calls;
  std::vector<double> ns;
  while (ns.size() < wanted) {
    WARMFORK_TRY_ASSIGN(const Interruptions before, Interruptions::now(vm.machine().vcpu(), options.cpu));
    WARMFORK_TRY_ASSIGN(lc3::TimedRuns timed, vm.time_runs(kQuantum, std::min(kRunsPerCall, wanted - ns.size())));
    WARMFORK_TRY_ASSIGN(const Interruptions after, Interruptions::now(vm.machine().vcpu(), options.cpu));
    if (timed.runs.empty()) break;
    for (const lc3::TimedRun& run : timed.runs) ns.push_back(tsc_to_ns(run.ticks) / kQuantum);
    calls.push_back({.runs = std::move(timed.runs),
                     .compiled = timed.compiled,
                     .stolen_ns = after.stolen_ns - before.stolen_ns,
                     .exits = after.exits - before.exits});
  }
  if (ns.empty()) return fail(ErrorKind::kGuestFault, "no run of {} instructions could be timed", kQuantum);
  double sum = 0;
  for (const double value : ns) sum += value;
  const double mean = sum / static_cast<double>(ns.size());
  Causes causes{};
  for (const TimedCall& call : calls) attribute(call, mean * kQuantum, tsc_ns_per_tick(), causes);
  Figure figure = from_values(std::move(name), "ns/instr", std::move(ns));
  figure.counters["mean"] = mean;
  add_counters(causes, figure);
  return figure;
}

// A kernel that goes on for ever, from power-on.
Status load_forever(const GuestEngine& guest, std::string_view name) {
  const auto kernels = lc3_bench::native_kernels();
  const auto kernel = std::ranges::find(kernels, name, &NativeKernel::name);
  if (kernel == kernels.end()) return fail(ErrorKind::kInput, "no kernel {}", name);
  WARMFORK_TRY(guest.vm->power_on({.engine = *lc3::engine_named(guest.name)}));
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::assemble(kernel->source, "kernel.asm"));
  WARMFORK_TRY(guest.vm->load(program));
  return guest.vm->write_memory(program.find_symbol("ITERATIONS")->address, std::span(&kForever, 1));
}

}  // namespace

SuiteResult run_lc3(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<GuestEngine> guests = guest_engines();
  for (GuestEngine& guest : guests) {
    WARMFORK_TRY_ASSIGN(guest.vm, lc3::Lc3Vm::create(*options.kvm, {.engine = guest.engine}));
  }
  std::vector<Figure> figures;
  GeometricMeans means;
  for (const NativeKernel& native_kernel : lc3_bench::native_kernels()) {
    options.say(fmt::format("lc3: {}", native_kernel.name));
    for (const GuestEngine& guest : guests) WARMFORK_TRY(guest.power_on());
    WARMFORK_TRY_ASSIGN(const std::unique_ptr<lc3::jit::HostRunner> compiled, lc3::jit::HostRunner::create());
    KernelRun kernel(guests, *compiled, native_kernel);
    WARMFORK_TRY(kernel.assemble());
    WARMFORK_TRY(kernel.check());
    WARMFORK_TRY_ASSIGN(const Rates rates, measure(kernel, options.samples(25, 3)));
    const std::string prefix = fmt::format("lc3/{}/", native_kernel.name);
    const bool in_mean = std::string_view(native_kernel.name) != "smc";
    Figure native = from_values(prefix + "native", "instr/s", rates.native);
    for (std::size_t i = 0; i < guests.size(); ++i) {
      Figure figure = from_values(prefix + guests[i].name, "instr/s", rates.guests[i]);
      set_floor(figure, native);
      figure.counters["ratio_to_switch"] = median_ratio(rates.guests[i], rates.plain_switch);
      figure.counters["ratio_to_interp"] = median_ratio(rates.guests[i], rates.guests[0]);
      const bool interpreter = guests[i].engine == lc3::Engine::kInterpreter;
      if (guests[i].stats) {
        const auto plain = static_cast<std::size_t>(guests[i].engine);  // the first engines are all there are, in order
        figure.counters["ratio_to_plain"] = median_ratio(rates.guests[i], rates.guests[plain]);
      } else {
        const std::vector<double>& here = interpreter ? rates.host : rates.compiled;
        figure.counters["ratio_to_host"] = median_ratio(rates.guests[i], here);
        figure.counters["ratio_to_host_best"] = best_ratio(rates.guests[i], here);
      }
      if (in_mean) means.add(guests[i].name, median(rates.guests[i]));
      figures.push_back(std::move(figure));
    }
    if (in_mean) means.add("native", median(rates.native));
    figures.push_back(from_values(prefix + "interp_host", "instr/s", rates.host));
    figures.push_back(from_values(prefix + "xbyak_host", "instr/s", rates.compiled));
    figures.push_back(from_values(prefix + "switch", "instr/s", rates.plain_switch));
    figures.push_back(std::move(native));
  }
  means.report(figures);
  options.say("lc3: latency of an instruction");
  for (const GuestEngine& guest : guests) {
    if (guest.stats) continue;
    WARMFORK_TRY(load_forever(guest, "alu"));
    WARMFORK_TRY(guest.vm->run(1'000'000));
    guest.vm->finish_optimising();
    const std::string name = fmt::format("lc3/instr_latency/{}", guest.name);
    WARMFORK_TRY_ASSIGN(Figure warm, instruction_latency(options, guest, name));
    figures.push_back(std::move(warm));
    // Once more with everything that compilers do in it, and from the first instruction on.
    WARMFORK_TRY(load_forever(guest, "smc"));
    WARMFORK_TRY_ASSIGN(Figure cold, instruction_latency(options, guest, name + "/cold_smc"));
    figures.push_back(std::move(cold));
  }
  options.say("lc3: compiling");
  for (const auto& more : {run_lc3_compilers, run_lc3_start}) {
    WARMFORK_TRY_ASSIGN(const std::vector<Figure> measured, more(options));
    figures.insert(figures.end(), measured.begin(), measured.end());
  }
  return figures;
}

}  // namespace warmfork::bench
