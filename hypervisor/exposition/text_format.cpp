// The two text formats, which differ in the names of counters, in units, in how a number is written, and at the end.
#include "exposition/classic_buckets.hpp"
#include "exposition/formats.hpp"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

namespace warmfork::exposition {
namespace {

using metrics::FamilyInfo;
using metrics::Sample;
using metrics::Type;

class Writer {
 public:
  explicit Writer(bool openmetrics) : openmetrics_(openmetrics) {}

  std::string write(const metrics::Scrape& scrape) {
    for (const metrics::FamilySamples& family : scrape.families) {
      const FamilyInfo& info = metrics::info_of(family.family);
      std::string_view name = info.name;
      if (openmetrics_ && info.type == Type::kCounter) name.remove_suffix(std::string_view("_total").size());
      const bool in_unit = openmetrics_ && !info.unit.empty();
      put("# HELP {} {}\n# TYPE {} {}\n", name, info.help, name, name_of(info.type));
      if (in_unit) put("# UNIT {} {}\n", name, info.unit);
      for (const Sample& sample : family.samples) {
        info.type == Type::kHistogram ? put_histogram(info, sample) : put_number(info, sample);
      }
    }
    if (openmetrics_) text_ += "# EOF\n";
    return std::move(text_);
  }

 private:
  template <class... Values>
  void put(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Values>(values)...);
  }

  void put_escaped(std::string_view value) {
    for (const char c : value) {
      if (c == '\n') {
        text_ += "\\n";
      } else {
        if (c == '"' || c == '\\') text_ += '\\';
        text_ += c;
      }
    }
  }

  // `border`: of a classic bucket, infinity for the last one; nothing: not of a bucket.
  void put_labels(const FamilyInfo& info, const Sample& sample, const double* border = nullptr) {
    if (sample.labels.empty() && border == nullptr) return;
    text_ += '{';
    for (std::size_t i = 0; i < sample.labels.size(); ++i) {
      if (i != 0) text_ += ',';
      text_ += info.keys[i];
      text_ += "=\"";
      put_escaped(sample.labels[i]);
      text_ += '"';
    }
    if (border != nullptr) {
      if (!sample.labels.empty()) text_ += ',';
      text_ += "le=\"";
      put_double(*border);
      text_ += '"';
    }
    text_ += '}';
  }

  // OpenMetrics wants borders to look like real numbers, and both forms want the same series.
  void put_double(double value) {
    if (std::isinf(value)) {
      text_ += value > 0 ? "+Inf" : "-Inf";
      return;
    }
    const std::size_t begin = text_.size();
    put("{}", value);
    if (openmetrics_ && text_.find_first_of(".en", begin) == std::string::npos) text_ += ".0";
  }

  void put_number(const FamilyInfo& info, const Sample& sample) {
    text_ += info.name;
    put_labels(info, sample);
    text_ += ' ';
    if (sample.whole) {
      put("{}", *sample.whole);
    } else {
      put_double(sample.number);
    }
    text_ += '\n';
  }

  void put_histogram(const FamilyInfo& info, const Sample& sample) {
    const metrics::HistogramValue& histogram = sample.histogram;
    for_each_classic(histogram, [&](double border, std::uint64_t count) { put_bucket(info, sample, border, count); });
    text_ += info.name;
    text_ += "_count";
    put_labels(info, sample);
    put(" {}\n", histogram.count);
    text_ += info.name;
    text_ += "_sum";
    put_labels(info, sample);
    text_ += ' ';
    put_double(metrics::units_to_seconds(static_cast<double>(histogram.sum)));
    text_ += '\n';
  }

  void put_bucket(const FamilyInfo& info, const Sample& sample, double border, std::uint64_t count) {
    text_ += info.name;
    text_ += "_bucket";
    put_labels(info, sample, &border);
    put(" {}\n", count);
  }

  bool openmetrics_;
  std::string text_;
};

void put_html(std::string& page, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '<': page += "&lt;"; break;
      case '>': page += "&gt;"; break;
      case '&': page += "&amp;"; break;
      case '"': page += "&quot;"; break;
      default: page += c;
    }
  }
}

}  // namespace

std::string to_text(const metrics::Scrape& scrape) { return Writer(false).write(scrape); }
std::string to_openmetrics(const metrics::Scrape& scrape) { return Writer(true).write(scrape); }

std::string to_plain_page(const metrics::Scrape& scrape, std::string_view command) {
  std::string page =
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>warmfork</title><meta http-equiv=\"refresh\" "
      "content=\"2\"><style>body{font-family:sans-serif}td{padding:0 1em}td.n{text-align:right}</style><h1>warmfork ";
  put_html(page, command);
  page += fmt::format(
      "</h1><p>running for {:.1f} s &middot; <a href=\"/metrics\">metrics</a> &middot; <a "
      "href=\"/live.json\">JSON</a></p><table>",
      scrape.uptime_s);
  for (const metrics::FamilySamples& family : scrape.families) {
    const FamilyInfo& info = metrics::info_of(family.family);
    page += fmt::format("<tr><th colspan=\"3\" align=\"left\" title=\"{}\">{}</th></tr>", info.help, info.name);
    for (const Sample& sample : family.samples) {
      page += "<tr><td></td><td>";
      for (std::size_t i = 0; i < sample.labels.size(); ++i) {
        page += fmt::format("{}{}=", i == 0 ? "" : " ", info.keys[i]);
        put_html(page, sample.labels[i]);
      }
      page += "</td><td class=\"n\">";
      if (info.type == Type::kHistogram) {
        const double sum = metrics::units_to_seconds(static_cast<double>(sample.histogram.sum));
        const auto count = static_cast<double>(sample.histogram.count);
        page += sample.histogram.count == 0 ? "0" : fmt::format("{}, mean {:.4g} s", count, sum / count);
      } else if (sample.whole) {
        page += fmt::format("{}", *sample.whole);
      } else {
        page += fmt::format("{:.10g}", sample.number);
      }
      page += "</td></tr>";
    }
  }
  page += "</table></html>\n";
  return page;
}

}  // namespace warmfork::exposition
