// warmfork bench: runs benchmark suites, prints a table, writes the result file.
#include "base/file.hpp"
#include "bench/lc3_start.hpp"
#include "bench/lifecycle_report.hpp"
#include "bench/outliers.hpp"
#include "bench/suites.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/fleet/config.hpp"
#include "machine/backend_probe.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>

namespace warmfork::cli {
namespace {

using Suite = bench::SuiteResult (*)(const bench::SuiteOptions&);
const std::map<std::string, Suite> kSuites{
    {"floors", bench::run_floors}, {"lifecycle", bench::run_lifecycle},       {"lc3", bench::run_lc3},
    {"fleet", bench::run_fleet},   {"alternatives", bench::run_alternatives}, {"ring", bench::run_ring},
    {"bus", bench::run_bus},       {"feed", bench::run_feed}};

constexpr std::uint64_t kMostMessages = 1'000'000'000'000;

struct Options {
  std::vector<std::string> suites;
  std::string json;
  double effort = 1;
  std::string plot;
  bool quick = false;
  bool all_figures = false;
  std::string messages;
};

// In a process of its own, for one sample of startup/….
constexpr const char* kStartVerb = "bench-start";

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

// The lifecycle report has shown those.
std::vector<bench::Figure> others_than_lifecycle(std::vector<bench::Figure> figures) {
  std::erase_if(figures, [](const bench::Figure& figure) { return figure.name.starts_with("lifecycle/"); });
  return figures;
}

int run(const Options& options) {
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  const auto backend = probe_backend(*kvm);
  if (!backend) return report(backend.error());
  const auto [cpu, other_cpu] = choose_cpus();
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const bench::SuiteOptions suite_options{.kvm = &*kvm,
                                          .effort = options.quick ? 0.02 : options.effort,
                                          .cpu = cpu,
                                          .other_cpu = other_cpu,
                                          .progress =
                                              [&](const std::string& text) {
                                                print_message("{}{}{}", terminal ? "\r\033[K" : "", text,
                                                              terminal ? "" : "\n");
                                              },
                                          .start_command = {"/proc/self/exe", "--kvm", kvm_device(), kStartVerb}};
  if (!options.messages.empty()) {
    const auto messages = lc3::parse_instructions(options.messages);
    if (!messages || *messages == 0 || *messages > kMostMessages) {
      return report(fail(ErrorKind::kUsage, "--messages {}: has to be 1 … {}, as \"10k\", \"100M\"", options.messages,
                         kMostMessages)
                        .value());
    }
    const auto rate = bench::run_bus_check(suite_options, *messages);
    if (!rate) return report(rate.error());
    fmt::print("{} messages from one LC-3 machine to another, each once and in order: {:.2f} M/s, {:.1f} s\n",
               *messages, *rate * 1e-6, static_cast<double>(*messages) / *rate);
    return kSuccess;
  }
  std::vector<bench::Figure> figures;
  for (const std::string& name : options.suites) {
    auto result = kSuites.at(name)(suite_options);
    if (terminal) print_message("\r\033[K");
    if (!result) return report(result.error());
    figures.insert(figures.end(), result->begin(), result->end());
  }
  const bench::Context context = bench::make_context(backend->name, backend->cpu, {cpu, other_cpu});
  const std::string json = bench::to_json(context, figures);
  if (options.json == "-") {
    fmt::print("{}", json);
    return kSuccess;
  }
  const std::string lifecycle = bench::lifecycle_report(figures);
  fmt::print("{} · {} · kernel {} · KVM backend {} · pinned to CPU {}\n\n{}{}{}", context.date, context.cpu,
             context.kernel, context.kvm_backend, cpu, lifecycle, lifecycle.empty() ? "" : "\n",
             bench::to_table(lifecycle.empty() || options.all_figures ? figures : others_than_lifecycle(figures)));
  if (const std::string outliers = bench::outlier_table(figures); !outliers.empty()) fmt::print("\n{}", outliers);
  if (!options.plot.empty()) {
    const auto drawn = bench::plot_lifecycle(figures, options.plot);
    if (!drawn && drawn.error().kind != ErrorKind::kUnsupported) return report(drawn.error());
    if (!drawn) print_message("no plot: {}\n", drawn.error().message);
  }
  if (!options.json.empty()) {
    if (const auto written = write_file(options.json, json.data(), json.size()); !written)
      return report(written.error());
  }
  return kSuccess;
}

}  // namespace

void add_bench(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("bench", "Measure this machine and this build");
  verb->footer(
      "Every figure is measured beside its physical floor, in one process, pinned, in interleaved rounds.\n\n"
      "  warmfork bench floors lifecycle         what KVM costs here, and what warmfork costs on top\n"
      "  warmfork bench lc3                      LC-3 code in the guest, against switch and native code\n"
      "  warmfork bench fleet                    graded LC-3 runs per second, each in a fork that is reset\n"
      "  warmfork bench alternatives             processes instead: forked for each request, or called as they are\n"
      "  warmfork bench feed                     a market-data feed into guests: rates without a loss, cost of a "
      "message\n"
      "  warmfork bench ring                     rings in shared memory between two CPUs\n"
      "  warmfork bench bus                      messages between LC-3 machines, and what waiting costs\n"
      "  warmfork bench bus --messages 100M      that many, every one checked: once, in order\n"
      "  warmfork bench lifecycle --json r.json  the same, as a result file\n"
      "  warmfork bench floors --quick --json -  a few samples, JSON to standard output");
  std::vector<std::string> names;
  for (const auto& [name, suite] : kSuites) names.push_back(name);
  verb->add_option("suite", options->suites, "Suites to run (default: all)")->check(CLI::IsMember(names));
  verb->add_option("--json", options->json, "Write the result file here (- for standard output)");
  verb->add_option("--effort", options->effort, "Scale of the sample counts")
      ->check(CLI::Range(0.001, 100.0))
      ->capture_default_str();
  verb->add_option("--plot", options->plot, "Draw the lifecycle sweep: BASE-reset and BASE-request, .png and .svg")
      ->type_name("BASE");
  verb->add_flag("--all", options->all_figures, "List every figure, also those the lifecycle report sums up");
  verb->add_option("--messages", options->messages,
                   "No figures: sends so many messages from one LC-3 machine to another and checks them")
      ->type_name("N");
  verb->add_flag("--quick", options->quick, "A smoke test: few samples");
  verb->callback([options, names, &outcome] {
    if (options->suites.empty()) options->suites = names;
    outcome.code = run(*options);
  });

  auto start_verb = std::make_shared<StartVerb>();
  CLI::App* hidden = app.add_subcommand(kStartVerb, "One sample of startup/…: for bench itself")->group("");
  hidden->add_option("--engine", start_verb->engine)->required()->check(CLI::IsMember(lc3::kEngineNames));
  hidden->add_option("--cache", start_verb->cache_dir);
  hidden->add_option("--begin", start_verb->begin_ns)->required();
  hidden->callback([start_verb, &outcome] { outcome.code = start(*start_verb); });
}

}  // namespace warmfork::cli
