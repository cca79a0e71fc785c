// Forks, resets and requests: lifecycle/fork/…, lifecycle/reset/…, lifecycle/request/…, scaling and density.
#include "bench/forks.hpp"

#include "base/mapping.hpp"
#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "bench/fork_fixture.hpp"
#include "fork/pool.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace warmfork::bench {
namespace {

constexpr WindowShape kSmall{.window_bytes = 256 << 10, .block_pages = 32};
constexpr WindowShape kLarge{.window_bytes = std::uint64_t{8} << 20, .block_pages = 1024};
constexpr std::uint64_t kPerRound = 20;

Figure figure_of(std::string name, const Histogram& ticks, const WindowShape& shape) {
  Figure figure = from_ticks(std::move(name), ticks);
  figure.params["window_bytes"] = static_cast<double>(shape.window_bytes);
  return figure;
}

// --- Resets: every mode beside the others
// -----------------------------------------------------------------------------

// Where a window and its snapshot lie in memory is worth some percent of a reset's time, for as long as both live: what
// is measured on one fork is that fork's. So each contender has several, one of each of several snapshots, in turns.
// Large windows fewer, for all of them are there at once, and a smoke test two.
std::size_t placements_of(const SuiteOptions& options, const WindowShape& shape) {
  const std::uint64_t most = shape.window_bytes <= kSmall.window_bytes ? 8 : 4;
  return static_cast<std::size_t>(std::min(most, options.samples(80, 2)));
}

struct Home {
  std::unique_ptr<ForkSource> source;
  std::unique_ptr<Fork> fork;
};

struct Contender {
  ResetMode mode;
  std::vector<Home> homes;  // by placement
  Histogram reset, request;
  ResetStats before;

  /// Of all its forks.
  [[nodiscard]] ResetStats stats() const {
    ResetStats sum;
    for (const Home& home : homes) {
      const ResetStats& one = home.fork->reset_stats();
      sum.resets += one.resets;
      sum.pages_copied += one.pages_copied;
      sum.relearned += one.relearned;
    }
    return sum;
  }
};

Result<std::unique_ptr<Fork>> make_bound(ForkSource& source) {
  WARMFORK_TRY_ASSIGN(std::unique_ptr<Fork> fork, source.make());
  WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source.make_cpu());
  if (cpu != nullptr) WARMFORK_TRY(fork->bind(*cpu));
  return fork;
}

// For trying the gate: by so many percent the bench makes resets slower, in its own clock and nowhere else. Read once.
double slower_resets() {
  static const double percent = [] {
    const char* text = std::getenv("WARMFORK_BENCH_SLOW_RESET");  // NOLINT(concurrency-mt-unsafe): read, never set
    return text == nullptr ? 0.0 : std::clamp(std::strtod(text, nullptr), 0.0, 1000.0);
  }();
  return percent;
}

// One request as its user counts it: the call, and the fork pristine again.
Status request_and_reset(const ForkFixture& fixture, Fork& fork, Contender& contender, std::uint64_t argument,
                         std::uint64_t pages, bool record) {
  const std::uint64_t begin = tsc_now();
  WARMFORK_TRY(fixture.request(fork, argument, pages));
  const std::uint64_t answered = tsc_now_ordered();
  WARMFORK_TRY(fork.reset());
  std::uint64_t end = tsc_now_ordered();
  if (const double percent = slower_resets(); percent > 0) {
    // Reading the clock takes a good part of what is asked for: what one reset takes too much the next ones lack. But
    // not an interruption.
    static double owed = 0;
    owed += static_cast<double>(end - answered) * percent / 100;
    const std::uint64_t put_back = end;
    while (static_cast<double>(end - put_back) < owed) end = tsc_now_ordered();
    owed = std::max(owed - static_cast<double>(end - put_back), -static_cast<double>(ns_to_tsc(100)));
  }
  if (!record) return {};
  contender.reset.record(end - answered);
  contender.request.record(end - begin);
  return {};
}

bool wants_mode(const SuiteOptions& options, ResetMode mode) {
  const std::string reset = fmt::format("lifecycle/reset/{}", name_of(mode));
  const std::string request = fmt::format("lifecycle/request/reset_{}", name_of(mode));
  return options.wants({reset, request});
}

// A fork of each fixture's snapshot. Errors: also kUnsupported, this KVM lacks what the mode needs.
Result<Contender> make_contender(const std::vector<ForkFixture>& fixtures, ResetMode mode) {
  Contender contender{.mode = mode, .homes = {}, .reset = {}, .request = {}, .before = {}};
  for (const ForkFixture& fixture : fixtures) {
    WARMFORK_TRY_ASSIGN(auto source, fixture.source({.reset = mode}));
    WARMFORK_TRY_ASSIGN(std::unique_ptr<Fork> fork, make_bound(*source));
    contender.homes.push_back({std::move(source), std::move(fork)});
  }
  return contender;
}

Status measure_resets(const SuiteOptions& options, const WindowShape& shape, const std::vector<std::uint64_t>& sweep,
                      std::vector<Figure>& figures) {
  std::vector<ForkFixture> fixtures;
  for (std::size_t i = 0; i < placements_of(options, shape); ++i) {
    WARMFORK_TRY_ASSIGN(ForkFixture fixture, ForkFixture::create(*options.kvm, shape));
    fixtures.push_back(std::move(fixture));
  }
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  std::vector<Contender> contenders;
  for (const ResetMode mode : kResetModes) {
    if (!wants_mode(options, mode)) continue;
    auto contender = make_contender(fixtures, mode);
    if (!contender && contender.error().kind == ErrorKind::kUnsupported) {
      options.say(fmt::format("lifecycle: {}", contender.error().message));
      continue;
    }
    if (!contender) return Failure(contender.error());
    contenders.push_back(std::move(*contender));
  }
  for (const std::uint64_t pages : sweep) {
    options.say(
        fmt::format("lifecycle: resets, {} dirty pages of a window of {} KiB", pages, shape.window_bytes >> 10));
    Histogram exits;
    const auto round = [&](std::uint64_t number, bool record) -> Status {
      const std::size_t placement = number % fixtures.size();
      for (Contender& contender : contenders) {
        for (std::uint64_t i = 0; i < kPerRound; ++i) {
          WARMFORK_TRY(request_and_reset(fixtures[placement], *contender.homes[placement].fork, contender,
                                         number * kPerRound + i, pages, record));
        }
      }
      Histogram unused;
      for (std::uint64_t i = 0; i < kPerRound; ++i) WARMFORK_TRY(probe.exit_round_trip(record ? exits : unused));
      return {};
    };
    for (Contender& contender : contenders) {
      contender.reset = {};
      contender.request = {};
    }
    for (std::size_t i = 0; i < fixtures.size(); ++i) WARMFORK_TRY(round(i, false));
    for (Contender& contender : contenders) contender.before = contender.stats();
    // Every placement as often.
    const std::uint64_t turns = (options.samples(pages >= 128 ? 60 : 200, 3) + fixtures.size() - 1) / fixtures.size();
    for (std::uint64_t i = 0; i < turns * fixtures.size(); ++i) WARMFORK_TRY(round(i, true));

    const Figure floor = from_ticks("floors/cpl3_exit", exits);
    for (const Contender& contender : contenders) {
      const ForkSource& source = *contender.homes.front().source;
      const ResetStats now = contender.stats();
      const auto resets = static_cast<double>(now.resets - contender.before.resets);
      const std::string mode(name_of(contender.mode));
      const auto add = [&](std::string name, const Histogram& ticks) -> Figure& {
        figures.push_back(figure_of(std::move(name), ticks, shape));
        Figure& figure = figures.back();
        figure.params["dirty_pages"] = static_cast<double>(pages);
        figure.labels["population"] = name_of(source.population());
        figure.counters["pages_copied_per_reset"] =
            static_cast<double>(now.pages_copied - contender.before.pages_copied) / resets;
        figure.counters["placements"] = static_cast<double>(contender.homes.size());
        figure.counters["relearned"] = static_cast<double>(now.relearned - contender.before.relearned);
        return figure;
      };
      Figure& reset = add("lifecycle/reset/" + mode, contender.reset);
      if (contender.mode == ResetMode::kAuto) reset.labels["chosen"] = name_of(source.reset_mode());
      Figure& request = add("lifecycle/request/reset_" + mode, contender.request);
      set_floor(request, floor);
    }
  }
  return {};
}

// --- New windows against copying as much memory ----------------------------------------------------------------------

Status measure_new_forks(const SuiteOptions& options, std::vector<Figure>& figures) {
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, kSmall));
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  const std::uint64_t count = options.samples(1500, 20);
  for (const Population population : {Population::kCopy, Population::kCow}) {
    options.say(fmt::format("lifecycle: brand-new space forks, {}", name_of(population)));
    WARMFORK_TRY_ASSIGN(const std::unique_ptr<ForkSource> source, fixture.source({.population = population}, count));
    WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source->make_cpu());
    // Memory as cold as a new window's: as many buffers, made present long before they are written.
    WARMFORK_TRY_ASSIGN(const Mapping cold, Mapping::anonymous(count * kSmall.window_bytes));
    cold.populate();
    std::vector<std::unique_ptr<Fork>> forks;
    Histogram prepare, fill, copy, first_call, exits;
    for (std::uint64_t i = 0; i < count; ++i) {
      WARMFORK_TRY_ASSIGN(std::unique_ptr<Fork> fork, source->make());
      prepare.record(fork->times().prepare_ticks);
      fill.record(fork->times().fill_ticks);
      std::uint64_t begin = tsc_now();
      std::memcpy(cold.data() + i * kSmall.window_bytes, fixture.snapshot()->window().data(), kSmall.window_bytes);
      copy.record(tsc_now_ordered() - begin);
      WARMFORK_TRY(fork->bind(*cpu));
      begin = tsc_now();
      WARMFORK_TRY(fixture.request(*fork, i, 8));
      first_call.record(tsc_now_ordered() - begin);
      WARMFORK_TRY(probe.exit_round_trip(exits));
      forks.push_back(std::move(fork));
    }
    Figure copy_floor = figure_of("floors/memcpy_window", copy, kSmall);
    copy_floor.labels["memory"] = "cold";
    const Figure exit_floor = from_ticks("floors/cpl3_exit", exits);
    const auto add = [&](const char* name, const Histogram& ticks, const Figure& floor) {
      figures.push_back(figure_of(name, ticks, kSmall));
      figures.back().labels["population"] = name_of(population);
      set_floor(figures.back(), floor);
    };
    add("lifecycle/fork_new/space", fill, copy_floor);
    add("lifecycle/fork_new/space/prepare", prepare, copy_floor);
    add("lifecycle/fork_new/space/first_call", first_call, exit_floor);
    if (population == Population::kCopy) figures.push_back(std::move(copy_floor));
  }
  return {};
}

// A pool's fork: taking it, and a whole request on it.
Status measure_pool(const SuiteOptions& options, std::vector<Figure>& figures) {
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, kSmall));
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  struct Contest {
    ForkKind kind;
    ResetPolicy policy;
    std::unique_ptr<Pool> pool;
    Histogram acquire, request;
  };
  std::vector<Contest> contests;
  for (const ForkKind kind : kForkKinds) {
    for (const ResetPolicy policy : {ResetPolicy::kStrict, ResetPolicy::kDeferred}) {
      const PoolOptions pool{.fork = {.kind = kind}, .ready = 2, .most = 4, .policy = policy};
      WARMFORK_TRY_ASSIGN(auto made, Pool::create(*options.kvm, fixture.snapshot(), pool));
      contests.push_back({kind, policy, std::move(made), {}, {}});
    }
  }
  options.say("lifecycle: forks from a pool");
  Histogram exits;
  const std::uint64_t rounds = options.samples(300, 3);
  for (std::uint64_t i = 0; i <= rounds; ++i) {
    for (Contest& contest : contests) {
      for (std::uint64_t n = 0; n < kPerRound; ++n) {
        const std::uint64_t begin = tsc_now();
        WARMFORK_TRY_ASSIGN(Lease lease, contest.pool->acquire());
        const std::uint64_t acquired = tsc_now_ordered();
        WARMFORK_TRY(fixture.request(lease.fork(), i * kPerRound + n, 8));
        lease.release();
        const std::uint64_t end = tsc_now_ordered();
        if (i == 0) continue;
        contest.acquire.record(acquired - begin);
        contest.request.record(end - begin);
      }
    }
    Histogram unused;
    for (std::uint64_t n = 0; n < kPerRound; ++n) WARMFORK_TRY(probe.exit_round_trip(i == 0 ? unused : exits));
  }
  const Figure floor = from_ticks("floors/cpl3_exit", exits);
  for (const Contest& contest : contests) {
    const char* policy = contest.policy == ResetPolicy::kStrict ? "strict" : "deferred";
    const auto add = [&](std::string name, const Histogram& ticks) -> Figure& {
      figures.push_back(figure_of(name + std::string(name_of(contest.kind)), ticks, kSmall));
      figures.back().params["dirty_pages"] = 8;
      figures.back().labels["policy"] = policy;
      return figures.back();
    };
    add("lifecycle/fork/", contest.acquire);
    set_floor(add("lifecycle/request/fork_", contest.request), floor);
  }
  return {};
}

// A master of any size forks as fast: what a new copy-on-write window costs by the master's size.
Status measure_masters(const SuiteOptions& options, std::vector<Figure>& figures) {
  const std::uint64_t large = options.effort >= 0.5 ? std::uint64_t{1} << 30 : std::uint64_t{64} << 20;
  for (const std::uint64_t bytes : {std::uint64_t{1} << 20, large}) {
    options.say(fmt::format("lifecycle: copy-on-write forks of a master of {} MiB", bytes >> 20));
    const WindowShape shape{.window_bytes = bytes, .block_pages = bytes / kPage * 3 / 4};
    WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, shape));
    const ForkOptions fork_options{.population = Population::kCow};
    WARMFORK_TRY_ASSIGN(const auto pool,
                        Pool::create(*options.kvm, fixture.snapshot(), {.fork = fork_options, .ready = 1, .most = 1}));
    WARMFORK_TRY_ASSIGN(const auto source, fixture.source(fork_options, 1));
    WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source->make_cpu());
    Histogram prepare, fill, first_call, request;
    for (std::uint64_t i = 0; i < options.samples(100, 3); ++i) {
      WARMFORK_TRY_ASSIGN(std::unique_ptr<Fork> fork, source->make());
      prepare.record(fork->times().prepare_ticks);
      fill.record(fork->times().fill_ticks);
      WARMFORK_TRY(fork->bind(*cpu));
      std::uint64_t begin = tsc_now();
      WARMFORK_TRY(fixture.request(*fork, i, 8));
      first_call.record(tsc_now_ordered() - begin);
      for (std::uint64_t n = 0; n < 20; ++n) {
        begin = tsc_now();
        WARMFORK_TRY_ASSIGN(Lease lease, pool->acquire());
        WARMFORK_TRY(fixture.request(lease.fork(), n, 8));
        lease.release();
        if (i + n != 0) request.record(tsc_now_ordered() - begin);
      }
    }
    const auto add = [&](const char* name, const Histogram& ticks) {
      figures.push_back(figure_of(name, ticks, shape));
      figures.back().labels["population"] = name_of(Population::kCow);
      figures.back().labels["master"] = fmt::format("{} MiB", bytes >> 20);
    };
    add("lifecycle/fork_new/space", fill);
    add("lifecycle/fork_new/space/prepare", prepare);
    add("lifecycle/fork_new/space/first_call", first_call);
    add("lifecycle/request/fork_space", request);
  }
  return {};
}

// --- From KVM_CREATE_VM to the last close ----------------------------------------------------------------------------

Status measure_fork_call_destroy(const SuiteOptions& options, std::vector<Figure>& figures) {
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, kSmall));
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  WARMFORK_TRY_ASSIGN(const auto vm_source, fixture.source({.kind = ForkKind::kVm}, 1));
  WARMFORK_TRY_ASSIGN(const auto space_source, fixture.source({.kind = ForkKind::kSpace}, 2));
  WARMFORK_TRY_ASSIGN(GuestCpu * space_cpu, space_source->make_cpu());
  options.say("lifecycle: fork, call, destroy without a pool");
  struct Times {
    Histogram make, call, destroy, total;
  };
  std::array<Times, 2> times;
  Histogram create_destroy;
  const auto live = [&](ForkSource& source, GuestCpu* cpu, std::uint64_t argument, Times& into) -> Status {
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY_ASSIGN(std::unique_ptr<Fork> fork, source.make());
    if (cpu != nullptr) WARMFORK_TRY(fork->bind(*cpu));
    const std::uint64_t made = tsc_now_ordered();
    WARMFORK_TRY(fixture.request(*fork, argument, 8));
    const std::uint64_t called = tsc_now_ordered();
    fork.reset();
    const std::uint64_t end = tsc_now_ordered();
    into.make.record(made - begin);
    into.call.record(called - made);
    into.destroy.record(end - called);
    into.total.record(end - begin);
    return {};
  };
  for (std::uint64_t i = 0; i < options.samples(300); ++i) {
    WARMFORK_TRY(live(*vm_source, nullptr, i, times[0]));
    WARMFORK_TRY(live(*space_source, space_cpu, i, times[1]));
    const std::uint64_t begin = tsc_now();
    {
      WARMFORK_TRY_ASSIGN(const kvm::VmFd vm, options.kvm->create_vm());
      WARMFORK_TRY_ASSIGN(const kvm::VcpuFd vcpu, vm.create_vcpu(0));
    }
    create_destroy.record(tsc_now_ordered() - begin);
  }
  const Figure floor = from_ticks("floors/create_destroy_vm", create_destroy);
  for (const ForkKind kind : kForkKinds) {
    const Times& of = times[kind == ForkKind::kVm ? 0 : 1];
    const std::string suffix(name_of(kind));
    const auto add = [&](const std::string& name, const Histogram& ticks) {
      figures.push_back(figure_of(name, ticks, kSmall));
      if (kind == ForkKind::kVm) set_floor(figures.back(), floor);
    };
    add("lifecycle/fork_call_destroy/" + suffix, of.total);
    add("lifecycle/fork_call_destroy/" + suffix + "/make", of.make);
    add("lifecycle/fork_call_destroy/" + suffix + "/first_call", of.call);
    add("lifecycle/fork_call_destroy/" + suffix + "/destroy", of.destroy);
  }
  return {};
}

}  // namespace

Status measure_forks(const SuiteOptions& options, std::vector<Figure>& figures) {
  // What only unwanted figures need is not measured; a name in doubt counts as wanted.
  const bool requests = options.wants({"lifecycle/request/fork_vm", "lifecycle/request/fork_space"});
  if (options.wants({"lifecycle/fork_call_destroy/vm", "lifecycle/fork_call_destroy/space",
                     "lifecycle/fork_call_destroy/vm/make", "lifecycle/fork_call_destroy/space/make",
                     "lifecycle/fork_call_destroy/vm/first_call", "lifecycle/fork_call_destroy/space/first_call",
                     "lifecycle/fork_call_destroy/vm/destroy", "lifecycle/fork_call_destroy/space/destroy"})) {
    WARMFORK_TRY(measure_fork_call_destroy(options, figures));
  }
  const bool new_forks = options.wants({"lifecycle/fork_new/space", "lifecycle/fork_new/space/prepare",
                                        "lifecycle/fork_new/space/first_call", "floors/memcpy_window"});
  if (new_forks) WARMFORK_TRY(measure_new_forks(options, figures));
  if (requests || options.wants({"lifecycle/fork/vm", "lifecycle/fork/space"})) {
    WARMFORK_TRY(measure_pool(options, figures));
  }
  if (requests || new_forks) WARMFORK_TRY(measure_masters(options, figures));
  if (std::ranges::any_of(kResetModes, [&](ResetMode mode) { return wants_mode(options, mode); })) {
    WARMFORK_TRY(measure_resets(options, kSmall, {1, 8, 32}, figures));
    WARMFORK_TRY(measure_resets(options, kLarge, {1, 8, 32, 128, 1024}, figures));
  }
  if (!options.wants({"lifecycle/density", "lifecycle/scaling/vm", "lifecycle/scaling/space"})) return {};
  return measure_density_and_scaling(options, figures);
}

}  // namespace warmfork::bench
