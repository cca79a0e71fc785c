// A snapshot of all metrics in the forms that monitoring reads. All are made from the same Scrape: their numbers are
// the same numbers.
//
// Sources: Prometheus text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats); OpenMetrics 1.0
// (openmetrics.io); prometheus/client_model metrics.proto.
//
// Threads: any.
#pragma once

#include "metrics/metrics.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace warmfork::exposition {

/// What /metrics can answer.
enum class Format : std::uint8_t {
  kText,         // Prometheus text format 0.0.4: histograms with classic buckets
  kOpenMetrics,  // OpenMetrics 1.0 text: the same
  kProtobuf,     // io.prometheus.client.MetricFamily, each behind its length: classic and native buckets
};
[[nodiscard]] const char* content_type(Format format);

/// The format a client wants by its Accept header (RFC 9110, 12.5.1): of those it names the one with the highest q, and
/// the first of several. Anything that cannot be understood is skipped; nothing left is kText.
[[nodiscard]] Format choose_format(std::string_view accept);

[[nodiscard]] std::string to_text(const metrics::Scrape& scrape);
[[nodiscard]] std::string to_openmetrics(const metrics::Scrape& scrape);
[[nodiscard]] std::string to_protobuf(const metrics::Scrape& scrape);
[[nodiscard]] std::string to_format(const metrics::Scrape& scrape, Format format);

/// What /live.json answers; `command` is what runs, in words. Histograms have all their buckets that are not empty:
/// {"schema": 1, "time_unix_s", "uptime_s", "command", "families": [{"name", "type", "help", "samples": [{"labels",
/// "value"} or {"labels", "count", "sum", "buckets": [[upper border in seconds, count up to it], …]}]}]}
[[nodiscard]] std::string to_live_json(const metrics::Scrape& scrape, std::string_view command);

/// The numbers as a page for people that needs no script.
[[nodiscard]] std::string to_plain_page(const metrics::Scrape& scrape, std::string_view command);

}  // namespace warmfork::exposition
