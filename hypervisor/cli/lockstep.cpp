// warmfork lockstep: the LC-3 engines side by side, on given programs or on generated ones.
#include "lc3/lockstep/lockstep.hpp"

#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/lockstep/generators.hpp"
#include "lc3/lockstep/minimise.hpp"
#include "metrics.hpp"
#include "option_checks.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  MetricsOptions metrics;
  std::vector<std::string> files;
  std::vector<std::string> engines{"careful", "fast", "xbyak"};
  std::uint64_t programs = 1000;
  std::string generator = "all";
  std::uint64_t seed = 1;
  std::string budget;
  std::string input;
  int edition = 3;
  bool minimise = false;
  bool json = false;
};

struct Tally {
  std::uint64_t programs = 0, instructions = 0;
  Clock::time_point begin = Clock::now();
  std::optional<lc3::LockstepDifference> difference;
  lc3::LockstepCase failing;
  std::optional<std::string> minimised;
  lc3::StopReason stop = lc3::StopReason::kNone;

  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - begin).count(); }
};

/// One line that is written over, a few times a second, where somebody sees it.
class Progress {
 public:
  void show(const std::string& text) {
    if (!terminal_ || Clock::now() < next_) return;
    next_ = Clock::now() + std::chrono::milliseconds(200);
    print_message("\r\033[K{}", text);
    shown_ = true;
  }
  void end() const {
    if (shown_) print_message("\r\033[K");
  }

 private:
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  Clock::time_point next_ = Clock::now() + std::chrono::milliseconds(200);
  bool shown_ = false;
};

constexpr std::size_t kMostInput = 1 << 20;

Result<lc3::LockstepCase> given_program(const Options& options, std::uint64_t budget) {
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::load_program(options.files));
  const std::uint32_t edition = options.edition == 2 ? lc3::kSecondEdition : 0U;
  lc3::LockstepCase one = lc3::case_of(program, lc3::kDefaultConfig | edition);
  one.name = options.files.front();
  one.budget = budget;
  one.longest_slice = 1 << 22;
  one.slice_seed = options.seed;
  if (!options.input.empty()) {
    WARMFORK_TRY_ASSIGN(const auto bytes, read_file(options.input, kMostInput));
    // In pieces that find room: each is typed when the machine waits for it, or after so many instructions.
    constexpr std::size_t kPiece = 64;
    for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
      const auto piece = std::span(bytes).subspan(at, std::min(kPiece, bytes.size() - at));
      // SAFETY: bytes viewed as characters.
      one.input.push_back({at * 1000, std::string(reinterpret_cast<const char*>(piece.data()), piece.size())});
    }
  }
  return one;
}

void run_one(lc3::Lockstep& lockstep, const lc3::LockstepCase& one, Tally& tally) {
  lc3::LockstepOutcome outcome = lockstep.run(one);
  ++tally.programs;
  tally.instructions += outcome.instructions;
  tally.stop = outcome.stop;
  if (!outcome.difference) return;
  tally.difference = std::move(outcome.difference);
  tally.failing = one;
}

Status run_generated(lc3::Lockstep& lockstep, const Options& options, std::uint64_t budget, Tally& tally) {
  std::vector<const lc3::LockstepGenerator*> generators;
  if (options.generator == "all") {
    for (const lc3::LockstepGenerator& generator : lc3::lockstep_generators()) generators.push_back(&generator);
  } else {
    WARMFORK_TRY_ASSIGN(const auto* generator, lc3::find_generator(options.generator));
    generators.push_back(generator);
  }
  Progress progress;
  for (std::uint64_t i = 0; i < options.programs && !tally.difference; ++i) {
    const auto& generator = *generators[i % generators.size()];
    run_one(lockstep, lc3::generate(generator, options.seed + i / generators.size(), budget), tally);
    progress.show(
        fmt::format("{} of {} programs, {} instructions", tally.programs, options.programs, tally.instructions));
  }
  progress.end();
  return {};
}

void print_text(const Options& options, const Tally& tally) {
  if (tally.difference) {
    fmt::print("{}", tally.difference->report);
    if (tally.minimised) fmt::print("\nthe smallest program that shows it:\n{}", *tally.minimised);
    return;
  }
  if (options.files.empty()) {
    fmt::print("equal: {} programs, {} instructions on each of {}, {:.1f} s\n", tally.programs, tally.instructions,
               fmt::join(options.engines, ", "), tally.seconds());
  } else {
    fmt::print("equal: {} instructions on each of {}, then {}, {:.1f} s\n", tally.instructions,
               fmt::join(options.engines, ", "), lc3::to_string(tally.stop), tally.seconds());
  }
}

void print_json(const Options& options, const Tally& tally) {
  nlohmann::ordered_json json{{"equal", !tally.difference},         {"engines", options.engines},
                              {"programs", tally.programs},         {"instructions", tally.instructions},
                              {"stop", lc3::to_string(tally.stop)}, {"seconds", tally.seconds()}};
  if (tally.difference) {
    json["difference"] = {{"program", tally.failing.name},
                          {"engine", tally.difference->engine},
                          {"instruction", tally.difference->instruction},
                          {"pc", tally.difference->pc},
                          {"what", tally.difference->what},
                          {"report", tally.difference->report}};
    if (tally.minimised) json["difference"]["minimised"] = *tally.minimised;
  }
  // A program's name may be any bytes.
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

Result<Tally> run_all(const Options& options) {
  constexpr std::uint64_t kGivenBudget = 100'000'000, kGeneratedBudget = 1'000'000;
  std::uint64_t budget = options.files.empty() ? kGeneratedBudget : kGivenBudget;
  if (!options.budget.empty()) {
    WARMFORK_TRY_ASSIGN(budget, parse_count(options.budget));
  }
  if (options.engines.size() < 2) {
    return fail(ErrorKind::kUsage, "lockstep compares at least two engines, {} given", options.engines.size());
  }
  WARMFORK_TRY_ASSIGN(auto engines, lc3::make_engines(options.engines));
  lc3::Lockstep lockstep(std::move(engines));
  Tally tally;
  if (options.files.empty()) {
    WARMFORK_TRY(run_generated(lockstep, options, budget, tally));
  } else {
    WARMFORK_TRY_ASSIGN(const lc3::LockstepCase one, given_program(options, budget));
    run_one(lockstep, one, tally);
  }
  if (tally.difference && options.minimise) {
    tally.minimised = lc3::to_source(
        lc3::minimise(tally.failing, [&](const lc3::LockstepCase& one) { return lockstep.differs(one); }));
  }
  return tally;
}

int run(const Options& options) {
  metrics_ready();
  const auto tally = run_all(options);
  if (!tally) return report(tally.error());
  options.json ? print_json(options, *tally) : print_text(options, *tally);
  return tally->difference ? kFailure : kSuccess;
}

}  // namespace

void add_lockstep(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("lockstep", "Run LC-3 programs on all engines at once, and stop where they part");
  std::string generators;
  for (const lc3::LockstepGenerator& generator : lc3::lockstep_generators()) {
    generators += fmt::format("  {:<12}{}\n", generator.name, generator.about);
  }
  std::vector<std::string> names(lc3::engine_names().begin(), lc3::engine_names().end());
  verb->footer(
      "The engines run in this process, without KVM, a slice at a time; registers, memory, devices, output and\n"
      "counters are compared after each. If they part, the instruction is searched for at which they do, and\n"
      "shown with the code around it, its intermediate form and its machine code.\n\n"
      "Without a program, programs are generated; each is a function of its generator and seed:\n" +
      generators +
      "\n  warmfork lockstep                                     1000 programs of all generators\n"
      "  warmfork lockstep --programs 1000000 --seed 5\n"
      "  warmfork lockstep sieve.asm --engines careful,xbyak\n"
      "  warmfork lockstep --generator self --seed 1234 --programs 1 --minimise\n\n"
      "Exit codes: 0 the engines are equal · 1 they part, the report is on standard output");
  verb->add_option("program", options->files, "Programs instead of generated ones: .asm, .obj; .sym for names")
      ->type_name("FILE");
  verb->add_option("--engines", options->engines, "Two or more; the first is what the others are measured against")
      ->delimiter(',')
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  verb->add_option("--programs", options->programs, "How many to generate")
      ->check(whole_number())
      ->capture_default_str();
  verb->add_option("--generator", options->generator, "One of the above, or all in turn")
      ->type_name("NAME")
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Of the first generated program, and of the slices")
      ->check(whole_number())
      ->capture_default_str();
  verb->add_option("--budget", options->budget,
                   "Instructions of a program at most (10k, 2M; default 100M, 1M if generated)");
  verb->add_option("--input", options->input, "What is typed into the given program")->type_name("FILE");
  verb->add_option("--edition", options->edition, "Of the machine and the OS that the given program runs on")
      ->check(CLI::IsMember({2, 3}))
      ->capture_default_str();
  verb->add_flag("--minimise", options->minimise, "Make the program that parts them as small as it can be");
  verb->add_flag("--json", options->json, "The result as JSON");
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, std::string("lockstep"), [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
