#include "bench/verdict.hpp"

#include "base/printable.hpp"
#include "bench/figure_text.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

namespace warmfork::bench {
namespace {

struct Quantile {
  const char* name;
  const char* shown;
  double fraction;
};
constexpr std::array<Quantile, 3> kQuantiles{{{"p50", "p50", 0.5}, {"p99", "p99", 0.99}, {"p999", "p99.9", 0.999}}};

// Figures by identity; of those that are measured several times in a run, the first.
std::map<std::string, const Figure*> by_identity(const std::vector<Figure>& figures) {
  std::map<std::string, const Figure*> found;
  for (const Figure& figure : figures) found.emplace(identity(figure), &figure);
  return found;
}

bool positive(const std::vector<double>& values) {
  return !values.empty() && std::ranges::all_of(values, [](double value) { return value > 0; });
}

// A round's quantile is one of its largest values unless this many were measured in it.
std::uint64_t least_per_round(double fraction) { return static_cast<std::uint64_t>(std::ceil(2 / (1 - fraction))); }

std::vector<double> rounds_of(const Figure& figure, const std::string& quantile) {
  const auto found = figure.rounds.find(quantile);
  return found == figure.rounds.end() ? std::vector<double>{} : found->second;
}

std::string percent(double ratio) { return fmt::format("{:+.1f} %", (ratio - 1) * 100); }

Judgement judge_quantile(const Figure& before, const Figure& after, const Quantile& quantile, bool paired,
                         const Thresholds& thresholds) {
  Judgement judgement{
      .figure = full_name(after), .quantile = quantile.name, .unit = after.unit, .ratio = {}, .why = {}};
  std::vector<double> first = rounds_of(before, quantile.name);
  std::vector<double> second = rounds_of(after, quantile.name);
  judgement.before = median(first);
  judgement.after = median(second);
  if (!positive(first) || !positive(second)) {
    judgement.why = "no rounds with values above zero";
    return judgement;
  }
  // For rates, the ratio of times is the other way round.
  if (is_rate(after)) std::swap(first, second);
  judgement.ratio =
      paired ? paired_ratio_of(first, second, thresholds.confidence) : ratio_of(first, second, thresholds.confidence);
  if (quantile.fraction > 0.5) {
    const std::uint64_t least = least_per_round(quantile.fraction);
    const std::uint64_t samples = std::min(before.samples / std::max<std::uint64_t>(first.size(), 1),
                                           after.samples / std::max<std::uint64_t>(second.size(), 1));
    if (samples < least) {
      judgement.why = fmt::format("too few samples: {} per round, {} needed", samples, least);
      return judgement;
    }
  }
  judgement.verdict = judge(judgement.ratio, thresholds, judgement.why);
  return judgement;
}

}  // namespace

Verdict judge(const Ratio& ratio, const Thresholds& thresholds, std::string& why) {
  if (!ratio.interval) {
    why = fmt::format("too few rounds for {:g} % confidence", thresholds.confidence * 100);
    return Verdict::kTooNoisy;
  }
  const auto [low, high] = *ratio.interval;
  if (low > 1 + thresholds.severe) return Verdict::kSevere;
  if (low > 1 + thresholds.change) return Verdict::kRegressed;
  // As much faster as slower: at half the time and at twice the time the logarithm is as far from 0.
  if (high < 1 / (1 + thresholds.change)) return Verdict::kImproved;
  const auto within = [&](double limit) { return low >= 1 / (1 + limit) && high <= 1 + limit; };
  if (within(thresholds.change)) return Verdict::kUnchanged;
  const bool holds_one = low <= 1 && high >= 1;
  if (holds_one && within(thresholds.noise)) return Verdict::kUnchanged;
  why = holds_one ? fmt::format("anything from {} to {}", percent(low), percent(high))
                  : fmt::format("changed, but by {} or {}?", percent(low), percent(high));
  return Verdict::kTooNoisy;
}

bool precise(const Comparison& comparison, const Thresholds& thresholds) {
  const double widest = 2.0 / 3 * std::log1p(thresholds.change);
  return std::ranges::all_of(comparison.judgements, [&](const Judgement& one) {
    if (one.quantile != "p50" || one.before <= 0 || one.after <= 0) return true;
    return one.ratio.interval && std::log(one.ratio.interval->high / one.ratio.interval->low) <= widest;
  });
}

bool Comparison::regressed() const {
  return std::ranges::any_of(judgements, [](const Judgement& one) {
    return one.verdict == Verdict::kRegressed || one.verdict == Verdict::kSevere;
  });
}

std::string foreign(const Context& before, const Context& after) {
  std::vector<std::string> why;
  const auto check = [&](const char* what, const auto& first, const auto& second) {
    if (first != second) why.push_back(fmt::format("{}: \"{}\", here \"{}\"", what, first, second));
  };
  check("schema", before.schema, after.schema);
  check("processor", printable(before.cpu), printable(after.cpu));
  check("CPUs", before.cpus, after.cpus);
  check("KVM backend", printable(before.kvm_backend), printable(after.kvm_backend));
  return fmt::format("{}", fmt::join(why, "; "));
}

Comparison compare_runs(const ResultFile& before, const ResultFile& after, bool paired, const Thresholds& thresholds) {
  Comparison comparison;
  const auto first = by_identity(before.figures);
  const auto second = by_identity(after.figures);
  auto& notes = comparison.notes;
  for (const Figure& figure : after.figures) {
    const auto found = first.find(identity(figure));
    if (second.at(identity(figure)) != &figure) continue;
    if (found == first.end()) {
      comparison.only_after.push_back(full_name(figure));
      continue;
    }
    if (found->second->unit != figure.unit) {
      notes.push_back(fmt::format("{} is not compared: it was in {} and is in {}", printable(full_name(figure)),
                                  printable(found->second->unit), printable(figure.unit)));
      continue;
    }
    for (const Quantile& quantile : kQuantiles) {
      if (quantile.fraction > 0.5 && figure.unit != "ns") continue;
      comparison.judgements.push_back(judge_quantile(*found->second, figure, quantile, paired, thresholds));
    }
  }
  for (const Figure& figure : before.figures) {
    if (!second.contains(identity(figure)) && first.at(identity(figure)) == &figure)
      comparison.only_before.push_back(full_name(figure));
  }
  if (const std::string why = foreign(before.context, after.context); !why.empty()) {
    notes.push_back("foreign: ratios say something about the machines, not about the builds (" + why + ")");
  }
  if (before.context.kernel != after.context.kernel) {
    notes.push_back(
        fmt::format("another kernel: {}, now {}", printable(before.context.kernel), printable(after.context.kernel)));
  }
  if (before.context.build != after.context.build) {
    notes.push_back(fmt::format("another kind of build: {}, now {}", printable(before.context.build),
                                printable(after.context.build)));
  }
  if (before.context.effort != after.context.effort) {
    notes.push_back(fmt::format("another effort: {}, now {}", before.context.effort, after.context.effort));
  }
  if (before.context.partial) notes.push_back("the first run was interrupted: its rounds are fewer");
  if (after.context.partial) notes.push_back("this run was interrupted: its rounds are fewer");
  for (const Judgement& one : comparison.judgements) {
    if (one.figure.starts_with("floors/") && one.quantile == "p50" && one.verdict != Verdict::kUnchanged &&
        one.verdict != Verdict::kTooNoisy) {
      notes.push_back(
          fmt::format("the floor {} has changed by {}: that is the machine, not the build; figures above it may follow",
                      printable(one.figure), percent(one.ratio.estimate)));
    }
  }
  return comparison;
}

std::string to_table(const Comparison& comparison, const Thresholds& thresholds) {
  std::size_t width = 6;
  for (const Judgement& one : comparison.judgements) width = std::max(width, printable(one.figure).size());
  const auto cell = [](double value, const std::string& unit) {
    std::string shown = format_value(value, unit);
    const std::size_t columns = shown.size() - (shown.find("µ") != std::string::npos ? 1 : 0);
    return std::string(columns < 14 ? 14 - columns : 0, ' ') + shown;
  };
  std::string text = fmt::format("{:<{}}  {:<5} {:>14} {:>14} {:>10} {:>20}  verdict\n", "figure", width, "", "before",
                                 "after", "change", "interval");
  std::array<std::size_t, kVerdictNames.size()> counts{};
  for (const Judgement& one : comparison.judgements) {
    ++counts[static_cast<std::size_t>(one.verdict)];
    const auto quantile = std::ranges::find(kQuantiles, one.quantile, &Quantile::name);
    const auto& interval = one.ratio.interval;
    text +=
        fmt::format("{:<{}}  {:<5} {} {} {:>10} {:>20}  {}{}\n", printable(one.figure), width,
                    quantile == kQuantiles.end() ? "" : quantile->shown, cell(one.before, printable(one.unit)),
                    cell(one.after, printable(one.unit)), percent(one.ratio.estimate),
                    interval ? fmt::format("{} … {}", percent(interval->low), percent(interval->high)) : "-",
                    kVerdictNames[static_cast<std::size_t>(one.verdict)], one.why.empty() ? "" : " (" + one.why + ")");
  }
  text += fmt::format(
      "\nchange: of the time, also of rates. Changed: the whole interval ({:g} %) beyond {:g} %; severe: beyond {:g} "
      "%. "
      "Unchanged: it is within {:g} %, or holds 0 and is within {:g} %.\n",
      thresholds.confidence * 100, thresholds.change * 100, thresholds.severe * 100, thresholds.change * 100,
      thresholds.noise * 100);
  const auto list = [&](const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    constexpr std::size_t kMostShown = 8;  // the JSON has them all
    const std::size_t shown = std::min(names.size(), kMostShown);
    text += fmt::format("{} ({}):", what, names.size());
    for (std::size_t i = 0; i < shown; ++i) text += " " + printable(names[i]) + ";";
    text.back() = '\n';
    if (shown < names.size()) text.insert(text.size() - 1, fmt::format("; and {} more", names.size() - shown));
  };
  list("only before", comparison.only_before);
  list("only now", comparison.only_after);
  for (const std::string& note : comparison.notes) text += "note: " + note + "\n";
  for (std::size_t i = 0; i < counts.size(); ++i) {
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", counts[i], kVerdictNames[i]);
  }
  return text + "\n";
}

std::string to_json(const Comparison& comparison) {
  nlohmann::ordered_json file;
  file["judgements"] = nlohmann::ordered_json::array();
  for (const Judgement& one : comparison.judgements) {
    nlohmann::ordered_json entry{
        {"name", one.figure}, {"quantile", one.quantile},
        {"unit", one.unit},   {"before", one.before},
        {"after", one.after}, {"ratio", one.ratio.estimate},
        {"p", one.ratio.p},   {"verdict", kVerdictNames[static_cast<std::size_t>(one.verdict)]},
        {"why", one.why}};
    entry["interval"] = nullptr;
    if (one.ratio.interval) entry["interval"] = {one.ratio.interval->low, one.ratio.interval->high};
    file["judgements"].push_back(std::move(entry));
  }
  file["only_before"] = comparison.only_before;
  file["only_after"] = comparison.only_after;
  file["notes"] = comparison.notes;
  file["regressed"] = comparison.regressed();
  return file.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace warmfork::bench
