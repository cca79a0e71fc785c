#include "lc3_run.hpp"

#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/os/os_image.hpp"
#include "option_checks.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

namespace warmfork::cli {
namespace {

constexpr std::size_t kMaxInputBytes = std::size_t{256} << 20;

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

void judge(Ending& outcome, const Lc3Places& places, std::uint16_t word, const Lc3RunPlan& plan,
           const SignalWatch& signals, const OutputSink& sink) {
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
      return say(kHostError, "output_failed",
                 fmt::format("the output of the program: {}", std::strerror(sink.last_errno())));
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

// Of what ended before there was a machine to tell about.
void print_short_json(const Ending& ending) {
  const nlohmann::ordered_json json{
      {"stop", ending.stop}, {"exit_code", ending.code}, {"message", json_text(ending.message).text}};
  fmt::print("{}\n", json.dump(2));
}

// An error of a guest that has ended, with its report.
Error with_fault(Error error, lc3::Lc3Vm& vm) {
  if (const auto& fault = vm.machine().fault()) error.message += "\n" + fault->to_text();
  return error;
}

}  // namespace

void add_lc3_run_options(CLI::App& verb, Lc3RunOptions& options, const std::string& budget_default) {
  verb.add_option("file", options.files, "Programs: .asm, .obj (classic or lc3tools), and .sym for names")
      ->required()
      ->type_name("FILE");
  verb.add_option("--edition", options.edition, "Semantics of the textbook's 2nd or 3rd edition")
      ->check(CLI::IsMember({2, 3}))
      ->capture_default_str();
  verb.add_option("--privilege", options.privilege,
                  "relaxed: user programs reach devices and system space. strict: that is an exception")
      ->check(CLI::IsMember({"relaxed", "strict"}))
      ->capture_default_str();
  verb.add_option("--traps", options.traps, "Serve x20 to x25 natively (fast), or by the OS's LC-3 code")
      ->check(CLI::IsMember({"native", "os"}))
      ->capture_default_str();
  verb.add_option("--engine", options.engine,
                  "interp: interpret. xbyak: compile what is executed at once. orc: the same, optimised by LLVM\n"
                  "meanwhile. auto: compile what goes on for long, optimise what goes on for longer.\n"
                  "All give the same results after the same number of instructions")
      ->check(CLI::IsMember(lc3::kEngineNames))
      ->capture_default_str();
  verb.add_option("--cache", options.cache_dir,
                  "Keep code optimised by LLVM in this directory, and use what earlier runs left there (orc, auto).\n"
                  "It is made if need be, and must be writable by you only")
      ->type_name("DIR");
  verb.add_option(
          "--cache-limit", options.cache_limit,
          "Bytes that the files in the directory of --cache may have together (64M, 1G; default: 256M): what was\n"
          "not used for longest is removed when a run writes more")
      ->type_name("SIZE")
      ->needs("--cache");
  verb.add_flag("--no-os", options.no_os, "Do not load the OS below x3000: the program brings its own");
  verb.add_option("--start", options.start, "Mode at the start")
      ->check(CLI::IsMember({"user", "supervisor"}))
      ->capture_default_str();
  verb.add_option("--budget", options.budget,
                  "End after exactly this many instructions (1000, 10k, 2M, 1G; default: " + budget_default + ")")
      ->type_name("N");
  verb.add_option("--timeout", options.timeout, "End after this time, waiting included (250ms, 2s, 1m; default: none)")
      ->type_name("TIME");
  verb.add_option("--input", options.input,
                  "Input from a file, all there from the start; - reads standard input to its end first (default:\n"
                  "standard input, as it comes)")
      ->type_name("FILE");
  verb.add_option("--input-at", options.input_at,
                  "Input that comes after exactly N instructions, or when the program waits for it before: 5000:q or\n"
                  "1M:hello\\n (\\n \\t \\r \\e \\0 \\\\ \\xHH). Again for more; the input ends with the last")
      ->type_name("N:TEXT")
      ->allow_extra_args(false)
      ->excludes("--input");
  verb.add_option("--seed", options.seed,
                  "Fill memory and registers with the values of this seed first (default: zeros)")
      ->check(whole_number())
      ->type_name("N");
  verb.add_flag("--randomize", options.randomize, "As --seed, with a seed that differs every time");
}

Result<Lc3RunPlan> make_plan(const Lc3RunOptions& options) {
  Lc3RunPlan plan;
  plan.machine.edition = options.edition;
  plan.machine.engine = *lc3::engine_named(options.engine);
  plan.machine.cache_dir = options.cache_dir;
  if (!options.cache_limit.empty()) {
    WARMFORK_TRY_ASSIGN(plan.machine.cache_limit, parse_size(options.cache_limit));
  }
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

const lc3::Program* os_of(const Lc3RunPlan& plan) {
  if (!plan.machine.load_os) return nullptr;
  return &lc3::os_image(plan.machine.edition == 2 ? lc3::Edition::kSecond : lc3::Edition::kThird);
}

namespace {

// "a\nb" as characters. Errors (kUsage): an escape that is none.
Result<std::string> unescaped(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    constexpr std::string_view kLetters = "ntre0\\", kMeanings{"\n\t\r\x1b\0\\", 6};
    const char letter = ++i < text.size() ? text[i] : '\0';
    unsigned value = 0;
    if (const std::size_t known = kLetters.find(letter); letter != '\0' && known != std::string_view::npos) {
      bytes += kMeanings[known];
    } else if (letter == 'x' && i + 2 < text.size() &&
               std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
      bytes += static_cast<char>(value);
      i += 2;
    } else {
      return fail(ErrorKind::kUsage,
                  "--input-at: there is no escape \"\\{}\"; there are \\n \\t \\r \\e \\0 \\\\ \\xHH",
                  letter == '\0' ? std::string_view{} : text.substr(i, 1));
    }
  }
  return bytes;
}

Result<InputSource> scheduled_input(const std::vector<std::string>& texts) {
  std::vector<InputSource::Scheduled> schedule;
  for (const std::string& text : texts) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) return fail(ErrorKind::kUsage, "--input-at {}: no colon; it is N:TEXT", text);
    WARMFORK_TRY_ASSIGN(const std::uint64_t at, parse_count(text.substr(0, colon)));
    WARMFORK_TRY_ASSIGN(std::string bytes, unescaped(std::string_view(text).substr(colon + 1)));
    const auto after = std::ranges::upper_bound(schedule, at, {}, &InputSource::Scheduled::at);
    schedule.insert(after, {at, std::move(bytes)});
  }
  return InputSource(std::move(schedule));
}

}  // namespace

Result<std::optional<InputSource>> open_input(const Lc3RunOptions& options, const Lc3RunPlan& plan,
                                              const SignalWatch& signals, Ending& ending) {
  if (!options.input_at.empty()) return scheduled_input(options.input_at);
  if (options.input.empty()) return InputSource(STDIN_FILENO);
  if (options.input == "-") {
    WARMFORK_TRY_ASSIGN(auto bytes, read_standard_input(plan.deadline_ns, signals));
    if (bytes) return InputSource(*std::move(bytes));
    const bool interrupted = signals.signal() != 0;
    ending.code = interrupted ? 128 + signals.signal() : kTimeoutEnd;
    ending.stop = interrupted ? "interrupted" : "timeout";
    ending.message = fmt::format("{} while reading the input", interrupted ? "interrupted" : "the timeout has passed");
    return std::optional<InputSource>{};
  }
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(options.input, kMaxInputBytes));
  // SAFETY: bytes viewed as characters, for the lifetime of the vector.
  return InputSource(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Result<ConsoleRun> run_on_console(lc3::Lc3Vm& vm, InputSource& input, OutputSink& sink, SignalWatch& signals,
                                  const Lc3RunPlan& plan, SliceRunner runner) {
  std::unique_ptr<RawTerminal> terminal;
  if (input.is_terminal()) {
    WARMFORK_TRY_ASSIGN(terminal, RawTerminal::enter(STDIN_FILENO));
  }
  auto run = Lc3Console(vm, input, sink, signals, std::move(runner)).run(plan.budget, plan.deadline_ns);
  if (!run) return Failure(with_fault(std::move(run).error(), vm));
  return run;
}

Result<Ending> conclude(lc3::Lc3Vm& vm, const ConsoleRun& run, const Lc3RunPlan& plan, const Lc3Places& places,
                        const SignalWatch& signals, const OutputSink& sink, bool with_registers) {
  Ending outcome;
  outcome.run = run;
  if (run.end == RunEnd::kStopped) {
    WARMFORK_TRY_ASSIGN(outcome.failure, find_failure(vm, plan.machine, run.last));
  }
  std::uint16_t word = 0;
  const bool plain_end = run.end == RunEnd::kStopped && run.last.stop == lc3::StopReason::kHalted;
  if (!plain_end || outcome.failure || with_registers) {  // a plain end has nothing to show
    WARMFORK_TRY_ASSIGN(outcome.registers, vm.registers());
    const std::uint16_t address = outcome.failure ? outcome.failure->address : outcome.registers.pc;
    WARMFORK_TRY_ASSIGN(const auto words, vm.read_memory(address, 1));
    word = words.front();
  }
  judge(outcome, places, word, plan, signals, sink);
  return outcome;
}

void print_ending(const Ending& ending, const Lc3RunOptions& options, const Lc3RunPlan& plan, std::string_view extra) {
  if (!ending.message.empty()) print_message("{} {}\n{}", error_prefix(), ending.message, extra);
  if (plan.machine.randomise && !options.seed) {
    print_message("  memory and registers were random: --seed {} gives the same again\n", *plan.machine.randomise);
  }
}

void warn_of_cache(lc3::Lc3Vm& vm, const Lc3RunPlan& plan) {
  if (plan.machine.cache_dir.empty()) return;
  vm.end_optimising();
  if (const std::string complaint = vm.cache_complaint(); !complaint.empty()) {
    print_message("warning: --cache: {}\n", complaint);
  }
}

void report_unread(const Ending& ending, bool json) {
  if (json) print_short_json(ending);
  print_message("{} {}\n", error_prefix(), ending.message);
}

int report_run_error(const Error& error, bool json) {
  if (json) {
    Ending ending;
    ending.code = exit_code(error.kind);
    ending.stop = "error";
    ending.message = error.message;
    print_short_json(ending);
  }
  return report(error);
}

}  // namespace warmfork::cli
