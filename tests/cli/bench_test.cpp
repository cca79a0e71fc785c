// warmfork bench and doctor: structure and correctness of what they report, never speed.
#include "process.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace warmfork::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class BenchTest : public CliKvmTest {};

// The names that result files are read by: a renamed figure breaks whoever compares with one of yesterday. "two CPUs"
// and "dirty log" and such: those that a machine may lack.
struct Names {
  std::vector<std::string> always, two_cpus, reset_modes, rare;
};
Names stable_names() {
  Names names;
  const auto add = [](std::vector<std::string>& into, const std::string& prefix,
                      std::initializer_list<const char*> ends) {
    for (const char* const end : ends) into.push_back(prefix + end);
  };
  std::vector<std::string>& all = names.always;
  add(all, "floors/", {"cpl3_exit", "kvm_run_immediate_exit", "create_destroy_vm", "memcpy_window"});
  add(names.two_cpus, "floors/", {"cacheline_pingpong", "host_thread_spsc"});
  add(all, "lifecycle/",
      {"construct", "boot", "destruct", "vmcall/first", "vmcall/warm", "fork/vm", "fork/space", "fork_call_destroy/vm",
       "fork_call_destroy/space", "reset/full_copy", "reset/auto", "request/fork_vm", "request/fork_space",
       "request/reset_full_copy", "request/reset_auto", "density"});
  add(names.reset_modes, "lifecycle/reset/", {"dirty_log", "dirty_ring", "cow_remap"});
  add(names.reset_modes, "lifecycle/request/reset_", {"dirty_log", "dirty_ring", "cow_remap"});
  add(names.two_cpus, "lifecycle/", {"request/exitless", "scaling/vm", "scaling/space"});
  add(all, "alternatives/process_", {"fork", "pipe", "futex"});
  for (const std::string kernel : {"alu", "mem", "branch", "call", "sort", "sieve", "crc", "matmul", "smc"}) {
    add(all, "lc3/" + kernel + "/",
        {"interp", "xbyak", "orc", "auto", "xbyak_stats", "interp_stats", "switch", "native"});
  }
  add(all, "lc3/instr_latency/", {"interp", "xbyak", "orc", "auto"});
  add(all, "jit/compile/", {"xbyak", "xbyak/10", "xbyak/100", "orc", "orc/10", "orc/100", "orc/1000"});
  add(names.two_cpus, "ring/",
      {"rtt/host_host", "rtt/host_guest", "rtt/guest_guest", "spsc/8", "spsc/64", "spsc/1500", "spsc/65536",
       "broadcast/64"});
  add(names.two_cpus, "bus/", {"message/poll", "message/doorbell", "throughput"});
  add(all, "feed/handler/", {"64/interp", "64/xbyak", "64/orc", "1500/interp", "1500/xbyak", "1500/orc"});
  add(names.two_cpus, "feed/", {"replay", "rate/64/guest", "rate/1500/guest"});
  for (const std::string size : {"4KiB", "64KiB", "1MiB"}) {
    for (const std::string loop : {"sequential_read/", "sequential_write/", "random_read/", "random_write/"}) {
      all.push_back("memory/" + loop + size);
    }
  }
  for (const std::string stride : {"64B", "512B", "4KiB", "16KiB", "64KiB"}) {
    all.push_back("memory/stride/" + stride + "/4KiB_pages");
    names.rare.push_back("memory/stride/" + stride + "/2MiB_pages");
  }
  all.emplace_back("memory/page_walk/4KiB_pages");
  names.rare.emplace_back("memory/page_walk/2MiB_pages");
  all.emplace_back("memory/first_touch");
  names.rare.emplace_back("memory/numa/local");
  for (const std::string kind : {"full", "layer"}) {
    for (const std::string what : {"take/", "save/", "load/", "size/"}) all.push_back("snapshot/" + what + kind);
  }
  add(all, "startup/answer/", {"boot", "snapshot_file", "fork", "pool"});
  add(all, "fleet/graded_runs/", {"vm", "space"});
  add(all, "concurrency/pool/", {"vm", "space"});
  add(names.two_cpus, "concurrency/spsc/", {"lock_free", "mutex"});
  add(all, "footprint/fork/", {"vm", "space"});
  for (const std::string engine : {"interp", "xbyak", "orc", "auto"}) {
    all.push_back("startup/to_90_percent/" + engine + "/cold");
    all.push_back("startup/lc3/" + engine + "/cold");
    all.push_back("startup/lc3/" + engine + "/fork");
    all.push_back("footprint/lc3/" + engine);
    all.push_back("footprint/lc3_fork/" + engine);
  }
  return names;
}

// Every report is there and can be read by a machine: a record for each figure.
void expect_reports(const std::string& csv, const std::string& page, const std::string& text, const std::string& google,
                    const json& result) {
  const auto figures = static_cast<std::ptrdiff_t>(result.at("results").size());
  EXPECT_EQ(std::ranges::count(csv, '\n'), figures + 1);
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
  const json benchmarks = json::parse(google).at("benchmarks");
  EXPECT_GE(benchmarks.size(), result.at("results").size());
  for (const json& figure : result.at("results")) {
    const std::string name = figure.at("name");
    EXPECT_THAT(csv, HasSubstr("\n" + name + ","));
    EXPECT_THAT(page, HasSubstr("<td>" + name));
    EXPECT_THAT(text, HasSubstr(name));
    EXPECT_TRUE(std::ranges::any_of(benchmarks, [&](const json& one) {
      return one.at("name").get<std::string>().starts_with(name);
    })) << name;
  }
}

// All suites, with as few samples as can be, and all reports.
TEST_F(BenchTest, WritesEveryFigureWithItsDistributionAndFloor) {
  const std::string file = path("r.json"), csv = path("r.csv"), page = path("r.html"), text = path("r.md"),
                    google = path("g.json");
  Process bench({"bench", "--effort", "0.001", "--all", "--json", file, "--csv", csv, "--html", page, "--markdown",
                 text, "--google-benchmark", google});
  const Ended ended = bench.wait(110);  // every suite, on a machine that may have other things to do
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json result = json::parse(read_text(file));
  expect_reports(read_text(csv), read_text(page), read_text(text), read_text(google), result);
  for (const char* key : {"date", "commit", "cpu", "kernel", "kvm_backend", "build"}) {
    EXPECT_FALSE(result.at("context").at(key).get<std::string>().empty()) << key;
  }
  std::map<std::string, json> figures;
  for (const json& figure : result.at("results")) {
    const std::string name = figure.at("name");
    SCOPED_TRACE(name);
    figures[name] = figure;
    EXPECT_GT(figure.at("samples").get<std::uint64_t>(), 0u);
    double previous = figure.at("min");
    // A rate that no trial has sustained is 0; a CPU may be idle; a fork can cost less than the allocator gives back.
    if (!name.starts_with("feed/rate") && !name.starts_with("bus/idle") && !name.starts_with("footprint/")) {
      EXPECT_GT(previous, 0);
    }
    for (const char* quantile : {"p50", "p90", "p99", "p999", "max"}) {
      EXPECT_LE(previous, figure.at(quantile).get<double>() * 1.001) << quantile;  // buckets are 0.1 % wide
      previous = figure.at(quantile);
    }
    EXPECT_TRUE(figure.at("params").is_object() && figure.at("counters").is_object());
    if (!name.starts_with("feed/rate")) {
      EXPECT_EQ(figure.at("floor").is_null(), figure.at("ratio_to_floor_p50").is_null());
    }
    EXPECT_THAT(ended.out, HasSubstr(name));
  }
  const Names names = stable_names();
  for (const std::string& name : names.always) EXPECT_TRUE(figures.contains(name)) << name;
  const bool two_cpus = result.at("context").at("pinned").at(0) != result.at("context").at("pinned").at(1);
  for (const std::string& name : names.two_cpus) EXPECT_EQ(figures.contains(name), two_cpus) << name;
  for (const std::string& name : names.reset_modes) {
    EXPECT_TRUE(figures.contains(name) || ended.err.find(name.substr(name.rfind('/') + 1)) != std::string::npos)
        << name << ": missing, and not said to be";
  }
  for (const std::string& name : names.rare) {
    const std::string family = name.starts_with("memory/numa") ? "memory/numa" : "huge pages";
    EXPECT_TRUE(figures.contains(name) || ended.err.find("no " + family) != std::string::npos) << name;
  }
  EXPECT_TRUE(figures.contains("memory/numa/remote") || ended.err.find("one NUMA node") != std::string::npos ||
              ended.err.find("no memory/numa") != std::string::npos);
  // The README's tables can be made of it.
  const Ended filled = run_cli({"bench", "--readme-tables", file, "--readme", WARMFORK_README, "--check"});
  EXPECT_EQ(filled.code, 0) << filled.err;
  for (const char* size : {"10", "100", "1000"}) {
    for (const char* engine : {"xbyak", "orc"}) {
      const json& memory = figures[std::string("jit/memory/") + engine + "/" + size];
      ASSERT_TRUE(memory.is_object()) << engine << " " << size;
      const json& counters = memory.at("counters");
      const double code = counters.at("code_bytes_per_instruction"),
                   tables = counters.at("table_bytes_per_instruction");
      EXPECT_GT(code, 2) << "an LC-3 instruction is two bytes";
      EXPECT_GT(tables, 0);
      EXPECT_NEAR(memory.at("p50"), code + tables + counters.value("host_bytes_per_instruction", 0.0), 0.01);
    }
    EXPECT_TRUE(figures.contains(std::string("jit/compile/orc/") + size)) << size;
  }
  for (const std::string engine : {"interp", "xbyak", "orc", "auto"}) {
    for (const std::string cache : {"cold", "cached"}) {
      const bool caches = engine == "orc" || engine == "auto";
      EXPECT_EQ(figures.contains("startup/to_90_percent/" + engine + "/" + cache), cache == "cold" || caches);
    }
    for (const std::string kind : {"", "/cold_smc"}) {
      const json& counters = figures["lc3/instr_latency/" + engine + kind].at("counters");
      double sum = 0;
      for (const char* cause : {"compile", "invalidation", "entry", "stolen", "exit", "unattributed"}) {
        sum += counters.at(cause).get<double>();
        EXPECT_EQ(counters.at(cause) > 0, counters.at(std::string(cause) + "_worst_ns") > 0) << engine << " " << cause;
      }
      EXPECT_EQ(sum, counters.at("outliers")) << engine << kind;
    }
  }
  EXPECT_THAT(ended.out, HasSubstr("runs longer than 3 x mean"));
  for (const auto& [name, figure] : figures) {
    if (!figure.at("floor").is_null()) EXPECT_TRUE(figures.contains(figure.at("floor"))) << name;
  }
  // Parameters are what a figure is compared by: nothing that another build may change.
  for (const char* name : {"snapshot/size/full", "snapshot/save/layer", "floors/snapshot/write/full"}) {
    EXPECT_THAT(figures[name].at("params").dump(), ::testing::MatchesRegex("\\{\"window_bytes\":[0-9.]+\\}")) << name;
    EXPECT_GT(figures[name].at("counters").at("stored_bytes"), 0) << name;
  }
  // The one figure that is not a matter of speed: exactly one ioctl a call.
  EXPECT_EQ(figures["lifecycle/vmcall/warm"].at("counters").at("kvm_run_per_call").get<double>(), 1.0);
}

TEST_F(BenchTest, AlternativesSayWhereTheirServersRan) {
  const Ended ended = run_cli({"bench", "alternatives", "--quick", "--json", "-"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  std::map<std::string, json> figures;
  const json result = json::parse(ended.out);
  for (const json& figure : result.at("results")) {
    EXPECT_TRUE(figures.emplace(figure.at("name"), figure).second) << "twice: " << figure.at("name");
  }
  const bool two_cpus = figures.contains("floors/cacheline_pingpong");
  for (const std::string name : {"process_fork", "process_fork/in_place", "process_pipe", "process_futex"}) {
    const json& figure = figures["alternatives/" + name];
    SCOPED_TRACE(name);
    ASSERT_TRUE(figure.is_object());
    EXPECT_GT(figure.at("p50").get<double>(), 0);
    EXPECT_EQ(figure.at("params").at("window_bytes").get<double>(), 256 << 10);
    EXPECT_EQ(figure.at("params").at("dirty_pages").get<double>(), 8);
    EXPECT_EQ(figure.at("params").at("same_cpu").get<double>(), two_cpus ? 0 : 1);
    EXPECT_GE(figure.at("counters").at("server_resident_pages").get<double>(), 64) << "its window is warm";
    EXPECT_EQ(figure.at("floor").is_null(), !two_cpus || name != "process_futex");
  }
  EXPECT_LE(figures["alternatives/process_fork/in_place"].at("p50"), figures["alternatives/process_fork"].at("p50"));
  for (const char* name : {"process_fork/same_cpu", "process_pipe/same_cpu", "process_futex/same_cpu"}) {
    EXPECT_EQ(figures.contains(std::string("alternatives/") + name), two_cpus) << name;
  }
}

TEST_F(BenchTest, BusSaysHowMachinesWaited) {
  const Ended ended = run_cli({"bench", "bus", "--effort", "0.005", "--json", "-"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  std::map<std::string, json> figures;
  const json result = json::parse(ended.out);
  for (const json& figure : result.at("results")) figures[figure.at("name")] = figure;
  if (figures.empty()) GTEST_SKIP() << "one CPU";
  for (const char* name : {"bus/message/poll", "bus/message/doorbell"}) {
    ASSERT_TRUE(figures.contains(name)) << name;
    EXPECT_EQ(figures[name].at("floor"), "floors/cacheline_pingpong");
  }
  EXPECT_GT(figures["bus/message/doorbell"].at("counters").at("sleeps_per_round_trip"), 0.1) << "it did not sleep";
  EXPECT_LE(figures["bus/idle_cpu/doorbell"].at("p50"), 100);
  EXPECT_GT(figures["bus/throughput"].at("p50"), 0);
}

TEST_F(BenchTest, EveryMessageArrivesOnceAndInOrder) {
  const Ended ended = run_cli({"bench", "bus", "--messages", "70k"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("70000 messages from one LC-3 machine to another, each once and in order"));
  EXPECT_EQ(run_cli({"bench", "bus", "--messages", "many"}).code, 2);
}

TEST_F(BenchTest, CtrlCEndsTheCheckOfMessagesWithThoseThatWereSent) {
  Ended ended;
  for (unsigned seconds = 2; seconds < 16; seconds *= 2) {  // a signal before it begins ends it at once: again
    Process process({"bench", "bus", "--messages", "1000G"});
    ::sleep(seconds);
    process.send(SIGINT);
    ended = process.wait();
    if (ended.code != -SIGINT) break;
  }
  EXPECT_EQ(ended.code, 130) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr(" messages from one LC-3 machine to another, each once and in order"));
  EXPECT_THAT(ended.err, HasSubstr("of 1000000000000 messages were sent"));
}

TEST_F(BenchTest, JsonToStandardOutputIsNothingElse) {
  const Ended ended = run_cli({"bench", "floors", "--quick", "--json", "-"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_FALSE(json::parse(ended.out).at("results").empty());
}

TEST_F(BenchTest, UnknownSuiteAndUnwritableFileAreRefused) {
  EXPECT_EQ(run_cli({"bench", "speed"}).code, 2);
  for (const char* option : {"--json", "--csv", "--html"}) {
    const Ended ended = run_cli({"bench", "lc3", option, "/nonexistent/r"});
    EXPECT_EQ(ended.code, 4);
    EXPECT_THAT(ended.err, HasSubstr("/nonexistent"));
    EXPECT_LT(ended.seconds, 2) << "said before anything is measured";
  }
}

TEST_F(BenchTest, TwoReportsIntoOneFileAreRefused) {
  const Ended ended = run_cli({"bench", "lc3", "--csv", path("r"), "--markdown", path("./r")});
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.err, HasSubstr("two reports would go there"));
}

// A device without space is where a file system without any leads: the others are written, and nothing is half there.
TEST_F(BenchTest, AReportThatCannotBeWrittenCostsNoOther) {
  const std::string json_file = path("r.json"), csv = path("r.csv");
  const Ended ended = run_cli({"bench", "floors", "--quick", "--markdown", "/dev/full", "--json", json_file, "--csv",
                               csv, "--html", "/dev/full"});
  EXPECT_EQ(ended.code, 4) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("/dev/full: No space left on device"));
  EXPECT_EQ(json::parse(read_text(json_file)).at("context").at("partial"), false);
  EXPECT_THAT(read_text(csv), HasSubstr("floors/cpl3_exit,"));
}

TEST_F(BenchTest, AReportToStandardOutputLeavesWhatElseIsPrintedThere) {
  const std::string printed = file("printed", "");
  const std::string command =
      WARMFORK_BINARY " bench floors --quick --filter exit$ --csv /dev/stdout >>" + printed + " 2>/dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0);  // NOLINT(concurrency-mt-unsafe,cert-env33-c)
  const std::string text = read_text(printed);
  EXPECT_THAT(text, HasSubstr("KVM backend")) << "the table";
  EXPECT_THAT(text, HasSubstr("\nfloors/cpl3_exit,,ns,")) << "the report";
}

// An unset variable of a script must not turn the gate off, nor a threshold that nothing is beyond.
TEST_F(BenchTest, EmptyNamesAndThresholdsThatAreNoNumberAreRefused) {
  for (const char* option : {"--baseline", "--save-baseline", "--filter", "--json", "--compare-builds"}) {
    Arguments arguments{"bench", "floors", "--quick", option, ""};
    if (option == std::string("--compare-builds")) arguments.emplace_back(WARMFORK_BINARY);
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, 2) << option;
    EXPECT_THAT(ended.err, HasSubstr("empty"));
  }
  for (const char* option : {"--change", "--noise", "--severe", "--confidence", "--effort"}) {
    const Ended ended = run_cli({"bench", "floors", "--quick", option, "nan"});
    EXPECT_EQ(ended.code, 2) << option;
    EXPECT_THAT(ended.err, HasSubstr("nan is not in range")) << option;
  }
}

TEST_F(BenchTest, ASuiteThatFailsLeavesWhatWasMeasuredBefore) {
  const std::string result = path("r.json");
  ASSERT_EQ(::setenv("TMPDIR", "/nonexistent", 1), 0);
  const Ended ended = run_cli({"bench", "floors", "snapshot", "--quick", "--json", result});
  ::unsetenv("TMPDIR");
  EXPECT_EQ(ended.code, 4) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("bench snapshot: no directory for temporary files"));
  const json kept = json::parse(read_text(result));
  EXPECT_EQ(kept.at("context").at("partial"), true);
  EXPECT_GE(kept.at("results").size(), 4U);
}

// Verdicts are about speed and are not looked at here; what is tested is that they are there, and everything around
// them.
TEST_F(BenchTest, BaselinesAreKeptComparedAndDeleted) {
  const std::string directory = path("baselines");
  const auto bench = [&](Arguments arguments) {
    arguments.insert(arguments.begin(), {"bench", "--baseline-dir", directory});
    return run_cli(arguments);
  };
  EXPECT_THAT(bench({"--list-baselines"}).out, HasSubstr("no baselines"));
  const Arguments measured{"floors", "--quick", "--rounds", "6", "--filter", "exit$"};
  const auto with = [&](Arguments more) {
    more.insert(more.begin(), measured.begin(), measured.end());
    return bench(more);
  };
  const Ended saved = with({"--save-baseline", "main"});
  ASSERT_EQ(saved.code, 0) << saved.err;
  EXPECT_THAT(bench({"--list-baselines"}).out, HasSubstr("main: 20"));

  const std::string verdicts = path("v.json"), page = path("r.html"), csv = path("r.csv"), google = path("g.json");
  const Ended compared = with({"--baseline", "main", "--change", "1000", "--severe", "1000", "--verdicts", verdicts,
                               "--html", page, "--csv", csv, "--google-benchmark", google});
  EXPECT_EQ(compared.code, 0) << compared.err << "nothing is eleven times as slow";
  EXPECT_THAT(compared.out, HasSubstr("against baseline \"main\""));
  const json judged = json::parse(read_text(verdicts));
  EXPECT_EQ(judged.at("regressed"), false);
  ASSERT_EQ(judged.at("judgements").size(), 6U) << "three quantiles of two figures: the filter is applied";
  for (const json& one : judged.at("judgements")) {
    EXPECT_THAT(one.at("verdict").get<std::string>(), ::testing::AnyOf("unchanged", "too noisy"));
    if (one.at("quantile") == "p50") EXPECT_EQ(one.at("interval").size(), 2U);
  }
  const bool history =
      read_text(page).find("medians over the saved runs") != std::string::npos;  // not in full, if missing
  EXPECT_TRUE(history || read_text(page).find("gnuplot is not installed") != std::string::npos);
  EXPECT_THAT(read_text(csv), HasSubstr("floors/cpl3_exit,"));
  EXPECT_FALSE(json::parse(read_text(google)).at("benchmarks").empty());

  // Compared with a run that was ten thousand times as fast, everything has regressed.
  const std::string file = directory + "/main.json";
  json baseline = json::parse(read_text(file));
  ASSERT_EQ(baseline.at("context").at("rounds"), 6);
  for (json& result : baseline.at("results")) {
    for (json& round : result.at("rounds").at("p50")) round = round.get<double>() / 10000;
  }
  std::ofstream(file) << baseline;
  const Ended regressed = with({"--baseline", "main"});
  EXPECT_EQ(regressed.code, 1) << regressed.err;
  EXPECT_THAT(regressed.out, HasSubstr("severe"));

  json others = baseline;
  for (json& result : others.at("results")) result.at("name") = "renamed/" + result.at("name").get<std::string>();
  std::ofstream(file) << others;
  const Ended uncompared = with({"--baseline", "main"});
  EXPECT_EQ(uncompared.code, 3) << "a gate that has looked at nothing";
  EXPECT_THAT(uncompared.err, HasSubstr("no figure in common"));

  baseline.at("context").at("cpu") = "another one";
  std::ofstream(file) << baseline;
  const Ended foreign = with({"--baseline", "main"});
  EXPECT_EQ(foreign.code, 3);
  EXPECT_THAT(foreign.err, HasSubstr("another one"));
  EXPECT_THAT(with({"--baseline", "main", "--allow-foreign"}).out, HasSubstr("note: foreign"));

  std::ofstream(file) << baseline.dump().substr(0, 500);
  const Ended corrupt = with({"--baseline", "main"});
  EXPECT_EQ(corrupt.code, 3);
  EXPECT_THAT(corrupt.err, HasSubstr("main.json"));
  EXPECT_THAT(bench({"--list-baselines"}).out, HasSubstr("main: unusable"));
  EXPECT_EQ(bench({"--delete-baseline", "main"}).code, 0);
  EXPECT_EQ(bench({"--delete-baseline", "main"}).code, 3);
  EXPECT_EQ(with({"--baseline", "main"}).code, 3);

  EXPECT_EQ(bench({"floors", "--quick", "--save-baseline", "../x"}).code, 2);
  EXPECT_EQ(bench({"floors", "--filter", "("}).code, 2);
  const Ended nothing = bench({"floors", "--quick", "--rounds", "50", "--filter", "^nothing$"});
  EXPECT_EQ(nothing.code, 2);
  EXPECT_EQ(nothing.err.find("round 2 of"), std::string::npos) << "the second round would find no more";
  const Ended nowhere =
      run_cli({"bench", "floors", "--quick", "--save-baseline", "main", "--baseline-dir", "/proc/warmfork"});
  EXPECT_EQ(nowhere.code, 4);
  EXPECT_THAT(nowhere.err, HasSubstr("/proc/warmfork"));
  EXPECT_LT(nowhere.seconds, 1) << "said before anything is measured";
}

// One fork's figures are those of where its memory lies.
TEST_F(BenchTest, ResetsAreMeasuredOnSeveralForksAsOftenEach) {
  const Ended ended =
      run_cli({"bench", "lifecycle", "--quick", "--filter", "^lifecycle/reset/full_copy$", "--json", "-"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json result = json::parse(ended.out);
  int figures = 0;
  for (const json& figure : result.at("results")) {
    if (figure.at("name") != "lifecycle/reset/full_copy") continue;
    const auto placements = figure.at("counters").at("placements").get<std::uint64_t>();
    EXPECT_GE(placements, 2U);
    EXPECT_EQ(figure.at("samples").get<std::uint64_t>() % (placements * 20), 0U) << "20 requests in a row";
    ++figures;
  }
  EXPECT_EQ(figures, 8);
}

// Not a matter of this machine's speed: the bench itself is told to make resets five times as slow.
TEST_F(BenchTest, TwoBuildsAreComparedAndTheGateCloses) {
  const std::string slow = file("slow", "#!/bin/sh\nWARMFORK_BENCH_SLOW_RESET=400 exec " WARMFORK_BINARY " \"$@\"\n");
  std::filesystem::permissions(slow, std::filesystem::perms::owner_all);
  const std::string verdicts = path("v.json");
  const Ended compared = run_cli({"bench", "--compare-builds", WARMFORK_BINARY, slow, "lifecycle", "--quick",
                                  "--filter", "lifecycle/reset/auto", "--rounds", "6", "--verdicts", verdicts});
  EXPECT_EQ(compared.code, 1) << compared.err << compared.out;
  const json judged = json::parse(read_text(verdicts));
  int severe = 0;
  for (const json& one : judged.at("judgements")) {
    EXPECT_EQ(one.at("name").get<std::string>().find("lifecycle/reset/auto"), 0U);
    severe += one.at("verdict") == "severe" ? 1 : 0;
  }
  EXPECT_GE(severe, 2) << compared.out;
  const Ended missing = run_cli({"bench", "--compare-builds", "/nonexistent/w", WARMFORK_BINARY, "floors", "--quick"});
  EXPECT_EQ(missing.code, 4);
  EXPECT_THAT(missing.err, HasSubstr("/nonexistent/w"));
  const Ended failing = run_cli({"bench", "--compare-builds", "/bin/false", WARMFORK_BINARY, "floors", "--quick"});
  EXPECT_EQ(failing.code, 3);
  EXPECT_THAT(failing.err, HasSubstr("exit code 1"));
}

TEST_F(BenchTest, ComparedBuildsAreRepeatedUntilTheirRatioIsKnownWellEnough) {
  const auto compared = [](const std::string& change) {
    return run_cli({"bench", "--compare-builds", WARMFORK_BINARY, WARMFORK_BINARY, "floors", "--quick", "--filter",
                    "cpl3_exit$", "--rounds", "6", "--repeat-until-stable", "--max-rounds", "7", "--change", change,
                    "--severe", "1000"});
  };
  EXPECT_THAT(compared("1000").out, HasSubstr("\n6 rounds of each")) << "to a factor of five";
  EXPECT_THAT(compared("0.1").out, HasSubstr("\n7 rounds of each")) << "to 0.03 %, which is not to be had";
}

TEST_F(BenchTest, AnInterruptedRunIsKeptAndMarked) {
  const std::string result = path("r.json");
  Process process({"bench", "floors", "--rounds", "1000", "--quick", "--json", result, "--save-baseline", "main",
                   "--baseline-dir", path("baselines")});
  const double until = seconds_now() + 10;
  // The directory is made before measuring begins, and signals are caught by then.
  while (!std::filesystem::exists(path("baselines")) && seconds_now() < until) ::usleep(10'000);
  process.send(SIGINT);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 130) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("interrupted: ends after what is being measured")) << "at once";
  EXPECT_THAT(ended.err, HasSubstr("interrupted: what was measured until then is kept"));
  EXPECT_EQ(json::parse(read_text(result)).at("context").at("partial"), true);
  EXPECT_THAT(run_cli({"bench", "--list-baselines", "--baseline-dir", path("baselines")}).out, HasSubstr("partial"));
}

TEST_F(BenchTest, ComparedBuildsThatAreInterruptedAtOnceSaySo) {
  const std::string build = file("build", "#!/bin/sh\n: >\"$0.started\"\nexec " WARMFORK_BINARY " \"$@\"\n");
  std::filesystem::permissions(build, std::filesystem::perms::owner_all);
  Process process({"bench", "--compare-builds", build, build, "floors"});
  const double until = seconds_now() + 30;
  while (!std::filesystem::exists(build + ".started") && seconds_now() < until) ::usleep(10'000);
  process.send(SIGINT);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 130) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no round of both builds was finished"));
}

TEST_F(BenchTest, DoctorSaysWhatTheBackendDoes) {
  const Ended ended = run_cli({"doctor", "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json info = json::parse(ended.out);
  EXPECT_THAT(info.at("backend").get<std::string>(), ::testing::AnyOf("pvm", "svm", "vmx"));
  EXPECT_EQ(info.at("backend") == "pvm", !info.at("syscall_enters_cpl0").get<bool>());
  EXPECT_GE(info.at("xsave_bytes").get<int>(), 4096);
  EXPECT_GT(info.at("floors").at("floors/cpl3_exit").at("p50_ns").get<double>(), 0);
  EXPECT_THAT(run_cli({"doctor"}).out, HasSubstr(info.at("backend").get<std::string>()));
}

}  // namespace
}  // namespace warmfork::test
