// warmfork snapshot: freeze a warm program into a file, look into the file, call into forks of it.
#include "base/file.hpp"
#include "base/printable.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "fork/fork.hpp"
#include "fork/snapshot_file.hpp"
#include "lc3_console.hpp"
#include "lc3_report.hpp"
#include "machine/machine.hpp"
#include "metrics.hpp"
#include "metrics/vm_watch.hpp"
#include "option_checks.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

constexpr std::size_t kMaxProgramBytes = std::size_t{1} << 30;

/// A vmcall as the user writes it: "NAME" or "NAME:1,0x20,-3".
struct CallText {
  std::string name;
  std::vector<std::uint64_t> arguments;
};

Result<std::uint64_t> parse_argument(std::string_view text) {
  std::string_view digits = text;
  const bool negative = digits.starts_with('-');
  if (negative) digits.remove_prefix(1);
  const bool hexadecimal = digits.starts_with("0x");
  if (hexadecimal) digits.remove_prefix(2);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    return fail(ErrorKind::kUsage, "\"{}\" is no 64-bit number (examples: 7, 0x20, -3)", text);
  }
  return negative ? ~value + 1 : value;
}

Result<CallText> parse_call(const std::string& name, const std::vector<std::string>& words) {
  CallText call{name, {}};
  for (const std::string& word : words) {
    WARMFORK_TRY_ASSIGN(const std::uint64_t value, parse_argument(word));
    call.arguments.push_back(value);
  }
  if (call.arguments.size() > 6) {
    return fail(ErrorKind::kUsage, "{}: {} arguments, at most 6", printable(name), call.arguments.size());
  }
  return call;
}

Result<CallText> parse_call(const std::string& text) {
  const std::size_t colon = text.find(':');
  std::vector<std::string> words;
  if (colon != std::string::npos) {
    for (std::size_t begin = colon + 1; begin <= text.size();) {
      const std::size_t comma = std::min(text.find(',', begin), text.size());
      words.push_back(text.substr(begin, comma - begin));
      begin = comma + 1;
    }
  }
  return parse_call(text.substr(0, colon), words);
}

std::string to_text(const CallText& call, std::uint64_t result) {
  return fmt::format("{}({}) = {}{}", printable(call.name), fmt::join(call.arguments, ", "), result,
                     result < 10 ? "" : fmt::format(" ({:#x})", result));
}

std::string kib(std::uint64_t bytes) { return fmt::format("{} KiB", (bytes + 1023) / 1024); }

Result<CallOptions> call_options(const std::string& timeout) {
  CallOptions options;
  if (!timeout.empty()) {
    WARMFORK_TRY_ASSIGN(options.timeout_ns, parse_duration(timeout));
  }
  return options;
}

// --- save ------------------------------------------------------------------------------------------------------------

struct SaveOptions {
  MetricsOptions metrics;
  std::string program;
  std::string output;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<std::string> calls;
  std::string memory = "64M";
  std::string timeout;
  std::optional<std::uint64_t> seed;
};

Result<std::unique_ptr<Machine>> make_machine(const kvm::Kvm& kvm, const SaveOptions& options, GuestIo& io) {
  WARMFORK_TRY_ASSIGN(const std::uint64_t memory, parse_size(options.memory));
  WARMFORK_TRY_ASSIGN(const auto elf, read_file(options.program, kMaxProgramBytes));
  MachineConfig config;
  config.memory_bytes = memory;
  config.stack_bytes = std::min<std::uint64_t>(std::uint64_t{8} << 20, memory / 4);
  config.io = &io;
  config.process.arguments.push_back(options.program);
  config.process.arguments.insert(config.process.arguments.end(), options.arguments.begin(), options.arguments.end());
  config.process.environment = options.environment;
  config.process.seed = options.seed;
  return Machine::create(kvm, elf, options.program, std::move(config));
}

// Boots the program and makes the calls that warm it.
Status warm_up(Machine& machine, const SaveOptions& options, const CallOptions& limits) {
  std::vector<CallText> calls;
  for (const std::string& text : options.calls) {
    WARMFORK_TRY_ASSIGN(CallText call, parse_call(text));
    calls.push_back(std::move(call));
  }
  WARMFORK_TRY_ASSIGN(const BootOutcome outcome, machine.boot(limits));
  if (outcome.exit_code) {
    return fail(ErrorKind::kInput, "{}: the program exited with code {}; only one that waits for vmcalls can be saved",
                options.program, *outcome.exit_code);
  }
  for (const CallText& call : calls) {
    WARMFORK_TRY_ASSIGN(const Gva function, machine.find_vmcall(call.name));
    WARMFORK_TRY_ASSIGN(const std::uint64_t result, machine.call(function, call.arguments, limits));
    print_message("{}\n", to_text(call, result));
  }
  return {};
}

int run_save(const SaveOptions& options) {
  const auto limits = call_options(options.timeout);
  if (!limits) return report(limits.error());
  for (const std::string& text : options.calls) {
    if (const auto call = parse_call(text); !call) return report(call.error());
  }
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  HostStdio io;
  auto machine = make_machine(*kvm, options, io);
  if (!machine) return report(machine.error());
  std::optional<metrics::VmWatch> watch;
  if (metrics::on()) {
    watch.emplace(metrics::VmWatch::Info{.vm = options.program,
                                         .program = options.program,
                                         .kind = "vm",
                                         .engine = "native",
                                         .memory_bytes = (*machine)->memory().window().size()});
    watch->state(metrics::VmState::kRunning);
  }
  metrics_ready();
  {
    const InterruptGuard guard(**machine);
    const auto warm = warm_up(**machine, options, *limits);
    if (watch) {
      watch->state(warm ? metrics::VmState::kDone : metrics::VmState::kStopped);
      if ((*machine)->fault()) watch->fault((*machine)->fault()->summary);
    }
    if (!warm) return report(warm.error(), **machine);
  }
  const auto snapshot = Snapshot::take(*kvm, **machine);
  if (!snapshot) return report(snapshot.error());
  if (const auto saved = save_snapshot(**snapshot, options.output); !saved) return report(saved.error());
  const auto id = snapshot_id(**snapshot);
  if (!id) return report(id.error());
  print_message("{}: {} of {} in use, id {}\n", printable(options.output), kib((*snapshot)->stored_bytes()),
                kib((*snapshot)->window().size()), to_text(*id));
  return kSuccess;
}

// --- info ------------------------------------------------------------------------------------------------------------

void print_text(const SnapshotInfo& info) {
  const auto line = [](const char* what, const std::string& value) { fmt::print("  {:<18} {}\n", what, value); };
  const bool layer = !info.base.empty();
  fmt::print("{}\n", layer ? "layer" : info.program);
  line("id", to_text(info.id));
  if (layer) line("base", to_text(info.base));
  line("format, ABI", fmt::format("{}, {}", info.format_version, info.abi_version));
  line("file", kib(info.file_bytes));
  line("window", layer ? fmt::format("{} differ from the base", kib(info.stored_bytes))
                       : fmt::format("{} of {} in use", kib(info.stored_bytes), kib(info.window_bytes)));
  if (!layer) {
    line("image", fmt::format("{} in {} segments", kib(info.image_bytes), info.segments));
    line("heap",
         fmt::format("{}, break at {:#x}, {} mappings", kib(info.heap_bytes), info.heap_break, info.heap_mappings));
  }
  if (info.code_bytes != 0) line("code region", kib(info.code_bytes));
  for (const SharedRegionSpec& region : info.shared_regions) {
    line("shared region", fmt::format("{}, {}, {}", region.name, kib(region.bytes), name_of(region.access)));
  }
  line("protected ranges", std::to_string(info.protected_ranges));
  if (!layer) {
    line("symbols", std::to_string(info.symbols));
    std::vector<std::string> names;
    for (const auto& [name, address] : info.vmcalls) names.push_back(name);
    line("vmcalls", names.empty() ? "-" : fmt::format("{}", fmt::join(names, " ")));
  }
  line("needs", fmt::format("{}", fmt::join(info.features, " ")));
}

void print_json(const SnapshotInfo& info) {
  const bool layer = !info.base.empty();
  nlohmann::ordered_json json{{"format_version", info.format_version},
                              {"abi_version", info.abi_version},
                              {"id", to_text(info.id)},
                              {"base", nullptr},
                              {"file_bytes", info.file_bytes},
                              {"stored_bytes", info.stored_bytes},
                              {"heap_break", info.heap_break},
                              {"heap_mappings", info.heap_mappings},
                              {"protected_ranges", info.protected_ranges},
                              {"features", info.features}};
  if (layer) json["base"] = to_text(info.base);
  if (!layer) {
    json["program"] = info.program;
    json["image_bytes"] = info.image_bytes;
    json["window_bytes"] = info.window_bytes;
    json["heap_bytes"] = info.heap_bytes;
    json["code_bytes"] = info.code_bytes;
    json["shared_regions"] = nlohmann::ordered_json::array();
    for (const SharedRegionSpec& region : info.shared_regions) {
      json["shared_regions"].push_back(
          {{"name", region.name}, {"bytes", region.bytes}, {"access", name_of(region.access)}});
    }
    json["segments"] = info.segments;
    json["symbols"] = info.symbols;
    json["vmcalls"] = nlohmann::ordered_json::object();
    for (const auto& [name, address] : info.vmcalls) json["vmcalls"][name] = address;
  }
  fmt::print("{}\n", json.dump(2));
}

int run_info(const std::string& file, bool json) {
  const auto info = inspect_snapshot(file);
  if (!info) return report(info.error());
  json ? print_json(*info) : print_text(*info);
  return kSuccess;
}

// --- call ------------------------------------------------------------------------------------------------------------

struct CallVerbOptions {
  MetricsOptions metrics;
  std::string file;
  std::string name;
  std::vector<std::string> arguments;
  std::vector<std::string> bases;
  std::string save;
  std::string timeout;
  std::optional<std::uint64_t> seed;
  bool json = false;
};

struct Times {
  std::uint64_t load_ns = 0;
  std::uint64_t fork_ns = 0;
  std::uint64_t call_ns = 0;
};

void print_result(const CallText& call, std::uint64_t result, const Times& times, bool json) {
  if (json) {
    const nlohmann::ordered_json object{
        {"call", printable(call.name)}, {"arguments", call.arguments}, {"result", result},
        {"load_ns", times.load_ns},     {"fork_ns", times.fork_ns},    {"call_ns", times.call_ns}};
    fmt::print("{}\n", object.dump(2));
    return;
  }
  const auto text = [](std::uint64_t ns) { return time_text(static_cast<double>(ns)); };
  fmt::print("{}\n", to_text(call, result));
  print_message("loaded in {}, forked in {}, called in {}\n", text(times.load_ns), text(times.fork_ns),
                text(times.call_ns));
}

int run_call(const CallVerbOptions& options) {
  const auto call = parse_call(options.name, options.arguments);
  if (!call) return report(call.error());
  const auto limits = call_options(options.timeout);
  if (!limits) return report(limits.error());
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());

  Times times;
  std::uint64_t begin = now_ns();
  const auto lap = [&begin](std::uint64_t& time) {
    const std::uint64_t now = now_ns();
    time = now - begin;
    begin = now;
  };
  const auto snapshot = load_snapshot(*kvm, options.file, {.base = nullptr, .base_files = options.bases});
  if (!snapshot) return report(snapshot.error());
  lap(times.load_ns);
  const auto function = (*snapshot)->program()->find_vmcall(call->name);
  if (!function) return report(function.error());
  HostStdio standard;
  NullIo none;
  ForkOptions fork_options{.kind = ForkKind::kVm};
  fork_options.io = &standard;
  if (options.json) fork_options.io = &none;
  fork_options.seed = options.seed;
  const auto source = make_fork_source(*kvm, *snapshot, fork_options, 1);
  if (!source) return report(source.error());
  const auto fork = (*source)->make();
  if (!fork) return report(fork.error());
  lap(times.fork_ns);
  {
    std::optional<metrics::VmWatch> watch;
    if (metrics::on()) {
      watch.emplace(metrics::VmWatch::Info{.vm = options.file,
                                           .program = (*snapshot)->program()->name,
                                           .kind = name_of(fork_options.kind),
                                           .engine = "native",
                                           .memory_bytes = (*snapshot)->window().size()});
      watch->state(metrics::VmState::kRunning);
    }
    metrics_ready();
    const InterruptGuard guard(**fork);
    const auto result = (*fork)->call(*function, call->arguments, *limits);
    if (watch) {
      watch->state(result ? metrics::VmState::kDone : metrics::VmState::kStopped);
      if ((*fork)->fault()) watch->fault((*fork)->fault()->summary);
    }
    if (!result) return report(result.error(), **fork);
    lap(times.call_ns);
    print_result(*call, *result, times, options.json);
  }
  if (options.save.empty()) return kSuccess;
  const auto layer = Snapshot::take(*kvm, **fork);
  if (!layer) return report(layer.error());
  if (const auto saved = save_snapshot(**layer, options.save); !saved) return report(saved.error());
  print_message("{}: a layer, {} differ from {}\n", printable(options.save), kib((*layer)->stored_bytes()),
                printable(options.file));
  return kSuccess;
}

void add_save(CLI::App& snapshot, Outcome& outcome) {
  auto options = std::make_shared<SaveOptions>();
  CLI::App* verb = snapshot.add_subcommand("save", "Boot a program until it waits for vmcalls, and save it");
  verb->fallthrough();
  verb->footer(
      "The program starts, does what takes long, and calls wait_for_calls() (include/warmfork/abi/vmcall.hpp). Calls\n"
      "given with --call are made then, in order, so that what they leave behind is in the snapshot too.\n\n"
      "  warmfork snapshot save ./server -o server.snap\n"
      "  warmfork snapshot save ./server -o server.snap --call load:3,0x100 --call warm_caches -- --verbose\n\n"
      "The file holds all of the guest's memory and can be read by its owner only.\n\n"
      "Exit codes: 0 saved · 2 wrong usage · 3 no program that waits for vmcalls · 4 no KVM, or the file cannot be\n"
      "written (the old one, if any, is untouched) · 5 the program faulted · 7 timeout.");
  verb->add_option("program", options->program, "A static x86-64 program that offers vmcalls")->required();
  verb->add_option("arguments", options->arguments, "Its arguments, behind --");
  verb->add_option("-o,--output", options->output, "The snapshot file")->required()->type_name("FILE");
  verb->add_option("--call", options->calls, "A call to make first: NAME or NAME:ARG,ARG,… (may be given again)")
      ->type_name("CALL")
      ->expected(1)
      ->take_all();
  verb->add_option("--memory", options->memory, "Everything the program can write, together")->capture_default_str();
  verb->add_option("--timeout", options->timeout, "Give up if start-up, or one call, takes longer (250ms, 2s, 1m)");
  verb->add_option("--env", options->environment, "An environment variable NAME=value (may be given again)")
      ->expected(1)
      ->take_all();
  verb->add_option("--seed", options->seed, "Make random bytes repeatable")->check(whole_number());
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code =
        with_metrics(options->metrics, "snapshot save " + options->program, [&] { return run_save(*options); });
  });
}

void add_info(CLI::App& snapshot, Outcome& outcome) {
  auto file = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = snapshot.add_subcommand("info", "Check a snapshot file and show what is in it");
  verb->fallthrough();
  verb->footer(
      "Compares every checksum. Needs no KVM. A layer names its base by the id that info shows of the base.\n\n"
      "  warmfork snapshot info server.snap\n\n"
      "Exit codes: 0 it is sound · 3 it is not · 4 made by another version of warmfork.");
  verb->add_option("file", *file, "A snapshot file")->required()->type_name("FILE");
  verb->add_flag("--json", *json, "For machines");
  verb->callback([file, json, &outcome] { outcome.code = run_info(*file, *json); });
}

void add_call(CLI::App& snapshot, Outcome& outcome) {
  auto options = std::make_shared<CallVerbOptions>();
  CLI::App* verb = snapshot.add_subcommand("call", "Load a snapshot, fork it, make one call");
  verb->fallthrough();
  verb->footer(
      "The result goes to standard output, the times to standard error. Every run starts from the same state; with\n"
      "--save the state after the call becomes a layer, which holds the pages that differ and needs its base:\n\n"
      "  warmfork snapshot call server.snap lookup 17 0x20\n"
      "  warmfork snapshot call server.snap add_user 5 --save more.snap\n"
      "  warmfork snapshot call more.snap lookup 5 --base server.snap\n"
      "  warmfork snapshot call server.snap seek -- -1              negative numbers come behind --\n\n"
      "Exit codes: 0 called · 2 wrong usage · 3 the file, or no such call · 4 no KVM, or a processor without features\n"
      "the snapshot needs · 5 the guest faulted · 7 timeout.");
  verb->add_option("file", options->file, "A snapshot file")->required()->type_name("FILE");
  verb->add_option("name", options->name, "The vmcall, or any function of the program")->required();
  verb->add_option("arguments", options->arguments, "Up to six integers (7, 0x20, -3)");
  verb->add_option("--base", options->bases, "A layer's base, and its base in turn (may be given again, in any order)")
      ->type_name("FILE")
      ->expected(1)
      ->take_all();
  verb->add_option("--save", options->save, "Save the state after the call as a layer")->type_name("FILE");
  verb->add_option("--timeout", options->timeout, "Give up if the call takes longer (250ms, 2s, 1m)");
  verb->add_option("--seed", options->seed, "Make random bytes repeatable")->check(whole_number());
  verb->add_flag("--json", options->json, "Result and times for machines; what the guest prints is discarded");
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, "snapshot call " + options->file, [&] { return run_call(*options); });
  });
}

}  // namespace

void add_snapshot(CLI::App& app, Outcome& outcome) {
  CLI::App* verb = app.add_subcommand("snapshot", "Save a warm program to a file, and call into forks of it");
  verb->require_subcommand(1);
  verb->fallthrough();  // --kvm may stand behind any of these words
  verb->footer(
      "A snapshot is a program that has started and waits for vmcalls, frozen with all of its memory. Loading one "
      "skips\n"
      "everything the program did until then.\n\n"
      "  warmfork snapshot save ./server -o server.snap\n"
      "  warmfork snapshot info server.snap\n"
      "  warmfork snapshot call server.snap lookup 17");
  add_save(*verb, outcome);
  add_info(*verb, outcome);
  add_call(*verb, outcome);
}

}  // namespace warmfork::cli
