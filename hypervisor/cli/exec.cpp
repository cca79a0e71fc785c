// warmfork exec: run any static Linux program that needs only the subset of system calls the machine serves.
#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "machine/machine.hpp"
#include "metrics.hpp"
#include "metrics/vm_watch.hpp"
#include "option_checks.hpp"
#include "verbs.hpp"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

constexpr std::size_t kMaxProgramBytes = std::size_t{1} << 30;

struct Options {
  MetricsOptions metrics;
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::string memory = "256M";
  std::string timeout;
  std::optional<std::uint64_t> seed;
  bool trace = false;
  bool stats = false;
};

void print_record(const linux_abi::SyscallRecord& record) {
  const auto& a = record.request.arguments;
  std::string result = fmt::format("{}", record.outcome.result);
  if (record.outcome.exit_code) result = fmt::format("exit {}", *record.outcome.exit_code);
  print_message("{}({:#x}, {:#x}, {:#x}, {:#x}, {:#x}, {:#x}) = {}{}\n", record.name, a[0], a[1], a[2], a[3], a[4],
                a[5], result, record.supported ? "" : "   [not supported]");
}

int run(const Options& options) {
  const auto memory = parse_size(options.memory);
  if (!memory) return report(memory.error());
  CallOptions call;
  if (!options.timeout.empty()) {
    const auto timeout = parse_duration(options.timeout);
    if (!timeout) return report(timeout.error());
    call.timeout_ns = *timeout;
  }
  const auto elf = read_file(options.program, kMaxProgramBytes);
  if (!elf) return report(elf.error());
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());

  HostStdio io;
  MachineConfig config;
  config.memory_bytes = *memory;
  config.stack_bytes = std::min<std::uint64_t>(std::uint64_t{8} << 20, *memory / 4);
  config.io = &io;
  config.process.arguments.push_back(options.program);
  config.process.arguments.insert(config.process.arguments.end(), options.arguments.begin(), options.arguments.end());
  config.process.environment = options.environment;
  config.process.seed = options.seed;
  if (options.trace) config.process.trace = print_record;
  auto machine = Machine::create(*kvm, *elf, options.program, std::move(config));
  if (!machine) return report(machine.error());

  std::optional<metrics::VmWatch> watch;
  if (metrics::on()) {
    watch.emplace(metrics::VmWatch::Info{
        .vm = options.program,
        .program = options.program,
        .kind = "vm",
        .engine = "native",
        .memory_bytes = *memory,
        .deadline_seconds =
            call.timeout_ns == 0 ? std::nullopt : std::optional(static_cast<double>(call.timeout_ns) * 1e-9),
        .instruction_budget = std::nullopt});
    watch->state(metrics::VmState::kRunning);
  }
  metrics_ready();
  const InterruptGuard guard(**machine);
  const auto outcome = (*machine)->boot(call);
  if (watch) {
    watch->state(outcome ? metrics::VmState::kDone : metrics::VmState::kStopped);
    if ((*machine)->fault()) watch->fault((*machine)->fault()->summary);
  }
  if (options.stats) {
    const MachineCounters& counters = (*machine)->counters();
    print_message("{} entries, {} system calls\n", counters.kvm_run.value(), counters.syscalls.value());
  }
  if (!outcome) return report(outcome.error(), **machine);
  if (!outcome->exit_code) {
    return report(
        Error{ErrorKind::kInput, fmt::format("{}: the program waits for vmcalls; exec makes none", options.program)});
  }
  return *outcome->exit_code;
}

}  // namespace

void add_exec(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("exec", "Run a static Linux program in a guest");
  verb->footer(
      "The program must be a static x86-64 ELF (musl, glibc -static, static-PIE). It sees standard input, output and\n"
      "error and private memory; no files, no threads, no network. exec ends with the program's own exit code.\n\n"
      "  warmfork exec ./hello world\n"
      "  warmfork exec --trace --timeout 2s ./prog -x     everything behind the program is the program's\n");
  verb->prefix_command();
  verb->allow_extras();
  verb->add_option("--memory", options->memory, "Everything the program can write, together")->capture_default_str();
  verb->add_option("--timeout", options->timeout, "End the program after this time (250ms, 2s, 1m)");
  verb->add_option("--env", options->environment, "An environment variable NAME=value (may be given again)");
  verb->add_option("--seed", options->seed, "Make random bytes repeatable")->check(whole_number());
  verb->add_flag("--trace", options->trace, "Print every system call to standard error");
  verb->add_flag("--stats", options->stats, "Print entries and system calls at the end");
  add_metrics_options(*verb, options->metrics);
  verb->final_callback([verb, options, &outcome] {
    auto words = verb->remaining();
    if (words.empty()) throw CLI::RequiredError("exec: a program");
    options->program = words.front();
    options->arguments.assign(words.begin() + 1, words.end());
    outcome.code = with_metrics(options->metrics, "exec " + options->program, [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
