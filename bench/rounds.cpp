#include "bench/rounds.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <optional>
#include <utility>

namespace warmfork::bench {
namespace {

// A figure that is measured at several places of a run has the same identity: they are told apart by their order.
std::vector<std::string> identities(const std::vector<Figure>& figures) {
  std::map<std::string, int> seen;
  std::vector<std::string> all;
  for (const Figure& figure : figures) {
    std::string text = identity(figure);
    if (const int earlier = seen[text]++; earlier > 0) text += fmt::format(" #{}", earlier + 1);
    all.push_back(std::move(text));
  }
  return all;
}

// A figure of rounds that are read from files.
Figure medians(const std::vector<Figure>& rounds) {
  Figure figure = rounds.front();
  for (double Figure::* value :
       {&Figure::mean, &Figure::stddev, &Figure::p50, &Figure::p90, &Figure::p99, &Figure::p999}) {
    std::vector<double> values;
    for (const Figure& round : rounds) values.push_back(round.*value);
    figure.*value = median(values);
  }
  figure.samples = 0;
  figure.outliers = {};
  figure.intervals.clear();
  figure.rounds.clear();
  for (const Figure& round : rounds) {
    figure.samples += round.samples;
    figure.min = std::min(figure.min, round.min);
    figure.max = std::max(figure.max, round.max);
    figure.outliers.mild += round.outliers.mild;
    figure.outliers.severe += round.outliers.severe;
  }
  return figure;
}

}  // namespace

Figure RoundSet::merge(const One& one) {
  const std::vector<Figure>& rounds = one.figures;
  const Figure& first = rounds.front();
  Figure merged;
  if (one.ticks != nullptr) {
    merged = from_ticks(first.name, *one.ticks);
  } else if (std::ranges::all_of(rounds, [](const Figure& round) { return !round.values.empty(); })) {
    std::vector<double> values;
    for (const Figure& round : rounds) values.insert(values.end(), round.values.begin(), round.values.end());
    merged = from_values(first.name, first.unit, std::move(values));
  } else {
    merged = medians(rounds);
  }
  merged.params = first.params;
  merged.labels = first.labels;
  merged.floor = first.floor;
  merged.noise = first.noise;
  const int cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  std::map<std::string, std::vector<double>> counters;
  std::vector<double> ratios;
  for (const Figure& round : rounds) {
    for (const auto& [name, value] : round.counters) counters[name].push_back(value);
    if (round.ratio_to_floor_p50) ratios.push_back(*round.ratio_to_floor_p50);
    merged.rounds["p50"].push_back(round.p50);
    merged.rounds["p99"].push_back(round.p99);
    merged.rounds["p999"].push_back(round.p999);
    if (&round != &first) merged.noise = together(merged.noise, round.noise, cpus);
  }
  for (const auto& [name, values] : counters) {
    merged.counters[name] = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }
  merged.ratio_to_floor_p50.reset();
  if (!ratios.empty()) merged.ratio_to_floor_p50 = median(ratios);
  return merged;
}

void RoundSet::add(std::vector<Figure> round) {
  const std::vector<std::string> names = identities(round);
  for (std::size_t i = 0; i < round.size(); ++i) {
    One& one = of_[names[i]];
    const std::shared_ptr<const Histogram> ticks = std::exchange(round[i].ticks, nullptr);
    if (one.figures.empty()) {
      order_.push_back(names[i]);
      if (ticks != nullptr) one.ticks = std::make_shared<Histogram>(*ticks);
    } else if (one.ticks != nullptr && ticks != nullptr) {
      one.ticks->merge(*ticks);
    } else {
      one.ticks = nullptr;
    }
    one.figures.push_back(std::move(round[i]));
  }
  ++rounds_;
}

std::vector<Figure> RoundSet::merged() const {
  std::vector<Figure> all;
  for (const std::string& name : order_) all.push_back(merge(of_.at(name)));
  return all;
}

}  // namespace warmfork::bench
