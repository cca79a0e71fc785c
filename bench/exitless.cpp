#include "bench/exitless.hpp"

#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "fork/call_channel.hpp"
#include "fork/fork.hpp"
#include "machine/machine.hpp"

#include <sched.h>

#include <array>
#include <memory>

extern "C" const unsigned char warmfork_bench_empty_call_begin[];
extern "C" const unsigned char warmfork_bench_empty_call_end[];

namespace warmfork::bench {
namespace {

constexpr std::uint64_t kUnrecorded = 200;  // the first ones find the guest parked

// One call, timed.
Result<std::uint64_t> timed_call(CallChannel& channel, Gva function, std::uint64_t value) {
  const std::array arguments{value};
  const std::uint64_t begin = tsc_now();
  const auto result = channel.call(function, arguments);
  const std::uint64_t took = tsc_now_ordered() - begin;
  if (!result) return Failure(result.error());
  if (*result != value) return fail(ErrorKind::kGuestFault, "a call returned {}, expected {}", *result, value);
  return took;
}

}  // namespace

Status measure_exitless(const SuiteOptions& options, std::vector<Figure>& out) {
  if (options.cpu == options.other_cpu) return {};
  options.say("lifecycle: calls without exits");
  WARMFORK_TRY(pin_to(options.cpu));
  const auto elf = std::as_bytes(std::span(warmfork_bench_empty_call_begin, warmfork_bench_empty_call_end));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Machine> master,
                      Machine::create(*options.kvm, elf, "empty_call",
                                      {.memory_bytes = std::uint64_t{1} << 20, .stack_bytes = 64 << 10}));
  WARMFORK_TRY(master->boot());
  WARMFORK_TRY_ASSIGN(const auto snapshot, Snapshot::take(*options.kvm, *master));
  WARMFORK_TRY_ASSIGN(const auto source, make_fork_source(*options.kvm, snapshot, {.kind = ForkKind::kVm}, 1));
  WARMFORK_TRY_ASSIGN(const std::unique_ptr<Fork> fork, source->make());
  WARMFORK_TRY_ASSIGN(const Gva function, fork->find_vmcall("empty_call"));

  // Long enough for a call that the host's scheduler has delayed, short enough to park between rounds: the ping-pong
  // needs the processor.
  WARMFORK_TRY_ASSIGN(
      const std::unique_ptr<CallChannel> channel,
      CallChannel::open_for_one_tenant(
          *fork, {.polls_before_parking = 1 << 20, .cpu = options.other_cpu, .timeout_ns = kTimeoutNs}));
  const std::uint64_t per_round = options.samples(2000, 5);
  Histogram calls;
  Histogram ping_pongs;
  std::uint64_t parks_in_rounds = 0;
  for (std::uint64_t round = 0; round < options.samples(100, 3); ++round) {
    for (std::uint64_t i = 0; i < kUnrecorded; ++i) WARMFORK_TRY(timed_call(*channel, function, i));
    const std::uint64_t parks = channel->parks();
    for (std::uint64_t i = 0; i < per_round; ++i) {
      WARMFORK_TRY_ASSIGN(const std::uint64_t took, timed_call(*channel, function, i));
      calls.record(took);
    }
    parks_in_rounds += channel->parks() - parks;
    for (const std::uint64_t before = channel->parks(); channel->parks() == before;) ::sched_yield();
    WARMFORK_TRY(ping_pong(options.other_cpu, per_round, ping_pongs));
  }
  WARMFORK_TRY(channel->close());

  Figure floor = from_ticks("floors/cacheline_pingpong", ping_pongs);
  Figure figure = from_ticks("lifecycle/request/exitless", calls);
  set_floor(figure, floor);
  figure.counters["kvm_run_per_call"] = static_cast<double>(parks_in_rounds) / static_cast<double>(calls.count());
  out.push_back(std::move(figure));
  out.push_back(std::move(floor));
  return {};
}

}  // namespace warmfork::bench
