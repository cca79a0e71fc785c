// Ways to serve a request, side by side: the same request, the same window, interleaved in rounds on one pinned CPU.
//
//   fork_vm, fork_space   a fork from a warm pool for each request: acquire, call, release (with its reset)
//   reset_MODE            one fork, put back after each request
//   exitless              one fork that is asked through shared memory; nothing is put back: one tenant only
//   process_fork          a child forked from a warm process for each request
//   process_pipe, _futex  a warm process that is asked; nothing is put back
//
// A request is counted from having its arguments to having its answer and everything ready for the next one. Every
// answer is checked: it shows whether an earlier request has left anything behind where nothing may be left.
//
// Threads: one.
#pragma once

#include "base/result.hpp"
#include "bench/fork_fixture.hpp"
#include "bench/suites.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::bench {

struct CompareOptions {
  std::vector<std::string> modes;  // empty: all
  std::uint64_t window_bytes = 256 << 10;
  std::uint64_t dirty_pages = 8;  // of each request
  std::uint64_t requests = 4000;  // of each mode
};

/// What a mode is, for people.
struct CompareMode {
  std::string_view name;    // "fork_space"
  std::string_view figure;  // "lifecycle/request/fork_space"
  bool clean;               // nothing of a request is left for the next
  bool hardware_wall;       // served inside a VM
};
[[nodiscard]] const std::vector<CompareMode>& compare_modes();

/// One way to serve requests.
class Contender {
 public:
  virtual ~Contender() = default;
  /// Serves one request and checks its answer.
  [[nodiscard]] virtual Status request(std::uint64_t argument) = 0;
};

/// Prepares the mode `name`. Errors: kUsage (no such mode), kUnsupported (this KVM lacks what it needs).
[[nodiscard]] Result<std::unique_ptr<Contender>> make_contender(std::string_view name, const SuiteOptions& options,
                                                                const ForkFixture& fixture,
                                                                const CompareOptions& compare);

/// Measures all modes and the floor, floors/cpl3_exit. Modes this machine cannot do are reported through
/// options.progress and left out.
[[nodiscard]] SuiteResult run_compare(const SuiteOptions& options, const CompareOptions& compare);

}  // namespace warmfork::bench
