#include "lc3/jit/host_runner.hpp"

#include "base/unique_fd.hpp"
#include "lc3/core/code_use.hpp"
#include "lc3/jit/counts.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace warmfork::lc3::jit {

Result<HostCode> HostCode::create(std::size_t bytes) {
  const UniqueFd fd(::memfd_create("warmfork-code", MFD_CLOEXEC));
  if (fd.get() < 0 || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return fail_errno("{} bytes of memory for compiled code", bytes);
  }
  HostCode code;
  WARMFORK_TRY_ASSIGN(code.writable_, Mapping::shared(fd.get(), bytes));
  WARMFORK_TRY_ASSIGN(code.executable_, Mapping::shared(fd.get(), bytes));
  if (::mprotect(code.executable_.data(), bytes, PROT_READ | PROT_EXEC) != 0) {
    return fail_errno("making {} bytes of compiled code executable", bytes);
  }
  return code;
}

Result<std::unique_ptr<HostRunner>> HostRunner::create(const RunnerOptions& options) {
  WARMFORK_TRY_ASSIGN(HostCode code, HostCode::create(options.code_bytes));
  return std::unique_ptr<HostRunner>(new HostRunner(std::move(code), options));
}

void HostRunner::clear() {
  cache_.clear();
  patience_ = first_patience_;
  failure_.reset();
  counted_.reset();
  lost_ = 0;
}

void HostRunner::settle_counts(Instrumentation& instrumentation) {
  if (!counted_) return;
  const std::span counters(instrumentation.code_counts, counters_of(*counted_->unit));
  add_counts(*counted_->unit, *counted_->words, counters, instrumentation);
  std::ranges::fill(counters, std::uint64_t{0});
}

const RunResult& HostRunner::run(State& state, std::uint64_t budget, Instrumentation* instrumentation) {
  const bool counting = instrumentation != nullptr;
  if (!can_run_fast(state) || (counting && (instrumentation->collect == 0 || instrumentation->watch_count != 0))) {
    return run_careful(state, budget, instrumentation);
  }
  state.compiling = 1;
  state.code_use.patience = patience_;
  forget_code(state);  // callers write to the machine's memory as they like
  std::uint64_t executed = 0;
  if (state.code_use.lost_count < lost_) lost_ = 0;  // another machine
  while (true) {
    const RunResult& result = lc3::run(state, budget - executed, instrumentation);
    executed += result.executed;
    if (result.stop != StopReason::kCompile) break;
    const std::vector<std::uint16_t> changed = lost_since(state.code_use, lost_);
    lost_ = state.code_use.lost_count;
    const CodeCache::Request request{.words = std::span<const std::uint16_t, kMemoryWords>(state.memory),
                                     .pc = state.pc,
                                     .lea_sets_cc = state.lea_sets_cc != 0,
                                     .lost = changed};
    std::uint64_t version = 0;
    if (counting) {
      settle_counts(*instrumentation);  // before another version uses the same counters
      auto made = cache_.compile_counting(request);
      if (!made && !failure_) failure_ = made.error();
      if (made && made->address != 0) {
        version = made->address;
        counted_ = *std::move(made);
      }
    } else {
      const auto compiled = cache_.compile(request);
      if (!compiled && !failure_) failure_ = compiled.error();
      version = compiled.value_or(0);
    }
    state.code_use.wanted = version;
    state.code_use.patience = patience_ = longer_patience(patience_);
  }
  if (counting) settle_counts(*instrumentation);
  state.result.executed = executed;
  return state.result;
}

}  // namespace warmfork::lc3::jit
