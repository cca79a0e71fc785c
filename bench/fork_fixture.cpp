#include "bench/fork_fixture.hpp"

#include "bench/suites.hpp"

#include <array>
#include <string>

extern "C" const unsigned char warmfork_bench_request_begin[];
extern "C" const unsigned char warmfork_bench_request_end[];

namespace warmfork::bench {

Result<ForkFixture> ForkFixture::create(const kvm::Kvm& kvm, const WindowShape& shape) {
  ForkFixture fixture;
  fixture.kvm_ = &kvm;
  MachineConfig config{.memory_bytes = shape.window_bytes, .stack_bytes = 32 << 10, .call_area_bytes = 4 << 10};
  config.process.arguments = {"request", std::to_string(shape.block_pages)};
  const auto elf = std::as_bytes(std::span(warmfork_bench_request_begin, warmfork_bench_request_end));
  WARMFORK_TRY_ASSIGN(fixture.master_, Machine::create(kvm, elf, "request", std::move(config)));
  WARMFORK_TRY_ASSIGN(const BootOutcome outcome, fixture.master_->boot());
  if (outcome.exit_code) {
    return fail(ErrorKind::kGuestFault, "the benchmark's guest exited with {}: no room for {} pages in a window of {}",
                *outcome.exit_code, shape.block_pages, shape.window_bytes);
  }
  WARMFORK_TRY_ASSIGN(fixture.function_, fixture.master_->find_vmcall("request"));
  WARMFORK_TRY_ASSIGN(fixture.snapshot_, Snapshot::take(kvm, *fixture.master_));
  return fixture;
}

Status ForkFixture::request(Guest& guest, std::uint64_t argument, std::uint64_t dirty_pages) const {
  const std::array<std::uint64_t, 2> arguments{argument, dirty_pages};
  WARMFORK_TRY_ASSIGN(const std::uint64_t answer, guest.call(function_, arguments, {.timeout_ns = kTimeoutNs}));
  if (answer != argument) {
    return fail(ErrorKind::kGuestFault, "a fork that was not pristine: it answered {}, expected {}", answer, argument);
  }
  return {};
}

}  // namespace warmfork::bench
