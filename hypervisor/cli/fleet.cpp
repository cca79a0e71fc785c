// warmfork fleet: many LC-3 machines side by side, each in a fork of its own.
#include "lc3/fleet/fleet.hpp"

#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/os/os_image.hpp"
#include "lc3_profile.hpp"
#include "lc3_report.hpp"
#include "metrics.hpp"
#include "terminal.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace warmfork::cli {
namespace {

using lc3::Verdict;

constexpr std::size_t kMostRows = 40;  // of machines that are as expected
constexpr std::size_t kNameWidth = 24;

struct Options {
  MetricsOptions metrics;
  std::string file;
  unsigned threads = 0;
  bool json = false;
  ProfileOptions profile;
};

std::string compared(const lc3::MachineResult& one) {
  if (!one.compared) return "-";
  if (one.verdict == Verdict::kPassed) return "as expected";
  return one.verdict == Verdict::kWrongOutput ? "differs" : "not judged";
}

std::string end_text(const lc3::LinkEnd& end) {
  return fmt::format("{}:{}", lc3::visible(end.machine, kNameWidth), end.port);
}

void print_links(const lc3::FleetReport& report) {
  const auto known = [](const std::optional<std::uint64_t>& count) { return count ? fmt::format("{}", *count) : "?"; };
  fmt::print("\n{:<{}}  {:<{}} {:>12} {:>12}\n", "from", kNameWidth, "to", kNameWidth, "sent", "received");
  std::size_t rows = 0;
  for (const lc3::LinkResult& one : report.links) {
    const auto broken = lc3::violations_of(one);
    if (broken.empty() && ++rows > kMostRows) continue;
    fmt::print("{:<{}}  {:<{}} {:>12} {:>12}\n", end_text(one.from), kNameWidth, end_text(one.to), kNameWidth,
               known(one.sent), known(one.received));
    for (const std::string& line : broken) fmt::print("  {}\n", lc3::visible(line, 400));
  }
  if (rows > kMostRows) fmt::print("… and {} more\n", rows - kMostRows);
}

void print_table(const lc3::FleetReport& report) {
  const bool colour = use_colour(STDOUT_FILENO);
  fmt::print("{:<{}}  {:<18} {:>15} {:>11}  {}\n", "machine", kNameWidth, "end", "instructions", "time", "output");
  std::size_t passed = 0;
  std::uint64_t instructions = 0;
  for (const lc3::MachineResult& one : report.machines) {
    instructions += one.executed;
    const bool good = one.verdict == Verdict::kPassed;
    if (good && ++passed > kMostRows) continue;
    const std::string end = fmt::format("{:<18}", lc3::name_of(one.end));
    const std::string painted = colour ? fmt::format("\033[{}m{}\033[0m", good ? 32 : 31, end) : end;
    fmt::print("{:<{}}  {} {:>15} {:>11}  {}\n", lc3::visible(one.name, kNameWidth), kNameWidth, painted, one.executed,
               time_text(static_cast<double>(one.ns)), compared(one));
  }
  if (passed > kMostRows) fmt::print("… and {} more that ended as expected\n", passed - kMostRows);
  for (const lc3::MachineResult& one : report.machines) {
    if (one.verdict == Verdict::kPassed || one.verdict == Verdict::kInterrupted) continue;
    fmt::print("\n{}: {}\n", lc3::visible(one.name, 200), lc3::describe(one.verdict));
    if (!one.detail.empty()) fmt::print("{}\n", one.detail);
  }
  if (!report.links.empty()) print_links(report);
  const double seconds = static_cast<double>(std::max<std::uint64_t>(report.ns, 1)) * 1e-9;
  fmt::print("\n{} of {} machines ended as expected; {} instructions in {}, {}\n", passed, report.machines.size(),
             instructions, time_text(seconds * 1e9), rate_text(static_cast<double>(instructions) / seconds));
}

void print_json(const lc3::FleetReport& report, int code) {
  nlohmann::ordered_json json{{"exit_code", code},
                              {"passed", report.all_passed()},
                              {"interrupted", report.interrupted},
                              {"ns", report.ns},
                              {"machines", nlohmann::ordered_json::array()}};
  for (const lc3::MachineResult& one : report.machines) {
    const JsonText output = json_text(one.output);
    nlohmann::ordered_json entry{{"name", json_text(one.name).text},
                                 {"verdict", lc3::name_of(one.verdict)},
                                 {"stop", lc3::name_of(one.end)},
                                 {"instructions", one.executed},
                                 {"ns", one.ns},
                                 {"compared", one.compared},
                                 {"output", output.text},
                                 {"output_encoding", output.encoding}};
    if (!one.detail.empty()) entry["detail"] = json_text(one.detail).text;
    json["machines"].push_back(std::move(entry));
  }
  if (!report.links.empty()) json["links"] = nlohmann::ordered_json::array();
  for (const lc3::LinkResult& one : report.links) {
    const auto number = [](const std::optional<std::uint64_t>& count) {
      return count ? nlohmann::ordered_json(*count) : nlohmann::ordered_json(nullptr);
    };
    nlohmann::ordered_json entry{{"from", json_text(fmt::format("{}:{}", one.from.machine, one.from.port)).text},
                                 {"to", json_text(fmt::format("{}:{}", one.to.machine, one.to.port)).text},
                                 {"capacity", one.capacity},
                                 {"sent", number(one.sent)},
                                 {"received", number(one.received)},
                                 {"violations", nlohmann::ordered_json::array()}};
    for (const std::string& line : lc3::violations_of(one)) entry["violations"].push_back(json_text(line).text);
    json["links"].push_back(std::move(entry));
  }
  fmt::print("{}\n", json.dump(2));
}

// By machine, with the names of its program.
Status write_profile(const ProfileOptions& options, const lc3::FleetFile& file, const lc3::FleetReport& report) {
  FoldedProfile folded;
  std::size_t index = 0;
  for (const lc3::MachineSpec& spec : file.machines) {
    WARMFORK_TRY_ASSIGN(const lc3::Program program, lc3::load_program(spec.programs));
    const lc3::Program& os = lc3::os_image(spec.machine.edition == 2 ? lc3::Edition::kSecond : lc3::Edition::kThird);
    for (std::uint32_t i = 0; i < spec.count; ++i) {
      const lc3::MachineResult& one = report.machines[index++];
      folded.add(one.name, one.profile, program, spec.machine.load_os ? &os : nullptr, spec.machine.engine);
    }
  }
  return folded.write(options);
}

Result<int> run_checked(const Options& options) {
  WARMFORK_TRY_ASSIGN(const lc3::FleetFile file, lc3::load_fleet(options.file));
  WARMFORK_TRY_ASSIGN(const kvm::Kvm kvm, open_kvm());
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<SignalWatch> signals, SignalWatch::create());
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  auto shown = std::chrono::steady_clock::now();
  std::uint64_t before = 0;
  bool line = false;
  lc3::FleetOptions how;
  how.threads = options.threads;
  how.should_stop = [&](const lc3::FleetProgress& progress) {
    metrics_ready();
    const auto now = std::chrono::steady_clock::now();
    if (const std::chrono::duration<double> passed = now - shown; terminal && passed.count() >= 1) {
      print_message("\r\033[Kfleet: {} of {} machines done, {} instructions, {}", progress.done, progress.machines,
                    progress.instructions,
                    rate_text(static_cast<double>(progress.instructions - before) / passed.count()));
      shown = now;
      before = progress.instructions;
      line = true;
    }
    return signals->signal() != 0;
  };
  how.locate_samples = options.profile.on();
  WARMFORK_TRY_ASSIGN(std::unique_ptr<Sampler> sampler, start_sampling(options.profile));
  auto ended = lc3::run_fleet(kvm, file, how);
  sampler.reset();
  if (line) print_message("\r\033[K");
  WARMFORK_TRY_ASSIGN(const lc3::FleetReport report, std::move(ended));
  if (options.profile.on()) WARMFORK_TRY(write_profile(options.profile, file, report));
  const int code = report.interrupted ? 128 + signals->signal() : report.all_passed() ? kSuccess : kFailure;
  options.json ? print_json(report, code) : print_table(report);
  if (report.interrupted && !options.json) {
    const auto count = std::ranges::count(report.machines, Verdict::kInterrupted, &lc3::MachineResult::verdict);
    print_message("{} interrupted: {} machines had not come to their end\n", error_prefix(), count);
  }
  return code;
}

int run(const Options& options) {
  const auto code = run_checked(options);
  return code ? *code : report(code.error());
}

}  // namespace

void add_fleet(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("fleet", "Run many LC-3 machines side by side, each in a fork of its own");
  verb->footer(
      "The file says which machines there are. All are alive at once and take turns on the worker threads, until each\n"
      "has come to its end. To run students' programs against tests there is warmfork grade.\n\n"
      "  [[machine]]\n"
      "  name = \"sieve\"\n"
      "  program = \"sieve.asm\"       # or [\"main.asm\", \"library.obj\"]; beside the file\n"
      "  budget = \"100M\"             # instructions, exact (default 1G)\n"
      "  deadline = \"10s\"            # wall-clock time from its first turn on (default 1m)\n"
      "  output_file = \"sieve.expected\"\n\n"
      "  [[machine]]\n"
      "  name = \"echo\"\n"
      "  program = \"echo.asm\"\n"
      "  input = \"hello\"             # or input_file; there is no more\n"
      "  end = \"input\"               # it is to end by asking for more (default: halt)\n"
      "  count = 8                   # echo.1 … echo.8\n\n"
      "Also: output (instead of output_file; neither: any will do), compare (exact, trailing: blanks at the ends of\n"
      "lines do not count), output_limit (\"64K\"), engine (auto, interp, xbyak, orc), fork (space, vm), cpu (runs "
      "there\n"
      "only), seed (of memory and registers; default zeros), edition (3, 2), privilege (relaxed, strict), traps "
      "(native,\n"
      "os).\n\n"
      "Links carry messages from a port of one machine to a port of another, through a ring in memory that the two\n"
      "share: a pipeline, a fan-out, a fan-in, a ring, both ways. payloads/lc3/README.md has the ports' registers.\n\n"
      "  [[link]]\n"
      "  from = \"sieve:1\"            # machine:port, ports 0 … 7; a replica: \"echo.2:0\"\n"
      "  to = \"sum:0\"\n"
      "  capacity = \"64K\"           # bytes, a power of two; the same for all links of a machine\n"
      "  wake = \"poll\"              # how WAIT, SEND and FLUSH wait: poll (fast, takes a CPU) or doorbell "
      "(sleeps)\n\n"
      "A machine that has links runs on a thread of its own. When it ends, however that may be, its receivers read "
      "what\n"
      "is left and then the end of the stream; what is sent to it is thrown away. A cycle whose machines all wait is "
      "a\n"
      "deadlock: as soon as every machine that could send or take something waits itself, those machines end as\n"
      "\"deadlock\", with what each has waited for.\n\n"
      "  warmfork fleet fleet.toml               a table; on a terminal, how far it is, once a second\n"
      "  warmfork fleet fleet.toml --json        with every output\n\n"
      "Keys of --json: exit_code, passed, interrupted, ns, machines: name, verdict, stop, instructions, ns, compared,\n"
      "output, output_encoding, detail; with links: links: from, to, capacity, sent, received (messages; null: it "
      "could\n"
      "not be asked), violations.\n\n"
      "Exit codes: 0 every machine ended as expected · 1 some did not · 2 wrong usage · 3 the file, or one it names, "
      "is\n"
      "off · 4 no KVM, out of memory · 130 Ctrl-C: all are stopped, the report says which had not ended.");
  verb->add_option("file", options->file, "The fleet, as TOML")->required()->type_name("FILE");
  verb->add_option("--threads", options->threads,
                   "Worker threads (default: one per CPU; machines with a cpu have theirs)")
      ->check(CLI::Range(1, 256));
  verb->add_flag("--json", options->json, "The result as JSON");
  add_profile_options(*verb, options->profile);
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, "fleet " + options->file, [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
