// The composition root: parses the command line and hands over to one verb.
#include "console.hpp"
#include "exit_codes.hpp"
#include "trace_file.hpp"
#include "verbs.hpp"

#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <new>
#include <system_error>

namespace {

// A descriptor 0, 1 or 2 that the caller has closed must not become some file of ours. What takes its place cannot be
// written to, so that lost output is an error.
void keep_standard_descriptors() {
  for (int fd = 0; fd < 3; ++fd) {
    if (::fcntl(fd, F_GETFD) == -1) ::open("/dev/null", O_RDONLY);  // the lowest free number: fd
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace warmfork;
  using namespace warmfork::cli;
  CLI::App app{"warmfork: a minimal KVM hypervisor that boots a static program as a guest and calls into it"};
  app.name("warmfork");
  app.require_subcommand(1);
  app.set_version_flag("--version", "warmfork " WARMFORK_VERSION, "Print the version and exit");
  app.get_formatter()->column_width(34);
  app.add_option("--kvm", kvm_device(), "The KVM device")->capture_default_str();
  app.footer(
      "Exit codes: 0 success · 1 the answer is no · 2 wrong usage · 3 bad input file · 4 this machine lacks something\n"
      "5 guest fault · 6 budget or limit reached · 7 timeout · 8 input used up · 130 interrupted (128 + signal)\n"
      "141 standard output closed. exec ends with its program's own code.");
  Outcome outcome;
  add_demo(app, outcome);
  add_run(app, outcome);
  add_debug(app, outcome);
  add_asm(app, outcome);
  add_disasm(app, outcome);
  add_grade(app, outcome);
  add_fleet(app, outcome);
  add_study(app, outcome);
  add_exec(app, outcome);
  add_snapshot(app, outcome);
  add_replay(app, outcome);
  add_feed(app, outcome);
  add_ivshmem(app, outcome);
  add_doctor(app, outcome);
  add_bench(app, outcome);
  add_compare(app, outcome);
  add_lockstep(app, outcome);
  add_verify_reset(app, outcome);
  add_metrics(app, outcome);
  TraceFile trace;
  for (const char* verb : {"run", "grade", "fleet", "exec", "replay", "ivshmem", "bench", "compare", "verify-reset"}) {
    trace.add_to(*app.get_subcommand(verb));
  }
  trace.add_to(*app.get_subcommand("snapshot")->get_subcommand("call"));
  app.parse_complete_callback([&trace] { trace.begin(); });
  keep_standard_descriptors();
  // Beyond a limit for files (ulimit -f) a write is to fail, as on a full disk: what has been measured is not lost
  // then.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    app.parse(argc, argv);
  } catch (const CannotTrace& error) {
    return error.code;
  } catch (const CLI::ParseError& error) {
    outcome.code = app.exit(error) == 0 ? kSuccess : kUsageError;
  } catch (const std::bad_alloc&) {
    return report({ErrorKind::kHost, "out of memory (is there a limit? see: ulimit -v)"});
  } catch (const std::system_error& error) {  // standard output, or a thread that could not be started
    if (error.code() == std::errc::broken_pipe) return kOutputClosed;
    if (error.code() == std::errc::resource_unavailable_try_again) {
      return report({ErrorKind::kHost, "cannot start a thread: out of memory or processes (limits: ulimit -v, -u)"});
    }
    return report({ErrorKind::kHost, error.what()});
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    return report({ErrorKind::kHost, "standard output cannot be written"});
  return trace.finish(outcome.code);
}
