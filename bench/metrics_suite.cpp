// What it costs to be watched: a request with metrics off and on, interleaved; a scrape of many series; requests while
// somebody scrapes.
#include "base/tsc_clock.hpp"
#include "bench/fork_fixture.hpp"
#include "bench/statistics.hpp"
#include "bench/suites.hpp"
#include "exposition/formats.hpp"
#include "fork/call_channel.hpp"
#include "fork/pool.hpp"
#include "metrics/metrics.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

namespace warmfork::bench {
namespace {

constexpr std::uint64_t kDirtyPages = 8;
constexpr std::size_t kSeries = 10'000;
constexpr std::uint64_t kRecords = 1000;  // in a row: one is shorter than reading the clock
constexpr auto kScrapeEvery = std::chrono::milliseconds(100);

// Metrics are as they were, whatever happens in between.
class Restore {
 public:
  Restore() : before_(metrics::on()) {}
  ~Restore() { metrics::enable(before_); }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  bool before_;
};

struct Requests {
  const ForkFixture& fixture;
  Pool& pool;

  // From asking for a fork to its being clean again.
  Status one(Histogram& ticks) const {
    const std::uint64_t begin = tsc_now();
    WARMFORK_TRY_ASSIGN(Lease lease, pool.acquire());
    WARMFORK_TRY(fixture.request(lease.fork(), 1, kDirtyPages));
    lease.release();
    ticks.record(tsc_now_ordered() - begin);
    return {};
  }
  Status some(std::uint64_t count, Histogram& ticks) const {
    for (std::uint64_t i = 0; i < count; ++i) WARMFORK_TRY(one(ticks));
    return {};
  }
};

double median_ns(const Histogram& ticks) { return ticks.quantile(0.5) * tsc_ns_per_tick(); }

// Off and on in turns of some requests each: what disturbs the one disturbs the other.
Status measure_requests(const SuiteOptions& options, const Requests& requests, std::vector<Figure>& figures) {
  constexpr std::uint64_t kTurn = 50;
  Histogram off, on;
  std::vector<double> added, percent;
  const std::uint64_t rounds = options.samples(60, 4), turns = options.samples(20, 2);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    options.say(fmt::format("metrics: requests, round {} of {}", round + 1, rounds));
    Histogram round_off, round_on;
    for (std::uint64_t turn = 0; turn < turns; ++turn) {
      const bool on_first = (turn + round) % 2 != 0;
      for (const bool with : {on_first, !on_first}) {
        metrics::enable(with);
        WARMFORK_TRY(requests.some(kTurn, with ? round_on : round_off));
      }
    }
    added.push_back(median_ns(round_on) - median_ns(round_off));
    percent.push_back(100 * (median_ns(round_on) / median_ns(round_off) - 1));
    off.merge(round_off);
    on.merge(round_on);
  }
  Figure without = from_ticks("metrics/request/off", off);
  Figure with = from_ticks("metrics/request/on", on);
  set_floor(with, without);
  // Of the rounds' medians, each pair of the same weather. Not a figure of its own: it may be less than nothing.
  const auto put = [&with = with](const char* name, std::vector<double> values) {
    with.counters[fmt::format("{}_p50", name)] = median(values);
    if (const auto interval = quantile_interval(values, 0.5, 0.95)) {
      with.counters[fmt::format("{}_low", name)] = interval->low;
      with.counters[fmt::format("{}_high", name)] = interval->high;
    }
  };
  put("added_ns", std::move(added));
  put("added_percent", std::move(percent));
  figures.push_back(std::move(without));
  figures.push_back(std::move(with));
  return {};
}

// Calls without exits, where two looks at the clock are a part of the time. Nobody resets in between, so what the guest
// answers means nothing.
Status measure_ring(const SuiteOptions& options, const ForkFixture& fixture, std::vector<Figure>& figures) {
  if (options.cpu == options.other_cpu) return {};
  options.say("metrics: calls without exits");
  WARMFORK_TRY_ASSIGN(const auto source, fixture.source({.kind = ForkKind::kVm}));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Fork> fork, source->make());
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<CallChannel> channel,
                      CallChannel::open_for_one_tenant(*fork, {.cpu = options.other_cpu, .timeout_ns = kTimeoutNs}));
  constexpr std::uint64_t kTurn = 500;
  Histogram off, on;
  for (std::uint64_t turn = 0; turn < options.samples(200, 6); ++turn) {
    for (const bool with : {turn % 2 == 0, turn % 2 != 0}) {
      metrics::enable(with);
      for (std::uint64_t i = 0; i < kTurn; ++i) {
        const std::array<std::uint64_t, 2> arguments{i, 0};
        const std::uint64_t begin = tsc_now();
        WARMFORK_TRY(channel->call(fixture.function(), arguments));
        if (i >= kTurn / 10) (with ? on : off).record(tsc_now_ordered() - begin);
      }
    }
  }
  WARMFORK_TRY(channel->close());
  Figure without = from_ticks("metrics/ring_call/off", off);
  Figure with = from_ticks("metrics/ring_call/on", on);
  set_floor(with, without);
  figures.push_back(std::move(without));
  figures.push_back(std::move(with));
  return {};
}

void measure_records(const SuiteOptions& options, std::vector<Figure>& figures) {
  options.say("metrics: records");
  metrics::enable();
  const metrics::Counter counter = metrics::counter(metrics::Family::kExits, {"bench"});
  const metrics::Histogram histogram = metrics::histogram(metrics::Family::kForkDuration, {"bench"});
  std::vector<double> counts, records, skipped;
  const auto each_ns = [](std::uint64_t begin) {
    return tsc_to_ns(tsc_now_ordered() - begin) / static_cast<double>(kRecords);
  };
  for (std::uint64_t i = 0; i < options.samples(2000, 20); ++i) {
    metrics::enable();
    std::uint64_t begin = tsc_now();
    for (std::uint64_t n = 0; n < kRecords; ++n) counter.add();
    counts.push_back(each_ns(begin));
    begin = tsc_now();
    for (std::uint64_t n = 0; n < kRecords; ++n) histogram.record_ticks(50'000 + 97 * n);
    records.push_back(each_ns(begin));
    metrics::enable(false);
    begin = tsc_now();
    for (std::uint64_t n = 0; n < kRecords; ++n) {
      histogram.record_ticks(50'000 + 97 * n);
      asm volatile("" ::: "memory");
    }
    skipped.push_back(each_ns(begin));
  }
  figures.push_back(from_values("metrics/record/counter", "ns", counts));
  figures.push_back(from_values("metrics/record/histogram", "ns", records));
  figures.push_back(from_values("metrics/record/off", "ns", skipped));
}

void measure_scrapes(const SuiteOptions& options, std::vector<Figure>& figures) {
  options.say("metrics: scrapes");
  metrics::enable();
  const metrics::Source many([](metrics::Collector& collector) {
    for (std::size_t i = 0; i < kSeries; ++i) {
      collector.count(metrics::Family::kVmInstructions, {"bench." + std::to_string(i)}, i);
    }
  });
  struct Form {
    const char* name;
    std::string (*make)(const metrics::Scrape&);
    Histogram ticks = {};
  };
  std::array<Form, 4> forms{
      Form{"text", &exposition::to_text}, Form{"openmetrics", &exposition::to_openmetrics},
      Form{"protobuf", &exposition::to_protobuf},
      Form{"json", [](const metrics::Scrape& scrape) { return exposition::to_live_json(scrape, "bench"); }}};
  std::array<std::size_t, 4> bytes{};
  for (std::uint64_t i = 0; i < options.samples(50, 3); ++i) {
    for (std::size_t form = 0; form < forms.size(); ++form) {
      const std::uint64_t begin = tsc_now();
      bytes[form] = forms[form].make(metrics::scrape()).size();
      forms[form].ticks.record(tsc_now_ordered() - begin);
    }
  }
  for (std::size_t form = 0; form < forms.size(); ++form) {
    Figure figure = from_ticks(fmt::format("metrics/scrape/{}", forms[form].name), forms[form].ticks);
    figure.params["series"] = static_cast<double>(kSeries);
    figure.counters["bytes"] = static_cast<double>(bytes[form]);
    figures.push_back(std::move(figure));
  }
}

// Turns with nobody and with a thread on the other CPU that scrapes ten times a second.
Status measure_while_scraped(const SuiteOptions& options, const Requests& requests, std::vector<Figure>& figures) {
  if (options.cpu == options.other_cpu) return {};
  options.say("metrics: requests while somebody scrapes");
  metrics::enable();
  std::atomic<bool> scraping{false}, over{false};
  std::atomic<std::uint64_t> scrapes{0};
  Status pinned;
  std::thread scraper([&] {
    pinned = pin_to(options.other_cpu);
    while (!over.load()) {
      if (scraping.load()) {
        (void)exposition::to_protobuf(metrics::scrape());
        scrapes.fetch_add(1);
      }
      std::this_thread::sleep_for(kScrapeEvery);
    }
  });
  Histogram alone, scraped;
  Status done;
  for (std::uint64_t turn = 0; turn < options.samples(20, 2) && done; ++turn) {
    for (const bool with : {turn % 2 == 0, turn % 2 != 0}) {
      scraping.store(with);
      const auto end = std::chrono::steady_clock::now() + kScrapeEvery * (options.effort < 0.1 ? 1 : 3);
      while (done && std::chrono::steady_clock::now() < end) done = requests.some(20, with ? scraped : alone);
    }
  }
  over.store(true);
  scraper.join();
  WARMFORK_TRY(done);
  WARMFORK_TRY(pinned);
  Figure quiet = from_ticks("metrics/request/alone", alone);
  Figure loaded = from_ticks("metrics/request/scraped", scraped);
  set_floor(loaded, quiet);
  loaded.counters["scrapes"] = static_cast<double>(scrapes.load());
  figures.push_back(std::move(quiet));
  figures.push_back(std::move(loaded));
  return {};
}

}  // namespace

SuiteResult run_metrics(const SuiteOptions& options) {
  const Restore restore;
  WARMFORK_TRY(pin_to(options.cpu));
  WARMFORK_TRY_ASSIGN(const ForkFixture fixture, ForkFixture::create(*options.kvm, {}));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Pool> pool, Pool::create(*options.kvm, fixture.snapshot(), {}));
  const Requests requests{fixture, *pool};
  for (const bool with : {true, false}) {
    metrics::enable(with);
    Histogram unused;
    WARMFORK_TRY(requests.some(options.samples(2000, 200), unused));
  }
  std::vector<Figure> figures;
  if (options.wants({"metrics/request/off", "metrics/request/on"})) {
    WARMFORK_TRY(measure_requests(options, requests, figures));
  }
  if (options.wants({"metrics/request/alone", "metrics/request/scraped"})) {
    WARMFORK_TRY(measure_while_scraped(options, requests, figures));
  }
  if (options.wants({"metrics/ring_call/off", "metrics/ring_call/on"})) {
    WARMFORK_TRY(measure_ring(options, fixture, figures));
  }
  measure_records(options, figures);
  measure_scrapes(options, figures);
  return figures;
}

}  // namespace warmfork::bench
