// What it costs to look: traces on the path of a request, and samples of an LC-3 that runs: trace/….
#include "trace/trace.hpp"

#include "base/tsc_clock.hpp"
#include "bench/fork_fixture.hpp"
#include "bench/suites.hpp"
#include "lc3/asm/program.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "machine/sampler.hpp"

#include <array>
#include <ctime>
#include <memory>

namespace warmfork::bench {
namespace {

constexpr trace::Kind kNothing{"bench", "nothing"};
constexpr std::uint64_t kPerRound = 20;
constexpr unsigned kRate = 997;  // as --profile-rate
constexpr const char* kSides[] = {"off", "on"};

// Recording, and paused unless it is wanted.
class Recorder {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Recorder>> begin() {
    if (trace::recording()) return fail(ErrorKind::kUsage, "bench trace: it cannot be traced itself (--trace-events)");
    WARMFORK_TRY(trace::start());
    trace::pause();
    return std::unique_ptr<Recorder>(new Recorder);
  }
  ~Recorder() { (void)trace::stop(); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  void set(bool on) { on ? trace::resume() : trace::pause(); }

 private:
  Recorder() = default;
};

// A request and the reset behind it: three events, of the call, its KVM_RUN and the reset.
Status measure_requests(const SuiteOptions& options, std::vector<Figure>& figures) {
  options.say("trace: requests");
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, {}));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<ForkSource> source, fixture.source({}));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Fork> fork, source->make());
  WARMFORK_TRY_ASSIGN(GuestCpu * cpu, source->make_cpu());
  if (cpu != nullptr) WARMFORK_TRY(fork->bind(*cpu));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Recorder> recorder, Recorder::begin());
  std::array<Histogram, 2> ticks;
  std::uint64_t argument = 0;
  const std::uint64_t rounds = options.samples(1000, 3);
  for (std::uint64_t round = 0; round <= rounds; ++round) {
    for (const bool on : {false, true}) {
      recorder->set(on);
      for (std::uint64_t i = 0; i < kPerRound; ++i) {
        const std::uint64_t begin = tsc_now();
        WARMFORK_TRY(fixture.request(*fork, argument++, 8));
        WARMFORK_TRY(fork->reset());
        if (round != 0) ticks[on ? 1 : 0].record(tsc_now_ordered() - begin);
      }
    }
  }
  const Figure off = from_ticks("trace/request/off", ticks[0]);
  figures.push_back(off);
  figures.push_back(from_ticks("trace/request/on", ticks[1]));
  set_floor(figures.back(), off);
  return {};
}

// One event alone, many at a time because a clock costs as much.
Status measure_events(const SuiteOptions& options, std::vector<Figure>& figures) {
  options.say("trace: events");
  constexpr std::uint64_t kEvents = 1000;
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Recorder> recorder, Recorder::begin());
  std::array<std::vector<double>, 2> ns;
  for (std::uint64_t round = 0; round <= options.samples(300, 3); ++round) {
    for (const bool on : {false, true}) {
      recorder->set(on);
      const std::uint64_t begin = tsc_now_ordered();
      for (std::uint64_t i = 0; i < kEvents; ++i) {
        const trace::Span span(kNothing);
        asm volatile("" ::: "memory");
      }
      const std::uint64_t took = tsc_now_ordered() - begin;
      if (round != 0) ns[on ? 1 : 0].push_back(tsc_to_ns(took) / static_cast<double>(kEvents));
    }
  }
  for (std::size_t side = 0; side < 2; ++side) {
    figures.push_back(from_values(std::string("trace/event/") + kSides[side], "ns", std::move(ns[side])));
  }
  return {};
}

// Of all threads: what interrupts costs as well, and who else uses the machine does not count.
double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// LC-3 instructions per second of processor time, in compiled code, sampled and not.
Status measure_samples(const SuiteOptions& options, std::vector<Figure>& figures) {
  options.say(fmt::format("trace: {} samples a second", kRate));
  lc3::Program program;  // ADD R0, R0, #1; BRnzp -2
  program.files = {"loop"};
  program.segments = {{.origin = 0x3000, .words = {0x1021, 0x0ffe}}};
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<lc3::Lc3Vm> vm,
                      lc3::Lc3Vm::create(*options.kvm, {.engine = lc3::Engine::kXbyak, .locate_samples = true}));
  WARMFORK_TRY(vm->load(program));
  lc3::Profile profile;
  vm->sample_into(profile);
  constexpr std::uint64_t kSlice = 200'000'000;  // some 20 ms
  std::array<std::vector<double>, 2> rates;
  std::uint64_t samples = 0;
  double seconds = 0;
  for (std::uint64_t round = 0; round <= options.samples(60, 2); ++round) {
    for (const bool on : {false, true}) {
      std::unique_ptr<Sampler> sampler;
      if (on) {
        WARMFORK_TRY_ASSIGN(sampler, Sampler::start(kRate));
      }
      const std::uint64_t before = profile.samples;
      const double begin = cpu_seconds();
      WARMFORK_TRY_ASSIGN(const lc3::RunResult run, vm->run(kSlice, {.timeout_ns = kTimeoutNs}));
      const double took = cpu_seconds() - begin;
      if (round == 0) continue;
      rates[on ? 1 : 0].push_back(static_cast<double>(run.executed) / took);
      if (!on) continue;
      samples += profile.samples - before;
      seconds += took;
    }
  }
  for (std::size_t side = 0; side < 2; ++side) {
    figures.push_back(from_values(std::string("trace/profile/") + kSides[side], "instr/s", std::move(rates[side])));
  }
  set_floor(figures.back(), figures[figures.size() - 2]);
  figures.back().params["rate"] = kRate;
  figures.back().counters["samples_per_cpu_second"] = seconds == 0 ? 0 : static_cast<double>(samples) / seconds;
  return {};
}

}  // namespace

SuiteResult run_trace(const SuiteOptions& options) {
  WARMFORK_TRY(pin_to(options.cpu));
  std::vector<Figure> figures;
  if (options.wants({"trace/event/off", "trace/event/on"})) WARMFORK_TRY(measure_events(options, figures));
  if (options.wants({"trace/request/off", "trace/request/on"})) WARMFORK_TRY(measure_requests(options, figures));
  if (options.wants({"trace/profile/off", "trace/profile/on"})) WARMFORK_TRY(measure_samples(options, figures));
  return figures;
}

}  // namespace warmfork::bench
