// warmfork run: LC-3 programs, from source or object files, on the terminal or in a pipe.
#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/os/os_image.hpp"
#include "lc3_console.hpp"
#include "lc3_report.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

constexpr std::size_t kMaxInputBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxJsonOutputBytes = std::size_t{64} << 20;

struct Options {
  std::vector<std::string> files;
  int edition = 3;
  std::string privilege = "relaxed";
  std::string traps = "native";
  std::string start = "user";
  bool no_os = false;
  std::string budget;
  std::string timeout;
  std::string input;
  std::optional<std::uint64_t> seed;
  bool randomize = false;
  bool stats = false;
  bool json = false;
};

/// What the options mean, checked.
struct Plan {
  lc3::Lc3Options machine;
  std::uint64_t budget = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t deadline_ns = kNoDeadline;
};

/// Everything there is to say about a finished run.
struct Ending {
  int code = kSuccess;
  std::string stop;     // a stable word
  std::string message;  // for people; empty if all is well
  ConsoleRun run;
  lc3::Registers registers;
  std::optional<Lc3Failure> failure;
  std::optional<Lc3Statistics> statistics;
};

lc3::Edition edition_of(const Options& options) {
  return options.edition == 2 ? lc3::Edition::kSecond : lc3::Edition::kThird;
}

Result<Plan> make_plan(const Options& options) {
  Plan plan;
  plan.machine.edition = options.edition;
  plan.machine.strict_privilege = options.privilege == "strict";
  plan.machine.traps = options.traps == "os" ? lc3::TrapMode::kOs : lc3::TrapMode::kNative;
  plan.machine.load_os = !options.no_os;
  plan.machine.supervisor_start = options.start == "supervisor";
  plan.machine.randomise = options.seed;
  if (options.randomize && !options.seed) {
    std::uint64_t seed = 0;
    if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) return fail_errno("getrandom");
    plan.machine.randomise = seed >> 32;  // short enough to be typed again
  }
  if (!options.budget.empty()) {
    WARMFORK_TRY_ASSIGN(plan.budget, parse_count(options.budget));
  }
  if (!options.timeout.empty()) {
    WARMFORK_TRY_ASSIGN(const std::uint64_t timeout_ns, parse_duration(options.timeout));
    plan.deadline_ns = now_ns() + timeout_ns;
  }
  return plan;
}

// All of standard input, before the program starts. Empty if a signal or the deadline came first.
Result<std::optional<std::string>> read_standard_input(std::uint64_t deadline_ns, const SignalWatch& signals) {
  InputSource source(STDIN_FILENO);
  std::string all;
  while (!source.ended()) {
    if (signals.signal() != 0 || now_ns() >= deadline_ns) return std::optional<std::string>{};
    wait_readable(source.fd(), signals, deadline_ns);
    source.read_available();
    all += source.pending();
    source.take(source.pending().size());
    if (all.size() > kMaxInputBytes) {
      return fail(ErrorKind::kInput, "standard input: larger than the limit of {} bytes", kMaxInputBytes);
    }
  }
  return all;
}

void judge(Ending& outcome, const Lc3Places& places, std::uint16_t word, const Plan& plan, const SignalWatch& signals,
           const OutputSink& sink) {
  using lc3::StopReason;
  const auto say = [&](int code, std::string stop, std::string message) {
    outcome.code = code;
    outcome.stop = std::move(stop);
    outcome.message = std::move(message);
  };
  const std::string at =
      fmt::format("at {}: {}", places.describe(outcome.registers.pc), places.instruction(word, outcome.registers.pc));
  const std::string count = fmt::format("{} instruction{}", outcome.run.executed, outcome.run.executed == 1 ? "" : "s");
  const std::string after = fmt::format("after {}, {}", count, at);
  switch (outcome.run.end) {
    case RunEnd::kTimeout: return say(kTimeoutEnd, "timeout", fmt::format("the timeout has passed {}", after));
    case RunEnd::kInterrupted: return say(128 + signals.signal(), "interrupted", fmt::format("interrupted {}", after));
    case RunEnd::kOutputClosed: return say(kOutputClosed, "output_closed", "");
    case RunEnd::kOutputFailed:
      return say(kHostError, "output_failed", fmt::format("standard output: {}", std::strerror(sink.last_errno())));
    case RunEnd::kOutputLimit:
      return say(kBudgetEnd, "output_limit",
                 fmt::format("more than {} bytes of output with --json, {}", kMaxJsonOutputBytes, after));
    case RunEnd::kStopped: break;
  }
  const StopReason stop = outcome.run.last.stop;
  if (outcome.failure) {
    const Lc3Failure& failure = *outcome.failure;
    std::string message =
        fmt::format("{} at {}: {} (x{:04X}), after {}", failure.what, places.describe(failure.address),
                    places.instruction(word, failure.address), word, count);
    if (!plan.machine.load_os) message += "; without the OS (--no-os) the program has to bring a routine for it";
    return say(kGuestError, stop == StopReason::kHalted ? "ended_by_os" : lc3::stop_name(stop), std::move(message));
  }
  switch (stop) {
    case StopReason::kHalted: return say(kSuccess, lc3::stop_name(stop), "");
    case StopReason::kBudget:
      return say(kBudgetEnd, lc3::stop_name(stop), fmt::format("the budget is used up {}", after));
    case StopReason::kInputExhausted:
      return say(kInputEnd, lc3::stop_name(stop),
                 fmt::format("the program waits for input, and there is no more, {}", after));
    default: return say(kFailure, lc3::stop_name(stop), fmt::format("{} {}", lc3::describe(stop), after));
  }
}

double per_second(const ConsoleRun& run) {
  return run.guest_ns == 0 ? 0 : static_cast<double>(run.executed) * 1e9 / static_cast<double>(run.guest_ns);
}

void print_json(const Ending& outcome, const OutputSink& sink, const Plan& plan, const Lc3Places& places,
                const lc3::StartTimes& start, std::uint64_t load_ns) {
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
  if (outcome.statistics) json["statistics"] = statistics_json(*outcome.statistics, places);
  fmt::print("{}\n", json.dump(2));
}

// Of what ended before there was a machine to tell about.
void print_short_json(const Ending& ending) {
  const nlohmann::ordered_json json{
      {"stop", ending.stop}, {"exit_code", ending.code}, {"message", json_text(ending.message).text}};
  fmt::print("{}\n", json.dump(2));
}

void print_statistics(const Ending& outcome, const Lc3Places& places, const lc3::StartTimes& start,
                      std::uint64_t load_ns) {
  print_message(
      "statistics\n  instructions  {} in {}, {} (counting; without --stats it is faster)\n"
      "  start         construct {}, boot {}, power on {}, load {}\n{}",
      outcome.run.executed, time_text(static_cast<double>(outcome.run.guest_ns)), rate_text(per_second(outcome.run)),
      time_text(static_cast<double>(start.construct_ns)), time_text(static_cast<double>(start.boot_ns)),
      time_text(static_cast<double>(start.power_on_ns)), time_text(static_cast<double>(load_ns)),
      statistics_text(*outcome.statistics, places));
}

// An error of a guest that has ended, with its report.
Error with_fault(Error error, lc3::Lc3Vm& vm) {
  if (const auto& fault = vm.machine().fault()) error.message += "\n" + fault->to_text();
  return error;
}

Result<int> run_checked(const Options& options) {
  WARMFORK_TRY_ASSIGN(const Plan plan, make_plan(options));
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::load_program(options.files));
  ::signal(SIGPIPE, SIG_IGN);
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  InputSource input{std::string()};
  if (options.input.empty()) {
    input = InputSource(STDIN_FILENO);
  } else if (options.input == "-") {
    WARMFORK_TRY_ASSIGN(auto bytes, read_standard_input(plan.deadline_ns, *signals));
    if (!bytes) {
      const bool interrupted = signals->signal() != 0;
      Ending ending;
      ending.code = interrupted ? 128 + signals->signal() : kTimeoutEnd;
      ending.stop = interrupted ? "interrupted" : "timeout";
      ending.message =
          fmt::format("{} while reading the input", interrupted ? "interrupted" : "the timeout has passed");
      if (options.json) print_short_json(ending);
      print_message("{} {}\n", error_prefix(), ending.message);
      return ending.code;
    }
    input = InputSource(*std::move(bytes));
  } else {
    WARMFORK_TRY_ASSIGN(const auto bytes, read_file(options.input, kMaxInputBytes));
    // SAFETY: bytes viewed as characters, for the lifetime of the vector.
    input = InputSource(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  OutputSink sink = options.json ? OutputSink::memory(kMaxJsonOutputBytes) : OutputSink::descriptor(STDOUT_FILENO);

  WARMFORK_TRY_ASSIGN(const kvm::Kvm kvm, open_kvm());
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<lc3::Lc3Vm> vm, lc3::Lc3Vm::create(kvm, plan.machine));
  const std::uint64_t before_load = now_ns();
  WARMFORK_TRY(vm->load(program));
  if (options.stats) WARMFORK_TRY(vm->instrument(lc3::InstrumentMode::kCollect));
  const std::uint64_t load_ns = now_ns() - before_load;

  Ending outcome;
  {
    std::unique_ptr<RawTerminal> terminal;
    if (input.is_terminal()) {
      WARMFORK_TRY_ASSIGN(terminal, RawTerminal::enter(STDIN_FILENO));
    }
    auto run = Lc3Console(*vm, input, sink, *signals).run(plan.budget, plan.deadline_ns);
    if (!run) return Failure(with_fault(std::move(run).error(), *vm));
    outcome.run = *run;
  }
  if (outcome.run.end == RunEnd::kStopped) {
    WARMFORK_TRY_ASSIGN(outcome.failure, find_failure(*vm, plan.machine, outcome.run.last));
  }
  if (options.stats) {
    WARMFORK_TRY_ASSIGN(outcome.statistics, collect_statistics(*vm));
  }
  const Lc3Places places(program, plan.machine.load_os ? &lc3::os_image(edition_of(options)) : nullptr);
  std::uint16_t word = 0;
  const bool plain_end = outcome.run.end == RunEnd::kStopped && outcome.run.last.stop == lc3::StopReason::kHalted;
  if (!plain_end || outcome.failure || options.json) {  // a plain end has nothing to show
    WARMFORK_TRY_ASSIGN(outcome.registers, vm->registers());
    const std::uint16_t address = outcome.failure ? outcome.failure->address : outcome.registers.pc;
    WARMFORK_TRY_ASSIGN(const auto words, vm->read_memory(address, 1));
    word = words.front();
  }
  judge(outcome, places, word, plan, *signals, sink);

  if (options.json) print_json(outcome, sink, plan, places, vm->start_times(), load_ns);
  if (outcome.statistics && !options.json) print_statistics(outcome, places, vm->start_times(), load_ns);
  if (!outcome.message.empty() && !options.json) {
    // On a terminal the message starts on a line of its own; what goes to standard output stays as it is.
    if (sink.is_terminal() && sink.in_line() && ::isatty(STDERR_FILENO) == 1) print_message("\n");
    print_message("{} {}\n{}", error_prefix(), outcome.message, registers_text(outcome.registers));
    if (plan.machine.randomise && !options.seed) {
      print_message("  memory and registers were random: --seed {} gives the same again\n", *plan.machine.randomise);
    }
  }
  return outcome.code;
}

int run(const Options& options) {
  const auto code = run_checked(options);
  if (code) return *code;
  if (options.json) {
    Ending ending;
    ending.code = exit_code(code.error().kind);
    ending.stop = "error";
    ending.message = code.error().message;
    print_short_json(ending);
  }
  return report(code.error());
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
      "  warmfork run --input keys.txt --budget 10M --timeout 5s --json work.asm     a repeatable, bounded run\n\n"
      "Exit codes: 0 halted · 2 wrong usage · 3 bad file · 4 no KVM, out of memory · 5 ended by an exception or by a\n"
      "trap or interrupt without a routine (by the OS, too) · 6 budget used up · 7 timeout · 8 waits for input, and\n"
      "there is no more · 130 Ctrl-C (128 + signal) · 141 standard output closed.");
  verb->add_option("file", options->files, "Programs: .asm, .obj (classic or lc3tools), and .sym for names")
      ->required()
      ->type_name("FILE");
  verb->add_option("--edition", options->edition, "Semantics of the textbook's 2nd or 3rd edition")
      ->check(CLI::IsMember({2, 3}))
      ->capture_default_str();
  verb->add_option("--privilege", options->privilege,
                   "relaxed: user programs reach devices and system space. strict: that is an exception")
      ->check(CLI::IsMember({"relaxed", "strict"}))
      ->capture_default_str();
  verb->add_option("--traps", options->traps, "Serve x20 to x25 natively (fast), or by the OS's LC-3 code")
      ->check(CLI::IsMember({"native", "os"}))
      ->capture_default_str();
  verb->add_flag("--no-os", options->no_os, "Do not load the OS below x3000: the program brings its own");
  verb->add_option("--start", options->start, "Mode at the start")
      ->check(CLI::IsMember({"user", "supervisor"}))
      ->capture_default_str();
  verb->add_option("--budget", options->budget,
                   "End after exactly this many instructions (1000, 10k, 2M, 1G; default: no limit)")
      ->type_name("N");
  verb->add_option("--timeout", options->timeout,
                   "End after this time, waiting included (250ms, 2s, 1m; default: none)")
      ->type_name("TIME");
  verb->add_option("--input", options->input,
                   "Input from a file, all there from the start; - reads standard input to its end first (default:\n"
                   "standard input, as it comes)")
      ->type_name("FILE");
  verb->add_option("--seed", options->seed,
                   "Fill memory and registers with the values of this seed first (default: zeros)")
      ->type_name("N");
  verb->add_flag("--randomize", options->randomize, "As --seed, with a seed that differs every time");
  verb->add_flag("--stats", options->stats, "Count instructions, branches, memory and registers; table at the end");
  verb->add_flag("--json", options->json, "One JSON object on standard output, the program's output inside it");
  verb->fallthrough();
  verb->callback([options, &outcome] { outcome.code = run(*options); });
}

}  // namespace warmfork::cli
