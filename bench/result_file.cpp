#include "bench/result_file.hpp"

#include "base/file.hpp"
#include "base/printable.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace warmfork::bench {

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

}  // namespace warmfork::bench
