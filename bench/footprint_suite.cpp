// What forks and LC-3 machines hold of this machine's memory while they are alive: the proportional set size of this
// process, divided by them. (What the kernel keeps for them: lifecycle/density.)
#include "bench/fork_fixture.hpp"
#include "bench/suites.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/host/lc3_vm.hpp"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace warmfork::bench {
namespace {

constexpr std::uint64_t kDirtyPages = 8;
constexpr std::array<WindowShape, 3> kShapes{{{.window_bytes = 256 << 10, .block_pages = 32},
                                              {.window_bytes = 1 << 20, .block_pages = 128},
                                              {.window_bytes = std::uint64_t{8} << 20, .block_pages = 1024}}};

struct Footprint {
  double rss = 0, pss = 0;  // bytes
};

// Without the pages of files (programs, libraries): this process's share of those changes when others come and go.
// Source: Linux Documentation/ABI/testing/procfs-smaps_rollup.
Result<Footprint> footprint() {
  Footprint now;
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    double kib = 0;
    if (!(words >> key >> kib)) continue;
    if (key == "Rss:") now.rss = kib * 1024;
    if (key == "Pss_Anon:" || key == "Pss_Shmem:") now.pss += kib * 1024;
  }
  if (now.pss <= 0) return fail(ErrorKind::kUnsupported, "/proc/self/smaps_rollup says nothing (Linux 5.4 and later)");
  return now;
}

// Bytes each of `count` things that `make` makes adds; all are alive when it is looked at. What the allocator keeps of
// earlier ones is given back before.
template <class Make>
Result<Footprint> footprint_of(std::uint64_t count, Make&& make) {
  using Made = typename std::invoke_result_t<Make, std::uint64_t>::value_type;
  std::vector<Made> made;
  made.reserve(count);
  ::malloc_trim(0);
  WARMFORK_TRY_ASSIGN(const Footprint before, footprint());
  for (std::uint64_t i = 0; i < count; ++i) {
    WARMFORK_TRY_ASSIGN(Made one, make(i));
    made.push_back(std::move(one));
  }
  WARMFORK_TRY_ASSIGN(const Footprint after, footprint());
  const auto each = static_cast<double>(count);
  return Footprint{.rss = (after.rss - before.rss) / each, .pss = (after.pss - before.pss) / each};
}

Figure bytes_figure(std::string name, std::vector<double> values) {
  return from_values(std::move(name), "bytes", std::move(values));
}

Status measure_forks_of(const SuiteOptions& options, const WindowShape& shape, std::vector<Figure>& out) {
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, shape));
  const std::uint64_t count = options.samples(50, 4);
  for (const ForkKind kind : kForkKinds) {
    for (const Population population : {Population::kCopy, Population::kCow}) {
      options.say(fmt::format("footprint: {} forks, {}, window of {} KiB", name_of(kind), name_of(population),
                              shape.window_bytes >> 10));
      std::vector<double> pss;
      double rss = 0, own = 0;
      const std::uint64_t repetitions = options.samples(5, 1);
      for (std::uint64_t i = 0; i < repetitions; ++i) {
        WARMFORK_TRY_ASSIGN(const auto source, fixture.source({.kind = kind, .population = population}, count));
        WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source->make_cpu());
        WARMFORK_TRY_ASSIGN(const Footprint each,
                            footprint_of(count, [&](std::uint64_t n) -> Result<std::unique_ptr<Fork>> {
                              WARMFORK_TRY_ASSIGN(std::unique_ptr<Fork> fork, source->make());
                              if (cpu != nullptr) WARMFORK_TRY(fork->bind(*cpu));
                              WARMFORK_TRY(fixture.request(*fork, n, kDirtyPages));
                              WARMFORK_TRY_ASSIGN(const std::uint64_t bytes, fork->private_bytes());
                              own += static_cast<double>(bytes) / static_cast<double>(count * repetitions);
                              return fork;
                            }));
        pss.push_back(each.pss);
        rss += each.rss / static_cast<double>(repetitions);
      }
      const auto finish = [&](Figure figure) {
        figure.params["window_bytes"] = static_cast<double>(shape.window_bytes);
        figure.params["dirty_pages"] = static_cast<double>(kDirtyPages);
        figure.labels["population"] = name_of(population);
        return figure;
      };
      // What cannot be shared: of a copy what the snapshot has in the window, else what the request has written.
      const std::uint64_t least =
          population == Population::kCopy ? fixture.snapshot()->stored_bytes() : kDirtyPages * kPage;
      Figure figure = finish(bytes_figure(fmt::format("footprint/fork/{}", name_of(kind)), std::move(pss)));
      Figure floor = finish(bytes_figure("floors/footprint/window", {static_cast<double>(least)}));
      set_floor(figure, floor);
      figure.counters["rss_bytes"] = rss;
      figure.counters["private_bytes"] = own;
      out.push_back(std::move(figure));
      if (kind == kForkKinds[0]) out.push_back(std::move(floor));
    }
  }
  return {};
}

Status measure_lc3(const SuiteOptions& options, std::vector<Figure>& out) {
  constexpr std::uint64_t kInstructions = 10'000;
  const kvm::Kvm& kvm = *options.kvm;
  // Long enough that every engine compiles what it ever will of it.
  WARMFORK_TRY_ASSIGN(const lc3::Program program,
                      lc3::assemble("  .ORIG x3000\nLOOP ADD R1, R1, #1\n  ST R1, WORD\n  BR LOOP\nWORD .FILL #0\n"
                                    "  .END\n",
                                    "footprint.asm"));
  const auto run = [&](lc3::Lc3Vm& vm) -> Status {
    WARMFORK_TRY_ASSIGN(const lc3::RunResult ran, vm.run(kInstructions, {.timeout_ns = kTimeoutNs}));
    if (ran.stop == lc3::StopReason::kBudget && ran.executed == kInstructions) return {};
    return fail(ErrorKind::kGuestFault, "footprint: {} after {} instructions", lc3::stop_name(ran.stop), ran.executed);
  };
  const Figure floor = bytes_figure("floors/footprint/lc3_memory", {65'536 * 2.0});
  out.push_back(floor);
  for (const char* const name : lc3::kEngineNames) {
    options.say(fmt::format("footprint: LC-3 machines, {}", name));
    const lc3::Lc3Options how{.engine = *lc3::engine_named(name)};
    const auto make_machine = [&](std::uint64_t) -> Result<std::unique_ptr<lc3::Lc3Vm>> {
      WARMFORK_TRY_ASSIGN(auto vm, lc3::Lc3Vm::create(kvm, how));
      WARMFORK_TRY(vm->load(program));
      WARMFORK_TRY(run(*vm));
      vm->finish_optimising();
      return vm;
    };
    const std::uint64_t count = options.samples(20, 3);
    WARMFORK_TRY_ASSIGN(const auto warm_up, make_machine(0));  // what the compilers keep for the process is there
    WARMFORK_TRY_ASSIGN(const auto master, lc3::Lc3Vm::create(kvm, how));
    WARMFORK_TRY(master->load(program));
    WARMFORK_TRY_ASSIGN(auto snapshot, Snapshot::take(kvm, master->machine()));
    WARMFORK_TRY_ASSIGN(const auto source, make_fork_source(kvm, std::move(snapshot), {.kind = ForkKind::kVm}, count));
    const auto make_fork = [&](std::uint64_t) -> Result<std::unique_ptr<Fork>> {
      WARMFORK_TRY_ASSIGN(auto fork, source->make());
      WARMFORK_TRY(run(*master->attach(*fork)));
      return fork;
    };
    std::vector<double> machines, forks;
    for (std::uint64_t i = 0; i < options.samples(5, 1); ++i) {
      WARMFORK_TRY_ASSIGN(const Footprint machine, footprint_of(count, make_machine));
      WARMFORK_TRY_ASSIGN(const Footprint fork, footprint_of(count, make_fork));
      machines.push_back(machine.pss);
      forks.push_back(fork.pss);
    }
    for (auto& [kind, values] : {std::pair{"lc3", &machines}, {"lc3_fork", &forks}}) {
      out.push_back(bytes_figure(fmt::format("footprint/{}/{}", kind, name), std::move(*values)));
      if (values == &machines) set_floor(out.back(), floor);  // forks share what they do not write
    }
  }
  return {};
}

}  // namespace

SuiteResult run_footprint(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<Figure> figures;
  for (const WindowShape& shape : kShapes) WARMFORK_TRY(measure_forks_of(options, shape, figures));
  WARMFORK_TRY(measure_lc3(options, figures));
  return figures;
}

}  // namespace warmfork::bench
