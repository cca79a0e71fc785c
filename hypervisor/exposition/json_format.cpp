#include "exposition/formats.hpp"

#include <nlohmann/json.hpp>

namespace warmfork::exposition {

std::string to_live_json(const metrics::Scrape& scrape, std::string_view command) {
  using Json = nlohmann::ordered_json;
  Json families = Json::array();
  for (const metrics::FamilySamples& family : scrape.families) {
    const metrics::FamilyInfo& info = metrics::info_of(family.family);
    Json samples = Json::array();
    for (const metrics::Sample& sample : family.samples) {
      Json labels = Json::object();
      for (std::size_t i = 0; i < sample.labels.size(); ++i) labels[std::string(info.keys[i])] = sample.labels[i];
      Json entry{{"labels", std::move(labels)}};
      if (info.type == metrics::Type::kHistogram) {
        entry["count"] = sample.histogram.count;
        entry["sum"] = metrics::units_to_seconds(static_cast<double>(sample.histogram.sum));
        Json buckets = Json::array();
        std::uint64_t below = 0;
        for (const auto& [bucket, count] : sample.histogram.buckets) {
          below += count;
          buckets.push_back(Json::array({metrics::upper_seconds(bucket), below}));
        }
        entry["buckets"] = std::move(buckets);
      } else if (sample.whole) {
        entry["value"] = *sample.whole;
      } else {
        entry["value"] = sample.number;
      }
      samples.push_back(std::move(entry));
    }
    families.push_back(
        {{"name", info.name}, {"type", name_of(info.type)}, {"help", info.help}, {"samples", std::move(samples)}});
  }
  const Json all{{"schema", 1},
                 {"time_unix_s", scrape.time_unix_s},
                 {"uptime_s", scrape.uptime_s},
                 {"command", command},
                 {"families", std::move(families)}};
  return all.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace warmfork::exposition
