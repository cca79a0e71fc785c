// --trace-events and --profile from outside: whole files, or none.
#include "process.hpp"

#include <gmock/gmock.h>
#include <signal.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

namespace warmfork::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kHello = ".ORIG x3000\nLEA R0, T\nPUTS\nHALT\nT .STRINGZ \"hello\"\n.END\n";
// More than a megabyte, which is a stop for every 16 KiB; then "over", and on for ever.
constexpr std::string_view kPrinter =
    ".ORIG x3000\nLD R1, N\nLEA R0, T\nL PUTS\nADD R1, R1, #-1\nBRp L\nLEA R0, O\nPUTS\nSELF BR SELF\nN .FILL #30000\n"
    "O .STRINGZ \"over\"\nT .STRINGZ \"a line of text, and as many as thirty thousand\\n\"\n.END\n";
constexpr std::string_view kWork =
    ".ORIG x3000\nLD R5, N\nOUTER JSR SUB\nADD R5, R5, #-1\nBRp OUTER\nLEA R0, T\nPUTS\nHALT\n"
    "SUB LD R1, N\nINNER ADD R2, R2, R1\nADD R1, R1, #-1\nBRp INNER\nRET\nN .FILL #9000\nT .STRINGZ \"done\"\n.END\n";

class TraceFileTest : public CliKvmTest {};

json trace_of(const std::string& path) {
  json parsed = json::parse(read_text(path), nullptr, false);
  EXPECT_TRUE(parsed.is_object());
  return parsed;
}

std::map<std::string, std::size_t> counts_of(const json& trace) {
  std::map<std::string, std::size_t> counts;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    ++counts[event["name"].get<std::string>()];
    ++counts[event["cat"].get<std::string>()];
  }
  return counts;
}

TEST_F(TraceFileTest, ARunIsInItsFileAndItsOutputIsTheSame) {
  const Ended ended =
      run_cli({"run", "--engine", "xbyak", file("hello.asm", kHello), "--trace-events", path("trace.json")});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.out, "hello");
  EXPECT_THAT(ended.err, IsEmpty());
  const json trace = trace_of(path("trace.json"));
  auto counts = counts_of(trace);
  EXPECT_EQ(counts["boot"], 1U);
  EXPECT_EQ(counts["vmcall lc3_capture_vectors"], 1U);
  EXPECT_GE(counts["vmcall lc3_run"], 1U);
  EXPECT_EQ(counts["compile"], 1U);
  EXPECT_EQ(counts["KVM_RUN: return"], counts["call"] - 2);  // but creating and booting
  EXPECT_EQ(trace["otherData"]["verb"], "run");
  EXPECT_EQ(trace["otherData"]["lost_events"], 0);
  EXPECT_EQ(trace["otherData"]["threads"][0]["name"], "main");
}

TEST_F(TraceFileTest, AnInterruptedRunLeavesAWholeFileWithItsNewestEvents) {
  const std::string trace_path = file("trace.json", "what was there before");
  Process process({"run", file("printer.asm", kPrinter), "--trace-events", trace_path, "--trace-keep", "64"});
  ASSERT_TRUE(process.wait_for_output("over", 30));
  process.send(SIGINT);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 130);
  EXPECT_THAT(ended.err, HasSubstr("--trace-keep"));
  const json trace = trace_of(trace_path);
  EXPECT_GT(trace["otherData"]["lost_events"], 0);
  EXPECT_GE(counts_of(trace)["vmcall lc3_run"], 10U);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path(""))) ++files;
  EXPECT_EQ(files, 2U) << "something else was left behind";
}

TEST_F(TraceFileTest, FleetsHaveAThreadForEachWorker) {
  const Ended ended = run_cli({"fleet", std::string(WARMFORK_LC3_PROGRAMS) + "/bus/pipeline.toml", "--trace-events",
                               path("trace.json"), "--profile", path("fleet.folded")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  const json trace = trace_of(path("trace.json"));
  std::vector<std::string> threads;
  for (const json& thread : trace["otherData"]["threads"]) threads.push_back(thread["name"]);
  EXPECT_THAT(threads, testing::IsSupersetOf({"main", "worker 0", "worker 1", "worker 2"}));
  EXPECT_EQ(counts_of(trace)["fork space"], 3U);
  EXPECT_TRUE(std::filesystem::exists(path("fleet.folded")));
}

TEST_F(TraceFileTest, WrongWordsAndPlacesAreRefusedBeforeTheRun) {
  const std::string program = file("hello.asm", kHello);
  const auto refused = [&](Arguments more, int code, const char* why) {
    Arguments all{"run", program};
    all.insert(all.end(), more.begin(), more.end());
    const Ended ended = run_cli(all);
    EXPECT_EQ(ended.code, code) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr(why));
    EXPECT_THAT(ended.out, IsEmpty());
  };
  refused({"--trace-events", path("none/trace.json")}, 4, "its directory: No such file");
  refused({"--trace-events", "/dev/null"}, 2, "not a regular file");
  refused({"--trace-events", path("t"), "--trace-keep", "63"}, 2, "64 to 1048576");
  refused({"--trace-keep", "64"}, 2, "--trace-events");
  refused({"--profile", path("none/p")}, 4, "its directory: No such file");
  refused({"--profile", path("p"), "--profile-rate", "0"}, 2, "--profile-rate");
}

TEST_F(TraceFileTest, AProfileIsFoldedAndTheRunIsTheSame) {
  const std::string program = file("work.asm", kWork);
  const json plain = json::parse(run_cli({"run", "--json", program}).out, nullptr, false);
  const Ended ended = run_cli({"run", "--json", program, "--profile", path("work.folded"), "--profile-rate", "5000"});
  const json profiled = json::parse(ended.out, nullptr, false);
  ASSERT_TRUE(plain.is_object() && profiled.is_object()) << ended.err;
  for (const char* key : {"stop", "exit_code", "executed", "output", "registers"}) {
    EXPECT_EQ(plain[key], profiled[key]) << key;
  }
  EXPECT_THAT(ended.err, HasSubstr("samples of 5000 a second"));
  std::istringstream lines(read_text(path("work.folded")));
  std::uint64_t all = 0, inner = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.rfind(' ');
    ASSERT_NE(space, std::string::npos) << line;
    const std::uint64_t count = std::stoull(line.substr(space + 1));
    all += count;
    EXPECT_TRUE(line.starts_with("work.asm;")) << line;
    EXPECT_THAT(line, HasSubstr(";auto:"));
    if (line.starts_with("work.asm;SUB;INNER;auto:")) inner += count;
  }
  EXPECT_THAT(ended.err, HasSubstr(std::to_string(all) + " samples"));
  if (all >= 50) EXPECT_GT(inner, all * 7 / 10);
}

}  // namespace
}  // namespace warmfork::test
