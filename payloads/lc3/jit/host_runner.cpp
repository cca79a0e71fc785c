#include "lc3/jit/host_runner.hpp"

#include "base/unique_fd.hpp"
#include "lc3/core/code_use.hpp"

#include <sys/mman.h>
#include <unistd.h>

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
  lost_ = 0;
}

const RunResult& HostRunner::run(State& state, std::uint64_t budget) {
  if (!can_run_fast(state)) return run_careful(state, budget);
  state.compiling = 1;
  state.code_use.patience = patience_;
  forget_code(state);  // callers write to the machine's memory as they like
  std::uint64_t executed = 0;
  if (state.code_use.lost_count < lost_) lost_ = 0;  // another machine
  while (true) {
    const RunResult& result = run_fast(state, budget - executed);
    executed += result.executed;
    if (result.stop != StopReason::kCompile) break;
    const std::vector<std::uint16_t> changed = lost_since(state.code_use, lost_);
    lost_ = state.code_use.lost_count;
    const auto compiled = cache_.compile({.words = std::span<const std::uint16_t, kMemoryWords>(state.memory),
                                          .pc = state.pc,
                                          .lea_sets_cc = state.lea_sets_cc != 0,
                                          .lost = changed});
    if (!compiled && !failure_) failure_ = compiled.error();
    state.code_use.wanted = compiled.value_or(0);
    state.code_use.patience = patience_ = longer_patience(patience_);
  }
  state.result.executed = executed;
  return state.result;
}

}  // namespace warmfork::lc3::jit
