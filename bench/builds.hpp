// Two builds of warmfork measured against each other: rounds of both, interleaved, each a process of its own that runs
// `bench SUITES --json -`. What disturbs the machine for longer than a round disturbs both, so pairs of rounds compare
// better than a run now with a run of yesterday; and every process lays out its memory and code anew, which is a source
// of differences that one process cannot see.
//
// A build may hang. Each process has a time limit and a process group of its own, of which nothing is left when the
// round is over, the limit is reached, or this process ends.
//
// Threads: one.
#pragma once

#include "base/result.hpp"
#include "bench/result_file.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::bench {

/// For a first round with no more samples than a run of its own has: nothing is known of it yet.
inline constexpr std::uint64_t kFirstTimeoutNs = 30 * std::uint64_t{60'000'000'000};

struct BuildsOptions {
  std::string before, after;           // programs; a name without '/' is looked for as a shell does
  std::vector<std::string> arguments;  // all of them: "bench", suites, "--json", "-", …
  unsigned rounds = 10;
  // Asked after each round from `rounds` on; true: that is enough. Empty: `rounds` are.
  std::function<bool(const ResultFile& before, const ResultFile& after)> enough;
  unsigned most_rounds = 40;  // if it is never enough
  // What one process may take; 0: by limit_ns().
  std::uint64_t timeout_ns = 0;
  std::uint64_t first_timeout_ns = kFirstTimeoutNs;
  std::function<void(const std::string&)> progress;
  // Asked again and again; empty: never. A process that runs then gets SIGTERM, and SIGKILL some seconds later.
  std::function<bool()> stop;
};

/// The merged runs of both. If `stop` said so, or there is an error, they are marked partial and have fewer rounds,
/// maybe none.
struct BuildsRun {
  ResultFile before, after;
  // kHost, a program that cannot be started; kInput, one that fails or does not write a result file (names it and its
  // exit code); kDeadline, one that hangs (names it and the round).
  std::optional<Error> error = std::nullopt;
};
[[nodiscard]] BuildsRun run_builds(const BuildsOptions& options);

/// What a process may take if nobody says: `first_ns` until a round is finished; afterwards ten times as long as the
/// longest of those rounds took, and at least five minutes.
[[nodiscard]] std::uint64_t limit_ns(std::uint64_t first_ns, std::uint64_t longest_finished_ns);

}  // namespace warmfork::bench
