#include "lc3/jit/optimiser.hpp"

#include "trace/trace.hpp"

#include <pthread.h>
#include <sched.h>

#include <cstring>
#include <system_error>
#include <utility>

namespace warmfork::lc3::jit {
namespace {

constexpr trace::Kind kLoad{"jit", "load LLVM"};
constexpr trace::Kind kOptimise{"jit", "optimise"};

// The thread that makes machines may be pinned to the CPU that runs them; this one must not be in their way.
void leave_the_makers_cpu() {
  cpu_set_t all;
  std::memset(&all, 0xff, sizeof all);
  static_cast<void>(::pthread_setaffinity_np(::pthread_self(), sizeof all, &all));  // else it runs where it is
}

}  // namespace

Optimiser::Optimiser(CodeCache& cache, MakeCompiler make_compiler, std::chrono::nanoseconds delay)
    : cache_(cache), make_compiler_(std::move(make_compiler)), delay_(delay) {}

Optimiser::~Optimiser() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Optimiser::notice(const Made& made) {
  {
    const std::lock_guard lock(mutex_);
    next_.reset();
    if (made.optimised) {
      changed_.notify_all();  // somebody may wait until nothing is left
      return;
    }
    next_ = made;
    due_ = std::chrono::steady_clock::now() + delay_;
    try {
      if (!thread_.joinable()) thread_ = std::thread([this] { work(); });  // most machines never get here
    } catch (const std::system_error&) {
      next_.reset();  // no more threads may be made: what is there stays
    }
  }
  changed_.notify_all();
}

void Optimiser::drain() {
  std::unique_lock lock(mutex_);
  draining_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !next_ && !busy_; });
  draining_ = false;
}

void Optimiser::finish() {
  std::unique_lock lock(mutex_);
  next_.reset();
  changed_.wait(lock, [this] { return !busy_; });
}

void Optimiser::work() {
  leave_the_makers_cpu();
  trace::name_thread("LLVM");
  Compile compile;
  bool hopeless = false;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || next_; });
    if (stop_) return;
    if (!draining_ && std::chrono::steady_clock::now() < due_) {
      changed_.wait_until(lock, due_);
      continue;  // it may have been forgotten meanwhile
    }
    const Made made = *std::exchange(next_, std::nullopt);
    busy_ = true;
    lock.unlock();
    const auto begin = std::chrono::steady_clock::now();
    if (!compile && !hopeless) {
      const trace::Span span(kLoad);
      if (auto made_compiler = make_compiler_()) {
        compile = std::move(*made_compiler);
      } else {
        hopeless = true;  // no LLVM here: what is there stays
      }
    }
    bool failed = hopeless;
    if (!hopeless) {
      const trace::Span span(kOptimise);
      const auto code = compile(*made.unit);
      const auto took = std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count();
      failed = !code || !cache_.replace(made, *code, static_cast<std::uint64_t>(took));
      if (code) cache_.keep(made, *code);  // machines have it already, whatever the disk does
    }
    if (failed) cache_.count_failure();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace warmfork::lc3::jit
