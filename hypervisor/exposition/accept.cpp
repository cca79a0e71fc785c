// The Accept header. It comes from anybody: at most a header's limit of bytes, read once from left to right.
#include "exposition/formats.hpp"

#include <algorithm>
#include <cctype>
#include <optional>

namespace warmfork::exposition {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

bool same(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Takes what is before the next `separator` that is not in quotes off the front.
std::string_view take(std::string_view& text, char separator) {
  bool quoted = false;
  std::size_t i = 0;
  for (; i < text.size() && (quoted || text[i] != separator); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    }
  }
  i = std::min(i, text.size());
  const std::string_view front = text.substr(0, i);
  text.remove_prefix(std::min(i + 1, text.size()));
  return trimmed(front);
}

std::string_view unquoted(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') return text.substr(1, text.size() - 2);
  return text;
}

// "0", "0.7", "1.000" -> thousandths; nothing if it is no qvalue.
std::optional<unsigned> thousandths(std::string_view text) {
  if (text.empty() || (text[0] != '0' && text[0] != '1')) return std::nullopt;
  if (text.size() > 5 || (text.size() > 1 && text[1] != '.')) return std::nullopt;
  unsigned value = text[0] == '1' ? 1000 : 0;
  unsigned unit = 100;
  for (const char digit : text.substr(std::min<std::size_t>(2, text.size()))) {
    if (digit < '0' || digit > '9') return std::nullopt;
    value += static_cast<unsigned>(digit - '0') * unit;
    unit /= 10;
  }
  return value <= 1000 ? std::optional(value) : std::nullopt;
}

struct Range {
  std::string_view type, version, proto, encoding;
  unsigned q = 1000;
};

std::optional<Range> parse_range(std::string_view text) {
  Range range;
  range.type = take(text, ';');
  while (!text.empty()) {
    std::string_view parameter = take(text, ';');
    const std::string_view key = take(parameter, '=');
    const std::string_view value = unquoted(trimmed(parameter));
    if (same(key, "q")) {
      const auto q = thousandths(value);
      if (!q) return std::nullopt;
      range.q = *q;
    }
    if (same(key, "version")) range.version = value;
    if (same(key, "proto")) range.proto = value;
    if (same(key, "encoding")) range.encoding = value;
  }
  return range;
}

std::optional<Format> format_of(const Range& range) {
  if (same(range.type, "application/vnd.google.protobuf")) {
    const bool ours = same(range.proto, "io.prometheus.client.MetricFamily") && same(range.encoding, "delimited");
    return ours ? std::optional(Format::kProtobuf) : std::nullopt;
  }
  if (same(range.type, "application/openmetrics-text")) {
    const bool ours = range.version.empty() || range.version == "1.0.0";
    return ours ? std::optional(Format::kOpenMetrics) : std::nullopt;
  }
  if (same(range.type, "text/plain")) {
    const bool ours = range.version.empty() || range.version == "0.0.4";
    return ours ? std::optional(Format::kText) : std::nullopt;
  }
  if (range.type == "*/*" || same(range.type, "text/*")) return Format::kText;
  return std::nullopt;
}

}  // namespace

Format choose_format(std::string_view accept) {
  Format best = Format::kText;
  unsigned most = 0;
  while (!accept.empty()) {
    const auto range = parse_range(take(accept, ','));
    if (!range || range->q <= most) continue;
    if (const auto format = format_of(*range)) {
      best = *format;
      most = range->q;
    }
  }
  return best;
}

const char* content_type(Format format) {
  switch (format) {
    case Format::kOpenMetrics: return "application/openmetrics-text; version=1.0.0; charset=utf-8";
    case Format::kProtobuf:
      return "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    case Format::kText: break;
  }
  return "text/plain; version=0.0.4; charset=utf-8";
}

std::string to_format(const metrics::Scrape& scrape, Format format) {
  switch (format) {
    case Format::kOpenMetrics: return to_openmetrics(scrape);
    case Format::kProtobuf: return to_protobuf(scrape);
    case Format::kText: break;
  }
  return to_text(scrape);
}

}  // namespace warmfork::exposition
