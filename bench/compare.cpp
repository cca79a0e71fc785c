#include "bench/compare.hpp"

#include "base/tsc_clock.hpp"
#include "bench/alternatives.hpp"
#include "bench/floor_probe.hpp"
#include "fork/call_channel.hpp"
#include "fork/pool.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace warmfork::bench {
namespace {

Status check_answer(std::string_view mode, std::uint64_t answer, std::uint64_t expected) {
  if (answer == expected) return {};
  return fail(ErrorKind::kGuestFault, "{} answered {}, expected {}", mode, answer, expected);
}

class PoolContender final : public Contender {
 public:
  PoolContender(std::string_view mode, std::unique_ptr<Pool> pool, Gva function, std::uint64_t pages)
      : mode_(mode), pool_(std::move(pool)), function_(function), pages_(pages) {}
  [[nodiscard]] Status request(std::uint64_t argument) override {
    const std::array<std::uint64_t, 2> arguments{argument, pages_};
    WARMFORK_TRY_ASSIGN(const std::uint64_t answer, pool_->request(function_, arguments));
    return check_answer(mode_, answer, argument);
  }

 private:
  std::string_view mode_;
  std::unique_ptr<Pool> pool_;
  Gva function_;
  std::uint64_t pages_;
};

class ResetContender final : public Contender {
 public:
  ResetContender(std::unique_ptr<ForkSource> source, std::unique_ptr<Fork> fork, const ForkFixture& fixture,
                 std::uint64_t pages)
      : source_(std::move(source)), fork_(std::move(fork)), fixture_(fixture), pages_(pages) {}
  [[nodiscard]] Status request(std::uint64_t argument) override {
    WARMFORK_TRY(fixture_.request(*fork_, argument, pages_));
    return fork_->reset();
  }

 private:
  std::unique_ptr<ForkSource> source_;
  std::unique_ptr<Fork> fork_;
  const ForkFixture& fixture_;
  std::uint64_t pages_;
};

class ExitlessContender final : public Contender {
 public:
  ExitlessContender(std::unique_ptr<ForkSource> source, std::unique_ptr<Fork> fork,
                    std::unique_ptr<CallChannel> channel, Gva function, std::uint64_t pages)
      : source_(std::move(source)),
        fork_(std::move(fork)),
        channel_(std::move(channel)),
        function_(function),
        pages_(pages) {}
  [[nodiscard]] Status request(std::uint64_t argument) override {
    const std::array<std::uint64_t, 2> arguments{argument, pages_};
    WARMFORK_TRY_ASSIGN(const std::uint64_t answer, channel_->call(function_, arguments, {.timeout_ns = kTimeoutNs}));
    return check_answer("exitless", answer, argument + served_++ * pages_);
  }

 private:
  std::unique_ptr<ForkSource> source_;
  std::unique_ptr<Fork> fork_;
  std::unique_ptr<CallChannel> channel_;  // before fork_: it runs the fork
  Gva function_;
  std::uint64_t pages_;
  std::uint64_t served_ = 0;
};

class ProcessContender final : public Contender {
 public:
  ProcessContender(std::string_view mode, std::unique_ptr<Alternative> process, bool clean, std::uint64_t pages)
      : mode_(mode), process_(std::move(process)), clean_(clean), pages_(pages) {}
  [[nodiscard]] Status request(std::uint64_t argument) override {
    std::uint64_t answer = 0;
    WARMFORK_TRY(process_->request(argument, answer));
    return check_answer(mode_, answer, argument + (clean_ ? 0 : served_++ * pages_));
  }

 private:
  std::string_view mode_;
  std::unique_ptr<Alternative> process_;
  bool clean_;
  std::uint64_t pages_;
  std::uint64_t served_ = 0;
};

Result<std::unique_ptr<Contender>> make_pool(std::string_view mode, ForkKind kind, const ForkFixture& fixture,
                                             std::uint64_t pages) {
  const PoolOptions options{.fork = {.kind = kind}, .ready = 2, .most = 4, .timeout_ns = kTimeoutNs};
  WARMFORK_TRY_ASSIGN(auto pool, Pool::create(fixture.kvm(), fixture.snapshot(), options));
  return std::make_unique<PoolContender>(mode, std::move(pool), fixture.function(), pages);
}

struct OpenFork {
  std::unique_ptr<ForkSource> source;
  std::unique_ptr<Fork> fork;
};

Result<OpenFork> open_fork(const ForkFixture& fixture, ResetMode mode) {
  OpenFork open;
  WARMFORK_TRY_ASSIGN(open.source, fixture.source({.reset = mode}));
  WARMFORK_TRY_ASSIGN(open.fork, open.source->make());
  WARMFORK_TRY_ASSIGN(GuestCpu * cpu, open.source->make_cpu());
  if (cpu != nullptr) WARMFORK_TRY(open.fork->bind(*cpu));
  return open;
}

}  // namespace

const std::vector<CompareMode>& compare_modes() {
  static const std::vector<CompareMode> modes{
      {"fork_vm", "lifecycle/request/fork_vm", true, true},
      {"fork_space", "lifecycle/request/fork_space", true, true},
      {"reset_auto", "lifecycle/request/reset_auto", true, true},
      {"reset_full_copy", "lifecycle/request/reset_full_copy", true, true},
      {"reset_dirty_log", "lifecycle/request/reset_dirty_log", true, true},
      {"reset_dirty_ring", "lifecycle/request/reset_dirty_ring", true, true},
      {"reset_cow_remap", "lifecycle/request/reset_cow_remap", true, true},
      {"exitless", "lifecycle/request/exitless", false, true},
      {"process_fork", "alternatives/process_fork", true, false},
      {"process_pipe", "alternatives/process_pipe", false, false},
      {"process_futex", "alternatives/process_futex", false, false},
  };
  return modes;
}

Result<std::unique_ptr<Contender>> make_contender(std::string_view name, const SuiteOptions& options,
                                                  const ForkFixture& fixture, const CompareOptions& compare) {
  const std::uint64_t pages = compare.dirty_pages;
  if (name == "fork_vm") return make_pool(name, ForkKind::kVm, fixture, pages);
  if (name == "fork_space") return make_pool(name, ForkKind::kSpace, fixture, pages);
  for (const ResetMode mode : kResetModes) {
    if (name != fmt::format("reset_{}", name_of(mode))) continue;
    WARMFORK_TRY_ASSIGN(OpenFork open, open_fork(fixture, mode));
    return std::make_unique<ResetContender>(std::move(open.source), std::move(open.fork), fixture, pages);
  }
  if (name == "exitless") {
    if (options.cpu == options.other_cpu) {
      return fail(ErrorKind::kUnsupported, "exitless: needs a second CPU for the guest that polls");
    }
    WARMFORK_TRY_ASSIGN(OpenFork open, open_fork(fixture, ResetMode::kAuto));
    WARMFORK_TRY_ASSIGN(auto channel, CallChannel::open_for_one_tenant(*open.fork, {.cpu = options.other_cpu}));
    return std::make_unique<ExitlessContender>(std::move(open.source), std::move(open.fork), std::move(channel),
                                               fixture.function(), pages);
  }
  // On the requester's CPU: that is where a call does not wait for a sleeping CPU to wake up.
  const AlternativeOptions process{
      .window_bytes = compare.window_bytes, .dirty_pages = pages, .cpu = options.cpu, .crash_on = {}};
  if (name == "process_fork") {
    WARMFORK_TRY_ASSIGN(auto server, ProcessFork::create(process));
    return std::make_unique<ProcessContender>(name, std::move(server), true, pages);
  }
  if (name == "process_pipe") {
    WARMFORK_TRY_ASSIGN(auto server, ProcessPipe::create(process));
    return std::make_unique<ProcessContender>(name, std::move(server), false, pages);
  }
  if (name == "process_futex") {
    WARMFORK_TRY_ASSIGN(auto server, ProcessFutex::create(process));
    return std::make_unique<ProcessContender>(name, std::move(server), false, pages);
  }
  return fail(ErrorKind::kUsage, "there is no way to serve requests named \"{}\"", name);
}

SuiteResult run_compare(const SuiteOptions& options, const CompareOptions& compare) {
  WARMFORK_TRY(pin_to(options.cpu));
  // The rest of the window is the program's data, its stack, call area and the host's pages.
  constexpr std::uint64_t kOther = 32 * kPage;
  if (compare.window_bytes < kOther + std::max<std::uint64_t>(compare.dirty_pages, 1) * kPage) {
    return fail(ErrorKind::kUsage, "{} dirty pages do not fit into a window of {} bytes, of which {} serve otherwise",
                compare.dirty_pages, compare.window_bytes, kOther);
  }
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture,
                      ForkFixture::create(*options.kvm, {.window_bytes = compare.window_bytes,
                                                         .block_pages = (compare.window_bytes - kOther) / kPage}));
  struct Entry {
    const CompareMode* mode;
    std::unique_ptr<Contender> contender;
    Histogram ticks;
  };
  std::vector<Entry> entries;
  for (const CompareMode& mode : compare_modes()) {
    if (!compare.modes.empty() && std::ranges::find(compare.modes, mode.name) == compare.modes.end()) continue;
    auto contender = make_contender(mode.name, options, fixture, compare);
    if (!contender && contender.error().kind == ErrorKind::kUnsupported) {
      options.say(contender.error().message);
      continue;
    }
    if (!contender) return Failure(contender.error());
    entries.push_back({&mode, std::move(*contender), {}});
  }
  WARMFORK_TRY_ASSIGN(FloorProbe probe, FloorProbe::create(*options.kvm));
  Histogram exits;
  constexpr std::uint64_t kPerRound = 20;
  const std::uint64_t rounds = options.samples(std::max<std::uint64_t>(compare.requests / kPerRound, 1), 2);
  std::uint64_t argument = 0;
  const auto round = [&](bool record) -> Status {
    for (Entry& entry : entries) {
      for (std::uint64_t i = 0; i < kPerRound; ++i) {
        const std::uint64_t begin = tsc_now();
        WARMFORK_TRY(entry.contender->request(++argument));
        const std::uint64_t took = tsc_now_ordered() - begin;
        if (record) entry.ticks.record(took);
      }
    }
    Histogram unused;
    for (std::uint64_t i = 0; i < kPerRound; ++i) WARMFORK_TRY(probe.exit_round_trip(record ? exits : unused));
    return {};
  };
  for (int i = 0; i < 2; ++i) WARMFORK_TRY(round(false));
  for (std::uint64_t i = 0; i < rounds; ++i) {
    if (i % 16 == 0) options.say(fmt::format("compare: round {} of {}", i + 1, rounds));
    WARMFORK_TRY(round(true));
  }
  const Figure floor = from_ticks("floors/cpl3_exit", exits);
  std::vector<Figure> figures;
  for (const Entry& entry : entries) {
    Figure figure = from_ticks(std::string(entry.mode->figure), entry.ticks);
    figure.params["window_bytes"] = static_cast<double>(compare.window_bytes);
    figure.params["dirty_pages"] = static_cast<double>(compare.dirty_pages);
    set_floor(figure, floor);
    figures.push_back(std::move(figure));
  }
  figures.push_back(floor);
  return figures;
}

}  // namespace warmfork::bench
