#include "bench/result.hpp"

#include "base/file.hpp"
#include "base/printable.hpp"
#include "base/tsc_clock.hpp"
#include "build_info.hpp"

#include <fmt/chrono.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace warmfork::bench {

namespace {

struct NamedQuantile {
  const char* name;
  double fraction;
};
constexpr std::array<NamedQuantile, 3> kQuantiles{{{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}}};

constexpr std::array kDistribution{0.001, 0.01, 0.05, 0.1,  0.2,  0.3,   0.4,   0.5,    0.6,
                                   0.7,   0.8,  0.9,  0.95, 0.99, 0.995, 0.999, 0.9999, 1.0};

}  // namespace

Figure from_ticks(std::string name, const Histogram& ticks) {
  const double ns = tsc_ns_per_tick();
  const auto quantile_of = [&, step = tsc_step_ticks()](double fraction) {
    return ticks.grouped_quantile(fraction, step) * ns;
  };
  Figure figure{.name = std::move(name), .unit = "ns", .samples = ticks.count()};
  figure.mean = ticks.mean() * ns;
  figure.stddev = ticks.stddev() * ns;
  figure.min = static_cast<double>(ticks.min()) * ns;
  figure.p50 = quantile_of(0.5);
  figure.p90 = quantile_of(0.9);
  figure.p99 = quantile_of(0.99);
  figure.p999 = quantile_of(0.999);
  figure.max = static_cast<double>(ticks.max()) * ns;
  figure.ticks = std::make_shared<const Histogram>(ticks);
  figure.noise = NoiseMeter::since_begin();
  if (ticks.count() == 0) return figure;
  for (const NamedQuantile& quantile : kQuantiles) {
    if (const auto ranks = quantile_ranks(ticks.count(), quantile.fraction)) {
      // In the middle of the interval that the value of this rank stands for.
      const auto at = [&](std::uint64_t rank) {
        return ticks.grouped_at(static_cast<double>(rank) - 0.5, tsc_step_ticks()) * ns;
      };
      figure.intervals[quantile.name] = {at(ranks->low), at(ranks->high)};
    }
  }
  const Fences fence = fences(quantile_of(0.25) / ns, quantile_of(0.75) / ns);
  figure.outliers.severe = ticks.count_outside(fence.severe_low, fence.severe_high);
  figure.outliers.mild = ticks.count_outside(fence.mild_low, fence.mild_high) - figure.outliers.severe;
  for (const double fraction : kDistribution) figure.distribution.emplace_back(fraction, quantile_of(fraction));
  return figure;
}

Figure from_values(std::string name, std::string unit, std::vector<double> values) {
  Figure figure{.name = std::move(name), .unit = std::move(unit), .samples = values.size()};
  figure.noise = NoiseMeter::since_begin();
  if (values.empty()) return figure;
  figure.values = values;
  std::ranges::sort(values);
  const double n = static_cast<double>(values.size());
  figure.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - figure.mean) * (value - figure.mean);
  figure.stddev = values.size() > 1 ? std::sqrt(squares / (n - 1)) : 0;
  const auto rank = [&](double fraction) {
    return values[static_cast<std::size_t>(std::max(1.0, std::ceil(fraction * n))) - 1];
  };
  figure.min = values.front();
  figure.p50 = rank(0.5);
  figure.p90 = rank(0.9);
  figure.p99 = rank(0.99);
  figure.p999 = rank(0.999);
  figure.max = values.back();
  for (const NamedQuantile& quantile : kQuantiles) {
    if (const auto interval = quantile_interval(values, quantile.fraction)) figure.intervals[quantile.name] = *interval;
  }
  constexpr std::uint64_t kSeed = 1;  // any: the same values give the same interval
  if (const auto interval = mean_interval(values, kSeed)) figure.intervals["mean"] = *interval;
  figure.outliers = classify(values);
  for (const double fraction : kDistribution) figure.distribution.emplace_back(fraction, rank(fraction));
  return figure;
}

bool is_rate(const Figure& figure) { return figure.unit.ends_with("/s"); }

std::string identity(const Figure& figure) {
  // A reset that chooses its mode, and sizes that follow from how much is measured.
  constexpr std::array<std::string_view, 2> kChosenByTheRun{"chosen", "tests"};
  std::string text = figure.name;
  for (const auto& [key, value] : figure.labels) {
    if (std::ranges::find(kChosenByTheRun, key) == kChosenByTheRun.end()) text += fmt::format(" {}={}", key, value);
  }
  for (const auto& [key, value] : figure.params) {
    if (std::ranges::find(kChosenByTheRun, key) == kChosenByTheRun.end()) text += fmt::format(" {}={}", key, value);
  }
  return text;
}

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

void set_floor(Figure& figure, const Figure& floor) {
  figure.floor = floor.name;
  if (floor.p50 > 0) figure.ratio_to_floor_p50 = figure.p50 / floor.p50;
}

Context make_context(std::string kvm_backend, std::string cpu, std::vector<int> pinned) {
  utsname names{};
  ::uname(&names);
  return {.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::now())),
          .commit = kBuildCommit,
          .cpu = std::move(cpu),
          .kernel = names.release,
          .kvm_backend = std::move(kvm_backend),
          .cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)),
          .pinned = std::move(pinned),
          .build = kBuildDescription,
          .clock_step_ns = tsc_step_ticks() * tsc_ns_per_tick()};
}

std::string to_json(const Context& context, const std::vector<Figure>& figures) {
  nlohmann::ordered_json file;
  file["context"] = {{"date", context.date},
                     {"commit", context.commit},
                     {"cpu", context.cpu},
                     {"kernel", context.kernel},
                     {"kvm_backend", context.kvm_backend},
                     {"cpus", context.cpus},
                     {"pinned", context.pinned},
                     {"build", context.build},
                     {"clock_step_ns", context.clock_step_ns},
                     {"schema", context.schema},
                     {"partial", context.partial},
                     {"rounds", context.rounds},
                     {"effort", context.effort},
                     {"before", {{"load", context.before.load}, {"steal_ms", context.before.steal_ms}}},
                     {"after", {{"load", context.after.load}, {"steal_ms", context.after.steal_ms}}}};
  file["results"] = nlohmann::ordered_json::array();
  for (const Figure& figure : figures) {
    nlohmann::ordered_json entry{{"name", figure.name}, {"unit", figure.unit},     {"samples", figure.samples},
                                 {"mean", figure.mean}, {"stddev", figure.stddev}, {"min", figure.min},
                                 {"p50", figure.p50},   {"p90", figure.p90},       {"p99", figure.p99},
                                 {"p999", figure.p999}, {"max", figure.max}};
    entry["floor"] = figure.floor ? nlohmann::ordered_json(*figure.floor) : nullptr;
    entry["ratio_to_floor_p50"] =
        figure.ratio_to_floor_p50 ? nlohmann::ordered_json(*figure.ratio_to_floor_p50) : nullptr;
    entry["params"] = nlohmann::ordered_json(figure.params);
    for (const auto& [name, value] : figure.labels) entry["params"][name] = value;
    entry["counters"] = nlohmann::ordered_json(figure.counters);
    entry["intervals"] = nlohmann::ordered_json::object();
    for (const auto& [name, interval] : figure.intervals) entry["intervals"][name] = {interval.low, interval.high};
    entry["outliers"] = {{"mild", figure.outliers.mild}, {"severe", figure.outliers.severe}};
    entry["distribution"] = nlohmann::ordered_json::array();
    for (const auto& [fraction, value] : figure.distribution) entry["distribution"].push_back({fraction, value});
    entry["rounds"] = nlohmann::ordered_json(figure.rounds);
    entry["noise"] = {{"noisy", figure.noise.noisy()},
                      {"why", figure.noise.why},
                      {"seconds", figure.noise.seconds},
                      {"stolen_fraction", figure.noise.stolen_fraction},
                      {"switches", figure.noise.switches},
                      {"load", figure.noise.load},
                      {"frequency_change", figure.noise.frequency_change}};
    file["results"].push_back(std::move(entry));
  }
  return file.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

namespace {

using nlohmann::json;

// Looks at a file that anyone may have written. What is asked for is there and of the right kind, or the first thing
// that is not is remembered.
class Reader {
 public:
  explicit Reader(std::string where) : where_(std::move(where)) {}
  [[nodiscard]] Status status() const { return status_; }
  void refuse(std::string_view what) {
    constexpr std::size_t kLongest = 200;  // it may quote the file
    if (status_) status_ = fail(ErrorKind::kInput, "{}: {}", where_, printable(what.substr(0, kLongest)));
  }
  void at(std::string where) { where_ = std::move(where); }

  const json* member(const json& object, const char* key, bool needed) {
    if (!object.is_object()) {
      refuse("not an object");
      return nullptr;
    }
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) {
      if (needed) refuse(fmt::format("no \"{}\"", key));
      return nullptr;
    }
    return &*found;
  }
  double number(const json& value, const char* what) {
    if (!value.is_number()) {
      refuse(fmt::format("\"{}\" is not a number", what));
      return 0;
    }
    const double number = value.get<double>();
    if (std::isfinite(number)) return number;
    refuse(fmt::format("\"{}\" is not finite", what));
    return 0;
  }
  double number(const json& object, const char* key, bool needed) {
    const json* value = member(object, key, needed);
    return value == nullptr ? 0 : number(*value, key);
  }
  std::uint64_t count(const json& object, const char* key, bool needed) {
    const double value = number(object, key, needed);
    constexpr double kMost = 9e15;  // above, a double is no longer a count
    if (value >= 0 && value <= kMost) return static_cast<std::uint64_t>(value);
    refuse(fmt::format("\"{}\" is {}, which is no count", key, value));
    return 0;
  }
  std::string text(const json& object, const char* key) {
    const json* value = member(object, key, true);
    if (value == nullptr) return {};
    constexpr std::size_t kLongest = 4096;
    if (value->is_string() && value->get_ref<const std::string&>().size() <= kLongest) return value->get<std::string>();
    refuse(fmt::format("\"{}\" is not a string of at most {} bytes", key, kLongest));
    return {};
  }
  bool flag(const json& object, const char* key) {
    const json* value = member(object, key, false);
    if (value == nullptr || value->is_boolean()) return value != nullptr && value->get<bool>();
    refuse(fmt::format("\"{}\" is neither true nor false", key));
    return false;
  }

 private:
  std::string where_;
  Status status_;
};

MachineState read_state(Reader& reader, const json& context, const char* key) {
  const json* state = reader.member(context, key, false);
  if (state == nullptr) return {};
  return {.load = reader.number(*state, "load", true), .steal_ms = reader.number(*state, "steal_ms", true)};
}

Figure read_figure(Reader& reader, const json& entry) {
  Figure figure;
  figure.name = reader.text(entry, "name");
  figure.unit = reader.text(entry, "unit");
  figure.samples = reader.count(entry, "samples", true);
  const std::array<std::pair<const char*, double Figure::*>, 8> values{{{"mean", &Figure::mean},
                                                                        {"stddev", &Figure::stddev},
                                                                        {"min", &Figure::min},
                                                                        {"p50", &Figure::p50},
                                                                        {"p90", &Figure::p90},
                                                                        {"p99", &Figure::p99},
                                                                        {"p999", &Figure::p999},
                                                                        {"max", &Figure::max}}};
  for (const auto& [key, value] : values) figure.*value = reader.number(entry, key, true);
  if (reader.member(entry, "floor", false) != nullptr) figure.floor = reader.text(entry, "floor");
  if (const json* ratio = reader.member(entry, "ratio_to_floor_p50", false)) {
    figure.ratio_to_floor_p50 = reader.number(*ratio, "ratio_to_floor_p50");
  }
  // A ratio is shown with the floor it is to.
  if (!figure.floor) figure.ratio_to_floor_p50.reset();
  const auto each = [&](const char* key, const auto& take) {
    const json* object = reader.member(entry, key, false);
    if (object == nullptr) return;
    if (!object->is_object()) return reader.refuse(fmt::format("\"{}\" is not an object", key));
    for (const auto& [name, value] : object->items()) take(name, value);
  };
  each("params", [&](const std::string& name, const json& value) {
    if (value.is_string()) {
      figure.labels[name] = value.get<std::string>();
    } else {
      figure.params[name] = reader.number(value, name.c_str());
    }
  });
  each("counters",
       [&](const std::string& name, const json& value) { figure.counters[name] = reader.number(value, name.c_str()); });
  each("intervals", [&](const std::string& name, const json& value) {
    if (!value.is_array() || value.size() != 2) return reader.refuse("an interval that is not two numbers");
    figure.intervals[name] = {reader.number(value[0], name.c_str()), reader.number(value[1], name.c_str())};
  });
  each("rounds", [&](const std::string& name, const json& value) {
    if (!value.is_array()) return reader.refuse("rounds that are not an array");
    if (value.size() > kMostRounds) {
      return reader.refuse(fmt::format("\"{}\" of {} rounds, limit {}", name, value.size(), kMostRounds));
    }
    for (const json& round : value) figure.rounds[name].push_back(reader.number(round, name.c_str()));
  });
  if (const json* outliers = reader.member(entry, "outliers", false)) {
    figure.outliers = {reader.count(*outliers, "mild", true), reader.count(*outliers, "severe", true)};
  }
  if (const json* points = reader.member(entry, "distribution", false)) {
    if (!points->is_array()) reader.refuse("\"distribution\" is not an array");
    for (const json& point : *points) {
      if (!point.is_array() || point.size() != 2) {
        reader.refuse("a point of \"distribution\" is not two numbers");
        break;
      }
      figure.distribution.emplace_back(reader.number(point[0], "fraction"), reader.number(point[1], "value"));
    }
  }
  if (const json* noise = reader.member(entry, "noise", false)) {
    figure.noise = {.seconds = reader.number(*noise, "seconds", true),
                    .stolen_fraction = reader.number(*noise, "stolen_fraction", true),
                    .switches = reader.count(*noise, "switches", true),
                    .load = reader.number(*noise, "load", true),
                    .frequency_change = reader.number(*noise, "frequency_change", true),
                    .why = {}};
    if (const json* why = reader.member(*noise, "why", false); why != nullptr && why->is_array()) {
      for (const json& reason : *why) {
        if (reason.is_string()) figure.noise.why.push_back(reason.get<std::string>());
      }
    }
  }
  return figure;
}

}  // namespace

Result<ResultFile> parse_result(const std::string& text, const std::string& source) {
  const json file = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (file.is_discarded()) return fail(ErrorKind::kInput, "{}: not JSON (is it cut off?)", source);
  Reader reader(source);
  ResultFile result;
  const json* context = reader.member(file, "context", true);
  const json* results = reader.member(file, "results", true);
  WARMFORK_TRY(reader.status());
  reader.at(fmt::format("{}: context", source));
  Context& into = result.context;
  into.date = reader.text(*context, "date");
  into.commit = reader.text(*context, "commit");
  into.cpu = reader.text(*context, "cpu");
  into.kernel = reader.text(*context, "kernel");
  into.kvm_backend = reader.text(*context, "kvm_backend");
  into.build = reader.text(*context, "build");
  into.clock_step_ns = reader.number(*context, "clock_step_ns", false);
  const auto small = [&](const char* key, bool needed) {
    const std::uint64_t value = reader.count(*context, key, needed);
    if (value > 1'000'000) reader.refuse(fmt::format("\"{}\" is {}, limit 1000000", key, value));
    return static_cast<int>(std::min<std::uint64_t>(value, 1'000'000));
  };
  into.cpus = small("cpus", true);
  into.schema = small("schema", false);  // the first files had none: 0
  into.rounds = static_cast<unsigned>(std::max(small("rounds", false), 1));
  into.partial = reader.flag(*context, "partial");
  into.effort = reader.number(*context, "effort", false);
  into.before = read_state(reader, *context, "before");
  into.after = read_state(reader, *context, "after");
  if (const json* pinned = reader.member(*context, "pinned", false); pinned != nullptr && pinned->is_array()) {
    for (const json& cpu : *pinned) {
      if (cpu.is_number_integer()) into.pinned.push_back(cpu.get<int>());
    }
  }
  if (!results->is_array()) return fail(ErrorKind::kInput, "{}: \"results\" is not an array", source);
  for (std::size_t i = 0; i < results->size(); ++i) {
    reader.at(fmt::format("{}: result {}", source, i));
    result.figures.push_back(read_figure(reader, (*results)[i]));
    WARMFORK_TRY(reader.status());
  }
  WARMFORK_TRY(reader.status());
  return result;
}

Result<ResultFile> read_result(const std::string& path) {
  constexpr std::size_t kLargest = std::size_t{64} << 20;
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(path, kLargest));
  // SAFETY: bytes viewed as characters, for as long as the vector lives.
  return parse_result(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path);
}

std::string format_value(double value, const std::string& unit) {
  struct Scale {
    double factor;
    const char* prefix;
  };
  if (unit == "ns") {
    static constexpr std::array<Scale, 3> kTimes{{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}}};
    for (const Scale& scale : kTimes) {
      if (value >= scale.factor) return fmt::format("{:.4g} {}", value / scale.factor, scale.prefix);
    }
    return fmt::format("{:.4g} ns", value);
  }
  static constexpr std::array<Scale, 4> kRates{{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}};
  for (const Scale& scale : kRates) {
    if (value >= scale.factor) return fmt::format("{:.4g} {} {}", value / scale.factor, scale.prefix, unit);
  }
  return fmt::format("{:.4g} {}", value, unit);
}

std::string full_name(const Figure& figure) {
  std::string name = figure.name;
  for (const auto& [key, value] : figure.labels) name += fmt::format(" {}", value);
  if (const auto pages = figure.params.find("dirty_pages"); pages != figure.params.end()) {
    name += fmt::format(" {} dirty", pages->second);
  }
  return name;
}

std::string to_table(const std::vector<Figure>& figures) {
  std::size_t width = 6;
  for (const Figure& figure : figures) width = std::max(width, full_name(figure).size());
  std::string text = fmt::format("{:<{}}  {:>16} {:>16} {:>16} {:>16}  {}\n", "figure", width, "p50", "p99", "p99.9",
                                 "max", "of its floor (p50)");
  for (const Figure& figure : figures) {
    // "µ" is two bytes and one column: pad by columns.
    const auto cell = [&](double value) {
      std::string shown = format_value(value, figure.unit);
      const std::size_t columns = shown.size() - (shown.find("µ") != std::string::npos ? 1 : 0);
      return std::string(columns < 16 ? 16 - columns : 0, ' ') + shown;
    };
    text += fmt::format("{:<{}}  {} {} {} {}", full_name(figure), width, cell(figure.p50), cell(figure.p99),
                        cell(figure.p999), cell(figure.max));
    if (figure.ratio_to_floor_p50) text += fmt::format("  {:.3f} x {}", *figure.ratio_to_floor_p50, *figure.floor);
    if (figure.noise.noisy()) text += fmt::format("  NOISY: {}", fmt::join(figure.noise.why, ", "));
    text += "\n";
  }
  return text;
}

}  // namespace warmfork::bench
