// warmfork debug: LC-3 programs under the debugger, at a prompt with history and completion, or by a script.
#include "base/file.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/debugger/session.hpp"
#include "metrics.hpp"
#include "metrics/vm_watch.hpp"
#include "option_checks.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <histedit.h>
#include <signal.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace warmfork::cli {
namespace {

constexpr std::size_t kMaxInputBytes = std::size_t{256} << 20;

struct Options {
  MetricsOptions metrics;
  std::vector<std::string> files;
  std::vector<std::string> commands;
  int edition = 3;
  std::string privilege = "relaxed";
  std::string traps = "native";
  std::string start = "user";
  std::string input;
  std::optional<std::uint64_t> seed;
  bool no_os = false;
  bool randomize = false;
};

/// Standard output, where lines of the program have a bar (and a colour) of their own.
class Screen {
 public:
  Screen() : colour_(use_colour(STDOUT_FILENO)) {}

  void program(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      const std::string_view line = text.substr(0, end);
      if (!in_line_) fmt::print("{}| ", colour_ ? "\033[36m" : "");
      fmt::print("{}", line);
      in_line_ = true;
      if (end == std::string_view::npos) break;
      end_line();
      text.remove_prefix(end + 1);
    }
    std::fflush(stdout);
  }

  void debugger(std::string_view text) {
    end_line();
    fmt::print("{}", text);
    std::fflush(stdout);
  }

  void error(std::string_view text) {
    end_line();
    fmt::print("{}{}{}\n", colour_ ? "\033[31m" : "", text, colour_ ? "\033[0m" : "");
    std::fflush(stdout);
  }

  /// Before the prompt, which starts a line.
  void end_line() {
    if (!in_line_) return;
    fmt::print("{}\n", colour_ ? "\033[0m" : "");
    in_line_ = false;
  }

 private:
  bool colour_;
  bool in_line_ = false;  // behind a bar
};

std::atomic<lc3::Debugger*> interrupted_debugger{nullptr};
std::atomic<bool> interrupted{false};

// Async-signal-safe: atomic loads and stores.
void on_interrupt(int /*signal*/) {
  interrupted.store(true);
  if (lc3::Debugger* debugger = interrupted_debugger.load()) debugger->interrupt();
}

termios mode_before{};

// The line editor has the terminal in a mode of its own at the prompt; whoever comes next must not inherit it.
// Async-signal-safe.
void on_end(int signal) {
  sigset_t stop{};  // what tcsetattr() earns in the background
  sigemptyset(&stop);
  sigaddset(&stop, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &mode_before);
  ::signal(signal, SIG_DFL);
  ::raise(signal);  // delivered after this handler
}

/// While it lives, a signal that ends the process restores the terminal first.
class RestoresTerminal {
 public:
  RestoresTerminal() {
    if (::tcgetattr(STDIN_FILENO, &mode_before) != 0) return;
    struct sigaction action{};
    action.sa_handler = on_end;
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      ::sigaction(kSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
    }
    installed_ = true;
  }
  ~RestoresTerminal() {
    if (!installed_) return;
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  RestoresTerminal(const RestoresTerminal&) = delete;
  RestoresTerminal& operator=(const RestoresTerminal&) = delete;

 private:
  static constexpr std::array kSignals{SIGTERM, SIGHUP, SIGQUIT};
  std::array<struct sigaction, kSignals.size()> before_{};
  bool installed_ = false;
};

/// While it lives, Ctrl-C stops the program that runs, not this one, and a read of the keyboard.
class InterruptsDebugger {
 public:
  explicit InterruptsDebugger(lc3::Debugger& debugger) {
    interrupted_debugger.store(&debugger);
    struct sigaction action{};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, &before_);
  }
  ~InterruptsDebugger() {
    ::sigaction(SIGINT, &before_, nullptr);
    interrupted_debugger.store(nullptr);
  }
  InterruptsDebugger(const InterruptsDebugger&) = delete;
  InterruptsDebugger& operator=(const InterruptsDebugger&) = delete;

 private:
  struct sigaction before_{};
};

/// libedit, as far as it is needed: a prompt, history, completion.
class LineEditor {
 public:
  explicit LineEditor(const lc3::Session& session)
      : session_(session), history_(::history_init()), editor_(::el_init("warmfork", stdin, stdout, stderr)) {
    HistEvent event{};
    ::history(history_, &event, H_SETSIZE, 1000);
    ::history(history_, &event, H_SETUNIQUE, 1);
    ::el_set(editor_, EL_CLIENTDATA, this);
    ::el_set(editor_, EL_PROMPT, &prompt);
    ::el_set(editor_, EL_EDITOR, "emacs");
    ::el_set(editor_, EL_HIST, ::history, history_);
    ::el_set(editor_, EL_GETCFN, &get_character);
    ::el_set(editor_, EL_ADDFN, "complete", "complete a command or label", &complete);
    ::el_set(editor_, EL_BIND, "^I", "complete", nullptr);
    ::el_source(editor_, nullptr);  // the user's ~/.editrc
  }
  ~LineEditor() {
    ::el_end(editor_);
    ::history_end(history_);
  }
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// The next line without its end; nothing at the end of the input.
  std::optional<std::string> read() {
    while (true) {
      interrupted.store(false);
      int count = 0;
      const char* const line = ::el_gets(editor_, &count);
      if (interrupted.exchange(false)) {  // Ctrl-C: a fresh line
        ::el_reset(editor_);
        fmt::print("\n");
        continue;
      }
      if (line == nullptr || count <= 0) {
        fmt::print("\n");
        return std::nullopt;
      }
      std::string text(line, static_cast<std::size_t>(count));
      while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
      if (!text.empty()) {
        HistEvent event{};
        ::history(history_, &event, H_ENTER, text.c_str());
      }
      return text;
    }
  }

 private:
  static char* prompt(EditLine* /*editor*/) {
    static char text[] = "(debug) ";
    return text;
  }

  // A read of its own: libedit's goes on after a signal.
  static int get_character(EditLine* /*editor*/, wchar_t* out) {
    std::mbstate_t state{};
    while (true) {
      char byte = 0;
      const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
      if (count < 0 && errno == EINTR && !interrupted.load()) continue;
      if (count <= 0) return count == 0 ? 0 : -1;
      const std::size_t used = std::mbrtowc(out, &byte, 1, &state);
      if (used == static_cast<std::size_t>(-2)) continue;
      if (used == static_cast<std::size_t>(-1)) *out = L'?';
      return 1;
    }
  }

  static unsigned char complete(EditLine* editor, int /*key*/) {
    void* data = nullptr;
    ::el_get(editor, EL_CLIENTDATA, &data);
    const auto& self = *static_cast<LineEditor*>(data);
    const LineInfo* const info = ::el_line(editor);
    const std::string_view line(info->buffer, static_cast<std::size_t>(info->cursor - info->buffer));
    const std::vector<std::string> found = self.session_.complete(line);
    if (found.empty()) return CC_ERROR;
    // What all candidates have in common beyond what is typed, in the case they have.
    const std::size_t blank = line.find_last_of(" \t([!~@+-*&|^<>=:");
    const std::size_t typed = blank == std::string_view::npos ? line.size() : line.size() - blank - 1;
    std::size_t common = found.front().size();
    for (const std::string& one : found) {
      common = std::min(common, static_cast<std::size_t>(
                                    std::mismatch(one.begin(), one.end(), found.front().begin(), found.front().end(),
                                                  [](char a, char b) { return std::tolower(a) == std::tolower(b); })
                                        .first -
                                    one.begin()));
    }
    if (common > typed || found.size() == 1) {
      std::string text = found.front().substr(0, common);
      if (found.size() == 1) text += ' ';
      ::el_deletestr(editor, static_cast<int>(typed));
      if (::el_insertstr(editor, text.c_str()) == -1) return CC_ERROR;
      return CC_REFRESH;
    }
    fmt::print("\n");
    for (std::size_t i = 0; i < std::min<std::size_t>(found.size(), 100); ++i) fmt::print("{}  ", found[i]);
    fmt::print("\n");
    std::fflush(stdout);
    return CC_REDISPLAY;
  }

  const lc3::Session& session_;
  History* history_;
  EditLine* editor_;
};

/// Shows a reply. Returns an exit code if the session is over.
std::optional<int> show(const lc3::Reply& reply, Screen& screen, bool& failed) {
  screen.debugger(reply.text);
  if (reply.error) {
    if (reply.error->kind != ErrorKind::kUsage) {
      screen.end_line();
      return report(*reply.error);
    }
    screen.error(reply.error->message);
    failed = true;
  }
  if (reply.quit) return kSuccess;
  return std::nullopt;
}

using Execute = std::function<lc3::Reply(const std::string& command)>;

int talk(lc3::Session& session, const Execute& execute, Screen& screen) {
  LineEditor editor(session);
  bool failed = false;
  while (true) {
    auto line = editor.read();
    if (!line) return kSuccess;
    if (line->empty()) line = session.repeated();
    if (const auto code = show(execute(*line), screen, failed)) return *code;
  }
}

int follow_script(const Execute& execute, Screen& screen, const std::vector<std::string>& commands) {
  bool failed = false;
  std::size_t next = 0;
  std::string line;
  const auto take = [&] {
    if (commands.empty()) return static_cast<bool>(std::getline(std::cin, line));
    if (next == commands.size()) return false;
    line = commands[next++];
    return true;
  };
  while (take()) {
    const auto code = show(execute(line), screen, failed);
    if (interrupted.load()) return kInterrupted;
    if (code) return *code == kSuccess && failed ? kFailure : *code;
  }
  return failed ? kFailure : kSuccess;
}

int run(const Options& options) {
  auto program = lc3::load_program(options.files);
  if (!program) return report(program.error());
  lc3::DebuggerOptions debugger_options;
  lc3::Lc3Options& machine = debugger_options.machine;
  machine.edition = options.edition;
  machine.strict_privilege = options.privilege == "strict";
  machine.traps = options.traps == "os" ? lc3::TrapMode::kOs : lc3::TrapMode::kNative;
  machine.load_os = !options.no_os;
  machine.supervisor_start = options.start == "supervisor";
  machine.randomise = options.seed;
  if (options.randomize && !options.seed) {
    std::uint32_t seed = 0;
    if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) return report({ErrorKind::kHost, "getrandom failed"});
    machine.randomise = seed;
    fmt::print("--seed {}\n", seed);
  }
  if (!options.input.empty()) {
    const auto bytes = read_file(options.input, kMaxInputBytes);
    if (!bytes) return report(bytes.error());
    // SAFETY: bytes viewed as characters, copied at once.
    debugger_options.input.assign(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }
  Screen screen;
  debugger_options.on_output = [&screen](std::string_view text) { screen.program(text); };
  std::optional<metrics::VmWatch> watch;
  if (metrics::on()) {
    debugger_options.on_executed = [&watch](std::uint64_t count) {
      if (watch) watch->add_instructions(count);
    };
  }
  const auto engine = lc3::kEngineNames[static_cast<std::size_t>(machine.engine)];
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  const auto debugger = lc3::Debugger::create(*kvm, *std::move(program), std::move(debugger_options));
  if (!debugger) return report(debugger.error());

  const InterruptsDebugger guard(**debugger);
  const RestoresTerminal restores;
  lc3::Session session(**debugger);
  if (metrics::on()) {
    watch.emplace(metrics::VmWatch::Info{.vm = options.files.front(),
                                         .program = fmt::format("{}", fmt::join(options.files, " ")),
                                         .kind = "vm",
                                         .engine = engine,
                                         .memory_bytes = (*debugger)->memory_bytes()});
  }
  const auto execute = [&](const std::string& command) {
    if (watch) watch->state(metrics::VmState::kRunning);
    lc3::Reply reply = session.execute(command);
    if (watch) watch->state(metrics::VmState::kWaiting);
    return reply;
  };
  metrics_ready();
  bool failed = false;
  if (const auto code = show(session.welcome(), screen, failed)) return *code;
  const bool interactive = options.commands.empty() && ::isatty(STDIN_FILENO) == 1;
  const int code = interactive ? talk(session, execute, screen) : follow_script(execute, screen, options.commands);
  if (watch) watch->state(code == kSuccess ? metrics::VmState::kDone : metrics::VmState::kStopped);
  screen.end_line();
  return code;
}

}  // namespace

void add_debug(CLI::App& app, Outcome& outcome) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("debug", "Debug LC-3 programs, forwards and backwards");
  verb->footer(
      "On a terminal: a prompt with history, completion (Tab) and `help`; Ctrl-C stops the program that runs, Ctrl-D\n"
      "leaves. Otherwise commands are read from standard input. What the program displays has a bar before each "
      "line.\n\n"
      "  warmfork debug hello.asm\n"
      "  warmfork debug work.asm --command 'break LOOP if R0 == 3' --command continue --command registers\n"
      "  warmfork debug work.asm <script.txt      one command per line, # for comments\n\n"
      "Exit codes: 0 · 1 a command of a script was wrong · 2 wrong usage · 3 bad file · 4 no KVM · 130 Ctrl-C in a "
      "script");
  verb->add_option("file", options->files, "Programs: .asm, .obj (classic or lc3tools), and .sym for names")
      ->required()
      ->type_name("FILE");
  verb->add_option("--command", options->commands, "Do this command, then leave (may be given again)")
      ->allow_extra_args(false)
      ->type_name("COMMAND");
  verb->add_option("--input", options->input, "What is typed for the program before it starts")->type_name("FILE");
  verb->add_option("--edition", options->edition, "Semantics of the textbook's 2nd or 3rd edition")
      ->check(CLI::IsMember({2, 3}))
      ->capture_default_str();
  verb->add_option("--privilege", options->privilege,
                   "relaxed: user programs reach devices and system space. strict: that is an exception")
      ->check(CLI::IsMember({"relaxed", "strict"}))
      ->capture_default_str();
  verb->add_option("--traps", options->traps, "Serve x20 to x25 natively (one step), or by the OS's LC-3 code")
      ->check(CLI::IsMember({"native", "os"}))
      ->capture_default_str();
  verb->add_flag("--no-os", options->no_os, "Do not load the OS below x3000: the program brings its own");
  verb->add_option("--start", options->start, "Mode at the start")
      ->check(CLI::IsMember({"user", "supervisor"}))
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Fill memory and registers with the values of this seed first (zeros)")
      ->check(whole_number())
      ->type_name("N");
  verb->add_flag("--randomize", options->randomize, "As --seed, with a seed that differs every time");
  verb->fallthrough();
  add_metrics_options(*verb, options->metrics);
  verb->callback([options, &outcome] {
    outcome.code = with_metrics(options->metrics, "debug " + options->files.front(), [&] { return run(*options); });
  });
}

}  // namespace warmfork::cli
