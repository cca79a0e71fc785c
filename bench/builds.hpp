// Two builds of warmfork measured against each other: rounds of both, interleaved, each a process of its own that runs
// `bench SUITES --json -`. What disturbs the machine for longer than a round disturbs both, so pairs of rounds compare
// better than a run now with a run of yesterday; and every process lays out its memory and code anew, which is a source
// of differences that one process cannot see.
//
// Threads: one.
#pragma once

#include "base/result.hpp"
#include "bench/result_file.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace warmfork::bench {

struct BuildsOptions {
  std::string before, after;           // programs; a name without '/' is looked for as a shell does
  std::vector<std::string> arguments;  // all of them: "bench", suites, "--json", "-", …
  unsigned rounds = 10;
  // Asked after each round from `rounds` on; true: that is enough. Empty: `rounds` are.
  std::function<bool(const ResultFile& before, const ResultFile& after)> enough;
  unsigned most_rounds = 40;  // if it is never enough
  std::function<void(const std::string&)> progress;
  std::function<bool()> stop;  // asked between rounds; empty: never
};

/// The merged runs of both. If `stop` said so they are marked partial and have fewer rounds, maybe none. Errors: kHost,
/// a program that cannot be started; kInput, one that fails or does not write a result file (names it and its exit
/// code).
[[nodiscard]] Result<std::pair<ResultFile, ResultFile>> run_builds(const BuildsOptions& options);

}  // namespace warmfork::bench
