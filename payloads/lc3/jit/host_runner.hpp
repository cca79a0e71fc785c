// Runs machines with compiled code in this process, without a guest: for tests, fuzzing and for measuring what the
// guest costs. The same code, the same protocol.
//
// Threads: one at a time.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "lc3/core/engine.hpp"
#include "lc3/jit/code_cache.hpp"

#include <memory>
#include <optional>

namespace warmfork::lc3::jit {

/// Memory for code in this process: written through one mapping, executed through another.
class HostCode {
 public:
  [[nodiscard]] static Result<HostCode> create(std::size_t bytes);
  [[nodiscard]] CodeSpace space() const {
    return {writable_.bytes(), reinterpret_cast<std::uint64_t>(executable_.data())};
  }

 private:
  Mapping writable_, executable_;
};

struct RunnerOptions {
  std::size_t code_bytes = std::size_t{4} << 20;
  std::uint32_t patience = 1;  // transfers to interpreted code before compiling
  CacheOptions cache;
};

class HostRunner {
 public:
  [[nodiscard]] static Result<std::unique_ptr<HostRunner>> create(const RunnerOptions& options = {});

  /// As run(), compiling what the machine asks for. The result lies in state.result. With instrumentation that only
  /// counts the code counts, too, and all that it has counted is in the tables when this returns; it must be the same
  /// one until clear().
  const RunResult& run(State& state, std::uint64_t budget, Instrumentation* instrumentation = nullptr);

  /// Forgets all code and how long it took to come by: another program begins.
  void clear();

  /// The first error of the compiler since clear(): machines go on without its code.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }

  [[nodiscard]] CodeCache& cache() { return cache_; }

 private:
  void settle_counts(Instrumentation& instrumentation);
  HostRunner(HostCode code, const RunnerOptions& options)
      : first_patience_(options.patience),
        patience_(options.patience),
        code_(std::move(code)),
        cache_(code_.space(), options.cache) {}

  std::uint32_t first_patience_, patience_;
  std::uint32_t lost_ = 0;  // of the machine's lost_count, what the cache has been told
  HostCode code_;
  CodeCache cache_;
  std::optional<Error> failure_;
  std::optional<Made> counted_;  // whose counters are in use
};

}  // namespace warmfork::lc3::jit
