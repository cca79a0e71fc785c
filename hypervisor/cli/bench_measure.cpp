#include "bench_measure.hpp"

#include "bench/rounds.hpp"
#include "bench/suites.hpp"
#include "console.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>
#include <set>
#include <string_view>

namespace warmfork::cli {
namespace {

using Suite = bench::SuiteResult (*)(const bench::SuiteOptions&);
const std::map<std::string, Suite> kSuites{{"floors", bench::run_floors},
                                           {"lifecycle", bench::run_lifecycle},
                                           {"lc3", bench::run_lc3},
                                           {"fleet", bench::run_fleet},
                                           {"alternatives", bench::run_alternatives},
                                           {"metrics", bench::run_metrics},
                                           {"ring", bench::run_ring},
                                           {"bus", bench::run_bus},
                                           {"memory", bench::run_memory},
                                           {"concurrency", bench::run_concurrency},
                                           {"footprint", bench::run_footprint},
                                           {"snapshot", bench::run_snapshot},
                                           {"startup", bench::run_startup},
                                           {"feed", bench::run_feed},
                                           {"trace", bench::run_trace}};

volatile std::sig_atomic_t caught_signal = 0;

// Keeps what the regular expression finds in, and the floors of that.
void keep(std::vector<bench::Figure>& figures, const std::function<bool(const std::string&)>& wanted) {
  if (!wanted) return;
  std::set<std::string> floors;
  for (const bench::Figure& figure : figures) {
    if (wanted(figure.name) && figure.floor) floors.insert(*figure.floor);
  }
  std::erase_if(figures,
                [&](const bench::Figure& figure) { return !wanted(figure.name) && !floors.contains(figure.name); });
}

// The medians of the rounds so far agree: their interval is no wider than the threshold of a change, both ways.
bool stable(const std::vector<bench::Figure>& figures, const bench::Thresholds& thresholds) {
  for (const bench::Figure& figure : figures) {
    const auto rounds = figure.rounds.find("p50");
    if (rounds == figure.rounds.end()) return false;
    const auto interval = bench::quantile_interval(rounds->second, 0.5, thresholds.confidence);
    const double middle = bench::median(rounds->second);
    if (!interval || interval->high > middle * (1 + thresholds.change) ||
        interval->low < middle / (1 + thresholds.change)) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::vector<std::string> suite_names() {
  std::vector<std::string> names;
  for (const auto& [name, suite] : kSuites) names.push_back(name);
  return names;
}

StopGuard::StopGuard() {
  struct sigaction action{};
  action.sa_handler = [](int signal) {
    caught_signal = signal;
    // A suite can take a minute. write() may be called here, and has to leave errno as it was.
    constexpr std::string_view kText =
        "\ninterrupted: ends after what is being measured; once more: at once, keeping nothing\n";
    const int error = errno;
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kText.data(), kText.size());
    errno = error;
  };
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &previous_[i]);
}
StopGuard::~StopGuard() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &previous_[i], nullptr);
}
int stop_signal() { return caught_signal; }

std::function<void(const std::string&)> progress_line() {
  return [terminal = ::isatty(STDERR_FILENO) == 1](const std::string& text) {
    print_message("{}{}{}", terminal ? "\r\033[K" : "", text, terminal ? "" : "\n");
  };
}

Measured measure(const BenchOptions& options, const kvm::Kvm& kvm, bench::Context context,
                 const std::function<bool(const std::string&)>& wanted) {
  const auto [cpu, other_cpu] = choose_cpus();
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const unsigned shares = options.until_stable ? kComparedRounds : options.rounds;
  bench::SuiteOptions suite_options{
      .kvm = &kvm,
      .effort = std::max(context.effort / shares, 0.001),
      .cpu = cpu,
      .other_cpu = other_cpu,
      .cpus = usable_cpus(),
      .progress = progress_line(),
      .remarks = [terminal](const std::string& text) { print_message("{}{}\n", terminal ? "\r\033[K" : "", text); },
      .start_command = {"/proc/self/exe", "--kvm", kvm_device(), kStartVerb},
      .wanted = wanted,
  };
  const unsigned most = options.until_stable ? options.most_rounds : options.rounds;
  metrics_ready();
  bench::RoundSet rounds;
  std::vector<bench::Figure> figures;
  std::optional<Error> error;
  for (unsigned round = 0; round < most && stop_signal() == 0 && !error; ++round) {
    if (most > 1)
      suite_options.say(fmt::format("round {} of {}{}", round + 1, options.until_stable ? "at most " : "", most));
    figures.clear();
    for (const std::string& name : options.suites) {
      if (stop_signal() != 0) break;
      auto result = kSuites.at(name)(suite_options);
      if (terminal) print_message("\r\033[K");
      if (!result) {
        error = Error{result.error().kind, fmt::format("bench {}: {}", name, result.error().message)};
        break;
      }
      keep(*result, wanted);
      std::ranges::move(*result, std::back_inserter(figures));
    }
    if (most == 1 || figures.empty()) break;  // nothing matches the filter, or nothing was finished
    rounds.add(std::move(figures));
    if (options.until_stable && rounds.rounds() >= kLeastRounds && stable(rounds.merged(), thresholds_of(options)))
      break;
  }
  context.partial = stop_signal() != 0 || error.has_value();
  context.rounds = std::max(rounds.rounds(), 1U);
  context.after = bench::machine_state();
  return {.result = {.context = std::move(context), .figures = most == 1 ? std::move(figures) : rounds.merged()},
          .error = std::move(error)};
}

}  // namespace warmfork::cli
