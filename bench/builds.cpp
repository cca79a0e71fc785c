#include "bench/builds.hpp"

#include "base/unique_fd.hpp"
#include "bench/rounds.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace warmfork::bench {
namespace {

// What the program writes to its standard output. Its errors go where ours go: its progress is not passed on.
Result<std::string> output_of(const std::string& program, std::vector<std::string> arguments) {
  const UniqueFd output(::memfd_create("warmfork-bench", MFD_CLOEXEC));
  const UniqueFd errors(::memfd_create("warmfork-bench-errors", MFD_CLOEXEC));
  if (!output || !errors) return fail_errno("memory file for the output of {}", program);
  std::string name = program;
  std::vector<char*> pointers{name.data()};
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, errors.get(), STDERR_FILENO);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, name.c_str(), &actions, nullptr, pointers.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    errno = error;
    return fail_errno("starting {}", program);
  }
  int status = 0;
  pid_t waited = -1;
  while ((waited = ::waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
  }
  if (waited < 0) return fail_errno("waiting for {}", program);
  const auto text_of = [](const UniqueFd& file, std::size_t limit) {
    struct stat stat{};
    std::string text;
    if (::fstat(file.get(), &stat) != 0) return text;
    text.resize(std::min(static_cast<std::size_t>(stat.st_size), limit));
    const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  };
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

}  // namespace

Result<std::pair<ResultFile, ResultFile>> run_builds(const BuildsOptions& options) {
  struct Build {
    const std::string& program;
    RoundSet rounds;
    Context context;
  };
  std::array<Build, 2> builds{{{options.before, {}, {}}, {options.after, {}, {}}}};
  bool stopped = false;
  const auto merged = [&] {
    std::pair<ResultFile, ResultFile> results;
    for (const auto& [build, result] :
         {std::pair{&builds[0], &results.first}, std::pair{&builds[1], &results.second}}) {
      result->context = build->context;
      result->context.rounds = build->rounds.rounds();
      result->context.partial = stopped;
      result->figures = build->rounds.merged();
    }
    return results;
  };
  const unsigned most = options.enough ? std::max(options.rounds, options.most_rounds) : options.rounds;
  for (unsigned round = 0; round < most && !stopped; ++round) {
    if (options.progress) {
      options.progress(fmt::format("builds: round {} of {}{}", round + 1, options.enough ? "at most " : "", most));
    }
    // In turns which of both is first: what the first one leaves behind must not always meet the same build.
    std::array<std::vector<Figure>, 2> figures;
    for (std::size_t i = 0; i < builds.size() && !stopped; ++i) {
      const std::size_t which = (round + i) % 2;
      Build& build = builds[which];
      auto output = output_of(build.program, options.arguments);
      stopped = options.stop && options.stop();
      if (!output && stopped) break;  // Ctrl-C reaches it as well
      if (!output) return Failure(output.error());
      WARMFORK_TRY_ASSIGN(ResultFile result, parse_result(*output, "output of " + build.program));
      const MachineState before = round == 0 ? result.context.before : build.context.before;
      build.context = std::move(result.context);
      build.context.before = before;
      figures[which] = std::move(result.figures);
    }
    if (figures[0].empty() || figures[1].empty()) {
      if (stopped) break;
      return fail(ErrorKind::kInput, "{}: no figures with these arguments",
                  figures[0].empty() ? options.before : options.after);
    }
    for (std::size_t i = 0; i < builds.size(); ++i) builds[i].rounds.add(std::move(figures[i]));
    if (!options.enough || round + 1 < options.rounds || stopped) continue;
    const auto so_far = merged();
    if (options.enough(so_far.first, so_far.second)) break;
  }
  return merged();
}

}  // namespace warmfork::bench
