// The composition root: parses the command line and hands over to one verb.
#include "exit_codes.hpp"
#include "verbs.hpp"

#include <CLI/CLI.hpp>

int main(int argc, char** argv) {
  using namespace warmfork::cli;
  CLI::App app{"warmfork: a minimal KVM hypervisor that boots a static program as a guest and calls into it"};
  app.name("warmfork");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Exit codes: 0 success · 1 the answer is no · 2 wrong usage · 3 bad input file · 4 this machine lacks something\n"
      "5 guest fault · 6 budget or limit reached · 7 timeout · 8 input used up · 130 interrupted.\n"
      "exec ends with its program's own code.");
  Outcome outcome;
  add_exec(app, outcome);
  add_doctor(app, outcome);
  add_bench(app, outcome);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSuccess : kUsageError;
  }
  return outcome.code;
}
