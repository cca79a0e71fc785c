// warmfork compare: ways to serve a request, side by side.
#include "bench/compare.hpp"

#include "base/file.hpp"
#include "bench/context.hpp"
#include "bench/figure_text.hpp"
#include "bench/plot.hpp"
#include "bench/result_file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "machine/backend_probe.hpp"
#include "metrics.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

struct Options {
  MetricsOptions metrics;
  bench::CompareOptions compare;
  std::uint64_t window_kib = 256;
  std::string json;
  std::string plot;
};

std::string cell(double ns) {
  const std::string shown = bench::format_value(ns, "ns");
  const std::size_t columns = shown.size() - (shown.find("µ") != std::string::npos ? 1 : 0);
  return std::string(columns < 10 ? 10 - columns : 0, ' ') + shown;
}

void print_table(const std::vector<bench::Figure>& figures) {
  fmt::print("{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}  {:>8}  {:<6} {}\n", "way to serve", "p50", "p90", "p99", "p99.9",
             "max", "x exit", "clean", "wall");
  std::vector<std::pair<double, std::string>> lines;
  for (const bench::Figure& figure : figures) {
    const auto& modes = bench::compare_modes();
    const auto mode = std::ranges::find(modes, figure.name, &bench::CompareMode::figure);
    const bool known = mode != modes.end();
    lines.emplace_back(
        figure.p50,
        fmt::format("{:<18}{}{}{}{}{}  {:>8}  {:<6} {}\n", known ? mode->name : "(one bare exit)", cell(figure.p50),
                    cell(figure.p90), cell(figure.p99), cell(figure.p999), cell(figure.max),
                    figure.ratio_to_floor_p50 ? fmt::format("{:.3f}", *figure.ratio_to_floor_p50) : "1",
                    !known ? "" : (mode->clean ? "yes" : "no"),
                    !known ? "" : (mode->hardware_wall ? "VM" : "process")));
  }
  std::ranges::sort(lines, {}, [](const auto& line) { return line.first; });
  for (const auto& [p50, line] : lines) fmt::print("{}", line);
  fmt::print(
      "\nclean: nothing of a request is left for the next. x exit: p50 over one bare exit of a guest to this\n"
      "process and back, the least any call into a VM can cost; measured in the same rounds.\n");
}

Status plot(const std::vector<bench::Figure>& figures, const std::string& base) {
  bench::Plot plot{.title = "a request, served",
                   .x_label = "percentile of requests that took longer [%]",
                   .y_label = "time [µs]",
                   .log_x = true,
                   .log_y = true,
                   .series = {}};
  for (const bench::Figure& figure : figures) {
    plot.series.push_back(
        {figure.name,
         {{50, figure.p50 / 1000}, {10, figure.p90 / 1000}, {1, figure.p99 / 1000}, {0.1, figure.p999 / 1000}}});
  }
  return bench::write_plot(plot, base);
}

int run(Options options) {
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  const auto backend = probe_backend(*kvm);
  if (!backend) return report(backend.error());
  const auto [cpu, other_cpu] = choose_cpus();
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const bench::SuiteOptions suite{
      .kvm = &*kvm, .effort = 1, .cpu = cpu, .other_cpu = other_cpu, .progress = [&](const std::string& text) {
        print_message("{}{}{}", terminal ? "\r\033[K" : "", text, terminal ? "" : "\n");
      }};
  options.compare.window_bytes = options.window_kib << 10;
  metrics_ready();
  const auto figures = bench::run_compare(suite, options.compare);
  if (terminal) print_message("\r\033[K");
  if (!figures) return report(figures.error());
  const std::string json = bench::to_json(bench::make_context(backend->name, backend->cpu, {cpu, other_cpu}), *figures);
  if (options.json == "-") {
    fmt::print("{}", json);
  } else {
    fmt::print("{} requests each, {} dirty pages of a window of {} KiB · {} · KVM backend {} · CPU {}\n\n",
               options.compare.requests, options.compare.dirty_pages, options.window_kib, backend->cpu, backend->name,
               cpu);
    print_table(*figures);
    if (!options.json.empty()) {
      if (const auto written = write_file(options.json, json.data(), json.size()); !written)
        return report(written.error());
    }
  }
  if (!options.plot.empty()) {
    const auto drawn = plot(*figures, options.plot);
    if (!drawn && drawn.error().kind != ErrorKind::kUnsupported) return report(drawn.error());
    if (!drawn) print_message("no plot: {}\n", drawn.error().message);
  }
  return kSuccess;
}

}  // namespace

void add_compare(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("compare", "Ways to serve a request, side by side: forks, resets, processes");
  std::vector<std::string> names;
  for (const bench::CompareMode& mode : bench::compare_modes()) names.emplace_back(mode.name);
  verb->footer(
      "The same request, the same window, interleaved on one CPU; every answer is checked.\n\n"
      "  fork_vm, fork_space         a fork from a warm pool for each request\n"
      "  reset_auto, reset_MODE      one fork, put back after each request\n"
      "  exitless                    one fork, asked through shared memory, never put back\n"
      "  process_fork                a child of a warm process for each request\n"
      "  process_pipe, process_futex a warm process, never put back\n\n"
      "  warmfork compare                                  all of them\n"
      "  warmfork compare fork_space process_fork --dirty 64 --window 1024\n"
      "  warmfork compare --json - | jq '.results[] | {name, p50}'\n"
      "  warmfork compare --plot requests                  requests.png and requests.svg");
  verb->add_option("mode", options->compare.modes, "Ways to compare (default: all)")->check(CLI::IsMember(names));
  verb->add_option("--window", options->window_kib, "KiB a fork or process can write")
      ->check(CLI::Range(std::uint64_t{160}, std::uint64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--dirty", options->compare.dirty_pages, "Pages each request writes")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 18))
      ->capture_default_str();
  verb->add_option("--requests", options->compare.requests, "Requests of each")
      ->check(CLI::Range(std::uint64_t{40}, std::uint64_t{100'000'000}))
      ->capture_default_str();
  verb->add_option("--json", options->json, "Write the result file here (- for standard output)");
  verb->add_option("--plot", options->plot, "Draw BASE.png and BASE.svg")->type_name("BASE");
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, std::string("compare"), [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
