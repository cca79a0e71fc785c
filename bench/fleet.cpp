// Graded runs per second by the number of threads, beside what is physically possible: as many threads that do nothing
// but exit and reset.
#include "base/file.hpp"
#include "bench/floor_probe.hpp"
#include "bench/fork_fixture.hpp"
#include "bench/suites.hpp"
#include "bench/temporary_directory.hpp"
#include "lc3/fleet/grade.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace warmfork::bench {
namespace {

constexpr std::uint64_t kDirtyPages = 8;  // what a reset of the floor copies back: about what a graded run writes
constexpr std::size_t kSubmissions = 20;
constexpr std::uint64_t kInstructions = 1000;

// 1,000 instructions, one character of input, one of output.
constexpr std::string_view kSource = R"(
        .ORIG x3000
        GETC
        LD R1, N
LOOP    ADD R1, R1, #-1
        BRp LOOP
        OUT
        HALT
N       .FILL #498
        .END
)";

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Threads inherit the affinity of the one that makes them: all CPUs of this process, as long as this lives.
class AllCpus {
 public:
  explicit AllCpus(const SuiteOptions& options) {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t all;
    CPU_ZERO(&all);
    for (const int cpu : options.cpus) CPU_SET(static_cast<std::size_t>(cpu), &all);
    ::sched_setaffinity(0, sizeof all, &all);
  }
  ~AllCpus() { ::sched_setaffinity(0, sizeof before_, &before_); }
  AllCpus(const AllCpus&) = delete;
  AllCpus& operator=(const AllCpus&) = delete;

 private:
  cpu_set_t before_{};
};

struct FloorThread {
  std::unique_ptr<ForkSource> source;
  std::unique_ptr<Fork> fork;
  std::optional<FloorProbe> probe;
  Status status;
};

// Bare exits and resets per second of all threads together.
Result<double> floor_rate(std::span<FloorThread> floors, std::uint64_t count) {
  const double begin = seconds_now();
  std::vector<std::thread> threads;
  for (FloorThread& one : floors) {
    threads.emplace_back([&one, count] {
      Histogram unused;
      for (std::uint64_t n = 0; n < count && one.status; ++n) {
        one.status = one.probe->exit_round_trip(unused);
        if (one.status) one.status = one.fork->reset();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double took = seconds_now() - begin;
  for (const FloorThread& one : floors) WARMFORK_TRY(one.status);
  return static_cast<double>(floors.size() * count) / took;
}

Result<double> grade_rate(const SuiteOptions& options, const lc3::TestSet& set,
                          const std::vector<lc3::Submission>& submissions, ForkKind kind, std::size_t threads) {
  lc3::GradeOptions how;
  how.fork = kind;
  how.threads = static_cast<unsigned>(threads);
  WARMFORK_TRY_ASSIGN(const lc3::GradeReport report, lc3::grade(*options.kvm, set, submissions, how));
  for (const lc3::SubmissionResult& one : report.submissions) {
    for (const lc3::Cell& cell : one.cells) {
      if (cell.verdict == lc3::Verdict::kPassed && cell.executed == kInstructions) continue;
      return fail(ErrorKind::kHost, "bench fleet: {} after {} instructions: {}{}", lc3::name_of(cell.verdict),
                  cell.executed, one.error, cell.detail);
    }
  }
  return static_cast<double>(report.runs) * 1e9 / static_cast<double>(report.runs_ns);
}

}  // namespace

SuiteResult run_fleet(const SuiteOptions& options) {
  const AllCpus all(options);
  WARMFORK_TRY_ASSIGN(const TemporaryDirectory directory, TemporaryDirectory::make());
  const std::string source = directory.file("count.asm");
  WARMFORK_TRY(write_file(source, kSource.data(), kSource.size()));
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, {}));
  // Two even on one CPU: what a grader with more threads than CPUs does.
  const std::vector<std::size_t> counts = thread_counts(std::max<std::size_t>(options.cpus.size(), 2));
  std::vector<FloorThread> floors(counts.back());
  for (FloorThread& one : floors) {
    WARMFORK_TRY_ASSIGN(one.source, fixture.source({.kind = ForkKind::kSpace}));
    WARMFORK_TRY_ASSIGN(one.fork, one.source->make());
    WARMFORK_TRY_ASSIGN(GuestCpu* const cpu, one.source->make_cpu());
    WARMFORK_TRY(one.fork->bind(*cpu));
    WARMFORK_TRY(fixture.request(*one.fork, 1, kDirtyPages));  // the write set that every reset copies back
    WARMFORK_TRY_ASSIGN(one.probe, FloorProbe::create(*options.kvm));
    WARMFORK_TRY(one.probe->warm_up());
  }
  const std::uint64_t runs = options.samples(2000, 200);  // of a repetition, all submissions together
  lc3::TestSet set;
  for (std::uint64_t i = 0; i < runs / kSubmissions; ++i) {
    lc3::TestCase test;
    test.name = std::to_string(i);
    test.input.text = "x";
    test.output.text = "x";
    set.tests.push_back(test);
  }
  const std::vector<lc3::Submission> submissions(kSubmissions, {"count.asm", source});
  struct Rates {
    std::vector<double> floor;
    std::array<std::vector<double>, std::size(kForkKinds)> graded;
  };
  std::vector<Rates> rates(counts.size());
  const std::uint64_t rounds = options.samples(15, 2);
  for (std::uint64_t round = 0; round <= rounds; ++round) {
    options.say(fmt::format("fleet: graded runs, round {} of {}", round, rounds));
    for (std::size_t i = 0; i < counts.size(); ++i) {
      WARMFORK_TRY_ASSIGN(const double bare, floor_rate(std::span(floors).first(counts[i]), runs / counts[i]));
      if (round != 0) rates[i].floor.push_back(bare);
      for (std::size_t kind = 0; kind < std::size(kForkKinds); ++kind) {
        WARMFORK_TRY_ASSIGN(const double rate, grade_rate(options, set, submissions, kForkKinds[kind], counts[i]));
        if (round != 0) rates[i].graded[kind].push_back(rate);
      }
    }
  }
  std::vector<Figure> figures;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    Figure physical = from_values(fmt::format("floors/exit_and_reset/{}_threads", counts[i]), "ops/s", rates[i].floor);
    physical.params["dirty_pages"] = static_cast<double>(kDirtyPages);
    for (std::size_t kind = 0; kind < std::size(kForkKinds); ++kind) {
      Figure figure =
          from_values(fmt::format("fleet/graded_runs/{}", name_of(kForkKinds[kind])), "ops/s", rates[i].graded[kind]);
      figure.params["threads"] = static_cast<double>(counts[i]);
      figure.params["instructions"] = static_cast<double>(kInstructions);
      figure.params["submissions"] = static_cast<double>(kSubmissions);
      figure.params["tests"] = static_cast<double>(set.tests.size());
      set_floor(figure, physical);
      if (i != 0) {
        figure.counters["ratio_to_one_thread"] = figure.p50 / from_values("one", "ops/s", rates[0].graded[kind]).p50;
      }
      figures.push_back(std::move(figure));
    }
    figures.push_back(std::move(physical));
  }
  return figures;
}

}  // namespace warmfork::bench
