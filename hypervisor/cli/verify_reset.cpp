// warmfork verify-reset: the proof of reset, on this machine, for as long as one likes.
#include "console.hpp"
#include "exit_codes.hpp"
#include "metrics.hpp"
#include "option_checks.hpp"
#include "proof/reset_proof.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

const std::map<std::string, std::vector<ForkKind>> kKinds{
    {"vm", {ForkKind::kVm}}, {"space", {ForkKind::kSpace}}, {"all", {ForkKind::kVm, ForkKind::kSpace}}};
const std::map<std::string, std::vector<Population>> kPopulations{
    {"copy", {Population::kCopy}}, {"cow", {Population::kCow}}, {"all", {Population::kCopy, Population::kCow}}};

struct Options {
  MetricsOptions metrics;
  std::string resets = "10k";
  std::uint64_t seed = 1;
  std::string kind = "all";
  std::string population = "all";
  std::vector<std::string> modes;
  std::string memory = "512K";
  std::string shared = "0";
  bool json = false;
};

std::atomic<bool> stop_asked{false};

// The first Ctrl-C ends the proof after the reset at hand; the second ends the process.
class StopOnSignal {
 public:
  StopOnSignal() {
    stop_asked.store(false);
    struct sigaction action{};
    action.sa_handler = [](int) { stop_asked.store(true); };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      ::sigaction(kSignals[i], nullptr, &previous_[i]);
      if (previous_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
    }
  }
  ~StopOnSignal() {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], &previous_[i], nullptr);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM};
  struct sigaction previous_[std::size(kSignals)]{};
};

std::string mode_of(const ResetProofResult& result) {
  std::string mode(name_of(result.mode));
  if (result.mode == ResetMode::kAuto && result.chosen != ResetMode::kAuto) {
    mode += fmt::format(" ({})", name_of(result.chosen));
  }
  return mode;
}

std::uint64_t count_acts(const ResetProofResult& result) {
  std::uint64_t sum = 0;
  for (const auto& [name, count] : result.acts) sum += count;
  return sum;
}

void print_text(const ResetProofReport& report) {
  fmt::print("{:<6} {:<5} {:<18} {:>8} {:>9} {:>6} {:>10} {:>11} {:>8}  {}\n", "kind", "from", "reset by", "resets",
             "attacks", "fresh", "compared", "registers", "syscalls", "differences");
  std::map<std::string, std::uint64_t> acts;
  std::set<std::string> kinds_of_crash;
  for (const ResetProofResult& result : report.results) {
    fmt::print("{:<6} {:<5} {:<18} ", name_of(result.kind), name_of(result.population), mode_of(result));
    if (!result.skipped.empty()) {
      fmt::print("not here: {}\n", result.skipped);
      continue;
    }
    fmt::print("{:>8} {:>9} {:>6} {:>6.1f} GiB {:>11} {:>8}  {}\n", result.resets, count_acts(result),
               result.fresh_forks, static_cast<double>(result.bytes) / (1 << 30), result.registers, result.system_calls,
               result.differing);
    for (const auto& [name, count] : result.acts) {
      const bool crash = name.starts_with("crash ");
      if (crash) kinds_of_crash.insert(name);
      acts[crash ? "crash" : name] += count;
    }
  }
  fmt::print("\nattacks:");
  for (const auto& [name, count] : acts) {
    fmt::print("{} {} {}", name == acts.begin()->first ? "" : ";", count, name);
  }
  fmt::print(" ({} kinds of crash)\n", kinds_of_crash.size());
  if (!report.processor.empty()) fmt::print("note: {}\n", report.processor);
  for (const ResetProofResult& result : report.results) {
    for (const std::string& difference : result.differences) {
      fmt::print("{} {} {}: {}\n", name_of(result.kind), name_of(result.population), name_of(result.mode), difference);
    }
  }
  if (report.differing() != 0) {
    fmt::print("\nNOT the same: {} differences in {} resets\n", report.differing(), report.resets());
  } else if (report.resets() != 0) {
    fmt::print("\n{} resets{}: every reset fork was the same as a fresh one\n", report.resets(),
               report.interrupted ? " until it was interrupted" : "");
  } else {
    fmt::print("\nnothing was proven\n");
  }
}

void print_json(const ResetProofReport& report, std::uint64_t seed) {
  nlohmann::ordered_json json{{"resets", report.resets()},
                              {"differences", report.differing()},
                              {"interrupted", report.interrupted},
                              {"seed", seed},
                              {"not_compared", report.processor}};
  for (const ResetProofResult& result : report.results) {
    json["results"].push_back({{"kind", name_of(result.kind)},
                               {"population", name_of(result.population)},
                               {"reset", name_of(result.mode)},
                               {"chosen", name_of(result.chosen)},
                               {"skipped", result.skipped},
                               {"resets", result.resets},
                               {"fresh_forks", result.fresh_forks},
                               {"attacks", result.acts},
                               {"bytes_compared", result.bytes},
                               {"registers_compared", result.registers},
                               {"system_calls_compared", result.system_calls},
                               {"differences", result.differing},
                               {"first_differences", result.differences}});
  }
  fmt::print("{}\n", json.dump(2));
}

int run(const Options& options) {
  const auto resets = parse_count(options.resets);
  if (!resets) return report(resets.error());
  const auto memory = parse_size(options.memory);
  if (!memory) return report(memory.error());
  const auto shared = parse_size(options.shared);
  if (!shared) return report(shared.error());
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  ResetProofOptions proof;
  proof.shared_bytes = *shared;
  proof.kinds = kKinds.at(options.kind);
  proof.populations = kPopulations.at(options.population);
  proof.resets = *resets;
  proof.seed = options.seed;
  proof.memory_bytes = *memory;
  if (!options.modes.empty()) {
    proof.modes.clear();
    for (const ResetMode mode : kResetModes) {
      if (std::ranges::find(options.modes, name_of(mode)) != options.modes.end()) proof.modes.push_back(mode);
    }
  }
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  std::uint64_t shown = 0;
  proof.progress = [&](std::uint64_t done) {
    const std::uint64_t percent = done * 100 / proof.resets;
    if (terminal && (percent != shown || done == 1)) print_message("\r\033[K{} of {} resets", done, proof.resets);
    shown = percent;
    return !stop_asked.load();
  };
  metrics_ready();
  const StopOnSignal guard;
  const auto result = prove_reset(*kvm, proof);
  if (terminal) print_message("\r\033[K");
  if (!result) return report(result.error());
  options.json ? print_json(*result, options.seed) : print_text(*result);
  if (result->differing() != 0) return kFailure;
  if (result->interrupted) return kInterrupted;
  return result->resets() != 0 ? kSuccess : kFailure;
}

}  // namespace

void add_verify_reset(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("verify-reset", "Prove that a reset fork is the same as a fresh one");
  verb->footer(
      "Hostile guests run in forks: they overwrite all memory and all registers, make random system calls, crash in "
      "30\n"
      "ways, run into deadlines, exit. Each fork is reset and compared with a fresh one from the same snapshot, on a "
      "VM\n"
      "and vCPU that nothing hostile has ever used:\n\n"
      "  memory      every byte of the window, as the host and as the guest read it; every byte of the page tables\n"
      "  vCPU        all registers KVM tells of (general, segments, control, x87, SSE, AVX, MSRs, debug, events), "
      "with\n"
      "              the registers of the next call loaded, behind it, behind more work, behind a crash\n"
      "  process     heap, FS and GS base\n"
      "  behaviour   what the first call of the next guest finds in its registers; its following system calls\n\n"
      "Not compared: the generation (different by design; that it grows is checked), clocks, and in one of eight\n"
      "resets, which go without a seed, the fork's own random bytes (that they are new is checked). What no register\n"
      "shows (caches, branch predictors, timing) is not part of the proof.\n\n"
      "  warmfork verify-reset --resets 100k                    the long run\n"
      "  warmfork verify-reset --kind space --reset dirty_ring  one combination\n\n"
      "Ctrl-C ends it and prints what was proven so far. Exit code 1: there was a difference.");
  verb->add_option("--resets", options->resets, "Resets in all, spread over the combinations")->capture_default_str();
  verb->add_option("--seed", options->seed, "Of everything that is random")
      ->check(whole_number())
      ->capture_default_str();
  std::vector<std::string> modes;
  for (const ResetMode mode : kResetModes) modes.emplace_back(name_of(mode));
  verb->add_option("--kind", options->kind, "vm, space or all")
      ->check(CLI::IsMember({"vm", "space", "all"}))
      ->capture_default_str();
  verb->add_option("--population", options->population, "copy, cow or all")
      ->check(CLI::IsMember({"copy", "cow", "all"}))
      ->capture_default_str();
  verb->add_option("--reset", options->modes, "Reset modes (default: all)")->check(CLI::IsMember(modes));
  verb->add_option("--memory", options->memory, "What the guest can write, at least 512K (2 MiB pages from 5M on)")
      ->capture_default_str();
  verb->add_option("--shared", options->shared, "Size of two regions shared with other forks, one of them read-only")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "For machines");
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, std::string("verify-reset"), [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
