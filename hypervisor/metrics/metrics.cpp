#include "metrics/metrics.hpp"

#include "base/printable.hpp"
#include "metrics/process.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

namespace warmfork::metrics {
namespace {

double unix_now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string clean(std::string_view value) { return printable(value.substr(0, kMostLabelBytes)); }

// What tells the samples of a family apart. No label value has a zero byte: clean() has hidden it.
std::string key_of(const std::vector<std::string>& labels) {
  std::string key;
  for (const std::string& label : labels) {
    key += label;
    key += '\0';
  }
  return key;
}

struct Series {
  Family family;
  std::vector<std::string> labels;
};

/// Series of one kind, by their slots. Slot 0 is for those that there was no room for, and is not shown.
struct SeriesList {
  explicit SeriesList(std::size_t most) : most(most) {}
  std::uint16_t find(Family family, std::initializer_list<std::string_view> labels) {
    std::vector<std::string> values;
    for (const std::string_view label : labels) values.push_back(clean(label));
    values.resize(info_of(family).labels());
    for (std::size_t i = 1; i < all.size(); ++i) {
      if (all[i].family == family && all[i].labels == values) return static_cast<std::uint16_t>(i);
    }
    if (all.size() == most) return 0;
    all.push_back({family, std::move(values)});
    return static_cast<std::uint16_t>(all.size() - 1);
  }
  std::size_t most;
  std::vector<Series> all{1};
};

}  // namespace

struct Collector::Totals {
  struct Single {
    std::vector<std::string> labels;
    std::optional<std::uint64_t> whole;
    double number = 0;
  };
  std::array<std::uint64_t, kMostCounters> counters{};
  std::array<double, kMostGauges> gauges{};
  std::array<std::map<std::string, Single>, kFamilies.size()> singles;
  std::size_t samples = 0;
  std::uint64_t dropped = 0;

  Single* single(Family family, std::initializer_list<std::string_view> labels) {
    std::vector<std::string> values;
    values.reserve(labels.size());
    for (const std::string_view label : labels) values.push_back(clean(label));
    values.resize(info_of(family).labels());
    auto& map = singles[static_cast<std::size_t>(family)];
    std::string key = key_of(values);
    const auto found = map.find(key);
    if (found != map.end()) return &found->second;
    if (samples == kMostSamples) {
      ++dropped;
      return nullptr;
    }
    ++samples;
    return &map.emplace(std::move(key), Single{std::move(values), std::nullopt, 0}).first->second;
  }
};

void Collector::add(Counter counter, std::uint64_t count) { totals_.counters[counter.slot_] += count; }

void Collector::add(Gauge gauge, double value) {
  if (gauges_) totals_.gauges[gauge.slot_] += value;
}

void Collector::count(Family family, std::initializer_list<std::string_view> labels, std::uint64_t count) {
  if (Totals::Single* const single = totals_.single(family, labels)) single->whole = single->whole.value_or(0) + count;
}

void Collector::set(Family family, std::initializer_list<std::string_view> labels, double value) {
  if (Totals::Single* const single = totals_.single(family, labels)) single->number = value;
}

// Never destroyed: threads and static objects may record until the very end.
class Registry {
 public:
  static Registry& get() {
    static Registry* const registry = new Registry;
    return *registry;
  }

  Counter counter(Family family, std::initializer_list<std::string_view> labels) {
    const std::scoped_lock lock(mutex_);
    return Counter(counters_.find(family, labels));
  }
  std::uint16_t gauge_slot(Family family, std::initializer_list<std::string_view> labels) {
    const std::scoped_lock lock(mutex_);
    return gauges_.find(family, labels);
  }
  std::uint16_t histogram_slot(Family family, std::initializer_list<std::string_view> labels) {
    const std::scoped_lock lock(mutex_);
    return histograms_.find(family, labels);
  }

  void attach(Source& source) {
    const std::scoped_lock lock(mutex_);
    source.after_ = first_;
    if (first_ != nullptr) first_->before_ = &source;
    first_ = &source;
  }
  void detach(Source& source) {
    const std::scoped_lock lock(mutex_);
    (source.before_ == nullptr ? first_ : source.before_->after_) = source.after_;
    if (source.after_ != nullptr) source.after_->before_ = source.before_;
    Collector last(ended_, false);
    source.collect_(last);
  }

  detail::ThreadCells* take_cells() {
    const std::scoped_lock lock(cells_mutex_);
    if (!free_cells_.empty()) {
      detail::ThreadCells* const cells = free_cells_.back();
      free_cells_.pop_back();
      return cells;
    }
    cells_.push_back(std::make_unique<detail::ThreadCells>());
    return cells_.back().get();
  }
  void give_back(detail::ThreadCells& cells) {
    const std::scoped_lock lock(cells_mutex_);
    free_cells_.push_back(&cells);
  }
  detail::HistogramCells* make_histogram(detail::ThreadCells& cells, std::size_t slot) {
    const std::scoped_lock lock(cells_mutex_);
    histogram_cells_.push_back(std::make_unique<detail::HistogramCells>());
    detail::HistogramCells* const made = histogram_cells_.back().get();
    cells.histograms[slot].store(made, std::memory_order_release);
    return made;
  }

  void set_build(std::string_view version, std::string_view backend) {
    const std::scoped_lock lock(mutex_);
    version_ = clean(version);
    backend_ = clean(backend);
  }
  void begin() {
    const std::scoped_lock lock(mutex_);
    if (start_unix_ != 0) return;
    start_unix_ = unix_now();
    start_ = std::chrono::steady_clock::now();
  }

  Scrape scrape();

 private:
  using Samples = std::array<std::vector<Sample>, kFamilies.size()>;
  static void put(Samples& samples, const Series& series, Sample sample) {
    sample.labels = series.labels;
    samples[static_cast<std::size_t>(series.family)].push_back(std::move(sample));
  }
  static void put_number(Samples& samples, Family family, double number) {
    Sample sample;
    sample.number = number;
    samples[static_cast<std::size_t>(family)].push_back(std::move(sample));
  }
  void put_histograms(Samples& samples, std::span<detail::ThreadCells* const> threads) const;

  std::mutex mutex_;  // of what follows
  SeriesList counters_{kMostCounters}, gauges_{kMostGauges}, histograms_{kMostHistograms};
  Source* first_ = nullptr;
  Collector::Totals ended_;  // of sources that are gone
  std::string version_, backend_;
  double start_unix_ = 0;
  std::chrono::steady_clock::time_point start_;

  std::mutex cells_mutex_;  // of what follows; a thread's first record does not wait for a scrape
  std::vector<std::unique_ptr<detail::ThreadCells>> cells_;
  std::vector<detail::ThreadCells*> free_cells_;
  std::vector<std::unique_ptr<detail::HistogramCells>> histogram_cells_;
};

void Registry::put_histograms(Samples& samples, std::span<detail::ThreadCells* const> threads) const {
  std::vector<std::uint64_t> buckets(kBuckets);
  for (std::size_t slot = 1; slot < histograms_.all.size(); ++slot) {
    std::ranges::fill(buckets, std::uint64_t{0});
    Sample sample;
    for (detail::ThreadCells* const thread : threads) {
      const auto* const cells = thread->histograms[slot].load(std::memory_order_acquire);
      if (cells == nullptr) continue;
      for (std::size_t i = 0; i < kBuckets; ++i) buckets[i] += cells->buckets[i].value();
      sample.histogram.sum += cells->sum.value();
    }
    for (std::size_t i = 0; i < kBuckets; ++i) {
      if (buckets[i] == 0) continue;
      sample.histogram.buckets.emplace_back(static_cast<std::uint16_t>(i), buckets[i]);
      sample.histogram.count += buckets[i];
    }
    put(samples, histograms_.all[slot], std::move(sample));
  }
}

Scrape Registry::scrape() {
  const std::scoped_lock lock(mutex_);
  auto totals = std::make_unique<Collector::Totals>(ended_);
  Collector collector(*totals, true);
  for (const Source* source = first_; source != nullptr; source = source->after_) source->collect_(collector);
  std::vector<detail::ThreadCells*> threads;
  {
    const std::scoped_lock cells_lock(cells_mutex_);
    for (const auto& each : cells_) threads.push_back(each.get());
  }
  Samples samples;
  for (std::size_t slot = 1; slot < counters_.all.size(); ++slot) {
    std::uint64_t count = totals->counters[slot];
    for (const detail::ThreadCells* const thread : threads) count += thread->counters[slot].value();
    Sample sample;
    sample.whole = count;
    put(samples, counters_.all[slot], std::move(sample));
  }
  for (std::size_t slot = 1; slot < gauges_.all.size(); ++slot) {
    Sample sample;
    sample.number = totals->gauges[slot];
    put(samples, gauges_.all[slot], std::move(sample));
  }
  put_histograms(samples, threads);
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    for (auto& [key, single] : totals->singles[family]) {
      Sample sample;
      sample.labels = std::move(single.labels);
      sample.whole = single.whole;
      sample.number = single.number;
      samples[family].push_back(std::move(sample));
    }
  }
  Scrape scrape;
  scrape.time_unix_s = unix_now();
  scrape.uptime_s =
      start_unix_ == 0 ? 0 : std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  Sample build;
  build.labels = {version_, backend_};
  build.number = 1;
  samples[static_cast<std::size_t>(Family::kBuildInfo)].push_back(std::move(build));
  put_number(samples, Family::kStartTime, start_unix_);
  const ProcessNumbers process = process_numbers();
  put_number(samples, Family::kProcessCpu, process.cpu_seconds);
  put_number(samples, Family::kProcessResident, process.resident_bytes);
  put_number(samples, Family::kProcessFds, process.open_fds);
  if (process.start_seconds != 0) put_number(samples, Family::kProcessStart, process.start_seconds);
  Sample dropped;
  dropped.whole = totals->dropped;
  samples[static_cast<std::size_t>(Family::kDroppedSamples)].push_back(std::move(dropped));
  ended_.dropped = totals->dropped;  // a counter: it never goes back
  for (std::size_t family = 0; family < kFamilies.size(); ++family) {
    if (samples[family].empty()) continue;
    std::ranges::sort(samples[family], {}, &Sample::labels);
    scrape.families.push_back({static_cast<Family>(family), std::move(samples[family])});
  }
  return scrape;
}

namespace detail {
namespace {

thread_local constinit bool thread_is_ending = false;

struct GiveBack {
  ~GiveBack() {
    thread_is_ending = true;
    if (ThreadCells* const cells = std::exchange(my_cells, nullptr)) Registry::get().give_back(*cells);
  }
};

}  // namespace

ThreadCells* attach_thread() {
  if (thread_is_ending) return nullptr;
  thread_local const GiveBack at_thread_exit;
  return my_cells = Registry::get().take_cells();
}

HistogramCells* make_histogram(ThreadCells& cells, std::size_t slot) {
  return Registry::get().make_histogram(cells, slot);
}

}  // namespace detail

void enable(bool record) {
  if (record && detail::units_per_tick.load() == 0) {
    const double units = tsc_ns_per_tick() * 1e-9 * static_cast<double>(std::uint64_t{1} << kUnitBits);
    detail::units_per_tick.store(static_cast<std::uint64_t>(std::llround(std::ldexp(units, 56))));
  }
  if (record) Registry::get().begin();
  detail::enabled.store(record);
}

Counter counter(Family family, std::initializer_list<std::string_view> labels) {
  return Registry::get().counter(family, labels);
}
Gauge gauge(Family family, std::initializer_list<std::string_view> labels) {
  return Gauge(Registry::get().gauge_slot(family, labels));
}
Histogram histogram(Family family, std::initializer_list<std::string_view> labels) {
  return Histogram(Registry::get().histogram_slot(family, labels));
}

Source::Source(std::function<void(Collector&)> collect) : collect_(std::move(collect)) {
  Registry::get().attach(*this);
}
Source::~Source() { Registry::get().detach(*this); }

Scrape scrape() { return Registry::get().scrape(); }

void set_build(std::string_view version, std::string_view backend) { Registry::get().set_build(version, backend); }

}  // namespace warmfork::metrics
