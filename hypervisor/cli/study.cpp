// warmfork study: what LC-3 programs do, looked at closely. branches: how well predictors guess their branches.
#include "base/unique_fd.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/study/branch_study.hpp"
#include "lc3_console.hpp"
#include "lc3_report.hpp"
#include "lc3_run.hpp"
#include "metrics.hpp"
#include "verbs.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

constexpr const char* kDefaultBudget = "10M";
constexpr std::size_t kMostWorst = 65'536;
constexpr unsigned kMostRepeats = 1000;
constexpr std::uint64_t kQuietNs = 1'000'000'000;   // what takes less needs no progress
constexpr std::uint64_t kProgressNs = 200'000'000;  // between two lines of progress

struct Options : Lc3RunOptions {
  MetricsOptions metrics;
  lc3::PredictorSizes sizes;
  lc3::StudyOptions study;
  std::size_t worst = 10;
  std::string by;  // empty: the best
  bool show = false;
  bool json = false;
};

/// One line on standard error that says how far a long run has come; nothing where that is no terminal.
class Progress {
 public:
  Progress(std::uint64_t budget, bool wanted)
      : budget_(budget), wanted_(wanted && ::isatty(STDERR_FILENO) == 1), next_(now_ns() + kQuietNs) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::uint64_t executed) {
    if (!wanted_ || now_ns() < next_) return;
    next_ = now_ns() + kProgressNs;
    shown_ = true;
    print_message("\r\033[K{} of at most {} instructions", executed, budget_);
  }
  void clear() {
    if (shown_) print_message("\r\033[K");
    shown_ = false;
  }

 private:
  std::uint64_t budget_;
  bool wanted_;
  std::uint64_t next_;
  bool shown_ = false;
};

// Runs a slice twice: at full speed, which decides where it ends, then again from the same state, step by step, for the
// records. Steps alone would not be the same run: a loop that only polls is found out by none of its single
// instructions, and a trap that is shown in parts goes on where it stopped only if the machine remembers it.
Result<lc3::RunResult> run_recorded(lc3::Lc3Vm& vm, std::uint64_t budget, lc3::BranchStudy& study) {
  WARMFORK_TRY_ASSIGN(const std::vector<std::byte> before, vm.save_state());
  WARMFORK_TRY_ASSIGN(const lc3::RunResult result, vm.run(budget));
  if (result.executed == 0) return result;
  WARMFORK_TRY_ASSIGN(const std::vector<std::byte> after, vm.save_state());
  WARMFORK_TRY(vm.restore_state(before));
  for (std::uint64_t done = 0; done < result.executed;) {  // as many at a time as fit into the call area
    WARMFORK_TRY_ASSIGN(const std::vector<lc3::TraceRecord> records, vm.trace(result.executed - done));
    if (records.empty()) {
      return fail(ErrorKind::kGuestFault, "LC-3 guest: {} instructions run, {} traced", result.executed, done);
    }
    study.add(records);
    done += records.size();
  }
  WARMFORK_TRY(vm.restore_state(after));
  return result;
}

std::string percent_text(std::optional<double> percent) { return percent ? fmt::format("{:.2f} %", *percent) : "-"; }

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string title(const lc3::PredictorResult& predictor) {
  std::string text(predictor.name);
  for (const auto& parameter : predictor.parameters) {
    text += fmt::format("{}{} {}", &parameter == predictor.parameters.data() ? " (" : ", ", parameter.name,
                        parameter.value);
  }
  return predictor.parameters.empty() ? text : text + ")";
}

void print_text(const lc3::StudyResult& result, const Options& options, std::size_t by, const Lc3Places& places) {
  fmt::print("{} instructions, {} conditional branches", result.instructions, result.conditional);
  if (result.conditional != 0) fmt::print(" ({:.1f} % taken)", share(result.conditional_taken, result.conditional));
  fmt::print(", {} unconditional ({}predicted)\n", result.unconditional, options.study.unconditional ? "" : "not ");
  if (result.sites.empty()) {
    fmt::print("no branch to predict\n");
    return;
  }
  fmt::print("\n{:<40} {:>10} {:>9} {:>12} {:>13}\n", "predictor", "accuracy", "MPKI", "ns/branch", "storage");
  for (const lc3::PredictorResult& one : result.predictors) {
    fmt::print("{:<40} {:>10} {:>9.3f} {:>12.2f} {:>8} bits\n", title(one), percent_text(one.accuracy_percent),
               one.mpki.value_or(0), one.ns_per_branch.value_or(0), one.storage_bits);
  }
  const auto worst = result.worst(by, options.worst);
  if (worst.empty()) return;
  fmt::print("\nwhere {} is wrong most often (of {} branches in the program)\n", result.predictors[by].name,
             result.sites.size());
  fmt::print("{:>10} {:>12} {:>9} {:>9}  {}\n", "wrong", "executed", "wrong", "taken", "branch");
  for (const lc3::BranchSite* site : worst) {
    fmt::print("{:>10} {:>12} {:>7.2f} % {:>7.2f} %  {}  {}\n", site->mispredictions[by], site->executed,
               share(site->mispredictions[by], site->executed), share(site->taken, site->executed),
               places.describe(site->pc), places.instruction(site->word, site->pc));
  }
}

nlohmann::ordered_json number(std::optional<double> value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

void print_json(const Ending& ending, const lc3::StudyResult& result, const Options& options, std::size_t by,
                const Lc3RunPlan& plan, const Lc3Places& places) {
  using Json = nlohmann::ordered_json;
  Json json{{"stop", ending.stop},
            {"exit_code", ending.code},
            {"message", json_text(ending.message).text},
            {"executed", ending.run.executed}};
  if (plan.machine.randomise) json["seed"] = *plan.machine.randomise;
  json["branches"] = {{"conditional", result.conditional},
                      {"conditional_taken", result.conditional_taken},
                      {"unconditional", result.unconditional},
                      {"unconditional_predicted", options.study.unconditional},
                      {"addresses", result.sites.size()}};
  json["predictors"] = Json::array();
  for (const lc3::PredictorResult& one : result.predictors) {
    Json parameters = Json::object();
    for (const auto& [name, value] : one.parameters) parameters[std::string(name)] = value;
    json["predictors"].push_back({{"name", one.name},
                                  {"parameters", parameters},
                                  {"storage_bits", one.storage_bits},
                                  {"branches", one.branches},
                                  {"mispredictions", one.mispredictions},
                                  {"accuracy_percent", number(one.accuracy_percent)},
                                  {"mpki", number(one.mpki)},
                                  {"ns_per_branch", number(one.ns_per_branch)}});
  }
  json["worst_by"] = result.predictors[by].name;
  json["worst"] = Json::array();
  for (const lc3::BranchSite* site : result.worst(by, options.worst)) {
    Json one{{"address", site->pc}};
    if (const std::string label = places.label(site->pc); !label.empty()) one["label"] = json_text(label).text;
    one["place"] = json_text(places.describe(site->pc)).text;
    one["instruction"] = json_text(places.instruction(site->word, site->pc)).text;
    one["executed"] = site->executed;
    one["taken"] = site->taken;
    for (std::size_t i = 0; i < result.predictors.size(); ++i) {
      one["mispredictions"][std::string(result.predictors[i].name)] = site->mispredictions[i];
    }
    json["worst"].push_back(std::move(one));
  }
  fmt::print("{}\n", json.dump(2));
}

Result<int> run_checked(const Options& options) {
  WARMFORK_TRY_ASSIGN(const Lc3RunPlan plan, make_plan(options));
  WARMFORK_TRY_ASSIGN(auto predictors, lc3::make_predictors(options.sizes));
  WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::load_program(options.files));
  ::signal(SIGPIPE, SIG_IGN);
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  Ending unread;
  WARMFORK_TRY_ASSIGN(std::optional<InputSource> input, open_input(options, plan, *signals, unread));
  if (!input) {
    report_unread(unread, options.json);
    return unread.code;
  }
  UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!nowhere) return fail_errno("/dev/null");
  OutputSink sink = OutputSink::descriptor(options.show ? STDERR_FILENO : nowhere.get());

  WARMFORK_TRY_ASSIGN(const kvm::Kvm kvm, open_kvm());
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<lc3::Lc3Vm> vm, lc3::Lc3Vm::create(kvm, plan.machine));
  WARMFORK_TRY(vm->load(program));
  lc3::BranchStudy study(std::move(predictors), options.study);
  Progress progress(plan.budget, !options.show);
  const auto slice = [&](std::uint64_t budget) -> Result<lc3::RunResult> {
    auto result = run_recorded(*vm, budget, study);
    progress.update(study.instructions());
    return result;
  };
  metrics_ready();
  WARMFORK_TRY_ASSIGN(const ConsoleRun run, run_on_console(*vm, *input, sink, *signals, plan, slice));
  progress.clear();
  const Lc3Places places(program, os_of(plan));
  WARMFORK_TRY_ASSIGN(const Ending ending, conclude(*vm, run, plan, places, *signals, sink, options.json));
  warn_of_cache(*vm, plan);

  const lc3::StudyResult result = study.result();
  const auto names = lc3::predictor_names();
  const std::size_t by = options.by.empty()
                             ? result.best()
                             : static_cast<std::size_t>(std::ranges::find(names, options.by) - names.begin());
  if (options.show && sink.is_terminal() && sink.in_line()) print_message("\n");
  if (options.json) {
    print_json(ending, result, options, by, plan, places);
  } else {
    print_text(result, options, by, places);
    print_ending(ending, options, plan);
  }
  return ending.code;
}

int run(const Options& options) {
  const auto code = run_checked(options);
  return code ? *code : report_run_error(code.error(), options.json);
}

void add_branches(CLI::App& study, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  options->budget = kDefaultBudget;
  CLI::App* verb = study.add_subcommand("branches", "How well branch predictors guess the branches of a program");
  verb->footer(
      "Runs a program as warmfork run does, and puts every BR that it executes through six predictors:\n\n"
      "  always_taken, not_taken   the same guess every time\n"
      "  btfn                      backward taken (loops), forward not\n"
      "  bimodal                   two-bit counters, one for each address            (Smith, ISCA 1981)\n"
      "  gshare                    counters by address XOR the last branches         (McFarling, DEC WRL TN-36, 1993)\n"
      "  perceptron                a weighted vote of the last branches              (Jimenez and Lin, HPCA 2001)\n\n"
      "A loop of three rounds, once: BRp is taken, taken, not taken. Each guess starts at \"taken\", so always_taken,\n"
      "btfn, bimodal, gshare and perceptron are wrong once in three (66.67 %), not_taken twice (33.33 %):\n\n"
      "  $ printf '.ORIG x3000\\nAND R0,R0,#0\\nADD R0,R0,#3\\nL ADD R0,R0,#-1\\nBRp L\\nHALT\\n.END\\n' > loop.asm\n"
      "  $ warmfork study branches loop.asm\n\n"
      "  warmfork study branches --budget 50M sort.asm             more of a long program\n"
      "  warmfork study branches --gshare-table 16 --gshare-history 4 --by gshare sort.asm    a smaller table\n"
      "  warmfork study branches --input keys.txt --json game.asm  with input, for machines\n\n"
      "BR without a condition (nzp) always jumps: it is counted, and predicted only with --unconditional. BR with an\n"
      "empty mask is no branch. MPKI: mispredictions per 1,000 instructions. ns/branch: time of this host for one\n"
      "guess and its correction, the median of all repeats. What the program displays is not shown without --show.\n\n"
      "--json: stop, exit_code, message, executed, [seed], branches {conditional, conditional_taken, unconditional,\n"
      "unconditional_predicted, addresses}, predictors [{name, parameters, storage_bits, branches, mispredictions,\n"
      "accuracy_percent, mpki, ns_per_branch}], worst_by, worst [{address, [label], place, instruction, executed,\n"
      "taken, mispredictions {by predictor}}]. Without branches accuracy_percent and ns_per_branch are null.\n\n"
      "Exit codes as run has them, and the study is printed all the same: 0 halted · 5 ended by an exception · 6 "
      "budget\n"
      "used up · 7 timeout · 8 waits for input, and there is no more · 130 Ctrl-C. Without it: 2 wrong usage · 3 bad\n"
      "file · 4 no KVM, out of memory.");
  add_lc3_run_options(*verb, *options, kDefaultBudget);
  verb->add_flag("--show", options->show, "Show on standard error what the program displays");
  verb->add_flag("--unconditional", options->study.unconditional, "Predict unconditional branches, too");
  verb->add_option("--bimodal-table", options->sizes.bimodal_counters, "Counters: a power of two up to 65536")
      ->check(CLI::Range(std::uint64_t{1}, lc3::kMostTableEntries))
      ->type_name("N")
      ->capture_default_str();
  verb->add_option("--gshare-table", options->sizes.gshare_counters, "Counters: a power of two up to 65536")
      ->check(CLI::Range(std::uint64_t{1}, lc3::kMostTableEntries))
      ->type_name("N")
      ->capture_default_str();
  verb->add_option("--gshare-history", options->sizes.gshare_history,
                   "Branches in its history: 0 to log2 of its counters")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{16}))
      ->type_name("N")
      ->capture_default_str();
  verb->add_option("--perceptron-table", options->sizes.perceptrons, "Perceptrons: 1 to 65536")
      ->check(CLI::Range(std::uint64_t{1}, lc3::kMostTableEntries))
      ->type_name("N")
      ->capture_default_str();
  verb->add_option("--perceptron-history", options->sizes.perceptron_history, "Branches in its history: 1 to 62")
      ->check(CLI::Range(std::uint64_t{1}, lc3::kMostPerceptronHistory))
      ->type_name("N")
      ->capture_default_str();
  verb->add_option("--worst", options->worst, "How many of the branches that are guessed worst")
      ->check(CLI::Range(std::size_t{0}, kMostWorst))
      ->type_name("N")
      ->capture_default_str();
  std::vector<std::string> names;
  for (const std::string_view name : lc3::predictor_names()) names.emplace_back(name);
  verb->add_option("--by", options->by, "The predictor whose worst branches these are (default: the most accurate)")
      ->check(CLI::IsMember(names));
  verb->add_option("--repeats", options->study.repeats, "How often branches are timed")
      ->check(CLI::Range(1U, kMostRepeats))
      ->type_name("N")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "One JSON object on standard output");
  verb->fallthrough();
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, "study " + options->files.front(), [&] { return run(*options); });
  });
}

}  // namespace

void add_study(CLI::App& app, Outcome& outcome) {
  CLI::App* verb = app.add_subcommand("study", "Look closely at what an LC-3 program does");
  verb->require_subcommand(1);
  verb->fallthrough();  // --kvm may stand behind any of these words
  verb->footer("  warmfork study branches sort.asm             how well branch predictors guess its branches");
  add_branches(*verb, outcome);
}

}  // namespace warmfork::cli
