// warmfork grade: LC-3 submissions against a set of tests, each run in a fork of its own.
#include "lc3/fleet/grade.hpp"

#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/fleet/junit.hpp"
#include "lc3_report.hpp"
#include "metrics.hpp"
#include "option_checks.hpp"
#include "terminal.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

using lc3::Verdict;

constexpr std::size_t kWordColumns = 8;   // so many tests have a column each
constexpr std::size_t kMostLetters = 60;  // of more tests
constexpr std::size_t kNameWidth = 28;
constexpr std::size_t kTestWidth = 12;

struct Options {
  MetricsOptions metrics;
  std::vector<std::string> submissions;
  std::string tests;
  std::string budget, timeout, output_limit, compare, end, privilege, fork = "space";
  std::optional<int> edition;
  std::vector<std::uint64_t> seeds;
  unsigned threads = 0;
  std::string junit;
  std::size_t details = 3;
  bool json = false;
};

struct Sign {
  const char* word;
  char letter;
};
Sign sign_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed: return {"ok", '.'};
    case Verdict::kWrongOutput: return {"wrong", 'W'};
    case Verdict::kInstructionLimit: return {"limit", 'L'};
    case Verdict::kInputExhausted: return {"input", 'I'};
    case Verdict::kFault: return {"fault", 'F'};
    case Verdict::kOutputLimit: return {"output", 'O'};
    case Verdict::kTimeout: return {"timeout", 'T'};
    case Verdict::kCrashed: return {"crashed", 'C'};
    case Verdict::kWrongEnd: return {"end", 'E'};
    case Verdict::kNotAssembled: return {"asm", 'A'};
    case Verdict::kUnreadable: return {"file", 'U'};
    case Verdict::kInterrupted: return {"-", '-'};
    case Verdict::kDeadlock: return {"dead", 'D'};
  }
  return {"?", '?'};
}

Status override_tests(const Options& options, lc3::TestSet& set) {
  if (options.edition) set.machine.edition = *options.edition;
  if (!options.privilege.empty()) set.machine.strict_privilege = options.privilege == "strict";
  if (options.seeds.size() > lc3::kMaxSeeds) {
    return fail(ErrorKind::kUsage, "{} seeds, at most {}", options.seeds.size(), lc3::kMaxSeeds);
  }
  if (!options.seeds.empty()) set.seeds.assign(options.seeds.begin(), options.seeds.end());
  std::optional<std::uint64_t> budget, timeout, output;
  if (!options.budget.empty()) {
    WARMFORK_TRY_ASSIGN(budget, parse_count(options.budget));
    if (*budget == 0) return fail(ErrorKind::kUsage, "--budget 0: a program needs at least one instruction");
  }
  if (!options.timeout.empty()) {
    WARMFORK_TRY_ASSIGN(timeout, parse_duration(options.timeout));
  }
  if (!options.output_limit.empty()) {
    WARMFORK_TRY_ASSIGN(output, parse_size(options.output_limit));
    if (*output > std::uint64_t{64} << 20) return fail(ErrorKind::kUsage, "--output-limit {}: at most 64M", *output);
  }
  for (lc3::TestCase& test : set.tests) {
    if (budget) test.limits.instructions = *budget;
    if (timeout) test.limits.wall_ns = *timeout;
    if (output) test.limits.output_bytes = *output;
    if (!options.compare.empty()) {
      test.compare = options.compare == "exact" ? lc3::Compare::kExact : lc3::Compare::kTrailing;
    }
    if (!options.end.empty()) test.end = options.end == "halt" ? lc3::ExpectedEnd::kHalt : lc3::ExpectedEnd::kInput;
  }
  return {};
}

std::string indented(std::string_view text) {
  std::string out = "    ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "    ";
  }
  return out;
}

// At most `width` bytes, which fmt then pads; names are shown by what a terminal may have.
std::string cut(std::string_view name, std::size_t width) {
  std::string text = lc3::visible(name, width);
  if (text.size() > width) text = lc3::visible(name, width > 3 ? width - 3 : 0);
  return text;
}

void print_details(const lc3::SubmissionResult& one, const lc3::TestSet& set, std::size_t most) {
  const std::string name = lc3::visible(one.submission.name, 200);
  if (!one.error.empty()) {
    fmt::print("\n{}: {}\n{}\n", name, lc3::describe(one.cells.front().verdict), indented(one.error));
    return;
  }
  std::size_t shown = 0;
  std::size_t failed = 0;
  for (std::size_t i = 0; i < one.cells.size(); ++i) {
    const lc3::Cell& cell = one.cells[i];
    if (cell.verdict == Verdict::kPassed || cell.verdict == Verdict::kInterrupted) continue;
    if (++failed > most) continue;
    ++shown;
    fmt::print("\n{}, {}{}: {}\n{}\n", name, lc3::visible(set.tests[i].name, 200),
               cell.seed ? fmt::format(" (seed {})", *cell.seed) : "", lc3::describe(cell.verdict),
               indented(cell.detail));
  }
  if (failed > shown && shown > 0) fmt::print("{}: {} more tests not passed (--details N)\n", name, failed - shown);
}

void print_table(const lc3::GradeReport& report, const lc3::TestSet& set, std::size_t details) {
  const bool colour = use_colour(STDOUT_FILENO);
  const auto paint = [&](bool good, const std::string& text) {
    return colour ? fmt::format("\033[{}m{}\033[0m", good ? 32 : 31, text) : text;
  };
  const bool words = set.tests.size() <= kWordColumns;
  std::string head = fmt::format("{:<{}}  ", "submission", kNameWidth);
  if (words) {
    for (const lc3::TestCase& test : set.tests) head += fmt::format("{:<{}}  ", cut(test.name, kTestWidth), kTestWidth);
  } else {
    head += fmt::format("{:<{}}  ", "tests, in order", std::min(set.tests.size(), kMostLetters));
  }
  fmt::print("{}passed\n", head);
  std::array<std::size_t, lc3::kVerdictCount> counts{};
  std::size_t passed_all = 0;
  for (const lc3::SubmissionResult& one : report.submissions) {
    fmt::print("{:<{}}  ", cut(one.submission.name, kNameWidth), kNameWidth);
    std::size_t passed = 0;
    for (const lc3::Cell& cell : one.cells) {
      ++counts[static_cast<std::size_t>(cell.verdict)];
      passed += cell.verdict == Verdict::kPassed ? 1 : 0;
    }
    for (std::size_t i = 0; i < one.cells.size() && (words || i < kMostLetters); ++i) {
      const Verdict verdict = one.cells[i].verdict;
      const Sign sign = sign_of(verdict);
      const std::string text = words ? fmt::format("{:<{}}", sign.word, kTestWidth) : std::string(1, sign.letter);
      fmt::print("{}{}", paint(verdict == Verdict::kPassed, text), words ? "  " : "");
    }
    passed_all += passed == one.cells.size() ? 1 : 0;
    fmt::print("{}{}\n", words ? "" : (one.cells.size() > kMostLetters ? "… " : "  "),
               paint(passed == one.cells.size(), fmt::format("{}/{}", passed, one.cells.size())));
  }
  if (!words)
    fmt::print(
        "\n. passed  W wrong output  L instruction limit  I input exhausted  F fault  O output limit\n"
        "T timeout  C crashed guest  E wrong end  A does not assemble  U unreadable  - not run\n");
  for (const lc3::SubmissionResult& one : report.submissions) print_details(one, set, details);
  const double seconds = static_cast<double>(std::max<std::uint64_t>(report.runs_ns, 1)) * 1e-9;
  fmt::print("\n{} of {} submissions passed all {} tests;", passed_all, report.submissions.size(), set.tests.size());
  const char* separator = "";
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    fmt::print("{} {} {}", separator, counts[i], lc3::describe(static_cast<Verdict>(i)));
    separator = ",";
  }
  fmt::print("\n{} isolated runs in {}, {:.0f} per second\n", report.runs, time_text(seconds * 1e9),
             static_cast<double>(report.runs) / seconds);
}

void print_json(const lc3::GradeReport& report, const lc3::TestSet& set, int code) {
  nlohmann::ordered_json json{{"exit_code", code},
                              {"passed", report.all_passed()},
                              {"interrupted", report.interrupted},
                              {"runs", report.runs},
                              {"ns", report.ns},
                              {"runs_ns", report.runs_ns},
                              {"tests", nlohmann::ordered_json::array()},
                              {"submissions", nlohmann::ordered_json::array()}};
  for (const lc3::TestCase& test : set.tests) json["tests"].push_back(json_text(test.name).text);
  for (const lc3::SubmissionResult& one : report.submissions) {
    nlohmann::ordered_json entry{{"name", json_text(one.submission.name).text},
                                 {"path", json_text(one.submission.path).text},
                                 {"passed", one.passed()}};
    if (!one.error.empty()) entry["error"] = json_text(one.error).text;
    entry["results"] = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < one.cells.size(); ++i) {
      const lc3::Cell& cell = one.cells[i];
      nlohmann::ordered_json result{{"test", json_text(set.tests[i].name).text},
                                    {"verdict", lc3::name_of(cell.verdict)},
                                    {"instructions", cell.executed},
                                    {"ns", cell.ns},
                                    {"seeds_passed", cell.seeds_passed},
                                    {"seeds_run", cell.seeds_run}};
      if (cell.seed) result["seed"] = *cell.seed;
      if (!cell.detail.empty()) result["detail"] = json_text(cell.detail).text;
      entry["results"].push_back(std::move(result));
    }
    json["submissions"].push_back(std::move(entry));
  }
  fmt::print("{}\n", json.dump(2));
}

Result<int> run_checked(const Options& options) {
  WARMFORK_TRY_ASSIGN(lc3::TestSet set, lc3::load_tests(options.tests));
  WARMFORK_TRY(override_tests(options, set));
  WARMFORK_TRY_ASSIGN(const auto submissions, lc3::find_submissions(options.submissions));
  WARMFORK_TRY_ASSIGN(const kvm::Kvm kvm, open_kvm());
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  auto shown = std::chrono::steady_clock::now();
  bool line = false;
  lc3::GradeOptions how;
  how.fork = options.fork == "vm" ? ForkKind::kVm : ForkKind::kSpace;
  how.threads = options.threads;
  how.should_stop = [&](const lc3::GradeProgress& progress) {
    metrics_ready();
    const auto now = std::chrono::steady_clock::now();
    if (terminal && now - shown >= std::chrono::seconds(1)) {
      shown = now;
      line = true;
      print_message("\r\033[Kgrading: {} of {} submissions, {} of {} runs", progress.submissions, submissions.size(),
                    progress.runs, progress.all_runs);
    }
    return signals->signal() != 0;
  };
  auto graded = lc3::grade(kvm, set, submissions, how);
  if (line) print_message("\r\033[K");
  WARMFORK_TRY_ASSIGN(const lc3::GradeReport report, std::move(graded));
  int code = report.interrupted ? 128 + signals->signal() : report.all_passed() ? kSuccess : kFailure;
  if (!options.junit.empty()) {
    const std::string xml = lc3::junit_xml(report, set);
    if (options.junit == "-") {
      fmt::print("{}", xml);
      return code;
    }
    // What was graded is not lost with the file.
    if (const auto written = write_file(options.junit, xml.data(), xml.size()); !written) {
      code = cli::report(written.error());
    }
  }
  options.json ? print_json(report, set, code) : print_table(report, set, options.details);
  if (report.interrupted && !options.json)
    print_message("{} interrupted; what was not run is marked -\n", error_prefix());
  return code;
}

int run(const Options& options) {
  const auto code = run_checked(options);
  return code ? *code : report(code.error());
}

}  // namespace

void add_grade(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("grade", "Run LC-3 submissions against a set of tests, isolated from each other");
  verb->footer(
      "Every run of every submission has a machine of its own: a fork of a freshly started LC-3 that is reset before\n"
      "anybody else gets it. A submission that loops, crashes, floods its output or does not assemble is a verdict in\n"
      "the table and costs the others nothing.\n\n"
      "  warmfork grade work.asm --tests tests.toml                 one program, many tests\n"
      "  warmfork grade submissions/ --tests tests/                 many programs; tests/ has NAME.in and NAME.out\n"
      "  warmfork grade submissions/ --tests tests.toml --junit results.xml\n"
      "  warmfork grade work.asm --tests tests.toml --seed 1 --seed 2 --seed 3\n"
      "                                   from three different random memories: finds what relies on zeros\n\n"
      "A test set:\n"
      "  budget = \"100k\"            # instructions; the limit is exact, and the same on every machine\n"
      "  compare = \"trailing\"       # or exact, the default; trailing: blanks at the ends of lines do not count\n"
      "  seeds = [1, 2]             # initial memories; without: zeros\n"
      "  [[test]]\n"
      "  name = \"two numbers\"\n"
      "  input = \"3\\n4\\n\"           # or input_file = \"two.in\"\n"
      "  output = \"7\\n\"            # or output_file = \"two.out\"\n"
      "Also: deadline, output_limit, end (halt, or input: for programs that read for ever), edition, privilege, "
      "traps.\n"
      "All but seeds, edition, privilege and traps may also be a test's own. Options win over the file.\n\n"
      "Verdicts: passed; wrong output (with the first lines that differ); instruction limit; input exhausted; fault\n"
      "(illegal opcode, privilege, a trap without a routine); output limit; timeout; does not assemble (with file and\n"
      "line); wrong end; unreadable; crashed guest. Passing with some seeds only is said to be so.\n\n"
      "Keys of --json: exit_code, passed, interrupted, runs, ns, runs_ns, tests, submissions: name, path, passed, "
      "error,\n"
      "results: test, verdict, instructions, ns, seeds_passed, seeds_run, seed, detail.\n\n"
      "Exit codes: 0 every submission passed every test · 1 some did not · 2 wrong usage · 3 the test set is off, or "
      "a\n"
      "path is not there · 4 no KVM, out of memory · 130 Ctrl-C: the report tells what was run before.");
  verb->add_option("submission", options->submissions, ".asm and .obj files, or directories of them")
      ->required()
      ->type_name("PATH");
  verb->add_option("--tests", options->tests, "The test set: a TOML file, or a directory of NAME.in and NAME.out")
      ->required()
      ->type_name("PATH");
  verb->add_option("--budget", options->budget, "Instructions of a run at most (10k, 2M; default 10M)")->type_name("N");
  verb->add_option("--timeout", options->timeout, "Wall-clock time of a run at most, a backstop (default 10s)")
      ->type_name("TIME");
  verb->add_option("--output-limit", options->output_limit, "Bytes of output of a run at most (default 64K)")
      ->type_name("SIZE");
  verb->add_option("--compare", options->compare, "How outputs are compared")
      ->check(CLI::IsMember({"exact", "trailing"}));
  verb->add_option("--end", options->end, "How a run has to end: by HALT, or asking for input when there is no more")
      ->check(CLI::IsMember({"halt", "input"}));
  verb->add_option("--seed,--randomise", options->seeds,
                   "Fill memory and registers with the values of this seed first; again for more, each is a run")
      ->check(whole_number())
      ->type_name("N")
      ->take_all()
      ->expected(1);
  verb->add_option("--edition", options->edition, "Semantics of the textbook's 2nd or 3rd edition")
      ->check(CLI::IsMember({2, 3}));
  verb->add_option("--privilege", options->privilege, "strict: user programs may not touch devices and system space")
      ->check(CLI::IsMember({"relaxed", "strict"}));
  verb->add_option("--fork", options->fork, "What separates runs: space (page tables) or vm (a KVM VM per thread)")
      ->check(CLI::IsMember({"space", "vm"}))
      ->capture_default_str();
  verb->add_option("--threads", options->threads, "Worker threads (default: one per CPU)")->check(CLI::Range(1, 256));
  verb->add_option("--junit", options->junit, "Write JUnit XML here (- for standard output, instead of the table)")
      ->type_name("FILE");
  verb->add_option("--details", options->details, "Tests not passed that are explained, per submission")
      ->check(whole_number())
      ->capture_default_str();
  verb->add_flag("--json", options->json, "The result as JSON");
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, std::string("grade"), [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
