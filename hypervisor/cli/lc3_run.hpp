// What the verbs that run LC-3 programs share: options, input, and how a run ended.
#pragma once

#include "lc3_console.hpp"
#include "lc3_report.hpp"

#include <CLI/CLI.hpp>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::cli {

inline constexpr std::size_t kMaxJsonOutputBytes = std::size_t{64} << 20;

struct Lc3RunOptions {
  std::vector<std::string> files;
  int edition = 3;
  std::string privilege = "relaxed";
  std::string engine = "auto";
  std::string cache_dir;
  std::string cache_limit;
  std::string traps = "native";
  std::string start = "user";
  bool no_os = false;
  std::string budget;
  std::string timeout;
  std::string input;
  std::vector<std::string> input_at;
  std::optional<std::uint64_t> seed;
  bool randomize = false;
};

/// Adds them all to a verb. `options` must outlive it, and its defaults are shown; `budget_default` is a text for
/// people.
void add_lc3_run_options(CLI::App& verb, Lc3RunOptions& options, const std::string& budget_default);

/// What the options mean, checked. The deadline counts from here.
struct Lc3RunPlan {
  lc3::Lc3Options machine;
  std::uint64_t budget = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t deadline_ns = kNoDeadline;
};
[[nodiscard]] Result<Lc3RunPlan> make_plan(const Lc3RunOptions& options);

/// The OS that the options load, nullptr if none.
[[nodiscard]] const lc3::Program* os_of(const Lc3RunPlan& plan);

/// How a run ended.
struct Ending {
  int code = 0;
  std::string stop;     // a stable word
  std::string message;  // for people; empty if all is well
  ConsoleRun run;
  lc3::Registers registers;
  std::optional<Lc3Failure> failure;
};

/// Where the program's input comes from. Nothing if a signal or the deadline came before all of standard input had been
/// read (--input -): `ending` then says so.
[[nodiscard]] Result<std::optional<InputSource>> open_input(const Lc3RunOptions& options, const Lc3RunPlan& plan,
                                                            const SignalWatch& signals, Ending& ending);

/// Runs the program on the console, with the terminal in raw mode if that is where input comes from. An error of a
/// guest that has ended comes with its report.
[[nodiscard]] Result<ConsoleRun> run_on_console(lc3::Lc3Vm& vm, InputSource& input, OutputSink& sink,
                                                SignalWatch& signals, const Lc3RunPlan& plan, SliceRunner runner = {});

/// What became of a run: exit code, message. The registers are read if there is something to tell, or if asked for.
[[nodiscard]] Result<Ending> conclude(lc3::Lc3Vm& vm, const ConsoleRun& run, const Lc3RunPlan& plan,
                                      const Lc3Places& places, const SignalWatch& signals, const OutputSink& sink,
                                      bool with_registers);

/// Says on standard error what the ending has to say to people, and how to have the same memory and registers again if
/// they were random. `extra` comes between the two.
void print_ending(const Ending& ending, const Lc3RunOptions& options, const Lc3RunPlan& plan,
                  std::string_view extra = {});

/// Says on standard error what went wrong in the directory of --cache, and waits for what is still written there.
void warn_of_cache(lc3::Lc3Vm& vm, const Lc3RunPlan& plan);

/// Tells of an input that was not read, see open_input(): on standard error, and as a JSON object if asked for.
void report_unread(const Ending& ending, bool json);
/// As report(), with a JSON object on standard output if asked for.
int report_run_error(const Error& error, bool json);

}  // namespace warmfork::cli
