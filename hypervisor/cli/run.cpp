// warmfork run: LC-3 programs, from source or object files, on the terminal or in a pipe.
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3_console.hpp"
#include "lc3_profile.hpp"
#include "lc3_report.hpp"
#include "lc3_run.hpp"
#include "metrics.hpp"
#include "metrics/vm_watch.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace warmfork::cli {
namespace {

struct Options : Lc3RunOptions {
  MetricsOptions metrics;
  bool stats = false;
  bool json = false;
  bool perf_map = false;
  ProfileOptions profile;
};

double per_second(const ConsoleRun& run) {
  return run.guest_ns == 0 ? 0 : static_cast<double>(run.executed) * 1e9 / static_cast<double>(run.guest_ns);
}

void print_json(const Ending& outcome, const OutputSink& sink, const Lc3RunPlan& plan, const Lc3Places& places,
                const std::optional<Lc3Statistics>& statistics, const lc3::StartTimes& start, std::uint64_t load_ns,
                const lc3::jit::CacheCounters& code) {
  const JsonText output = json_text(sink.bytes());
  nlohmann::ordered_json json{{"stop", outcome.stop},
                              {"exit_code", outcome.code},
                              {"message", json_text(outcome.message).text},
                              {"executed", outcome.run.executed},
                              {"output", output.text},
                              {"output_encoding", output.encoding},
                              {"registers", registers_json(outcome.registers)}};
  if (outcome.failure) {
    json["failure"] = {{"what", outcome.failure->what},
                       {"vector", outcome.failure->vector},
                       {"address", outcome.failure->address},
                       {"place", json_text(places.describe(outcome.failure->address)).text}};
  }
  if (plan.machine.randomise) json["seed"] = *plan.machine.randomise;
  json["ns"] = {{"construct", start.construct_ns},
                {"boot", start.boot_ns},
                {"power_on", start.power_on_ns},
                {"load", load_ns},
                {"run", outcome.run.guest_ns}};
  json["instructions_per_second"] = per_second(outcome.run);
  json["code"] = code_json(code, plan.machine.engine);
  if (statistics) json["statistics"] = statistics_json(*statistics, places);
  fmt::print("{}\n", json.dump(2));
}

void print_statistics(const Ending& outcome, const Lc3Statistics& statistics, const Lc3Places& places,
                      const lc3::StartTimes& start, std::uint64_t load_ns) {
  print_message(
      "statistics\n  instructions  {} in {}, {} (counting; without --stats it is faster)\n"
      "  start         construct {}, boot {}, power on {}, load {}\n{}",
      outcome.run.executed, time_text(static_cast<double>(outcome.run.guest_ns)), rate_text(per_second(outcome.run)),
      time_text(static_cast<double>(start.construct_ns)), time_text(static_cast<double>(start.boot_ns)),
      time_text(static_cast<double>(start.power_on_ns)), time_text(static_cast<double>(load_ns)),
      statistics_text(statistics, places));
}

metrics::VmWatch::Info describe_vm(const Options& options, const Lc3RunPlan& plan, lc3::Lc3Vm& vm) {
  metrics::VmWatch::Info info{.vm = options.files.front(),
                              .program = fmt::format("{}", fmt::join(options.files, " ")),
                              .kind = "vm",
                              .engine = lc3::kEngineNames[static_cast<std::size_t>(plan.machine.engine)],
                              .memory_bytes = vm.guest().memory().window().size()};
  if (plan.deadline_ns != kNoDeadline) {
    info.deadline_seconds = static_cast<double>(plan.deadline_ns - std::min(plan.deadline_ns, now_ns())) * 1e-9;
  }
  if (!options.budget.empty()) info.instruction_budget = plan.budget;
  return info;
}

Result<int> run_checked(const Options& options) {
  WARMFORK_TRY_ASSIGN(Lc3RunPlan plan, make_plan(options));
  if (options.perf_map) plan.machine.perf_map = lc3::jit::perf_map_path();
  plan.machine.locate_samples = options.profile.on();
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::load_program(options.files));
  ::signal(SIGPIPE, SIG_IGN);
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  Ending unread;
  WARMFORK_TRY_ASSIGN(std::optional<InputSource> input, open_input(options, plan, *signals, unread));
  if (!input) {
    report_unread(unread, options.json);
    return unread.code;
  }
  OutputSink sink = options.json ? OutputSink::memory(kMaxJsonOutputBytes) : OutputSink::descriptor(STDOUT_FILENO);

  WARMFORK_TRY_ASSIGN(std::unique_ptr<Sampler> sampler, start_sampling(options.profile));
  lc3::Profile profile;
  WARMFORK_TRY_ASSIGN(const kvm::Kvm kvm, open_kvm());
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<lc3::Lc3Vm> vm, lc3::Lc3Vm::create(kvm, plan.machine));
  const std::uint64_t before_load = now_ns();
  WARMFORK_TRY(vm->load(program));
  if (options.stats) WARMFORK_TRY(vm->instrument(lc3::InstrumentMode::kCollect));
  const std::uint64_t load_ns = now_ns() - before_load;

  if (options.profile.on()) vm->sample_into(profile);
  std::optional<metrics::VmWatch> watch;
  SliceRunner runner;
  if (metrics::on()) {
    watch.emplace(describe_vm(options, plan, *vm));
    runner = [&](std::uint64_t budget) {
      watch->state(metrics::VmState::kRunning);
      auto ran = vm->run(budget);
      watch->state(metrics::VmState::kWaiting);
      if (ran) watch->add_instructions(ran->executed);
      return ran;
    };
  }
  metrics_ready();
  WARMFORK_TRY_ASSIGN(const ConsoleRun run, run_on_console(*vm, *input, sink, *signals, plan, runner));
  sampler.reset();
  const Lc3Places places(program, os_of(plan));
  WARMFORK_TRY_ASSIGN(const Ending outcome, conclude(*vm, run, plan, places, *signals, sink, options.json));
  if (watch) {
    watch->state(outcome.code == kSuccess ? metrics::VmState::kDone : metrics::VmState::kStopped);
    if (outcome.code == kGuestError) watch->fault(outcome.message);
  }
  std::optional<Lc3Statistics> statistics;
  if (options.stats) {
    WARMFORK_TRY_ASSIGN(statistics, collect_statistics(*vm));
  }

  if (options.profile.on()) {
    FoldedProfile folded;
    folded.add(std::filesystem::path(options.files.front()).filename().string(), profile, program, os_of(plan),
               plan.machine.engine);
    WARMFORK_TRY(folded.write(options.profile));
  }
  warn_of_cache(*vm, plan);
  if (const std::string complaint = vm->names_complaint(); !complaint.empty()) {
    print_message("warning: names of compiled code: {}\n", complaint);
  }
  if (options.json)
    print_json(outcome, sink, plan, places, statistics, vm->start_times(), load_ns, vm->code_counters());
  if (statistics && !options.json) print_statistics(outcome, *statistics, places, vm->start_times(), load_ns);
  if (!outcome.message.empty() && !options.json) {
    // On a terminal the message starts on a line of its own; what goes to standard output stays as it is.
    if (sink.is_terminal() && sink.in_line() && ::isatty(STDERR_FILENO) == 1) print_message("\n");
    print_ending(outcome, options, plan, registers_text(outcome.registers));
  }
  return outcome.code;
}

int run(const Options& options) {
  const auto code = run_checked(options);
  return code ? *code : report_run_error(code.error(), options.json);
}

}  // namespace

void add_run(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("run", "Run LC-3 programs in a guest");
  verb->footer(
      "Files are loaded together; execution starts at the first segment from x0200 up. What the program displays\n"
      "goes to standard output, byte for byte; everything else goes to standard error.\n\n"
      "  warmfork run hello.asm                       assemble, load, run\n"
      "  warmfork run main.obj library.obj main.sym   several object files, with names for messages\n"
      "  warmfork run game.asm                        on a terminal, keys reach the program at once; Ctrl-C ends it,\n"
      "                                               Ctrl-Z stops it, Ctrl-D is the end of its input\n"
      "  echo 12+34 | warmfork run calc.asm           input from a pipe, as it comes\n"
      "  warmfork run --input keys.txt --budget 10M --timeout 5s --json work.asm     a repeatable, bounded run\n"
      "  warmfork run --cache ~/.cache/warmfork work.asm        the second time LLVM's code is there from the start\n\n"
      "Keys of --json: stop, exit_code, message, executed, output, output_encoding, registers; failure, seed and\n"
      "statistics where there are any; ns (construct, boot, power_on, load, run); instructions_per_second; code:\n"
      "engine, versions and instructions compiled, code_bytes made of them, compile_ns, optimised (versions of LLVM's\n"
      "code), optimise_ns, failures, and of --cache disk_hits, disk_misses, disk_refused (files that are wrong),\n"
      "disk_written, disk_failures (to write), disk_trimmed (files removed because of --cache-limit).\n\n"
      "Exit codes: 0 halted · 2 wrong usage · 3 bad file · 4 no KVM, out of memory · 5 ended by an exception or by a\n"
      "trap or interrupt without a routine (by the OS, too) · 6 budget used up · 7 timeout · 8 waits for input, and\n"
      "there is no more · 130 Ctrl-C (128 + signal) · 141 standard output closed.");
  add_lc3_run_options(*verb, *options, "no limit");
  verb->add_flag("--stats", options->stats,
                 "Count instructions, branches, memory and registers; table at the end.\n"
                 "Compiled code counts, too: xbyak's, with --engine orc and auto as well");
  verb->add_flag("--json", options->json, "One JSON object on standard output, the program's output inside it");
  verb->add_flag("--perf-map", options->perf_map,
                 "Name compiled code in /tmp/perf-PID.map, a line \"START SIZE lc3_xADDRESS\" for each block, numbers\n"
                 "hexadecimal. Addresses are the guest's: the map is for looking up samples of the guest's RIP");
  add_profile_options(*verb, options->profile);
  verb->fallthrough();
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, "run " + options->files.front(), [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
