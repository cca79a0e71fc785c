// Makes versions better while machines execute them: a thread that recompiles what has been in use for a while with a
// slower, better compiler.
//
// Threads: notice() from any, without waiting for the thread's work; the destructor waits for what it is compiling.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/code_cache.hpp"

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace warmfork::lc3::jit {

class Optimiser {
 public:
  /// Compiles a verified unit; the result can lie anywhere.
  using Compile = std::function<Result<MachineCode>(const Unit&)>;
  /// Called once, on the thread, when there is something to compile for the first time.
  using MakeCompiler = std::function<Result<Compile>()>;

  /// `delay`: how long a version must be the latest before it is worth the work. The cache must outlive this.
  Optimiser(CodeCache& cache, MakeCompiler make_compiler, std::chrono::nanoseconds delay);
  ~Optimiser();
  Optimiser(const Optimiser&) = delete;
  Optimiser& operator=(const Optimiser&) = delete;

  /// There is a new version. One that nobody has begun with yet is forgotten for it.
  void notice(const Made& made);
  /// Waits until nothing is left to do.
  void drain();
  /// Waits for what has been begun, and forgets the rest.
  void finish();

 private:
  void work();

  CodeCache& cache_;
  const MakeCompiler make_compiler_;
  const std::chrono::nanoseconds delay_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Made> next_;
  std::chrono::steady_clock::time_point due_;
  bool busy_ = false, stop_ = false, draining_ = false;
  std::thread thread_;
};

}  // namespace warmfork::lc3::jit
