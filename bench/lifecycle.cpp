#include "base/tsc_clock.hpp"
#include "bench/exitless.hpp"
#include "bench/floor_probe.hpp"
#include "bench/forks.hpp"
#include "bench/suites.hpp"
#include "machine/machine.hpp"

#include <chrono>
#include <memory>
#include <optional>

extern "C" const unsigned char warmfork_bench_empty_call_begin[];
extern "C" const unsigned char warmfork_bench_empty_call_end[];

namespace warmfork::bench {
namespace {

std::span<const std::byte> guest_elf() {
  return std::as_bytes(std::span(warmfork_bench_empty_call_begin, warmfork_bench_empty_call_end));
}

Result<std::unique_ptr<Machine>> make_machine(const kvm::Kvm& kvm) {
  return Machine::create(kvm, guest_elf(), "empty_call",
                         {.memory_bytes = std::uint64_t{1} << 20, .stack_bytes = 64 << 10});
}

struct Lifecycle {
  Histogram construct, boot, first_call, destruct;
};

// One machine's whole life, each part timed.
Status live(const SuiteOptions& options, Lifecycle& times) {
  const std::uint64_t start = tsc_now();
  WARMFORK_TRY_ASSIGN(std::unique_ptr<Machine> machine, make_machine(*options.kvm));
  const std::uint64_t constructed = tsc_now_ordered();
  WARMFORK_TRY_ASSIGN(const BootOutcome outcome, machine->boot());
  const std::uint64_t booted = tsc_now_ordered();
  if (outcome.exit_code)
    return fail(ErrorKind::kGuestFault, "the benchmark's guest exited with {}", *outcome.exit_code);
  WARMFORK_TRY_ASSIGN(const Gva function, machine->find_vmcall("empty_call"));
  const std::array<std::uint64_t, 1> argument{42};
  const std::uint64_t before_call = tsc_now();
  WARMFORK_TRY_ASSIGN(const std::uint64_t result, machine->call(function, argument));
  const std::uint64_t called = tsc_now_ordered();
  if (result != 42) return fail(ErrorKind::kGuestFault, "vmcall returned {}, expected 42", result);
  const std::uint64_t before_end = tsc_now();
  machine.reset();
  const std::uint64_t ended = tsc_now_ordered();
  times.construct.record(constructed - start);
  times.boot.record(booted - constructed);
  times.first_call.record(called - before_call);
  times.destruct.record(ended - before_end);
  return {};
}

}  // namespace

SuiteResult run_lifecycle(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  WARMFORK_TRY(probe.warm_up());
  std::vector<Figure> figures;
  if (!options.wants({"lifecycle/construct", "lifecycle/boot", "lifecycle/destruct", "lifecycle/vmcall/first",
                      "lifecycle/vmcall/warm", "floors/cpl3_exit", "floors/create_destroy_vm"})) {
    WARMFORK_TRY(measure_forks(options, figures));
    if (options.wants({"lifecycle/request/exitless", "floors/cacheline_pingpong"}))
      WARMFORK_TRY(measure_exitless(options, figures));
    return figures;
  }

  options.say("lifecycle: construct, boot, first vmcall, destruct");
  Lifecycle times;
  Histogram create_destroy;
  for (std::uint64_t i = 0; i < options.samples(400); ++i) {
    WARMFORK_TRY(live(options, times));
    const std::uint64_t begin = tsc_now();
    {
      WARMFORK_TRY_ASSIGN(const kvm::VmFd vm, options.kvm->create_vm());
      WARMFORK_TRY_ASSIGN(const kvm::VcpuFd vcpu, vm.create_vcpu(0));
    }
    create_destroy.record(tsc_now_ordered() - begin);
  }

  options.say("lifecycle: warm vmcall");
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Machine> machine, make_machine(*options.kvm));
  WARMFORK_TRY(machine->boot());
  WARMFORK_TRY_ASSIGN(const Gva function, machine->find_vmcall("empty_call"));
  Histogram warm;
  Histogram exit;
  constexpr std::uint64_t kPerRound = 100;
  const std::uint64_t rounds = options.samples(600);
  const auto round = [&](Histogram& calls, Histogram& exits) -> Status {
    for (std::uint64_t i = 0; i < kPerRound; ++i) {
      const std::array<std::uint64_t, 1> argument{i};
      const std::uint64_t begin = tsc_now();
      const auto result = machine->call(function, argument, {.timeout_ns = kTimeoutNs});
      const std::uint64_t took = tsc_now_ordered() - begin;
      if (!result) return Failure(result.error());
      if (*result != i) return fail(ErrorKind::kGuestFault, "vmcall returned {}, expected {}", *result, i);
      calls.record(took);
    }
    for (std::uint64_t i = 0; i < kPerRound; ++i) WARMFORK_TRY(probe.exit_round_trip(exits));
    return {};
  };
  Histogram unused;
  WARMFORK_TRY(round(unused, unused));
  const std::uint64_t entries_before = machine->counters().kvm_run;
  for (std::uint64_t i = 0; i < rounds; ++i) WARMFORK_TRY(round(warm, exit));
  const std::uint64_t entries = machine->counters().kvm_run - entries_before;

  Figure exit_floor = from_ticks("floors/cpl3_exit", exit);
  Figure vm_floor = from_ticks("floors/create_destroy_vm", create_destroy);
  const auto add = [&](const char* name, const Histogram& ticks, const Figure& floor) -> Figure& {
    figures.push_back(from_ticks(name, ticks));
    set_floor(figures.back(), floor);
    return figures.back();
  };
  add("lifecycle/construct", times.construct, vm_floor);
  add("lifecycle/boot", times.boot, exit_floor);
  add("lifecycle/destruct", times.destruct, vm_floor);
  add("lifecycle/vmcall/first", times.first_call, exit_floor);
  Figure& call = add("lifecycle/vmcall/warm", warm, exit_floor);
  call.counters["kvm_run"] = static_cast<double>(entries);
  call.counters["kvm_run_per_call"] = static_cast<double>(entries) / static_cast<double>(rounds * kPerRound);
  call.counters["ratio_to_floor_p99"] = exit_floor.p99 > 0 ? call.p99 / exit_floor.p99 : 0;
  figures.push_back(std::move(exit_floor));
  figures.push_back(std::move(vm_floor));
  WARMFORK_TRY(measure_forks(options, figures));
  if (options.wants({"lifecycle/request/exitless", "floors/cacheline_pingpong"}))
    WARMFORK_TRY(measure_exitless(options, figures));
  return figures;
}

}  // namespace warmfork::bench
