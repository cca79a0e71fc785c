// warmfork bench: runs benchmark suites, prints a table, writes the result file.
#include "base/file.hpp"
#include "bench/suites.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
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
const std::map<std::string, Suite> kSuites{{"floors", bench::run_floors},
                                           {"lifecycle", bench::run_lifecycle},
                                           {"lc3", bench::run_lc3},
                                           {"alternatives", bench::run_alternatives}};

struct Options {
  std::vector<std::string> suites;
  std::string json;
  double effort = 1;
  bool quick = false;
};

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
                                          .progress = [&](const std::string& text) {
                                            print_message("{}{}{}", terminal ? "\r\033[K" : "", text,
                                                          terminal ? "" : "\n");
                                          }};
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
  fmt::print("{} · {} · kernel {} · KVM backend {} · pinned to CPU {}\n\n{}", context.date, context.cpu, context.kernel,
             context.kvm_backend, cpu, bench::to_table(figures));
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
      "  warmfork bench alternatives             processes instead: forked for each request, or called as they are\n"
      "  warmfork bench lifecycle --json r.json  the same, as a result file\n"
      "  warmfork bench floors --quick --json -  a few samples, JSON to standard output");
  std::vector<std::string> names;
  for (const auto& [name, suite] : kSuites) names.push_back(name);
  verb->add_option("suite", options->suites, "Suites to run (default: all)")->check(CLI::IsMember(names));
  verb->add_option("--json", options->json, "Write the result file here (- for standard output)");
  verb->add_option("--effort", options->effort, "Scale of the sample counts")
      ->check(CLI::Range(0.001, 100.0))
      ->capture_default_str();
  verb->add_flag("--quick", options->quick, "A smoke test: few samples");
  verb->callback([options, names, &outcome] {
    if (options->suites.empty()) options->suites = names;
    outcome.code = run(*options);
  });
}

}  // namespace warmfork::cli
