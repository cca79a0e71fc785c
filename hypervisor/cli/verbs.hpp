// One function per verb: it adds its subcommand and what runs when that is chosen. Each verb has a file of its own.
#pragma once

#include <CLI/CLI.hpp>

namespace warmfork::cli {

/// The verb's answer; main returns it.
struct Outcome {
  int code = 0;
};

void add_asm(CLI::App& app, Outcome& outcome);
void add_bench(CLI::App& app, Outcome& outcome);
void add_compare(CLI::App& app, Outcome& outcome);
void add_debug(CLI::App& app, Outcome& outcome);
void add_demo(CLI::App& app, Outcome& outcome);
void add_disasm(CLI::App& app, Outcome& outcome);
void add_doctor(CLI::App& app, Outcome& outcome);
void add_exec(CLI::App& app, Outcome& outcome);
void add_feed(CLI::App& app, Outcome& outcome);
void add_fleet(CLI::App& app, Outcome& outcome);
void add_grade(CLI::App& app, Outcome& outcome);
void add_ivshmem(CLI::App& app, Outcome& outcome);
void add_lockstep(CLI::App& app, Outcome& outcome);
void add_metrics(CLI::App& app, Outcome& outcome);
void add_replay(CLI::App& app, Outcome& outcome);
void add_run(CLI::App& app, Outcome& outcome);
void add_verify_reset(CLI::App& app, Outcome& outcome);
void add_snapshot(CLI::App& app, Outcome& outcome);
void add_study(CLI::App& app, Outcome& outcome);

}  // namespace warmfork::cli
