// Counters and histograms that cost their writers a few plain stores, and one snapshot of all of them.
//
//   thread ── Counter::add, Histogram::record ──> cells of that thread ──┐
//   objects that count anyway (vCPUs, pools, caches) <── Source ─────────┼── scrape() ──> Scrape
//   what has ended: its last word ───────────────────────────────────────┘
//
// A handle names one series: a family of table.hpp and its label values. Handles are made ahead, off every hot path,
// and are small values. Recording is a branch while nobody has asked for metrics (enable()); then a store or three into
// cells that no other thread writes: no locked instruction, no allocation but a thread's first record of a series, no
// system call. When a thread ends its cells stay, and the next new thread goes on with them: a number is never lost,
// and there are never more sets of cells than there were threads at once.
//
// A scrape reads cells while they are written: every number is one that its cell has had, and a histogram's sum may be
// ahead of or behind its count by what is just being recorded.
//
// Threads: any, for everything. What a thread records while its thread_local objects are destroyed is lost.
#pragma once

#include "base/tsc_clock.hpp"
#include "metrics/buckets.hpp"
#include "metrics/cell.hpp"
#include "metrics/table.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::metrics {

/// Of all of a process together; what is beyond is not recorded.
inline constexpr std::size_t kMostCounters = 512;
inline constexpr std::size_t kMostGauges = 128;
inline constexpr std::size_t kMostHistograms = 64;
/// Samples of sources in one scrape; what is beyond is left out and counted.
inline constexpr std::size_t kMostSamples = 100'000;
inline constexpr std::size_t kMostLabelBytes = 200;

namespace detail {

struct HistogramCells {
  std::array<Cell, kBuckets> buckets;
  Cell sum;  // units
};

struct ThreadCells {
  std::array<Cell, kMostCounters> counters;
  std::array<std::atomic<HistogramCells*>, kMostHistograms> histograms{};
};

inline constinit std::atomic<bool> enabled{false};
inline constinit std::atomic<std::uint64_t> units_per_tick{0};  // 56 bits behind the point
inline thread_local constinit ThreadCells* my_cells = nullptr;

/// The calling thread's first record; nullptr: it is ending.
[[gnu::noinline]] ThreadCells* attach_thread();
[[gnu::noinline]] HistogramCells* make_histogram(ThreadCells& cells, std::size_t slot);

[[nodiscard]] inline ThreadCells* cells() {
  ThreadCells* const mine = my_cells;
  return mine != nullptr ? mine : attach_thread();
}

}  // namespace detail

/// True once enable() was called.
[[nodiscard]] inline bool on() { return detail::enabled.load(std::memory_order_relaxed); }
/// Begins to record, or ends it; what was recorded stays. The first time it calibrates the clock: 10 ms.
void enable(bool record = true);

/// Ticks as units of buckets.hpp.
[[nodiscard]] inline std::uint64_t ticks_to_units(std::uint64_t ticks) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 55;
  const std::uint64_t factor = detail::units_per_tick.load(std::memory_order_relaxed);
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(ticks < kMost ? ticks : kMost) * factor >> 56);
}

class Counter {
 public:
  /// Counts nothing.
  constexpr Counter() = default;
  void add(std::uint64_t more = 1) const {
    if (!on()) return;
    if (detail::ThreadCells* const cells = detail::cells()) cells->counters[slot_].add(more);
  }

 private:
  friend class Registry;
  friend class Collector;
  friend Counter counter(Family, std::initializer_list<std::string_view>);
  explicit constexpr Counter(std::uint16_t slot) : slot_(slot) {}
  std::uint16_t slot_ = 0;
};

class Histogram {
 public:
  constexpr Histogram() = default;
  void record_ticks(std::uint64_t ticks) const {
    if (on()) record_units(ticks_to_units(ticks));
  }
  /// In units of buckets.hpp.
  void record_units(std::uint64_t units) const {
    if (!on()) return;
    detail::ThreadCells* const cells = detail::cells();
    if (cells == nullptr) return;
    detail::HistogramCells* histogram = cells->histograms[slot_].load(std::memory_order_relaxed);
    if (histogram == nullptr) [[unlikely]]
      histogram = detail::make_histogram(*cells, slot_);
    histogram->buckets[bucket_of(units)].add(1);
    histogram->sum.add(units);
  }
  void record_ns(std::uint64_t ns) const {
    if (!on()) return;
    constexpr double kUnitsPerNs = static_cast<double>(std::uint64_t{1} << kUnitBits) * 1e-9;
    record_units(static_cast<std::uint64_t>(static_cast<double>(ns) * kUnitsPerNs));
  }

 private:
  friend Histogram histogram(Family, std::initializer_list<std::string_view>);
  explicit constexpr Histogram(std::uint16_t slot) : slot_(slot) {}
  std::uint16_t slot_ = 0;
};

/// A gauge that sources add to.
class Gauge {
 public:
  constexpr Gauge() = default;

 private:
  friend class Collector;
  friend Gauge gauge(Family, std::initializer_list<std::string_view>);
  explicit constexpr Gauge(std::uint16_t slot) : slot_(slot) {}
  std::uint16_t slot_ = 0;
};

/// The handle of a series; the same for the same labels, which are as many as the family has. From then on the series
/// is exposed, if only as 0. One too many (kMostCounters, …) records nothing.
[[nodiscard]] Counter counter(Family family, std::initializer_list<std::string_view> labels = {});
[[nodiscard]] Gauge gauge(Family family, std::initializer_list<std::string_view> labels = {});
[[nodiscard]] Histogram histogram(Family family, std::initializer_list<std::string_view> labels = {});

/// Reads the clock where it is made, if anybody asks for metrics.
class Timer {
 public:
  Timer() : begin_(on() ? tsc_now() : 0) {}
  /// Since it was made; 0 if metrics were off then.
  [[nodiscard]] std::uint64_t ticks() const { return begin_ == 0 ? 0 : tsc_now() - begin_; }
  [[nodiscard]] bool runs() const { return begin_ != 0; }

 private:
  std::uint64_t begin_;
};

// --- What is counted anyway ------------------------------------------------------------------------------------------

/// Where a source puts its numbers. Those of several sources in one series add up; of gauges given by set() the last
/// one counts. Label values are cut to kMostLabelBytes, and what is not UTF-8 in them is replaced.
class Collector {
 public:
  void add(Counter counter, std::uint64_t count);
  void add(Gauge gauge, double value);
  /// A series without a handle: of something that comes and goes.
  void count(Family family, std::initializer_list<std::string_view> labels, std::uint64_t count);
  void set(Family family, std::initializer_list<std::string_view> labels, double value);

 private:
  friend class Registry;
  struct Totals;
  explicit Collector(Totals& totals, bool gauges) : totals_(totals), gauges_(gauges) {}
  Totals& totals_;
  bool gauges_;  // of handles, too
};

/// Numbers of an object, read at each scrape by the scraping thread, on which `collect` must be safe; and once more
/// when the source is destroyed, for good: counters, and what was given by set(), stay. Destroy it before what it
/// reads. Not under a lock that `collect` takes.
class Source {
 public:
  explicit Source(std::function<void(Collector&)> collect);
  ~Source();
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

 private:
  friend class Registry;
  std::function<void(Collector&)> collect_;
  Source* before_ = nullptr;
  Source* after_ = nullptr;
};

// --- Snapshot --------------------------------------------------------------------------------------------------------

struct HistogramValue {
  std::vector<std::pair<std::uint16_t, std::uint64_t>> buckets;  // those that are not empty, ascending
  std::uint64_t count = 0;
  std::uint64_t sum = 0;  // units
};

struct Sample {
  std::vector<std::string> labels;     // values, by FamilyInfo::keys
  std::optional<std::uint64_t> whole;  // of counters
  double number = 0;                   // else
  HistogramValue histogram;            // of histograms
};

struct FamilySamples {
  Family family;
  std::vector<Sample> samples;  // at least one; by label values
};

struct Scrape {
  double time_unix_s = 0;
  double uptime_s = 0;
  std::vector<FamilySamples> families;  // by Family; those that have samples
};

/// All there is now. Waits for other scrapes, and for objects that are just being made or destroyed.
[[nodiscard]] Scrape scrape();

/// What warmfork_build_info says.
void set_build(std::string_view version, std::string_view backend);

}  // namespace warmfork::metrics
