#include "bench/lc3_start.hpp"

#include "base/unique_fd.hpp"
#include "bench/temporary_directory.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3_bench/native_kernels.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace warmfork::bench {
namespace {

constexpr std::string_view kKernel = "crc";  // LLVM has most to do there
constexpr double kPeakFraction = 0.9;

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

struct Slice {
  std::uint64_t end_ns;
  double rate;  // instructions per second
};

class SlicedRun {
 public:
  explicit SlicedRun(lc3::Lc3Vm& vm) : vm_(vm) {}
  [[nodiscard]] Status next() {
    constexpr double kSliceNs = 200'000, kLeast = 10'000;
    const double rate = slices_.empty() ? 0 : slices_.back().rate;
    const auto budget = static_cast<std::uint64_t>(std::max(rate * kSliceNs / 1e9, kLeast));
    const std::uint64_t begin = now_ns();
    WARMFORK_TRY_ASSIGN(const lc3::RunResult run, vm_.run(budget, {.timeout_ns = kTimeoutNs}));
    const std::uint64_t end = now_ns();
    if (run.stop != lc3::StopReason::kBudget) {
      return fail(ErrorKind::kGuestFault, "kernel {}: {} after {} of {} instructions", kKernel,
                  lc3::stop_name(run.stop), run.executed, budget);
    }
    slices_.push_back(
        {end, static_cast<double>(run.executed) * 1e9 / static_cast<double>(std::max(end - begin, std::uint64_t{1}))});
    return {};
  }
  [[nodiscard]] const std::vector<Slice>& slices() const { return slices_; }

 private:
  lc3::Lc3Vm& vm_;
  std::vector<Slice> slices_;
};

bool optimises(lc3::Engine engine) { return engine == lc3::Engine::kOrc || engine == lc3::Engine::kAuto; }

Result<StartSample> sample_start(const SuiteOptions& options, const char* engine, const std::string& cache_dir) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe2");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  std::vector<std::string> words = options.start_command;
  words.insert(words.end(), {"--engine", engine});
  if (!cache_dir.empty()) words.insert(words.end(), {"--cache", cache_dir});
  words.insert(words.end(), {"--begin", std::to_string(now_ns())});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, to.get(), STDOUT_FILENO);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, words.front().c_str(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    errno = error;
    return fail_errno("starting {}", words.front());
  }
  to = UniqueFd();
  std::string line;
  char bytes[256];
  for (ssize_t got = 0; (got = ::read(from.get(), bytes, sizeof bytes)) > 0 || (got < 0 && errno == EINTR);) {
    if (got > 0) line.append(bytes, static_cast<std::size_t>(got));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return fail(ErrorKind::kHost, "{} with engine {} ended with status {:#x}", words.front(), engine, status);
  }
  return parse_start(line);
}

Result<Figure> measure_starts(const SuiteOptions& options, const char* engine, const std::string& cache_dir) {
  std::vector<double> reached;
  double first = 0, peak = 0;
  for (std::uint64_t i = 0; i < options.samples(20, 1); ++i) {
    WARMFORK_TRY_ASSIGN(const StartSample sample, sample_start(options, engine, cache_dir));
    if (!cache_dir.empty() && sample.disk_hits == 0) {
      return fail(ErrorKind::kHost, "engine {} found nothing in {}, where the process before it has left its code",
                  engine, cache_dir);
    }
    reached.push_back(static_cast<double>(sample.reached_ns));
    first += static_cast<double>(sample.first_ns);
    peak += sample.peak;
  }
  const auto count = static_cast<double>(reached.size());
  Figure figure = from_values(fmt::format("startup/to_90_percent/{}/{}", engine, cache_dir.empty() ? "cold" : "cached"),
                              "ns", std::move(reached));
  figure.counters["mean_first_slice_ns"] = first / count;
  figure.counters["mean_peak_instr_per_s"] = peak / count;
  return figure;
}

}  // namespace

Result<StartSample> run_start(const kvm::Kvm& kvm, const StartOptions& options) {
  constexpr std::uint64_t kLeastNs = 30'000'000, kMostNs = 2'000'000'000;
  constexpr std::size_t kLastSlices = 100;
  const auto kernels = lc3_bench::native_kernels();
  const auto kernel = std::ranges::find(kernels, kKernel, &lc3_bench::NativeKernel::name);
  if (kernel == kernels.end()) return fail(ErrorKind::kInput, "no kernel {}", kKernel);
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::assemble(kernel->source, "kernel.asm"));
  WARMFORK_TRY_ASSIGN(const auto vm,
                      lc3::Lc3Vm::create(kvm, {.engine = options.engine, .cache_dir = options.cache_dir}));
  WARMFORK_TRY(vm->load(program));
  constexpr std::uint16_t kForever = 0;
  const auto* iterations = program.find_symbol("ITERATIONS");
  if (iterations == nullptr) return fail(ErrorKind::kInput, "kernel {}: no label ITERATIONS", kKernel);
  WARMFORK_TRY(vm->write_memory(iterations->address, std::span(&kForever, 1)));
  SlicedRun run(*vm);
  WARMFORK_TRY(run.next());
  const std::uint64_t first = run.slices().front().end_ns;
  const auto goes_on = [&] {
    const std::uint64_t passed = run.slices().back().end_ns - first;
    if (passed < kLeastNs) return true;
    return optimises(options.engine) && vm->code_counters().optimised == 0 && passed < kMostNs;
  };
  while (goes_on()) WARMFORK_TRY(run.next());
  vm->finish_optimising();
  for (std::size_t i = 0; i < 2 * kLastSlices; ++i) WARMFORK_TRY(run.next());
  vm->end_optimising();

  const std::vector<Slice>& slices = run.slices();
  std::vector<double> last;
  for (std::size_t i = slices.size() - kLastSlices; i < slices.size(); ++i) last.push_back(slices[i].rate);
  std::ranges::nth_element(last, last.begin() + kLastSlices / 2);
  const double peak = last[kLastSlices / 2];
  const auto reached =
      std::ranges::find_if(slices, [&](const Slice& slice) { return slice.rate >= kPeakFraction * peak; });
  return StartSample{.first_ns = first - options.begin_ns,
                     .reached_ns = reached->end_ns - options.begin_ns,  // there is one: half of the last are as fast
                     .peak = peak,
                     .disk_hits = vm->code_counters().disk_hits};
}

std::string to_line(const StartSample& sample) {
  return fmt::format("{} {} {:.0f} {}\n", sample.first_ns, sample.reached_ns, sample.peak, sample.disk_hits);
}

Result<StartSample> parse_start(const std::string& line) {
  std::uint64_t values[4] = {};
  const char* at = line.data();
  const char* end = at + line.size();
  for (std::uint64_t& value : values) {
    while (at != end && *at == ' ') ++at;
    const auto [after, error] = std::from_chars(at, end, value);
    if (error != std::errc{}) return fail(ErrorKind::kHost, "a start is reported as \"{}\", not as four numbers", line);
    at = after;
  }
  return StartSample{values[0], values[1], static_cast<double>(values[2]), values[3]};
}

SuiteResult run_lc3_start(const SuiteOptions& options) {
  std::vector<Figure> figures;
  if (options.start_command.empty()) return figures;
  for (const char* engine : lc3::kEngineNames) {
    options.say(fmt::format("lc3: start of {}", engine));
    WARMFORK_TRY_ASSIGN(Figure cold, measure_starts(options, engine, ""));
    figures.push_back(std::move(cold));
    if (!optimises(*lc3::engine_named(engine))) continue;
    WARMFORK_TRY_ASSIGN(const TemporaryDirectory cache, TemporaryDirectory::make());
    WARMFORK_TRY(sample_start(options, engine, cache.path()));  // leaves its code there
    WARMFORK_TRY_ASSIGN(Figure cached, measure_starts(options, engine, cache.path()));
    figures.push_back(std::move(cached));
  }
  for (Figure& figure : figures) figure.labels["kernel"] = kKernel;
  return figures;
}

}  // namespace warmfork::bench
