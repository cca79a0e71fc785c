// Grading: every submission against every test, each run in a fork of its own that is put back before the next.
//
//   master (per seed: powered on, OS loaded) ──snapshot──> pool of forks ──lease──> program placed, input fed, run,
//   output read, judged ──release: reset──> the next
//
// A run costs one KVM_RUN and a reset: program and input are written by the host straight into the machine's State, and
// the output is read from there. Submissions are hostile: they are read and assembled by worker threads in bounds, run
// interpreted (nothing of them is compiled), and one that is broken, endless or crashed is a verdict, never an error.
//
// Threads: grade() starts its own and returns when they have ended; two at once share nothing.
#pragma once

#include "base/result.hpp"
#include "fork/fork_options.hpp"
#include "kvm/kvm.hpp"
#include "lc3/fleet/config.hpp"
#include "lc3/fleet/judge.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3 {

inline constexpr std::size_t kMaxSubmissionBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxSubmissions = 100'000;
inline constexpr std::size_t kMaxCells = 2'000'000;  // submissions × tests: a result is some 100 bytes and its detail

struct Submission {
  std::string name;  // unique: the file's, or its path where several have that name
  std::string path;
};

/// The submissions that `paths` name: .asm and .obj files, and of directories all such files in them (not below), by
/// name. Nothing is read yet. Errors (kInput): no such path, a directory without submissions, a file of another kind;
/// (kLimit): more than kMaxSubmissions; (kUsage): one path twice.
[[nodiscard]] Result<std::vector<Submission>> find_submissions(std::span<const std::string> paths);

/// What became of one submission in one test, over all seeds.
struct Cell {
  Verdict verdict = Verdict::kInterrupted;  // of the first seed that did not pass
  std::uint32_t seeds_passed = 0;
  std::uint32_t seeds_run = 0;
  std::optional<std::uint64_t> seed;  // of the verdict
  std::uint64_t executed = 0;         // instructions of that run
  std::uint64_t ns = 0;               // of all runs: from the machine as it was leased to the judged output
  std::string detail;                 // why it did not pass: visible text of at most 3 KiB; empty if it passed
};

struct SubmissionResult {
  Submission submission;
  std::string error;  // assembler errors (file:line:column) or why it cannot be read; visible text of at most 8 KiB
  std::vector<Cell> cells;  // one per test
  [[nodiscard]] bool passed() const;
};

struct GradeProgress {
  std::uint64_t runs = 0;
  std::uint64_t all_runs = 0;   // an upper bound: what does not assemble is not run
  std::size_t submissions = 0;  // done
};

struct GradeOptions {
  ForkKind fork = ForkKind::kSpace;
  unsigned threads = 0;  // 0: one per CPU this process may use
  /// Asked every 50 ms by the calling thread; true ends everything as soon as can be. May be empty.
  std::function<bool(const GradeProgress&)> should_stop;
};

struct GradeReport {
  std::vector<SubmissionResult> submissions;
  std::uint64_t runs = 0;
  std::uint64_t ns = 0;             // of everything
  std::uint64_t runs_ns = 0;        // from the first submission to the last, without the making of masters
  std::uint64_t resets_failed = 0;  // forks that could not be put back, and were replaced
  bool interrupted = false;
  [[nodiscard]] bool all_passed() const;
};

/// Runs all tests of all submissions. Errors: kHost, kUnsupported (KVM, memory, threads), kLimit (more than kMaxCells),
/// kUsage (no submissions).
[[nodiscard]] Result<GradeReport> grade(const kvm::Kvm& kvm, const TestSet& tests,
                                        std::span<const Submission> submissions, const GradeOptions& options);

/// CPUs this process may use.
[[nodiscard]] unsigned usable_cpus();

}  // namespace warmfork::lc3
