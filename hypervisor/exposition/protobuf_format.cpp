// MetricFamily messages, each behind its length as a varint. Field numbers: prometheus/client_model, metrics.proto.
#include "exposition/classic_buckets.hpp"
#include "exposition/formats.hpp"

#include <cmath>
#include <protozero/pbf_builder.hpp>
#include <protozero/varint.hpp>
#include <vector>

namespace warmfork::exposition {
namespace {

using metrics::FamilyInfo;
using metrics::Sample;
using metrics::Type;
using protozero::pbf_builder;

enum class MetricFamily : protozero::pbf_tag_type { kName = 1, kHelp = 2, kType = 3, kMetric = 4 };
enum class MetricType { kCounter = 0, kGauge = 1, kHistogram = 4 };
enum class Metric : protozero::pbf_tag_type { kLabel = 1, kGauge = 2, kCounter = 3, kHistogram = 7 };
enum class LabelPair : protozero::pbf_tag_type { kName = 1, kValue = 2 };
enum class Number : protozero::pbf_tag_type { kValue = 1 };  // Counter and Gauge
enum class HistogramField : protozero::pbf_tag_type {
  kSampleCount = 1,
  kSampleSum = 2,
  kBucket = 3,
  kSchema = 5,
  kZeroThreshold = 6,
  kZeroCount = 7,
  kPositiveSpan = 12,
  kPositiveDelta = 13,
};
enum class Bucket : protozero::pbf_tag_type { kCumulativeCount = 1, kUpperBound = 2 };
enum class Span : protozero::pbf_tag_type { kOffset = 1, kLength = 2 };

// The buckets but the zero bucket: runs of neighbours, and each count as what it is more than the one before.
void put_native(pbf_builder<HistogramField>& to, const metrics::HistogramValue& histogram) {
  to.add_sint32(HistogramField::kSchema, metrics::kSchema);
  to.add_double(HistogramField::kZeroThreshold, metrics::upper_seconds(0));
  struct Run {
    int first;
    std::uint32_t length;
  };
  std::vector<Run> runs;
  std::vector<std::int64_t> deltas;
  std::uint64_t zero = 0, before = 0;
  for (const auto& [bucket, count] : histogram.buckets) {
    if (bucket == 0) {
      zero = count;
      continue;
    }
    const int index = metrics::native_index(bucket);
    if (runs.empty() || runs.back().first + static_cast<int>(runs.back().length) != index) runs.push_back({index, 0});
    ++runs.back().length;
    deltas.push_back(static_cast<std::int64_t>(count - before));
    before = count;
  }
  to.add_uint64(HistogramField::kZeroCount, zero);
  if (runs.empty()) runs.push_back({0, 0});  // what says that there are native buckets, if nothing was recorded
  int end = 0;
  for (const Run& run : runs) {
    pbf_builder<Span> span(to, HistogramField::kPositiveSpan);
    span.add_sint32(Span::kOffset, run.first - end);
    span.add_uint32(Span::kLength, run.length);
    end = run.first + static_cast<int>(run.length);
  }
  if (!deltas.empty()) to.add_packed_sint64(HistogramField::kPositiveDelta, deltas.begin(), deltas.end());
}

void put_classic(pbf_builder<HistogramField>& to, const metrics::HistogramValue& histogram) {
  for_each_classic(histogram, [&](double border, std::uint64_t count) {
    pbf_builder<Bucket> bucket(to, HistogramField::kBucket);
    bucket.add_uint64(Bucket::kCumulativeCount, count);
    bucket.add_double(Bucket::kUpperBound, border);
  });
}

void put_metric(pbf_builder<Metric>& to, const FamilyInfo& info, const Sample& sample) {
  for (std::size_t i = 0; i < sample.labels.size(); ++i) {
    pbf_builder<LabelPair> label(to, Metric::kLabel);
    label.add_string(LabelPair::kName, info.keys[i].data(), info.keys[i].size());
    label.add_string(LabelPair::kValue, sample.labels[i]);
  }
  if (info.type != Type::kHistogram) {
    pbf_builder<Number> number(to, info.type == Type::kCounter ? Metric::kCounter : Metric::kGauge);
    number.add_double(Number::kValue, sample.whole ? static_cast<double>(*sample.whole) : sample.number);
    return;
  }
  pbf_builder<HistogramField> histogram(to, Metric::kHistogram);
  histogram.add_uint64(HistogramField::kSampleCount, sample.histogram.count);
  histogram.add_double(HistogramField::kSampleSum,
                       metrics::units_to_seconds(static_cast<double>(sample.histogram.sum)));
  put_classic(histogram, sample.histogram);
  put_native(histogram, sample.histogram);
}

}  // namespace

std::string to_protobuf(const metrics::Scrape& scrape) {
  std::string all;
  for (const metrics::FamilySamples& family : scrape.families) {
    const FamilyInfo& info = metrics::info_of(family.family);
    std::string message;
    pbf_builder<MetricFamily> builder(message);
    builder.add_string(MetricFamily::kName, info.name.data(), info.name.size());
    builder.add_string(MetricFamily::kHelp, info.help.data(), info.help.size());
    const MetricType type = info.type == Type::kCounter ? MetricType::kCounter
                            : info.type == Type::kGauge ? MetricType::kGauge
                                                        : MetricType::kHistogram;
    builder.add_enum(MetricFamily::kType, static_cast<std::int32_t>(type));
    for (const Sample& sample : family.samples) {
      pbf_builder<Metric> metric(builder, MetricFamily::kMetric);
      put_metric(metric, info, sample);
    }
    protozero::write_varint(std::back_inserter(all), message.size());
    all += message;
  }
  return all;
}

}  // namespace warmfork::exposition
