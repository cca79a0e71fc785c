// warmfork study branches: figures known by hand, the same run as warmfork run, what is said when there is nothing to
// say.
#include "lc3_programs/manifest.hpp"
#include "process.hpp"
#include "program_arguments.hpp"
#include "scale.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

namespace warmfork::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A hundred times a loop of four rounds: inner TTTN, outer T to the last. 500 branches, 1,202 instructions.
constexpr std::string_view kLoops =
    ".ORIG x3000\n        LD R1, TIMES\nOUTER   AND R0, R0, #0\n        ADD R0, R0, #4\nINNER   ADD R0, R0, #-1\n"
    "        BRp INNER\n        ADD R1, R1, #-1\n        BRp OUTER\n        HALT\nTIMES   .FILL 100\n.END\n";
constexpr std::string_view kNoBranches = ".ORIG x3000\nAND R0, R0, #0\nHALT\n.END\n";
constexpr std::string_view kEndless = ".ORIG x3000\nLOOP ADD R0, R0, #1\nBRnzp LOOP\n.END\n";
constexpr std::string_view kCat = ".ORIG x3000\nL GETC\nOUT\nADD R0, R0, #0\nBRp L\nHALT\n.END\n";

class CliStudyTest : public CliKvmTest {
 protected:
  static Ended study(const Arguments& arguments, StartOptions options = {}) {
    Arguments all{"study", "branches"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run_cli(all, std::move(options));
  }
  static json study_json(Arguments arguments, StartOptions options = {}) {
    arguments.emplace_back("--json");
    return parse(study(arguments, std::move(options)));
  }
  static json parse(const Ended& ended) {
    json parsed = json::parse(ended.out, nullptr, false);
    EXPECT_TRUE(parsed.is_object()) << ended.out << ended.err;
    if (parsed.is_object()) EXPECT_EQ(parsed.value("exit_code", -1), ended.code);
    return parsed;
  }
  static std::map<std::string, json> by_name(const json& result) {
    std::map<std::string, json> predictors;
    for (const json& one : result.at("predictors")) predictors[one.at("name")] = one;
    return predictors;
  }
};

std::vector<std::string> keys(const json& object) {
  std::vector<std::string> list;
  for (const auto& [key, value] : object.items()) list.push_back(key);
  return list;
}

TEST_F(CliStudyTest, ALoopHasTheFiguresWorkedOutByHand) {
  const json result = study_json({file("loops.asm", kLoops)});
  EXPECT_EQ(result["stop"], "halted");
  EXPECT_EQ(result["executed"], 1202);
  EXPECT_EQ(result["branches"]["conditional"], 500);
  EXPECT_EQ(result["branches"]["conditional_taken"], 300 + 99);
  EXPECT_EQ(result["branches"]["unconditional"], 0);
  EXPECT_EQ(result["branches"]["addresses"], 2);
  const auto predictors = by_name(result);
  // Both branches go backward. A two-bit counter is wrong at each end of the inner loop, and at the end of the outer.
  for (const auto& [name, wrong] :
       std::map<std::string, int>{{"always_taken", 101}, {"not_taken", 399}, {"btfn", 101}, {"bimodal", 101}}) {
    SCOPED_TRACE(name);
    const json& one = predictors.at(name);
    EXPECT_EQ(one["branches"], 500);
    EXPECT_EQ(one["mispredictions"], wrong);
    EXPECT_DOUBLE_EQ(one["accuracy_percent"].get<double>(), (500 - wrong) / 5.0);
    EXPECT_DOUBLE_EQ(one["mpki"].get<double>(), wrong * 1000.0 / 1202);
  }
  // What looks back five branches sees the end of the inner loop coming.
  EXPECT_LT(predictors.at("gshare")["mispredictions"], 30);
  EXPECT_LT(predictors.at("perceptron")["mispredictions"], 30);
}

TEST_F(CliStudyTest, JsonHasTheDocumentedKeys) {
  const json result = study_json({"--seed", "7", "--by", "bimodal", file("loops.asm", kLoops)});
  EXPECT_THAT(keys(result), ElementsAre("branches", "executed", "exit_code", "message", "predictors", "seed", "stop",
                                        "worst", "worst_by"));
  EXPECT_THAT(keys(result["branches"]),
              ElementsAre("addresses", "conditional", "conditional_taken", "unconditional", "unconditional_predicted"));
  std::vector<std::string> names;
  for (const json& one : result["predictors"]) {
    names.push_back(one["name"]);
    EXPECT_THAT(keys(one), ElementsAre("accuracy_percent", "branches", "mispredictions", "mpki", "name",
                                       "ns_per_branch", "parameters", "storage_bits"));
    EXPECT_GT(one["ns_per_branch"].get<double>(), 0);
  }
  EXPECT_THAT(names, ElementsAre("always_taken", "not_taken", "btfn", "bimodal", "gshare", "perceptron"));
  EXPECT_EQ(by_name(result)["gshare"]["parameters"], json({{"counters", 1024}, {"history", 10}}));
  EXPECT_EQ(by_name(result)["gshare"]["storage_bits"], 2058);
  EXPECT_EQ(by_name(result)["btfn"]["parameters"], json::object());
  EXPECT_EQ(result["worst_by"], "bimodal");
  ASSERT_EQ(result["worst"].size(), 2U);
  const json& worst = result["worst"][0];
  EXPECT_THAT(keys(worst),
              ElementsAre("address", "executed", "instruction", "label", "mispredictions", "place", "taken"));
  EXPECT_EQ(worst["address"], 0x3004);
  EXPECT_EQ(worst["label"], "INNER+1");
  EXPECT_EQ(worst["place"], "x3004 (INNER+1, loops.asm:6)");
  EXPECT_EQ(worst["instruction"], "BRp INNER");
  EXPECT_EQ(worst["executed"], 400);
  EXPECT_EQ(worst["taken"], 300);
  EXPECT_EQ(worst["mispredictions"]["bimodal"], 100);
  EXPECT_EQ(worst["mispredictions"]["not_taken"], 300);
}

TEST_F(CliStudyTest, TheTableSaysTheSame) {
  const Ended ended = study({"--by", "bimodal", file("loops.asm", kLoops)});
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, IsEmpty());
  EXPECT_THAT(ended.out, HasSubstr("1202 instructions, 500 conditional branches (79.8 % taken), 0 unconditional"));
  EXPECT_THAT(ended.out, HasSubstr("bimodal (counters 1024) "));
  EXPECT_THAT(ended.out, HasSubstr(" 79.80 % "));
  EXPECT_THAT(ended.out, HasSubstr("where bimodal is wrong most often (of 2 branches"));
  EXPECT_THAT(ended.out, HasSubstr("x3004 (INNER+1, loops.asm:6)  BRp INNER\n"));
  EXPECT_THAT(study({"--by", "bimodal", "--worst", "1", file("loops.asm", kLoops)}).out, Not(HasSubstr("OUTER")));
  EXPECT_THAT(study({"--worst", "0", file("loops.asm", kLoops)}).out, Not(HasSubstr("most often")));
}

TEST_F(CliStudyTest, SizesReachThePredictors) {
  const auto predictors =
      by_name(study_json({"--bimodal-table", "1", "--gshare-table", "4", "--gshare-history", "2", "--perceptron-table",
                          "3", "--perceptron-history", "5", "--repeats", "1", file("loops.asm", kLoops)}));
  EXPECT_EQ(predictors.at("bimodal")["storage_bits"], 2);
  EXPECT_EQ(predictors.at("gshare")["storage_bits"], 10);
  EXPECT_EQ(predictors.at("perceptron")["storage_bits"], 3 * 6 * 8 + 5);
}

TEST_F(CliStudyTest, WithoutBranches) {
  const std::string program = file("none.asm", kNoBranches);
  const json result = study_json({program});
  EXPECT_EQ(result["executed"], 2);
  EXPECT_EQ(result["branches"]["conditional"], 0);
  EXPECT_TRUE(result["worst"].is_array() && result["worst"].empty());
  for (const json& one : result["predictors"]) {
    EXPECT_EQ(one["branches"], 0);
    EXPECT_TRUE(one["accuracy_percent"].is_null() && one["ns_per_branch"].is_null());
    EXPECT_EQ(one["mpki"], 0.0);
  }
  const Ended text = study({program});
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.out, HasSubstr("no branch to predict"));
  EXPECT_EQ(study_json({"--budget", "0", program})["predictors"][0]["mpki"], nullptr);
}

TEST_F(CliStudyTest, UnconditionalBranchesArePredictedOnRequest) {
  const std::string program = file("endless.asm", kEndless);
  for (const bool predicted : {false, true}) {
    Arguments arguments{"--budget", "100k", program};
    if (predicted) arguments.emplace_back("--unconditional");
    const json result = study_json(arguments);
    EXPECT_EQ(result["stop"], "budget");
    EXPECT_EQ(result["exit_code"], 6);
    EXPECT_EQ(result["executed"], 100'000);
    EXPECT_EQ(result["branches"]["unconditional"], 50'000);
    EXPECT_EQ(result["branches"]["unconditional_predicted"], predicted);
    EXPECT_EQ(result["predictors"][0]["branches"], predicted ? 50'000 : 0);
    EXPECT_EQ(result["predictors"][0]["mispredictions"], 0);
    EXPECT_EQ(result["predictors"][1]["mispredictions"], predicted ? 50'000 : 0);
  }
}

TEST_F(CliStudyTest, EndsAtTenMillionInstructionsUnlessToldOtherwise) {
  const Ended ended = study({file("endless.asm", kEndless)});
  EXPECT_EQ(ended.code, 6);
  EXPECT_THAT(ended.out, HasSubstr("10000000 instructions"));
  EXPECT_THAT(ended.err, HasSubstr("the budget is used up after 10000000 instructions"));
}

TEST_F(CliStudyTest, EveryEndIsToldWithTheStudyUntilThen) {
  const std::string cat = file("cat.asm", kCat);
  const Ended input_end = study({cat}, {.input = "abc"});
  EXPECT_EQ(input_end.code, 8);
  EXPECT_THAT(input_end.out, HasSubstr("12 instructions, 3 conditional branches"));
  EXPECT_THAT(input_end.err, HasSubstr("waits for input, and there is no more"));
  Process waiting({"study", "branches", "--timeout", "300ms", cat}, {.input = "abc", .keep_input_open = true});
  const Ended timeout = waiting.wait();
  EXPECT_EQ(timeout.code, 7);
  EXPECT_THAT(timeout.out, HasSubstr("12 instructions, 3 conditional branches"));
  Process interrupted({"study", "branches", "--budget", "100G", file("endless.asm", kEndless)});
  ::usleep(300'000);
  interrupted.send(SIGINT);
  const Ended ended = interrupted.wait();
  EXPECT_EQ(ended.code, 130);
  EXPECT_THAT(ended.out, HasSubstr("unconditional"));
  EXPECT_EQ(study({file("bad.asm", ".ORIG x3000\n.FILL xD000\n.END\n")}).code, 5);
}

TEST_F(CliStudyTest, InputComesAsForRun) {
  const std::string cat = file("cat.asm", kCat), keys = file("keys", std::string("abcd\0", 5));
  EXPECT_EQ(study_json({"--input", keys, cat})["branches"]["conditional"], 5);
  EXPECT_EQ(study_json({"--input", "-", cat}, {.input = std::string("ab\0", 3)})["branches"]["conditional"], 3);
  EXPECT_EQ(study_json({cat}, {.input = std::string("abc\0", 4)})["branches"]["conditional"], 4);
  EXPECT_EQ(study({"--timeout", "200ms", "--input", "-", cat}, {.input = "", .keep_input_open = true}).code, 7);
}

TEST_F(CliStudyTest, OutputOfTheProgramIsShownOnRequestOnly) {
  const std::string cat = file("cat.asm", kCat), keys = file("keys", std::string("abcd\0", 5));
  EXPECT_THAT(study({"--input", keys, cat}).err, IsEmpty());
  EXPECT_EQ(study({"--show", "--input", keys, cat}).err, std::string("abcd\0", 5));
}

// A PUTS that needs more room than there is has to stop, and to go on.
TEST_F(CliStudyTest, OutputBeyondItsRingIsComplete) {
  const std::string program = file("long.asm",
                                   ".ORIG x3000\nLEA R0, T\nPUTS\nPUTS\nHALT\n"
                                   "T .STRINGZ \"x\"\n.END\n");
  std::string text = ".ORIG x3000\nLD R0, P\nPUTS\nPUTS\nHALT\nP .FILL x4000\n.END\n.ORIG x4000\n";
  for (int i = 0; i < 20'000; ++i) text += ".FILL x41\n";
  text += ".FILL 0\n.END\n";
  const Ended ended = study({"--show", file("longer.asm", text)});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.err, std::string(40'000, 'A'));
  EXPECT_THAT(ended.out, HasSubstr("4 instructions, 0 conditional branches"));
  EXPECT_EQ(study({"--show", program}).err, "xx");
}

// The run that is studied is the run that `run` makes: the same display, the same number of instructions, and the same
// branches as its own statistics count.
TEST_F(CliStudyTest, EveryProgramRunsAsItDoesWithoutAStudy) {
  const auto cases = lc3_programs::load_manifest(WARMFORK_LC3_PROGRAMS);
  ASSERT_TRUE(cases) << cases.error().message;
  const std::size_t step = 10 / scaled(10);
  for (std::size_t i = 0; i < cases->size(); i += step) {
    const lc3_programs::Case& one = (*cases)[i];
    SCOPED_TRACE(one.name);
    Arguments arguments = program_arguments(one, file("input", one.input));
    arguments.insert(arguments.begin(), "--json");
    Arguments run_arguments = arguments, study_arguments = arguments;
    run_arguments.insert(run_arguments.begin(), {"run", "--stats"});
    study_arguments.insert(study_arguments.begin(), {"--show", "--repeats", "1"});
    const json run = parse(run_cli(run_arguments));
    const Ended ended = study(study_arguments);
    const json studied = parse(ended);
    EXPECT_EQ(ended.err, one.expected);
    for (const char* key : {"stop", "executed", "message", "exit_code"}) EXPECT_EQ(studied[key], run[key]) << key;
    const json& branches = studied["branches"];
    EXPECT_EQ(branches["conditional"].get<std::uint64_t>() + branches["unconditional"].get<std::uint64_t>(),
              run["statistics"]["branches"]["taken"].get<std::uint64_t>() +
                  run["statistics"]["branches"]["not_taken"].get<std::uint64_t>());
    EXPECT_EQ(branches["conditional_taken"].get<std::uint64_t>() + branches["unconditional"].get<std::uint64_t>(),
              run["statistics"]["branches"]["taken"].get<std::uint64_t>());
  }
}

TEST_F(CliStudyTest, ACacheIsFilledAndUsed) {
  const std::string source = file("endless.asm", kEndless), cache = path("cache");
  const Arguments arguments{source, "--engine", "orc", "--cache", cache, "--budget", "2M"};
  EXPECT_THAT(study(arguments).err, Not(HasSubstr("--cache")));
  ASSERT_TRUE(std::filesystem::is_directory(cache));
  EXPECT_FALSE(std::filesystem::is_empty(cache)) << "written";
  for (const auto& entry : std::filesystem::directory_iterator(cache)) std::filesystem::resize_file(entry, 100);
  EXPECT_THAT(study(arguments).err, HasSubstr("warning: --cache: " + cache)) << "read";
  EXPECT_THAT(study({source, "--engine", "xbyak", "--cache", cache}).err, HasSubstr("makes no code to keep there"));
  EXPECT_EQ(study({source, "--cache-limit", "1M"}).code, 2) << "of no directory";
}

}  // namespace
}  // namespace warmfork::test
