// Verdicts on runs whose truth is known: how often they cry wolf, and how often they sleep. And the files around them.
#include "bench/verdict.hpp"

#include "bench/baseline.hpp"
#include "bench/context.hpp"
#include "bench/readme_tables.hpp"
#include "bench/report.hpp"
#include "bench/result_file.hpp"
#include "bench/rounds.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace warmfork::bench {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr std::size_t kRounds = 10;     // the default
constexpr std::size_t kPerRound = 400;  // what a round of resets has at the default effort
constexpr double kProcess = 0.02;       // by so much the medians of processes differ here

// A latency with a body and a tail, in rounds that differ by some percent from each other.
Figure simulate(std::mt19937_64& random, const std::vector<double>& weather, double own, double factor) {
  std::lognormal_distribution<double> body(std::log(750), 0.12);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  Figure figure{.name = "lifecycle/reset/auto", .unit = "ns", .samples = kRounds * kPerRound};
  std::vector<double> values(kPerRound);
  for (const double shared : weather) {
    const double round = factor * std::exp(shared + own * normal(random));
    for (double& value : values) value = round * body(random) * (uniform(random) < 0.005 ? 5 : 1);
    std::ranges::sort(values);
    figure.rounds["p50"].push_back(values[kPerRound / 2 - 1]);
    figure.rounds["p99"].push_back(values[kPerRound * 99 / 100 - 1]);
    figure.rounds["p999"].push_back(values.back());
  }
  return figure;
}

struct Tally {
  std::array<int, kVerdictNames.size()> p50{}, p99{};
  int alarms = 0;  // p50 or p99 said to have changed
};

Tally tally(double factor, bool paired, int repetitions) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  Tally counts;
  for (int i = 0; i < repetitions; ++i) {
    std::vector<double> weather(kRounds);
    for (double& one : weather) one = (paired ? 0.05 : 0.01) * normal(random);
    ResultFile before, after;
    before.figures.push_back(simulate(random, weather, kProcess, 1));
    if (!paired) {
      for (double& one : weather) one = 0.01 * normal(random);
    }
    after.figures.push_back(simulate(random, weather, kProcess, factor));
    const Comparison comparison = compare_runs(before, after, paired, {});
    EXPECT_EQ(comparison.judgements.size(), 3U);
    EXPECT_THAT(comparison.judgements[2].why, HasSubstr("too few samples: 400 per round, 2000 needed"));
    ++counts.p50[static_cast<std::size_t>(comparison.judgements[0].verdict)];
    ++counts.p99[static_cast<std::size_t>(comparison.judgements[1].verdict)];
    counts.alarms += std::ranges::any_of(comparison.judgements, [](const Judgement& one) {
      return one.verdict != Verdict::kUnchanged && one.verdict != Verdict::kTooNoisy;
    });
  }
  return counts;
}

int of(const std::array<int, kVerdictNames.size()>& counts, Verdict verdict) {
  return counts[static_cast<std::size_t>(verdict)];
}

TEST(Verdicts, AlikeBuildsAreUnchangedAndATenthIsFound) {
  constexpr int kRepetitions = 60;
  for (const bool paired : {false, true}) {
    SCOPED_TRACE(paired ? "paired" : "unpaired");
    const Tally alike = tally(1, paired, kRepetitions);
    EXPECT_LE(alike.alarms, kRepetitions / 20);
    EXPECT_GE(of(alike.p50, Verdict::kUnchanged), kRepetitions * 95 / 100);
    const Tally slower = tally(1.1, paired, kRepetitions);
    EXPECT_GE(of(slower.p50, Verdict::kRegressed), kRepetitions * 95 / 100);
    const Tally faster = tally(1 / 1.1, paired, kRepetitions);
    EXPECT_GE(of(faster.p50, Verdict::kImproved), kRepetitions * 95 / 100);
    const Tally worse = tally(1.3, paired, kRepetitions);
    EXPECT_GE(of(worse.p50, Verdict::kSevere), kRepetitions * 95 / 100);
  }
}

TEST(Verdicts, NeedTheWholeIntervalBeyondTheThreshold) {
  const auto verdict = [](double low, double estimate, double high) {
    std::string why;
    return judge({.estimate = estimate, .interval = Interval{low, high}, .p = 0}, {}, why);
  };
  EXPECT_EQ(verdict(1.051, 1.1, 1.2), Verdict::kRegressed);
  EXPECT_EQ(verdict(1.049, 1.1, 1.15), Verdict::kTooNoisy);
  EXPECT_EQ(verdict(1.012, 1.1, 1.19), Verdict::kTooNoisy);
  EXPECT_EQ(verdict(1.201, 1.3, 1.4), Verdict::kSevere);
  EXPECT_EQ(verdict(0.8, 0.9, 0.95), Verdict::kImproved);
  EXPECT_EQ(verdict(0.8, 0.9, 0.96), Verdict::kTooNoisy);
  EXPECT_EQ(verdict(0.97, 1, 1.03), Verdict::kUnchanged);
  EXPECT_EQ(verdict(1.01, 1.03, 1.049), Verdict::kUnchanged) << "changed, but not beyond the threshold";
  EXPECT_EQ(verdict(0.99, 1.04, 1.09), Verdict::kUnchanged);
  EXPECT_EQ(verdict(0.92, 0.97, 1.01), Verdict::kUnchanged);
  EXPECT_EQ(verdict(1.001, 1.04, 1.09), Verdict::kTooNoisy) << "it has changed: the question is by how much";
  EXPECT_EQ(verdict(0.99, 1.05, 1.11), Verdict::kTooNoisy) << "may hide a tenth";
  EXPECT_EQ(verdict(0.9, 0.95, 1.01), Verdict::kTooNoisy) << "may hide a ninth";
  std::string why;
  EXPECT_EQ(judge({.estimate = 2, .interval = std::nullopt, .p = 1}, {}, why), Verdict::kTooNoisy);
  EXPECT_THAT(why, HasSubstr("too few rounds"));
}

// A run that goes on until its medians are known. `own`: what a round's median is off, of either build.
struct Sequence {
  std::array<int, kVerdictNames.size()> verdicts{};
  int covered = 0;  // the last interval holds the truth
  double rounds = 0;
};
Sequence sequence(double factor, double own, int repetitions, std::size_t most = 40) {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  Sequence result;
  for (int i = 0; i < repetitions; ++i) {
    Figure before{.name = "lifecycle/reset/auto", .unit = "ns"}, after = before;
    Comparison comparison;
    for (std::size_t round = 1; round <= most; ++round) {
      const double weather = 0.05 * normal(random);
      before.rounds["p50"].push_back(800 * std::exp(weather + own * normal(random)));
      after.rounds["p50"].push_back(800 * factor * std::exp(weather + own * normal(random)));
      if (round < kRounds) continue;
      comparison = compare_runs({.context = {}, .figures = {before}}, {.context = {}, .figures = {after}}, true, {});
      if (precise(comparison, {})) break;
    }
    const Judgement& one = comparison.judgements[0];
    ++result.verdicts[static_cast<std::size_t>(one.verdict)];
    result.covered += one.ratio.interval->low <= factor && factor <= one.ratio.interval->high ? 1 : 0;
    result.rounds += static_cast<double>(before.rounds["p50"].size()) / repetitions;
  }
  return result;
}

TEST(Verdicts, RepeatingUntilTheMediansAreKnownRaisesNoFalseAlarms) {
  constexpr int kRepetitions = 400;
  for (const double own : {0.01, 0.02, 0.03}) {
    SCOPED_TRACE(own);
    const Sequence alike = sequence(1, own, kRepetitions);
    EXPECT_GE(of(alike.verdicts, Verdict::kUnchanged), kRepetitions * 99 / 100);
    EXPECT_GE(alike.covered, kRepetitions * 92 / 100) << "95 %, less what stopping at a narrow one costs, and chance";
    const Sequence slower = sequence(1.1, own, kRepetitions);
    EXPECT_GE(of(slower.verdicts, Verdict::kRegressed), kRepetitions * 99 / 100);
    EXPECT_EQ(of(slower.verdicts, Verdict::kUnchanged), 0);
  }
  EXPECT_LT(sequence(1, 0.01, 20).rounds, 10.5) << "not longer than needed";
  EXPECT_GT(sequence(1, 0.03, 20).rounds, 15) << "as long as needed";
}

TEST(Verdicts, NoiseHidesNoTenthFromUnchanged) {
  constexpr int kRepetitions = 1000;
  for (const double own : {0.02, 0.04, 0.06, 0.1}) {
    SCOPED_TRACE(own);
    const Sequence slower = sequence(1.1, own, kRepetitions, kRounds);
    // The upper end of an interval is below the truth in 2.5 %; three standard deviations of a binomial more.
    EXPECT_LE(of(slower.verdicts, Verdict::kUnchanged), 25 + 15);
  }
}

TEST(Verdicts, MediansAreKnownWhenEveryIntervalIsNarrow) {
  const auto known = [](double spread, const char* quantile) {
    Figure before{.name = "a", .unit = "ns"}, after = before;
    for (int i = 0; i < 10; ++i) {
      for (const char* name : {"p50", "p99", "p999"})
        before.rounds[name].push_back(100), after.rounds[name].push_back(100);
      after.rounds[quantile].back() = 100 * (1 + spread * (i % 2 == 0 ? 1 : -1));
    }
    Figure steady = before;
    steady.name = "b";
    const ResultFile first{.context = {}, .figures = {before, steady}},
        second{.context = {}, .figures = {after, steady}};
    return precise(compare_runs(first, second, true, {}), {});
  };
  EXPECT_TRUE(known(0.001, "p50"));
  EXPECT_FALSE(known(0.1, "p50"));
  EXPECT_TRUE(known(0.1, "p99")) << "tails are not waited for";
  Figure few{.name = "a", .unit = "ns"};
  few.rounds["p50"] = {100, 100, 100};
  EXPECT_FALSE(
      precise(compare_runs({.context = {}, .figures = {few}}, {.context = {}, .figures = {few}}, true, {}), {}));
}

TEST(Verdicts, FiguresOfDifferentUnitsAreNotCompared) {
  Figure before{.name = "a", .unit = "ns", .samples = 1000};
  before.rounds["p50"] = std::vector<double>(10, 100);
  Figure after = before;
  after.unit = "ops/s";
  const Comparison comparison =
      compare_runs({.context = {}, .figures = {before}}, {.context = {}, .figures = {after}}, true, {});
  EXPECT_TRUE(comparison.judgements.empty());
  EXPECT_THAT(comparison.notes, ::testing::ElementsAre("a is not compared: it was in ns and is in ops/s"));
}

TEST(Verdicts, OfRatesMoreIsFaster) {
  const auto run = [](double rate) {
    ResultFile result;
    Figure figure{.name = "lc3/alu/auto", .unit = "instr/s", .samples = 10};
    for (int i = 0; i < 10; ++i) figure.rounds["p50"].push_back(rate * (1 + 0.001 * i));
    result.figures.push_back(figure);
    return result;
  };
  const Comparison slower = compare_runs(run(2e9), run(1.7e9), false, {});
  ASSERT_EQ(slower.judgements.size(), 1U) << "of rates only the median";
  EXPECT_EQ(slower.judgements[0].verdict, Verdict::kRegressed);
  EXPECT_TRUE(slower.regressed());
  EXPECT_EQ(compare_runs(run(2e9), run(2.4e9), false, {}).judgements[0].verdict, Verdict::kImproved);
}

// A run with names that are out to break every form.
ResultFile nasty() {
  Histogram ticks;
  for (std::uint64_t i = 1; i <= 5000; ++i) ticks.record(1000 + i % 97);
  RoundSet rounds;
  for (int i = 0; i < 10; ++i) {
    Figure figure = from_ticks("lifecycle/reset/auto", ticks);
    figure.params = {{"dirty_pages", 8}, {"window_bytes", 262144}};
    figure.labels["kind"] = "<b>\"a\",|b`\x1b[31m";
    Figure floor = from_ticks("floors/cpl3_exit", ticks);
    set_floor(figure, floor);
    Figure rate = from_values("=cmd()", "ops/s", {1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 7e6, 8e6});
    rounds.add({figure, floor, rate});
  }
  ResultFile result{.context = make_context("pvm", "<CPU>", {1}), .figures = rounds.merged()};
  result.context.rounds = rounds.rounds();
  return result;
}

TEST(ResultFiles, AreReadBackAsWritten) {
  const ResultFile written = nasty();
  const auto read = parse_result(to_json(written.context, written.figures), "file");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->context.cpu, "<CPU>");
  EXPECT_EQ(read->context.rounds, 10U);
  EXPECT_GT(read->context.clock_step_ns, 0);
  ASSERT_EQ(read->figures.size(), 3U);
  const Figure& figure = read->figures[0];
  EXPECT_EQ(figure.samples, 50'000U);
  EXPECT_EQ(figure.rounds.at("p50").size(), 10U);
  EXPECT_EQ(figure.p99, written.figures[0].p99);
  EXPECT_EQ(identity(figure), identity(written.figures[0]));
  EXPECT_EQ(figure.intervals.at("p50").low, written.figures[0].intervals.at("p50").low);
  EXPECT_EQ(to_json(read->context, read->figures), to_json(written.context, written.figures));
  EXPECT_FALSE(compare_runs(written, *read, false, {}).regressed());
}

TEST(ResultFiles, BrokenOnesAreRefusedByNameOfWhatIsWrong) {
  const ResultFile written = nasty();
  const std::string good = to_json(written.context, written.figures);
  const auto refused = [&](const std::string& text, const char* what) {
    const auto read = parse_result(text, "r.json");
    ASSERT_FALSE(read) << what;
    EXPECT_EQ(read.error().kind, ErrorKind::kInput);
    EXPECT_THAT(read.error().message, HasSubstr("r.json")) << what;
    EXPECT_THAT(read.error().message, HasSubstr(what));
  };
  refused(good.substr(0, good.size() / 2), "not JSON");
  refused("", "not JSON");
  refused("[]", "not an object");
  refused("{}", "no \"context\"");
  const auto edited = [&](const auto& edit) {
    nlohmann::json file = nlohmann::json::parse(good);
    edit(file);
    return file.dump();
  };
  refused(edited([](auto& file) { file["results"] = 3; }), "\"results\" is not an array");
  refused(edited([](auto& file) { file["results"][1]["p50"] = "fast"; }), "result 1: \"p50\" is not a number");
  refused(edited([](auto& file) { file["results"][0].erase("name"); }), "no \"name\"");
  refused(edited([](auto& file) { file["results"][0]["samples"] = -1; }), "no count");
  refused(edited([](auto& file) { file["results"][0]["rounds"]["p50"][3] = nullptr; }), "not a number");
  refused(edited([](auto& file) { file["results"][0]["intervals"]["p50"] = {1}; }), "interval");
  refused(edited([](auto& file) { file["results"][0]["rounds"]["p50"] = std::vector<double>(kMostRounds + 1, 1); }),
          "\"p50\" of 1001 rounds, limit 1000");
  refused(edited([](auto& file) { file["context"]["cpus"] = 1e12; }), "\"cpus\"");
  refused(edited([](auto& file) { file["context"]["cpu"] = std::string(5000, 'x'); }), "4096");
  refused("{\"context\": {}, \"results\": [1e999]}", "");
}

TEST(Reports, AreWellFormedWhateverTheNames) {
  const ResultFile result = nasty();
  const Comparison comparison = compare_runs(result, result, false, {});
  // CSV: as many fields in each line; quotes and commas inside fields are quoted.
  const std::string csv = to_csv(result);
  std::size_t lines = 0;
  std::size_t fields = 1;
  bool quoted = false;
  std::size_t columns = 0;
  for (std::size_t i = 0; i < csv.size(); ++i) {
    if (csv[i] == '"') quoted = !quoted;
    if (quoted) continue;
    fields += csv[i] == ',' ? 1U : 0U;
    if (csv[i] != '\n') continue;
    if (lines++ == 0) columns = fields;
    EXPECT_EQ(fields, columns) << "line " << lines;
    fields = 1;
  }
  EXPECT_EQ(lines, 4U);
  EXPECT_EQ(columns, 22U);
  EXPECT_THAT(csv, HasSubstr("'=cmd()")) << "no formula";

  const auto page = to_html(result, &comparison, {{"old", result}});
  ASSERT_TRUE(page) << page.error().message;
  // Every element that is opened is closed, in order.
  std::vector<std::string> open;
  for (std::size_t at = page->find('<', 15); at != std::string::npos; at = page->find('<', at + 1)) {
    const std::size_t end = page->find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = page->substr(at + 1, end - at - 1);
    if (tag.ends_with('/')) continue;
    if (tag.starts_with('/')) {
      ASSERT_FALSE(open.empty()) << tag;
      EXPECT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
  }
  EXPECT_THAT(open, ::testing::IsEmpty());
  EXPECT_THAT(*page, HasSubstr("&lt;b&gt;"));
  EXPECT_THAT(*page, ::testing::Not(HasSubstr("http")));
  EXPECT_THAT(*page, AnyOf(HasSubstr("data:image/svg+xml;base64,"), HasSubstr("gnuplot is not installed")));
  EXPECT_THAT(*page, HasSubstr("prefers-color-scheme:dark"));

  const nlohmann::json google = nlohmann::json::parse(to_google_benchmark(result));
  EXPECT_TRUE(google.at("context").contains("num_cpus"));
  int iterations = 0;
  for (const auto& one : google.at("benchmarks")) {
    for (const char* key : {"name", "run_name", "run_type", "iterations", "real_time", "cpu_time", "time_unit"}) {
      EXPECT_TRUE(one.contains(key)) << key;
    }
    EXPECT_EQ(one.at("run_type") == "aggregate", one.contains("aggregate_name"));
    iterations += one.at("run_type") == "iteration" ? 1 : 0;
  }
  EXPECT_EQ(iterations, 30);

  const std::string text = to_markdown(result, &comparison);
  EXPECT_THAT(text, HasSubstr("## Against the baseline"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("<b>")));
}

TEST(Reports, FillOnlyTheMarkedTables) {
  const ResultFile result = nasty();
  const std::string text =
      "before\n<!-- bench-table: an exit = floors/cpl3_exit; rate = =cmd() -->\nold\n<!-- bench-table end -->\nafter | "
      "old\n";
  const auto filled = fill_readme(text, result);
  ASSERT_TRUE(filled) << filled.error().message;
  EXPECT_THAT(*filled,
              ::testing::StartsWith("before\n<!-- bench-table: an exit = floors/cpl3_exit; rate = =cmd() -->\n"));
  EXPECT_THAT(*filled, ::testing::EndsWith("<!-- bench-table end -->\nafter | old\n"));
  EXPECT_THAT(*filled, HasSubstr("| an exit | "));
  EXPECT_THAT(*filled, ::testing::Not(HasSubstr("\nold\n")));
  EXPECT_EQ(*fill_readme(*filled, result), *filled) << "again gives the same";
  EXPECT_THAT(fill_readme("none", result).error().message, HasSubstr("bench-table"));
  EXPECT_THAT(fill_readme("<!-- bench-table: a = b -->\n", result).error().message, HasSubstr("has no line"));
  EXPECT_THAT(fill_readme("<!-- bench-table: a = b; c -->\n<!-- bench-table end -->", result).error().message,
              HasSubstr("\"c\" is not LABEL = NAME"));
  EXPECT_THAT(fill_readme("<!-- bench-table: a = b; c = d -->\n<!-- bench-table end -->", result).error().message,
              HasSubstr("lacks b; d"));
}

Figure figure_named(const char* name, const char* unit, double p50) {
  Figure figure;
  figure.name = name;
  figure.unit = unit;
  figure.p50 = p50;
  return figure;
}

TEST(Reports, FillMatricesByRowAndColumn) {
  ResultFile result;
  result.figures = {figure_named("k/a/x", "instr/s", 2e9), figure_named("k/b/x", "instr/s", 8e9),
                    figure_named("k/c/x", "instr/s", 1e9), figure_named("k/a/y", "ns", 1500),
                    figure_named("k/b/y", "ns", 6000),     figure_named("k/c/y", "ns", 1)};
  const std::string mark =
      "<!-- bench-matrix: kernel = a, b, c; X = k/{}/x;\nY = k/{}/y; mean of two = geometric mean of a, b -->\n";
  const auto filled = fill_readme(mark + "<!-- bench-table end -->\n", result);
  ASSERT_TRUE(filled) << filled.error().message;
  EXPECT_EQ(*filled,
            mark +
                "\n| kernel | X | Y |\n|---|---|---|\n| a | 2 G | 1.5 µs |\n| b | 8 G | 6 µs |\n| c | 1 G | 1 ns |\n"
                "| mean of two | 4 G | 3 µs |\n\n<!-- bench-table end -->\n");
  EXPECT_TRUE(check_readme(*filled, result));
  result.figures[0].p50 = 3e9;
  EXPECT_TRUE(check_readme(*filled, result)) << "numbers are whatever was measured";
  std::string other = *filled;
  other.replace(other.find("| b |"), 5, "| d |");
  EXPECT_THAT(check_readme(other, result).error().message, HasSubstr("| d … with 3 cells\", and should be \"| b"));

  const auto refused = [&](const std::string& list) {
    return fill_readme("<!-- bench-matrix: " + list + " -->\n<!-- bench-table end -->", result).error().message;
  };
  EXPECT_THAT(refused("kernel = a"), HasSubstr("rows and a column are needed"));
  EXPECT_THAT(refused("kernel = a; X = k/a/x"), HasSubstr("\"k/a/x\" has no {}"));
  EXPECT_THAT(refused("kernel = a, d; X = k/{}/x; Z = k/{}/z"), HasSubstr("lacks k/a/z; k/d/x; k/d/z"));
}

TEST(Baselines, AreSavedListedAndDeletedByNamesThatLeadNowhereElse) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("warmfork-baselines-" + std::to_string(::getpid()));
  const auto baselines = Baselines::at((directory / "deep").string());
  ASSERT_TRUE(baselines);
  EXPECT_TRUE(baselines->names()->empty());
  const ResultFile result = nasty();
  const std::string json = to_json(result.context, result.figures);
  ASSERT_TRUE(baselines->save("main", json));
  ASSERT_TRUE(baselines->save("b-2.x", json));
  EXPECT_THAT(*baselines->names(), ::testing::ElementsAre("b-2.x", "main"));
  ASSERT_TRUE(baselines->load("main"));
  EXPECT_EQ(baselines->load("main")->figures.size(), 3U);
  const auto missing = baselines->load("other");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kInput);
  EXPECT_THAT(missing.error().message, HasSubstr("b-2.x, main"));
  for (const char* name : {"", ".", "..", "../main", "/etc/passwd", ".hidden", "-x", "a b", "a\n"}) {
    EXPECT_EQ(baselines->save(name, json).error().kind, ErrorKind::kUsage) << name;
    EXPECT_EQ(baselines->remove(name).error().kind, ErrorKind::kUsage) << name;
  }
  EXPECT_FALSE(baselines->save(std::string(65, 'x'), json));
  ASSERT_TRUE(baselines->remove("main"));
  EXPECT_EQ(baselines->remove("main").error().kind, ErrorKind::kInput);
  // Where a file is, no directory can be made.
  std::ofstream(directory / "file") << "x";
  const auto nowhere = Baselines::at((directory / "file").string());
  EXPECT_EQ(nowhere->prepare("main").error().kind, ErrorKind::kHost);
  EXPECT_THAT(nowhere->prepare("main").error().message, HasSubstr((directory / "file").string()));
  std::filesystem::remove_all(directory);
}

TEST(Noise, IsNamedWithItsLimit) {
  Noise quiet{.seconds = 1, .stolen_fraction = 0.01, .switches = 100, .load = 1, .frequency_change = 0.01, .why = {}};
  judge_noise(quiet, 2);
  EXPECT_FALSE(quiet.noisy());
  Noise loud{.seconds = 1, .stolen_fraction = 0.3, .switches = 1000, .load = 8, .frequency_change = -0.2, .why = {}};
  judge_noise(loud, 2);
  EXPECT_THAT(loud.why, ::testing::ElementsAre("stolen 30 % (limit 2)", "switches 1e+03/s (limit 200)",
                                               "load per CPU 4 (limit 1.5)", "frequency change 20 % (limit 5)"));
  const Noise both = together(quiet, loud, 2);
  EXPECT_TRUE(both.noisy());
  EXPECT_NEAR(both.stolen_fraction, 0.155, 1e-9);
  NoiseMeter::begin();
  EXPECT_GE(NoiseMeter::since_begin().seconds, 0);
}

}  // namespace
}  // namespace warmfork::bench
