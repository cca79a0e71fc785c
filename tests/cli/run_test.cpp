// warmfork run in pipes: output, input, limits, exit codes, JSON, statistics.
#include "process.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WARMFORK_SANITIZED 1
#endif
#endif

namespace warmfork::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::string_view kHello = ".ORIG x3000\nLEA R0, T\nPUTS\nHALT\nT .STRINGZ \"hello\"\n.END\n";
constexpr std::string_view kEndless = ".ORIG x3000\nLOOP ADD R0, R0, #1\nBRnzp LOOP\n.END\n";
constexpr std::string_view kPrinter = ".ORIG x3000\nLEA R0, T\nL PUTS\nBR L\nT .STRINGZ \"line of text\\n\"\n.END\n";
constexpr std::string_view kCat = ".ORIG x3000\nL GETC\nOUT\nBR L\n.END\n";
// Copies by polling, without a single trap.
constexpr std::string_view kPollingCat =
    ".ORIG x3000\nL LDI R0, SR\nBRzp L\nLDI R0, DR\nSTI R0, DD\nBR L\n"
    "SR .FILL xFE00\nDR .FILL xFE02\nDD .FILL xFE06\n.END\n";
// Polls once, shows whether a key was there, then halts.
constexpr std::string_view kPollOnce =
    ".ORIG x3000\nLDI R1, SR\nBRn YES\nLD R0, N\nOUT\nHALT\nYES LD R0, Y\nOUT\nHALT\n"
    "SR .FILL xFE00\nN .FILL x6E\nY .FILL x79\n.END\n";

class RunTest : public CliKvmTest {};

json parse(const Ended& ended) {
  const json parsed = json::parse(ended.out, nullptr, false);
  EXPECT_TRUE(parsed.is_object()) << ended.out << ended.err;
  return parsed;
}

TEST_F(RunTest, OutputIsByteExactAndNothingElseIsSaid) {
  const Ended ended = run_cli({"run", file("hello.asm", kHello)});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.out, "hello");
  EXPECT_THAT(ended.err, IsEmpty());
}

TEST_F(RunTest, BudgetIsExact) {
  const std::string program = file("endless.asm", kEndless);
  for (const auto& [text, count] : std::vector<std::pair<std::string, std::uint64_t>>{{"0", 0},
                                                                                      {"1", 1},
                                                                                      {"1000", 1000},
                                                                                      {"10k", 10'000},
                                                                                      {"1000003", 1'000'003},
                                                                                      {"2M", 2'000'000},
                                                                                      {"123456789", 123'456'789}}) {
    const json result = parse(run_cli({"run", "--json", "--budget", text, program}));
    EXPECT_EQ(result["executed"], count) << text;
    EXPECT_EQ(result["stop"], "budget");
    EXPECT_EQ(result["exit_code"], 6);
    EXPECT_EQ(result["registers"]["r0"], ((count + 1) / 2) & 0xFFFF) << text;
  }
  const Ended plain = run_cli({"run", "--budget", "3", program});
  EXPECT_EQ(plain.code, 6);
  EXPECT_THAT(plain.err, HasSubstr("after 3 instructions, at x3001 (LOOP+1, endless.asm:3): BRnzp LOOP"));
  EXPECT_THAT(plain.err, HasSubstr("R0 x0002"));
}

TEST_F(RunTest, TimeoutHoldsWhileRunningAndWhileWaiting) {
  const Ended running = run_cli({"run", "--timeout", "200ms", file("endless.asm", kEndless)});
  EXPECT_EQ(running.code, 7);
  EXPECT_GE(running.seconds, 0.2);
  EXPECT_LT(running.seconds, 1.5);
  Process waiting({"run", "--timeout", "200ms", file("cat.asm", kCat)}, {.input = "", .keep_input_open = true});
  const Ended ended = waiting.wait();
  EXPECT_EQ(ended.code, 7);
  EXPECT_LT(ended.seconds, 1.5);
  Process reading({"run", "--timeout", "200ms", "--input", "-", file("cat.asm", kCat)},
                  {.input = "", .keep_input_open = true});
  EXPECT_EQ(reading.wait().code, 7);
}

TEST_F(RunTest, TimeoutHoldsWhileNobodyReadsTheOutput) {
  Process process({"run", "--timeout", "300ms", file("printer.asm", kPrinter)});
  ::usleep(1'500'000);
  const double begin = seconds_now();
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 7);
  EXPECT_LT(seconds_now() - begin, 0.5);
}

TEST_F(RunTest, SignalsEndItWithTheirCode) {
  for (const std::string_view program : {kEndless, kCat}) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
      Process process({"run", file("program.asm", program)}, {.input = "x", .keep_input_open = true});
      ::usleep(150'000);
      process.send(signal);
      const Ended ended = process.wait();
      EXPECT_EQ(ended.code, 128 + signal);
      EXPECT_THAT(ended.err, HasSubstr("interrupted after"));
    }
  }
}

TEST_F(RunTest, AClosedOutputEndsItQuietly) {
  for (const bool as_json : {false, true}) {
    Arguments arguments{"run", "--timeout", "20s", file("printer.asm", kPrinter)};
    if (as_json) arguments.insert(arguments.begin() + 1, {"--json", "--budget", "1M"});
    Process process(arguments);
    if (!as_json) {
      ASSERT_TRUE(process.wait_for_output("line of text\nline of text\n"));
    }
    process.close_output();
    const Ended ended = process.wait();
    EXPECT_EQ(ended.code, 141);
    EXPECT_THAT(ended.err, IsEmpty());
    EXPECT_LT(ended.seconds, 10);
  }
}

TEST_F(RunTest, PipedInputIsStreamedAsItComes) {
  for (const std::string_view program : {kCat, kPollingCat}) {
    Process process({"run", file("cat.asm", program)}, {.input = "", .keep_input_open = true});
    process.write("one\n");
    ASSERT_TRUE(process.wait_for_output("one\n"));
    process.write("two\n");
    ASSERT_TRUE(process.wait_for_output("two\n"));
    process.close_input();
    const Ended ended = process.wait();
    EXPECT_EQ(ended.code, 8);
    EXPECT_EQ(ended.out, "one\ntwo\n");
    EXPECT_THAT(ended.err, HasSubstr("waits for input, and there is no more"));
  }
}

TEST_F(RunTest, LongInputAndOutputArriveWhole) {
  std::string text;
  for (int i = 0; text.size() < 300'000; ++i) text += std::to_string(i) + "\n";
  for (const std::string_view program : {kCat, kPollingCat}) {
    const std::string path = file("cat.asm", program);
    EXPECT_EQ(run_cli({"run", "--input", file("text", text), path}).out, text);
    // From a pipe, too, with output read meanwhile.
    Process process({"run", path}, {.input = "", .keep_input_open = true});
    std::thread writer([&] {
      process.write(text);
      process.close_input();
    });
    EXPECT_TRUE(process.wait_for_output(text.substr(text.size() - 100), 20));
    writer.join();
    const Ended ended = process.wait();
    EXPECT_EQ(ended.out, text);
  }
}

TEST_F(RunTest, FileInputIsThereFromTheFirstPoll) {
  const std::string program = file("poll.asm", kPollOnce);
  EXPECT_EQ(run_cli({"run", "--input", file("keys", "k"), program}).out, "y");
  EXPECT_EQ(run_cli({"run", "--input", "-", program}, {.input = "k"}).out, "y");
  EXPECT_EQ(run_cli({"run", program}).out, "n");
}

TEST_F(RunTest, UnservedEventsAreNamed) {
  const std::string hello = file("hello.asm", kHello);
  const Ended trap = run_cli({"run", "--no-os", hello});
  EXPECT_EQ(trap.code, 5);
  EXPECT_THAT(trap.err, HasSubstr("trap x22 has no routine at x3001 (hello.asm:3): PUTS (xF022)"));
  const std::string illegal = file("illegal.asm", ".ORIG x3000\nHERE .FILL xD123\nHALT\n.END\n");
  for (const bool os : {true, false}) {
    Arguments arguments{"run", illegal};
    if (!os) arguments.emplace_back("--no-os");
    const Ended ended = run_cli(arguments);
    EXPECT_EQ(ended.code, 5);
    EXPECT_THAT(ended.err, HasSubstr("illegal opcode (exception x01) at x3000 (HERE, illegal.asm:2)"));
    EXPECT_THAT(ended.err, HasSubstr("PC x"));
  }
  const json result = parse(run_cli({"run", "--json", illegal}));
  EXPECT_EQ(result["exit_code"], 5);
  EXPECT_EQ(result["stop"], "ended_by_os");
  EXPECT_EQ(result["failure"]["vector"], 1);
  EXPECT_EQ(result["failure"]["address"], 0x3000);
}

TEST_F(RunTest, JsonHoldsEverythingAndAnyBytes) {
  const Ended ended = run_cli({"run", "--json", "--stats", file("hello.asm", kHello)});
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, IsEmpty());
  const json result = parse(ended);
  EXPECT_EQ(result["output"], "hello");
  EXPECT_EQ(result["executed"], 3);
  EXPECT_EQ(result["statistics"]["opcodes"]["TRAP"], 2);
  EXPECT_EQ(result["statistics"]["opcodes"]["LEA"], 1);
  EXPECT_GT(result["ns"]["construct"], 0);
  EXPECT_EQ(result["statistics"]["hottest"].size(), 3U);

  const json bytes =
      parse(run_cli({"run", "--json", file("b.asm", ".ORIG x3000\nLD R0, C\nOUT\nHALT\nC .FILL xE9\n.END\n")}));
  EXPECT_EQ(bytes["output_encoding"], "latin-1");
  EXPECT_EQ(bytes["output"], "\u00e9");

  const Ended error = run_cli({"run", "--json", path("missing.asm")});
  EXPECT_EQ(error.code, 3);
  EXPECT_EQ(parse(error)["stop"], "error");
}

TEST_F(RunTest, StatisticsCountWhatHappened) {
  const Ended ended = run_cli({"run", "--stats", "--budget", "1000", file("endless.asm", kEndless)});
  EXPECT_THAT(ended.err, HasSubstr("BR                   500   50.0 %"));
  EXPECT_THAT(ended.err, HasSubstr("taken 500, not taken 0"));
  EXPECT_THAT(ended.err, HasSubstr("x3000 (LOOP, endless.asm:2)  ADD R0, R0, #1"));
  EXPECT_THAT(ended.out, IsEmpty());
}

TEST_F(RunTest, PerfMapNamesWhatIsCompiled) {
  const std::string program = file("endless.asm", kEndless);
  const auto maps = [] {
    std::set<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator("/tmp")) {
      const std::string name = entry.path().filename();
      if (name.starts_with("perf-") && name.ends_with(".map")) found.insert(entry.path());
    }
    return found;
  };
  const auto before = maps();
  const Ended ended = run_cli({"run", "--perf-map", "--engine", "xbyak", "--budget", "1000", program});
  EXPECT_EQ(ended.code, 6);
  int named = 0;
  for (const std::filesystem::path& map : maps()) {
    if (before.contains(map)) continue;
    std::ifstream lines(map);
    std::uint64_t start = 0, size = 0;
    std::string name;
    while (lines >> std::hex >> start >> size >> name) {
      if (name != "lc3_x3000") continue;
      ++named;
      EXPECT_GT(start, 0U);
      EXPECT_GT(size, 0U);
    }
    if (named != 0) std::filesystem::remove(map);
  }
  EXPECT_EQ(named, 1);

  const Ended interpreted = run_cli({"run", "--perf-map", "--engine", "interp", program});
  EXPECT_EQ(interpreted.code, 2);
  EXPECT_THAT(interpreted.err, HasSubstr("engine interp makes no code to name there"));
}

TEST_F(RunTest, SeedsAreRepeatable) {
  const std::string program = file("halt.asm", ".ORIG x3000\nHALT\n.END\n");
  const auto registers = [&](const Arguments& more) {
    Arguments arguments{"run", "--json", program};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return parse(run_cli(arguments));
  };
  const json one = registers({"--seed", "7"});
  EXPECT_EQ(one["registers"], registers({"--seed", "7"})["registers"]);
  EXPECT_NE(one["registers"], registers({"--seed", "8"})["registers"]);
  EXPECT_EQ(registers({})["registers"]["r0"], 0);
  const json random = registers({"--randomize"});
  EXPECT_NE(random["seed"], registers({"--randomize"})["seed"]);
  EXPECT_EQ(random["registers"], registers({"--seed", random["seed"].dump()})["registers"]);
}

TEST_F(RunTest, EditionPrivilegeAndStartReachTheMachine) {
  // LEA sets the condition code in the 2nd edition only.
  const std::string lea = file("lea.asm",
                               ".ORIG x3000\nLEA R0, L\nL BRp P\nLD R0, N\nOUT\nHALT\nP LD R0, Y\nOUT\nHALT\n"
                               "N .FILL x6E\nY .FILL x79\n.END\n");
  EXPECT_EQ(run_cli({"run", "--edition", "2", lea}).out, "y");
  EXPECT_EQ(run_cli({"run", "--edition", "3", lea}).out, "n");
  const std::string poke = file("poke.asm", ".ORIG x3000\nSTI R0, A\nHALT\nA .FILL x1000\n.END\n");
  EXPECT_EQ(run_cli({"run", poke}).code, 0);
  const Ended strict = run_cli({"run", "--privilege", "strict", poke});
  EXPECT_EQ(strict.code, 5);
  EXPECT_THAT(strict.err, HasSubstr("access violation (exception x02) at x3000 (poke.asm:2): STI R0, A"));
  EXPECT_EQ(parse(run_cli({"run", "--json", "--start", "supervisor", "--budget", "0", poke}))["registers"]["psr"], 2);
}

TEST_F(RunTest, ObjectFilesRunWithTheirSymbols) {
  const std::string source = file("illegal.asm", ".ORIG x3000\nNOP\nHERE .FILL xD123\n.END\n");
  ASSERT_EQ(run_cli({"asm", source}).code, 0);
  const Ended ended = run_cli({"run", path("illegal.obj")});
  EXPECT_EQ(ended.code, 5);
  EXPECT_THAT(ended.err, HasSubstr("at x3001 (HERE)"));
}

TEST_F(RunTest, ManyAtOnceDoNotDisturbEachOther) {
  const std::string program = file("endless.asm", kEndless);
  std::vector<std::unique_ptr<Process>> processes;
  for (int i = 0; i < 6; ++i) {
    processes.push_back(
        std::make_unique<Process>(Arguments{"run", "--json", "--budget", std::to_string(20'000'000 + i), program}));
  }
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(parse(processes[static_cast<std::size_t>(i)]->wait())["executed"], 20'000'000 + i);
  }
}

TEST_F(RunTest, WithoutMemoryItSaysSoInOneSentence) {
#ifdef WARMFORK_SANITIZED
  GTEST_SKIP() << "sanitizers need more address space than there is";
#endif
  const std::string program = file("hello.asm", kHello);
  int refused = 0;
  for (std::uint64_t megabytes = 16; megabytes < 64; megabytes += 2) {  // the program itself takes 10
    // What it is linked to and the libraries' own static objects: nothing of ours runs without them.
    if (run_cli({"--version"}, {.address_space = megabytes << 20}).code != 0) continue;
    const Ended ended = run_cli({"run", program}, {.address_space = megabytes << 20});
    if (ended.code == 0) continue;
    EXPECT_EQ(ended.code, 4) << megabytes << ": " << ended.err;
    ++refused;
    EXPECT_TRUE(ended.err.starts_with("warmfork: ")) << ended.err;
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
  }
  EXPECT_GT(refused, 0);
}

// Interrupts come at the same instruction whatever executes the program, so it ends with the same registers.
TEST_F(RunTest, ScheduledInputInterruptsAtTheSameInstructionOnEveryEngine) {
  const std::string program = std::string(WARMFORK_LC3_PROGRAMS) + "/keyboard_interrupt.asm";
  std::string first;
  for (const char* engine : {"interp", "xbyak", "orc", "auto"}) {
    const Ended ended = run_cli({"run", "--json", "--engine", engine, "--input-at", "2M:b", "--input-at",
                                 "1000003:a\\x21", "--input-at", "30M:.", program});
    ASSERT_EQ(ended.code, 0) << ended.err << ended.out;
    json result = json::parse(ended.out);
    EXPECT_THAT(result.at("output").get<std::string>(), HasSubstr("a!b"));
    EXPECT_GT(result.at("executed").get<std::uint64_t>(), 30'000'000U);
    result.erase("ns");
    result.erase("instructions_per_second");
    result.erase("code");
    if (first.empty()) first = result.dump();
    EXPECT_EQ(result.dump(), first) << engine;
  }
  // What comes before it is due is what the program waits for.
  const Ended waited = run_cli({"run", "--input-at", "1G:hi", std::string(WARMFORK_LC3_PROGRAMS) + "/echo.asm"});
  EXPECT_THAT(waited.out, HasSubstr("HI"));
  EXPECT_EQ(run_cli({"run", "--input-at", "5", program}).code, 2);
  EXPECT_EQ(run_cli({"run", "--input-at", "5:\\q", program}).code, 2);
}

TEST_F(RunTest, AProgramInDeviceSpaceIsRefused) {
  const Ended ended = run_cli({"run", file("high.asm", ".ORIG xFDF0\n.BLKW 32\n.END\n")});
  EXPECT_EQ(ended.code, 3);
  EXPECT_THAT(ended.err, HasSubstr("reaches the device registers at xFE00"));
}

TEST_F(RunTest, ReadingTheInputFirstEndsWithAnObjectToo) {
  StartOptions open;
  open.keep_input_open = true;
  open.input = "x";
  const std::string program = file("cat.asm", kCat);
  const json late = parse(run_cli({"run", "--json", "--input", "-", "--timeout", "100ms", program}, open));
  EXPECT_EQ(late["stop"], "timeout");
  EXPECT_EQ(late["exit_code"], 7);

  Process process({"run", "--json", "--input", "-", program}, open);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  process.send(SIGTERM);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 143);
  EXPECT_EQ(parse(ended)["stop"], "interrupted");
  EXPECT_THAT(ended.err, HasSubstr("interrupted while reading the input"));
}

TEST_F(RunTest, TheDebuggerListsSourceWithoutControlCharacters) {
  const Ended ended = run_cli({"debug", file("a.asm", ".ORIG x3000\nHALT ; \x1B[31m\n.END\n"), "--command", "list"});
  EXPECT_THAT(ended.out, HasSubstr("HALT ; ?[31m"));
  EXPECT_EQ(ended.out.find('\x1B'), std::string::npos);
}

TEST_F(RunTest, ABadTrapIsNamedInBothEditions) {
  const std::string program = file("bad.asm", ".ORIG x3000\nADD R0, R0, #1\nTRAP x26\nHALT\n.END\n");
  for (const char* edition : {"2", "3"}) {
    const json ended = parse(run_cli({"run", "--json", "--edition", edition, program}));
    EXPECT_EQ(ended["exit_code"], 5) << edition;
    EXPECT_EQ(ended["failure"]["vector"], 0x26) << edition << ended["message"];
    EXPECT_EQ(ended["failure"]["address"], 0x3001) << edition;
  }
}

TEST_F(RunTest, AFullDiskEndsTheDebuggerWithAnError) {
  const std::string command = std::string(WARMFORK_BINARY) + " debug " + file("hello.asm", kHello) +
                              " --command continue >/dev/full 2>/dev/null </dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 4);
}

// The word at PSR reads as RTI while the exception is raised and as something else after it.
TEST_F(RunTest, AnExceptionInDeviceSpaceIsNamedAsItWasRaised) {
  const std::string source = file("jump.asm", ".ORIG x3000\nLD R1, WHERE\nJMP R1\nWHERE .FILL xFFFC\n.END\n");
  const Ended ended = run_cli({"run", source});
  EXPECT_EQ(ended.code, 5);
  EXPECT_THAT(ended.err, HasSubstr("(exception x00) at xFFFC"));
  EXPECT_THAT(ended.err, ::testing::Not(HasSubstr("access violation")));
}

TEST_F(RunTest, TheSecondRunFindsTheOptimisedCodeOfTheFirst) {
  const std::string source = file("endless.asm", kEndless);
  const auto run = [&](const std::string& engine) {
    return run_cli({"run", source, "--engine", engine, "--cache", path("cache"), "--budget", "3G", "--json"});
  };
  for (const std::string engine : {"orc", "auto"}) {
    const Ended first = run(engine), second = run(engine);
    const json before = parse(first), after = parse(second);
    EXPECT_EQ(first.err, second.err);
    EXPECT_EQ(before["code"]["engine"], engine);
    EXPECT_EQ(after["code"]["disk_misses"], 0) << engine;
    EXPECT_GT(after["code"]["disk_hits"], 0) << engine;
    EXPECT_EQ(after["code"]["optimised"], after["code"]["versions"]) << engine;
    EXPECT_EQ(after["code"]["optimise_ns"], 0) << engine;
    for (const char* same : {"stop", "executed", "output", "registers"}) EXPECT_EQ(before[same], after[same]) << same;
    if (engine == "orc") {
      EXPECT_EQ(before["code"]["disk_hits"], 0);
      EXPECT_GT(before["code"]["disk_written"], 0);
    }
  }
}

TEST_F(RunTest, ACacheStaysWithinItsLimit) {
  const std::string source = file("endless.asm", kEndless), cache = path("cache");
  const auto run = [&](const std::string& limit) {
    return parse(run_cli(
        {"run", source, "--engine", "orc", "--cache", cache, "--cache-limit", limit, "--budget", "3G", "--json"}));
  };
  const json none = run("0");
  EXPECT_GT(none["code"]["disk_written"], 0);
  EXPECT_EQ(none["code"]["disk_trimmed"], none["code"]["disk_written"]);
  EXPECT_TRUE(std::filesystem::is_empty(cache));
  const json some = run("1M");
  EXPECT_EQ(some["code"]["disk_trimmed"], 0);
  EXPECT_FALSE(std::filesystem::is_empty(cache));
  EXPECT_EQ(run_cli({"run", source, "--cache-limit", "1M"}).code, 2) << "of no directory";
  EXPECT_EQ(run_cli({"run", source, "--cache", cache, "--cache-limit", "much"}).code, 2);
}

TEST_F(RunTest, ADamagedCacheIsAWarningAndAnUnsafeOneAnError) {
  const std::string source = file("endless.asm", kEndless), cache = path("cache");
  const Arguments arguments{"run", source, "--engine", "orc", "--cache", cache, "--budget", "3G", "--json"};
  EXPECT_THAT(run_cli(arguments).err, IsEmpty());
  for (const auto& entry : std::filesystem::directory_iterator(cache)) std::filesystem::resize_file(entry, 100);
  const Ended damaged = run_cli(arguments);
  EXPECT_THAT(damaged.err, HasSubstr("warning: --cache: " + cache));
  const json told = parse(damaged);
  EXPECT_EQ(told["executed"], 3'000'000'000);
  EXPECT_GT(told["code"]["disk_refused"], 0);
  EXPECT_GT(told["code"]["disk_written"], 0);
  EXPECT_THAT(run_cli(arguments).err, IsEmpty()) << "the damaged file has been replaced";

  std::filesystem::permissions(cache, std::filesystem::perms::all);
  const Ended unsafe = run_cli(arguments);
  EXPECT_EQ(unsafe.code, 2);
  EXPECT_THAT(unsafe.err, HasSubstr(cache + ": writable by others than its owner (mode 777)"));
  const Ended without = run_cli({"run", source, "--engine", "xbyak", "--cache", path("other"), "--budget", "1"});
  EXPECT_EQ(without.code, 2);
  EXPECT_THAT(without.err, HasSubstr("engine xbyak makes no code to keep there"));
}

TEST_F(RunTest, AFullDiskIsAnError) {
  const std::string command = std::string(WARMFORK_BINARY) + " run " + file("hello.asm", kHello) + " >/dev/full 2>" +
                              path("err") + " </dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 4);
  EXPECT_THAT(read_text(path("err")), HasSubstr("No space left on device"));
}

}  // namespace
}  // namespace warmfork::test
