#include "bench/builds.hpp"

#include "base/unique_fd.hpp"
#include "bench/process_group.hpp"
#include "bench/rounds.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <utility>

namespace warmfork::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kTick = std::chrono::milliseconds(250);  // between two questions whether to stop
constexpr auto kGrace = std::chrono::seconds(5);        // to remove temporary files, once it was told to end
constexpr auto kLongestLimit = std::chrono::hours(24 * 365);

struct Limits {
  std::uint64_t timeout_ns = 0;
  const std::function<bool()>& stop;
};

struct End {
  int status = 0;     // waitpid()'s
  bool late = false;  // killed for taking too long
};

// Waits for the end of `pid`, which is in the group, and brings it about if need be.
Result<End> wait_for(pid_t pid, const ProcessGroup& group, const Limits& limits) {
  End end;
  const auto reap = [&] {
    pid_t waited = -1;
    while ((waited = ::waitpid(pid, &end.status, 0)) < 0 && errno == EINTR) {
    }
    return waited == pid;
  };
  // Not pidfd_open(): glibc 2.36 declares it for C only.
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) {
    const auto error = fail_errno("pidfd_open");
    group.signal(SIGKILL);
    reap();
    return error;
  }
  const std::chrono::duration<double, std::nano> limit(limits.timeout_ns);
  auto deadline = Clock::now() + (limit < kLongestLimit ? std::chrono::nanoseconds(limits.timeout_ns) : kLongestLimit);
  bool told = false;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd ended{.fd = process.get(), .events = POLLIN, .revents = 0};
    ::poll(&ended, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, kTick.count())));
    if (ended.revents != 0) break;
    const auto now = Clock::now();
    if (!told && limits.stop && limits.stop()) {
      told = true;
      group.signal(SIGTERM);
      deadline = std::min(deadline, now + kGrace);
    }
    if (now < deadline) continue;
    end.late = !told;
    group.signal(SIGKILL);
    break;
  }
  if (!reap()) return fail_errno("waitpid");
  return end;
}

std::string text_of(const UniqueFd& file, std::size_t limit) {
  struct stat stat{};
  std::string text;
  if (::fstat(file.get(), &stat) != 0) return text;
  text.resize(std::min(static_cast<std::size_t>(stat.st_size), limit));
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

// What the program writes to its standard output. Its progress, on standard error, is not passed on.
Result<std::string> output_of(const std::string& program, std::vector<std::string> arguments, const Limits& limits) {
  const UniqueFd output(::memfd_create("warmfork-bench", MFD_CLOEXEC));
  const UniqueFd errors(::memfd_create("warmfork-bench-errors", MFD_CLOEXEC));
  if (!output || !errors) return fail_errno("memory file for the output of {}", program);
  std::string name = program;
  std::vector<char*> pointers{name.data()};
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  auto group = ProcessGroup::create();
  if (!group) return with_context(group.error(), "starting " + program);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  ::posix_spawnattr_setpgroup(&attributes, (*group)->id());
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  // Outside the terminal's foreground a read of it would stop the program.
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, errors.get(), STDERR_FILENO);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, name.c_str(), &actions, &attributes, pointers.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    errno = error;
    return fail_errno("starting {}", program);
  }
  const auto end = wait_for(pid, **group, limits);
  group->reset();  // what it has left behind would disturb the next
  if (!end) return with_context(end.error(), "waiting for " + program);
  if (end->late) {
    return fail(ErrorKind::kDeadline, "{}: hangs: not finished after {:g} s, so it was killed", program,
                static_cast<double>(limits.timeout_ns) * 1e-9);
  }
  const int status = end->status;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    std::string said = text_of(errors, std::size_t{1} << 20);
    while (said.ends_with('\n')) said.pop_back();
    if (const std::size_t line = said.rfind('\n'); line != std::string::npos) said.erase(0, line + 1);
    if (WIFSIGNALED(status)) return fail(ErrorKind::kInput, "{}: killed by signal {}", program, WTERMSIG(status));
    return fail(ErrorKind::kInput, "{}: exit code {}: {}", program, WEXITSTATUS(status), said);
  }
  constexpr std::size_t kLargest = std::size_t{64} << 20;
  return text_of(output, kLargest);
}

struct Build {
  const std::string& program;
  RoundSet rounds = {};
  Context context = {};
};

// The figures of one run of a build; none if it was stopped.
Result<std::vector<Figure>> run_once(Build& build, const BuildsOptions& options, const Limits& limits) {
  auto output = output_of(build.program, options.arguments, limits);
  if (!output) return Failure(output.error());
  WARMFORK_TRY_ASSIGN(ResultFile result, parse_result(*output, "output of " + build.program));
  if (result.figures.empty()) return fail(ErrorKind::kInput, "{}: no figures with these arguments", build.program);
  const MachineState before = build.rounds.rounds() == 0 ? result.context.before : build.context.before;
  build.context = std::move(result.context);
  build.context.before = before;
  return std::move(result.figures);
}

}  // namespace

std::uint64_t limit_ns(std::uint64_t first_ns, std::uint64_t longest_finished_ns) {
  constexpr std::uint64_t kLeast = 5 * std::uint64_t{60'000'000'000}, kTimes = 10;
  return longest_finished_ns == 0 ? first_ns : std::max(kLeast, kTimes * longest_finished_ns);
}

BuildsRun run_builds(const BuildsOptions& options) {
  std::array<Build, 2> builds{{{options.before}, {options.after}}};
  std::optional<Error> error;
  bool stopped = false;
  const auto merged = [&] {
    BuildsRun run;
    for (const auto& [build, result] : {std::pair{&builds[0], &run.before}, std::pair{&builds[1], &run.after}}) {
      result->context = build->context;
      result->context.rounds = build->rounds.rounds();
      result->context.partial = stopped || error;
      result->figures = build->rounds.merged();
    }
    run.error = error;
    return run;
  };
  const unsigned most = options.enough ? std::max(options.rounds, options.most_rounds) : options.rounds;
  std::uint64_t longest_ns = 0;
  for (unsigned round = 0; round < most && !stopped && !error; ++round) {
    const std::string name = fmt::format("round {} of {}{}", round + 1, options.enough ? "at most " : "", most);
    if (options.progress) options.progress("builds: " + name);
    const Limits limits{
        .timeout_ns = options.timeout_ns != 0 ? options.timeout_ns : limit_ns(options.first_timeout_ns, longest_ns),
        .stop = options.stop};
    // In turns which of both is first: what the first one leaves behind must not always meet the same build.
    std::array<std::vector<Figure>, 2> figures;
    std::uint64_t round_longest_ns = 0;
    for (std::size_t i = 0; i < builds.size() && !stopped && !error; ++i) {
      const std::size_t which = (round + i) % 2;
      const auto begin = Clock::now();
      auto measured = run_once(builds[which], options, limits);
      round_longest_ns = std::max(round_longest_ns, static_cast<std::uint64_t>((Clock::now() - begin).count()));
      stopped = options.stop && options.stop();
      if (measured) {
        figures[which] = std::move(*measured);
      } else if (!stopped) {  // else that is why
        error = with_context(measured.error(), name).value();
      }
    }
    if (figures[0].empty() || figures[1].empty()) break;
    longest_ns = std::max(longest_ns, round_longest_ns);
    for (std::size_t i = 0; i < builds.size(); ++i) builds[i].rounds.add(std::move(figures[i]));
    if (!options.enough || round + 1 < options.rounds || stopped) continue;
    const BuildsRun so_far = merged();
    if (options.enough(so_far.before, so_far.after)) break;
  }
  return merged();
}

}  // namespace warmfork::bench
