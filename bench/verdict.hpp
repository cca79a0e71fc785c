// Has a figure changed? One answer for each quantile of each figure of two runs, from the rounds of both.
//
// A run repeats its suites in rounds. Within a round latencies follow each other closely (a busy neighbour is busy for
// thousands of them), so that what a round says is one observation of a quantile, however many samples it has; the
// intervals here are between rounds. A verdict other than "unchanged" or "too noisy" needs the whole interval of the
// ratio to lie beyond a threshold. So a build that is alike is called changed in far fewer than 5 % of all comparisons:
// the interval would have to miss the truth by the threshold. And "unchanged" needs an interval that cannot hide much:
// a change of more than Thresholds::noise is called that only if the interval misses it, in fewer than 2.5 %.
//
// Threads: any; no state.
#pragma once

#include "base/result.hpp"
#include "bench/result_file.hpp"
#include "bench/statistics.hpp"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::bench {

enum class Verdict : std::uint8_t { kImproved, kUnchanged, kRegressed, kSevere, kTooNoisy };
inline constexpr std::array kVerdictNames = {"improved", "unchanged", "regressed", "severe", "too noisy"};

struct Thresholds {
  double change = 0.05;  // regressed (or improved): slower (or faster) by more than this, with confidence
  double noise = 0.10;   // an interval that holds "as fast" may reach this far and is still unchanged, else too noisy
  double severe = 0.20;  // severe: slower by more than this, with confidence
  double confidence = kConfidence;
};

/// Ratios are of times: 1.1 is 10 % slower, for rates too.
struct Judgement {
  std::string figure;    // full_name()
  std::string quantile;  // "p50", "p99" or "p999"; of rates only the first
  std::string unit;
  double before = 0;  // medians over the rounds, in `unit`
  double after = 0;
  Ratio ratio;
  Verdict verdict = Verdict::kTooNoisy;
  std::string why;  // where the verdict is not the interval's: too few samples or rounds, noise
};

/// Of a ratio of times. Regressed, severe, improved: the whole interval is beyond the threshold. Unchanged: all of it
/// is within `change`, or it holds 1 and is within `noise`. Too noisy is what is left: an interval without 1 that
/// reaches beyond `change` (something has changed, but by how much?), and one that reaches beyond `noise`. `why` is set
/// for that.
[[nodiscard]] Verdict judge(const Ratio& ratio, const Thresholds& thresholds, std::string& why);

struct Comparison {
  std::vector<Judgement> judgements;
  std::vector<std::string> only_before, only_after;  // figures that one of both lacks
  std::vector<std::string> notes;                    // what makes the two less comparable
  [[nodiscard]] bool regressed() const;              // any quantile of any figure: regressed or severe
};

/// Compares figures of the same identity. `paired`: round i of both was measured one after the other.
[[nodiscard]] Comparison compare_runs(const ResultFile& before, const ResultFile& after, bool paired,
                                      const Thresholds& thresholds);

/// True if the medians are known well enough to decide: no interval of theirs is wider than two thirds of `change`, so
/// it reaches a third of it from its middle, and neither "as fast" nor a change of twice the threshold is in doubt.
///
/// This is where repeating until it is true may stop: it asks how wide intervals are, and not what they say. Who
/// repeats until something has changed will see that sooner or later, if only by chance; of who repeats until it is
/// known, false alarms stay as rare as of a number of rounds that was fixed before (a unit test counts them). Of p99
/// and p99.9 nothing is asked: most figures would need thousands of rounds.
[[nodiscard]] bool precise(const Comparison& comparison, const Thresholds& thresholds);

/// Why figures of the two must not be compared: another processor, number of CPUs, KVM backend or schema. Empty: none.
[[nodiscard]] std::string foreign(const Context& before, const Context& after);

/// For people: a line for each judgement, then the notes and a summary.
[[nodiscard]] std::string to_table(const Comparison& comparison, const Thresholds& thresholds);

/// One JSON object: {"judgements": […], "only_before", "only_after", "notes", "regressed"}.
[[nodiscard]] std::string to_json(const Comparison& comparison);

}  // namespace warmfork::bench
