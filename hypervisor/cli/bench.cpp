// warmfork bench: runs benchmark suites, prints a table, writes the result file.
#include "base/printable.hpp"
#include "bench/baseline.hpp"
#include "bench/builds.hpp"
#include "bench/context.hpp"
#include "bench/lc3_start.hpp"
#include "bench/result_file.hpp"
#include "bench/suites.hpp"
#include "bench/verdict.hpp"
#include "bench_measure.hpp"
#include "bench_options.hpp"
#include "bench_output.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/fleet/config.hpp"
#include "machine/backend_probe.hpp"
#include "metrics.hpp"
#include "option_checks.hpp"
#include "verbs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <regex>

namespace warmfork::cli {
namespace {

constexpr std::uint64_t kMostMessages = 1'000'000'000'000;

struct StartVerb {
  std::string engine;
  std::string cache_dir;
  std::uint64_t begin_ns = 0;
};

int start(const StartVerb& verb) {
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  const auto sample = bench::run_start(
      *kvm, {.engine = *lc3::engine_named(verb.engine), .cache_dir = verb.cache_dir, .begin_ns = verb.begin_ns});
  if (!sample) return report(sample.error());
  fmt::print("{}", bench::to_line(*sample));
  return kSuccess;
}

int exit_code_of(const bench::Comparison* comparison) {
  if (stop_signal() != 0) {
    print_message("interrupted: what was measured until then is kept, marked \"partial\"\n");
    return 128 + stop_signal();
  }
  // A gate that has looked at nothing does not open.
  if (comparison != nullptr && comparison->judgements.empty()) {
    return report({ErrorKind::kInput, "nothing was compared: the two runs have no figure in common"});
  }
  return comparison != nullptr && comparison->regressed() ? kFailure : kSuccess;
}

int report_kept(const Error& error) {
  print_message("what was measured before is kept, marked \"partial\"\n");
  return report(error);
}

int compare_builds(const BenchOptions& options) {
  const bench::Thresholds thresholds = thresholds_of(options);
  const double effort = options.quick ? 0.02 : options.effort;
  const double share = std::max(effort / options.rounds, 0.001);
  std::uint64_t timeout_ns = 0;
  if (!options.timeout.empty()) {
    const auto timeout = parse_duration(options.timeout);
    if (!timeout) return report(timeout.error());
    timeout_ns = *timeout;
  }
  bench::BuildsOptions builds{.before = options.builds[0],
                              .after = options.builds[1],
                              .arguments = {"--kvm", kvm_device(), "bench"},
                              .rounds = options.rounds,
                              .enough = {},
                              .most_rounds = options.most_rounds,
                              .timeout_ns = timeout_ns,
                              .progress = progress_line(),
                              .stop = [] { return stop_signal() != 0; }};
  if (share > 1) {
    builds.first_timeout_ns = static_cast<std::uint64_t>(static_cast<double>(builds.first_timeout_ns) * share);
  }
  builds.arguments.insert(builds.arguments.end(), options.suites.begin(), options.suites.end());
  for (const char* one : {"--json", "-", "--effort"}) builds.arguments.emplace_back(one);
  builds.arguments.push_back(fmt::format("{}", share));
  if (!options.filter.empty()) builds.arguments.insert(builds.arguments.end(), {"--filter", options.filter});
  if (options.until_stable) {
    builds.rounds = std::min(options.rounds, options.most_rounds);
    builds.enough = [&](const bench::ResultFile& before, const bench::ResultFile& after) {
      return bench::precise(bench::compare_runs(before, after, /*paired=*/true, thresholds), thresholds);
    };
  }
  const bench::BuildsRun results = bench::run_builds(builds);
  const auto& [before, after, error] = results;
  if (before.figures.empty() || after.figures.empty()) {
    if (error) return report(*error);
    print_message("interrupted: no round of both builds was finished\n");
    return 128 + stop_signal();
  }
  if (const std::string why = bench::foreign(before.context, after.context); !why.empty() && !options.allow_foreign) {
    if (error) report(*error);
    return report({ErrorKind::kInput, "the two builds cannot be compared: " + why});
  }
  const bench::Comparison comparison = bench::compare_runs(before, after, /*paired=*/true, thresholds);
  if (options.json != "-") {
    fmt::print("{}: {}\n{}: {}\n{} rounds of each, interleaved\n\n{}", options.builds[0],
               printable(before.context.commit), options.builds[1], printable(after.context.commit),
               after.context.rounds, bench::to_table(comparison, thresholds));
  }
  if (const auto written = write_reports(options, after, &comparison, nullptr); !written)
    return report(written.error());
  if (error) return report_kept(*error);
  return exit_code_of(&comparison);
}

int run_suites(const BenchOptions& options, const std::function<bool(const std::string&)>& wanted) {
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  const auto backend = probe_backend(*kvm);
  if (!backend) return report(backend.error());
  const auto [cpu, other_cpu] = choose_cpus();
  if (!options.messages.empty()) {
    const auto messages = lc3::parse_instructions(options.messages);
    if (!messages || *messages == 0 || *messages > kMostMessages) {
      return report(fail(ErrorKind::kUsage, "--messages {}: has to be 1 … {}, as \"10k\", \"100M\"", options.messages,
                         kMostMessages)
                        .value());
    }
    const auto check = bench::run_bus_check({.kvm = &*kvm, .cpu = cpu, .other_cpu = other_cpu}, *messages,
                                            [] { return stop_signal() != 0; });
    if (!check) return report(check.error());
    fmt::print("{} messages from one LC-3 machine to another, each once and in order: {:.2f} M/s, {:.1f} s\n",
               check->messages, static_cast<double>(check->messages) / check->seconds * 1e-6, check->seconds);
    if (check->messages == *messages) return kSuccess;
    print_message("interrupted: {} of {} messages were sent\n", check->messages, *messages);
    return 128 + stop_signal();
  }
  bench::Context context = bench::make_context(backend->name, backend->cpu, {cpu, other_cpu});
  context.effort = options.quick ? 0.02 : options.effort;
  context.before = bench::machine_state();

  // Whatever can be wrong with baselines is said before minutes are spent measuring.
  std::optional<bench::Baselines> baselines;
  std::optional<bench::ResultFile> baseline;
  if (!options.save_baseline.empty() || !options.baseline.empty() || !options.html.empty()) {
    auto found = bench::Baselines::at(options.baseline_dir);
    if (found) {
      baselines = std::move(*found);
    } else if (!options.save_baseline.empty() || !options.baseline.empty()) {
      return report(found.error());
    }
  }
  if (!options.save_baseline.empty()) {
    if (const auto ready = baselines->prepare(options.save_baseline); !ready) return report(ready.error());
  }
  if (!options.baseline.empty()) {
    auto loaded = baselines->load(options.baseline);
    if (!loaded) return report(loaded.error());
    baseline = std::move(*loaded);
    if (const std::string why = bench::foreign(baseline->context, context); !why.empty() && !options.allow_foreign) {
      return report(
          {ErrorKind::kInput, fmt::format("baseline \"{}\" is not of this machine ({}); --allow-foreign compares "
                                          "nevertheless",
                                          options.baseline, why)});
    }
  }
  const Measured measured = measure(options, *kvm, std::move(context), wanted);
  const bench::ResultFile* const result = &measured.result;
  if (measured.error && result->figures.empty()) return report(*measured.error);
  if (result->figures.empty() && stop_signal() == 0) {
    return report({ErrorKind::kUsage, fmt::format("no figure matches \"{}\"", options.filter)});
  }
  std::optional<bench::Comparison> comparison;
  if (baseline) comparison = bench::compare_runs(*baseline, *result, /*paired=*/false, thresholds_of(options));
  if (options.json != "-") {
    print_result(options, *result);
    if (comparison) {
      fmt::print("\nagainst baseline \"{}\" of {} (commit {}{})\n\n{}", options.baseline,
                 printable(baseline->context.date), printable(baseline->context.commit),
                 baseline->context.partial ? ", partial: it was interrupted" : "",
                 bench::to_table(*comparison, thresholds_of(options)));
    }
  }
  Status saved;
  if (!options.save_baseline.empty() && measured.error) {
    print_message("not saved as baseline \"{}\": a suite failed\n", options.save_baseline);
  } else if (!options.save_baseline.empty()) {
    saved = baselines->save(options.save_baseline, bench::to_json(result->context, result->figures));
  }
  if (saved && !options.save_baseline.empty() && !measured.error) {
    print_message("saved as baseline \"{}\" in {}{}\n", options.save_baseline, baselines->directory(),
                  result->context.partial ? ", marked partial" : "");
  }
  const bench::Comparison* judged = comparison ? &*comparison : nullptr;
  const auto written = write_reports(options, *result, judged, baselines ? &*baselines : nullptr);
  if (!written) report(written.error());
  if (!saved) return report(saved.error());
  if (!written) return exit_code(written.error().kind);
  if (measured.error) return report_kept(*measured.error);
  return exit_code_of(judged);
}

int list_baselines(const bench::Baselines& baselines) {
  const auto names = baselines.names();
  if (!names) return report(names.error());
  if (names->empty()) fmt::print("no baselines in {}\n", baselines.directory());
  for (const std::string& name : *names) {
    const auto saved = baselines.load(name);
    if (!saved) {
      fmt::print("{}: unusable: {}\n", name, saved.error().message);
      continue;
    }
    const bench::Context& context = saved->context;
    fmt::print("{}: {} · commit {} · {} · KVM backend {} · {} figures, {} rounds{}\n", name, printable(context.date),
               printable(context.commit), printable(context.cpu), printable(context.kvm_backend), saved->figures.size(),
               context.rounds, context.partial ? " · partial" : "");
  }
  return kSuccess;
}

int run(BenchOptions options) {
  if (!options.readme_tables.empty()) return fill_tables(options);
  if (options.list_baselines || !options.delete_baseline.empty()) {
    const auto baselines = bench::Baselines::at(options.baseline_dir);
    if (!baselines) return report(baselines.error());
    if (options.list_baselines) return list_baselines(*baselines);
    const auto removed = baselines->remove(options.delete_baseline);
    return removed ? kSuccess : report(removed.error());
  }
  if (options.severe < options.change) {
    return report(
        {ErrorKind::kUsage, fmt::format("--severe {} % is less than --change {} %", options.severe, options.change)});
  }
  if (!options.verdicts.empty() && options.baseline.empty() && options.builds.empty()) {
    return report({ErrorKind::kUsage, "--verdicts needs --baseline or --compare-builds"});
  }
  if (!options.plot.empty() && std::ranges::find(options.suites, "lifecycle") == options.suites.end()) {
    return report({ErrorKind::kUsage,
                   "--plot draws figures of the suite lifecycle, which is not asked for: warmfork "
                   "bench lifecycle --plot BASE"});
  }
  const bool compared = !options.save_baseline.empty() || !options.baseline.empty() || !options.builds.empty();
  if (options.rounds == 0) options.rounds = compared ? kComparedRounds : 1;
  std::function<bool(const std::string&)> wanted;
  if (!options.filter.empty()) {
    try {
      wanted = [expression = std::regex(options.filter)](const std::string& name) {
        return std::regex_search(name, expression);
      };
    } catch (const std::regex_error& error) {
      return report({ErrorKind::kUsage, fmt::format("--filter \"{}\": {}", options.filter, error.what())});
    }
  }
  if (const auto writable = check_report_files(options); !writable) return report(writable.error());
  const StopGuard guard;
  return options.builds.empty() ? run_suites(options, wanted) : compare_builds(options);
}

}  // namespace

void add_bench(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* verb = app.add_subcommand("bench", "Measure this machine and this build");
  verb->footer(
      "Every figure is measured beside its physical floor, in one process, pinned, in interleaved rounds.\n\n"
      "  warmfork bench floors lifecycle         what KVM costs here, and what warmfork costs on top\n"
      "  warmfork bench lc3                      LC-3 code in the guest, against switch and native code\n"
      "  warmfork bench fleet                    graded LC-3 runs per second, each in a fork that is reset\n"
      "  warmfork bench alternatives             processes instead: forked for each request, or called as they are\n"
      "  warmfork bench feed                     a market-data feed into guests: rates without a loss, cost of a "
      "message\n"
      "  warmfork bench metrics                  what being watched by --metrics costs\n"
      "  warmfork bench ring                     rings in shared memory between two CPUs\n"
      "  warmfork bench bus                      messages between LC-3 machines, and what waiting costs\n"
      "  warmfork bench memory                   memory in a guest beside the same loops in the host\n"
      "  warmfork bench snapshot startup         snapshots and their files; from nothing to a first answer\n"
      "  warmfork bench footprint                memory that forks and LC-3 machines hold\n"
      "  warmfork bench concurrency              requests by threads; a ring without locks and one with\n"
      "  warmfork bench bus --messages 100M      that many, every one checked: once, in order\n"
      "  warmfork bench lifecycle --json r.json  the same, as a result file\n"
      "  warmfork bench floors --quick --json -  a few samples, JSON to standard output\n\n"
      "  warmfork bench lifecycle --save-baseline main    ten rounds, kept under a name\n"
      "  warmfork bench lifecycle --baseline main         the same again, and what has changed\n"
      "  warmfork bench --compare-builds old/warmfork new/warmfork lifecycle --filter lifecycle/reset\n"
      "  warmfork bench lifecycle --repeat-until-stable --html report.html --csv report.csv\n\n"
      "Verdicts for p50, p99 and p99.9 (of rates p50): improved or regressed where the whole confidence interval of "
      "the\n"
      "ratio is beyond --change, severe beyond --severe; unchanged where it is within --change, or holds 0 % and is\n"
      "within --noise; too noisy otherwise: then more rounds tell more, and --repeat-until-stable adds them.\n"
      "Exit code 1: something regressed; 2: wrong usage, also a --filter that leaves no figure, or none for --plot;\n"
      "3: the baseline is missing, broken or of another machine; 7: a build hangs; 130: interrupted. Finished suites "
      "and\n"
      "rounds are kept and marked partial, also if another suite or a build fails (then its exit code).");
  const std::vector<std::string> names = suite_names();
  verb->add_option("suite", options->suites, "Suites to run (default: all)")->check(CLI::IsMember(names));
  verb->add_option("--json", options->json, "Write the result file here (- for standard output)");
  verb->add_option("--effort", options->effort, "Scale of the sample counts")
      ->check(number_in(0.001, 100))
      ->capture_default_str();
  verb->add_option("--plot", options->plot, "Draw the lifecycle sweep: BASE-reset and BASE-request, .png and .svg")
      ->type_name("BASE");
  verb->add_flag("--all", options->all_figures, "List every figure, also those the lifecycle report sums up");
  verb->add_option("--messages", options->messages,
                   "No figures: sends so many messages from one LC-3 machine to another and checks them")
      ->type_name("N");
  verb->add_flag("--quick", options->quick, "A smoke test: few samples");
  constexpr const char* kRounds = "Rounds";
  verb->add_option("--rounds", options->rounds,
                   "Repeat the suites so often, each with its share of the samples "
                   "(default: 10 if runs are compared or saved, else 1)")
      ->check(CLI::Range(1U, bench::kMostRounds))
      ->group(kRounds);
  verb->add_flag(
          "--repeat-until-stable", options->until_stable,
          "Repeat until the median of every figure is known to within --change; of two builds, from --rounds on, "
          "until their ratio is, whatever it is, to within a third of that")
      ->group(kRounds);
  verb->add_option("--max-rounds", options->most_rounds, "But not more often than this")
      ->check(CLI::Range(kLeastRounds, bench::kMostRounds))
      ->capture_default_str()
      ->group(kRounds);
  verb->add_option("--filter", options->filter, "Only figures whose name this finds something in, and their floors")
      ->type_name("REGEX")
      ->group(kRounds);
  constexpr const char* kBaselines = "Baselines and verdicts";
  verb->add_option("--save-baseline", options->save_baseline, "Keep the result under a name")
      ->type_name("NAME")
      ->group(kBaselines);
  verb->add_option("--baseline", options->baseline, "Compare with what was kept")->type_name("NAME")->group(kBaselines);
  verb->add_flag("--list-baselines", options->list_baselines, "List what was kept")->group(kBaselines);
  verb->add_option("--delete-baseline", options->delete_baseline, "Delete it")->type_name("NAME")->group(kBaselines);
  verb->add_option("--baseline-dir", options->baseline_dir, "Where (default: $XDG_DATA_HOME/warmfork/baselines)")
      ->type_name("DIR")
      ->group(kBaselines);
  verb->add_flag("--allow-foreign", options->allow_foreign, "Compare with another machine, backend or schema too")
      ->group(kBaselines);
  auto* const builds =
      verb->add_option("--compare-builds", options->builds, "Interleave rounds of two builds and compare them")
          ->type_name("BINARY")
          ->expected(2)
          ->allow_extra_args(false)  // what follows are suites
          ->group(kBaselines);
  verb->add_option(
          "--timeout", options->timeout,
          "A build that takes longer for a round hangs and is killed (90s, 20m; default: at least 30m in the first "
          "round,\nthen ten times as long as the longest so far, at least 5m)")
      ->type_name("TIME")
      ->needs(builds)
      ->group(kBaselines);
  verb->add_option("--verdicts", options->verdicts, "Write the verdicts here, as JSON")
      ->type_name("FILE")
      ->group(kBaselines);
  const auto percent = [&](const char* name, double& value, const char* what, double least, double most) {
    verb->add_option(name, value, what)->check(number_in(least, most))->capture_default_str()->group(kBaselines);
  };
  percent("--change", options->change, "Changed: beyond so many %", 0.1, 1000);
  percent("--noise", options->noise, "Too noisy: uncertain by more than so many %", 0.1, 1000);
  percent("--severe", options->severe, "Severe: slower by more than so many %", 0.1, 1000);
  percent("--confidence", options->confidence, "Confidence of intervals, %", 50, 99.9);
  constexpr const char* kReports = "Reports";
  verb->add_option("--markdown", options->markdown, "Write tables as Markdown")->type_name("FILE")->group(kReports);
  verb->add_option("--csv", options->csv, "Write a line per figure")->type_name("FILE")->group(kReports);
  verb->add_option("--html", options->html, "Write a page with tables and plots, one file")
      ->type_name("FILE")
      ->group(kReports);
  verb->add_option("--google-benchmark", options->google_benchmark, "Write what Google Benchmark's compare.py reads")
      ->type_name("FILE")
      ->group(kReports);
  verb->add_option("--readme-tables", options->readme_tables, "Measure nothing: fill the marked tables of --readme")
      ->type_name("RESULT")
      ->group(kReports);
  verb->add_flag("--check", options->check_tables,
                 "Write nothing: do these tables still have the rows and columns that RESULT gives?")
      ->needs("--readme-tables")
      ->group(kReports);
  verb->add_option("--readme", options->readme, "The file with these tables")->capture_default_str()->group(kReports);
  refuse_empty_values(*verb);
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, names, &outcome] {
    if (options->suites.empty()) options->suites = names;
    outcome.code = with_metrics(options->metrics, "bench", [&] { return run(*options); });
  });

  auto start_verb = std::make_shared<StartVerb>();
  CLI::App* hidden = app.add_subcommand(kStartVerb, "One sample of startup/…: for bench itself")->group("");
  hidden->add_option("--engine", start_verb->engine)->required()->check(CLI::IsMember(lc3::kEngineNames));
  hidden->add_option("--cache", start_verb->cache_dir);
  hidden->add_option("--begin", start_verb->begin_ns)->required();
  hidden->callback([start_verb, &outcome] { outcome.code = start(*start_verb); });
}

}  // namespace warmfork::cli
