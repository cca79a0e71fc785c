// ring/rtt/…: how long a message takes to the other CPU and back, over a ring each way.
#include "bench/ring_round_trips.hpp"

#include "bench/floor_probe.hpp"
#include "bench/ring_fixture.hpp"
#include "machine/machine.hpp"
#include "memory/shared_memory.hpp"
#include "warmfork/ring/slots.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>

extern "C" const unsigned char warmfork_bench_ring_echo_begin[];
extern "C" const unsigned char warmfork_bench_ring_echo_end[];

namespace warmfork::bench {
namespace {

using ring::Hostile;

constexpr std::uint64_t kRoundTripCapacity = 4096;
constexpr std::uint64_t kUnrecordedTrips = 100;
constexpr std::uint64_t kStop = ~std::uint64_t{0};

template <class Send, class Receive>
void record_round_trips(std::uint64_t count, Histogram& ticks, Send&& send, Receive&& receive) {
  for (std::uint64_t i = 0; i < kUnrecordedTrips + count; ++i) {
    const std::uint64_t begin = tsc_now();
    send(i);
    while (!receive(i)) {
    }
    const std::uint64_t took = tsc_now_ordered() - begin;
    if (i >= kUnrecordedTrips) ticks.record(took);
  }
  send(kStop);
}

template <class Policy>
Status slot_round_trips(int other_cpu, std::uint64_t count, Histogram& ticks) {
  WARMFORK_TRY_ASSIGN(const RingMemory there, RingMemory::create(kRoundTripCapacity, 8));
  WARMFORK_TRY_ASSIGN(const RingMemory back, RingMemory::create(kRoundTripCapacity, 8));
  const auto echo = [&] {
    ring::SlotConsumer<std::uint64_t, Policy> in(there.for_consumer());
    ring::SlotProducer<std::uint64_t, Policy> out(back.for_producer());
    for (std::uint64_t message = 0; message != kStop;) {
      if (in.pop(message) && !out.push(message)) return;
    }
  };
  const auto caller = [&] {
    ring::SlotProducer<std::uint64_t, Policy> out(there.for_producer());
    ring::SlotConsumer<std::uint64_t, Policy> in(back.for_consumer());
    record_round_trips(
        count, ticks, [&](std::uint64_t value) { return out.push(value); },
        [&](std::uint64_t value) {
          std::uint64_t answer = 0;
          return in.pop(answer) && answer == value;
        });
  };
  WARMFORK_TRY(together(other_cpu, echo, caller));
  return {};
}

Status record_round_trips_of_ring(int other_cpu, std::uint64_t count, Histogram& ticks) {
  WARMFORK_TRY_ASSIGN(const RingMemory there, RingMemory::create(kRoundTripCapacity, 0));
  WARMFORK_TRY_ASSIGN(const RingMemory back, RingMemory::create(kRoundTripCapacity, 0));
  const auto bytes = [](std::uint64_t& value) { return std::as_writable_bytes(std::span(&value, 1)); };
  const auto echo = [&] {
    ring::SpscConsumer<Hostile> in(there.for_consumer());
    ring::SpscProducer<Hostile> out(back.for_producer());
    for (std::uint64_t message = 0; message != kStop;) {
      if (in.pop(bytes(message)) && !out.push(bytes(message))) return;
    }
  };
  const auto caller = [&] {
    ring::SpscProducer<Hostile> out(there.for_producer());
    ring::SpscConsumer<Hostile> in(back.for_consumer());
    record_round_trips(
        count, ticks, [&](std::uint64_t value) { return out.push(bytes(value)); },
        [&](std::uint64_t value) {
          std::uint64_t answer = 0;
          return in.pop(bytes(answer)) && answer == value;
        });
  };
  WARMFORK_TRY(together(other_cpu, echo, caller));
  return {};
}

// A guest that echoes, and the two rings it shares with the host: each side writes its own parts and can only read the
// other's.
class GuestEcho {
 public:
  [[nodiscard]] static Result<GuestEcho> create(const kvm::Kvm& kvm) {
    constexpr std::uint64_t kPart = ring::spsc_producer_part_bytes(kRoundTripCapacity);
    GuestEcho echo;
    MachineConfig config{.memory_bytes = std::uint64_t{1} << 20, .stack_bytes = 64 << 10};
    config.shared_regions = {{"in", kPart, SharedAccess::kReadOnly},
                             {"in.own", ring::kPageBytes, SharedAccess::kReadWrite},
                             {"out.own", kPart, SharedAccess::kReadWrite},
                             {"out", ring::kPageBytes, SharedAccess::kReadOnly}};
    for (const SharedRegionSpec& spec : config.shared_regions) {
      WARMFORK_TRY_ASSIGN(auto memory, SharedMemory::create(spec.bytes, true));
      config.shared.push_back(memory);
      echo.parts_.push_back(std::move(memory));
    }
    const auto elf = std::as_bytes(std::span(warmfork_bench_ring_echo_begin, warmfork_bench_ring_echo_end));
    WARMFORK_TRY_ASSIGN(echo.machine_, Machine::create(kvm, elf, "ring_echo", std::move(config)));
    WARMFORK_TRY(echo.machine_->boot());
    WARMFORK_TRY_ASSIGN(echo.function_, echo.machine_->find_vmcall("ring_echo"));
    return echo;
  }

  // The guest echoes on the other CPU until it has echoed ~0, its `expected`th message; `caller` runs here.
  template <class Caller>
  Status serve(int other_cpu, std::uint64_t expected, Caller&& caller) {
    // SAFETY: whole pages; formatted here, while no guest runs.
    auto& in = *reinterpret_cast<ring::SpscProducerPage*>(parts_[0]->bytes().data());
    auto& in_own = *reinterpret_cast<ring::SpscConsumerPage*>(parts_[1]->bytes().data());
    auto& out_own = *reinterpret_cast<ring::SpscProducerPage*>(parts_[2]->bytes().data());
    auto& out = *reinterpret_cast<ring::SpscConsumerPage*>(parts_[3]->bytes().data());
    ring::format_spsc(in, in_own, kRoundTripCapacity, 8);
    ring::format_spsc(out_own, out, kRoundTripCapacity, 8);
    std::vector<std::uint64_t> arguments;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      WARMFORK_TRY_ASSIGN(const auto region, machine_->shared_region(i));
      arguments.push_back(region.begin.value);
    }
    arguments.push_back(kRoundTripCapacity);
    std::optional<Result<std::uint64_t>> echoed;
    over_->store(false);
    const auto guest_runs = [&] {
      echoed = machine_->call(function_, arguments, {.timeout_ns = kTimeoutNs});
      *over_ = true;
    };
    WARMFORK_TRY(together(other_cpu, guest_runs, caller));
    if (!*echoed) return Failure(echoed->error());
    if (**echoed != expected) {
      return fail(ErrorKind::kGuestFault, "ring: of {} messages a guest has echoed {}", expected, **echoed);
    }
    return {};
  }

  // The host's end is what it is in slot_round_trips().
  Status round_trips(int other_cpu, std::uint64_t count, Histogram& ticks) {
    return serve(other_cpu, count + kUnrecordedTrips + 1, [&] {
      // SAFETY: as in serve().
      auto& in = *reinterpret_cast<ring::SpscProducerPage*>(parts_[0]->bytes().data());
      auto& in_own = *reinterpret_cast<ring::SpscConsumerPage*>(parts_[1]->bytes().data());
      auto& out_own = *reinterpret_cast<ring::SpscProducerPage*>(parts_[2]->bytes().data());
      auto& out = *reinterpret_cast<ring::SpscConsumerPage*>(parts_[3]->bytes().data());
      ring::SlotProducer<std::uint64_t, Hostile> to({.own = &in, .peer = &in_own, .capacity = kRoundTripCapacity});
      ring::SlotConsumer<std::uint64_t, Hostile> from({.own = &out, .peer = &out_own, .capacity = kRoundTripCapacity});
      record_round_trips(
          count, ticks, [&](std::uint64_t value) { return to.push(value); },
          [&](std::uint64_t value) {
            std::uint64_t answer = 0;
            if (from.pop(answer)) return answer == value;
            return over_->load(std::memory_order_relaxed);  // a guest that has died sends nothing more
          });
    });
  }

 private:
  friend class GuestPair;
  std::unique_ptr<std::atomic<bool>> over_ = std::make_unique<std::atomic<bool>>(false);
  std::vector<std::shared_ptr<SharedMemory>> parts_;
  std::unique_ptr<Machine> machine_;
  Gva function_{};
};

// A guest that echoes and one that calls it: the same rings, and the host only in it by having made them. The caller
// takes the time, by its own clock.
class GuestPair {
 public:
  [[nodiscard]] static Result<GuestPair> create(const kvm::Kvm& kvm) {
    GuestPair pair;
    WARMFORK_TRY_ASSIGN(pair.echo_, GuestEcho::create(kvm));
    const auto& parts = pair.echo_->parts_;
    constexpr std::array kNames{"out.own", "out", "in", "in.own"};  // as the caller sees them
    constexpr std::array kAccess{SharedAccess::kReadWrite, SharedAccess::kReadOnly, SharedAccess::kReadOnly,
                                 SharedAccess::kReadWrite};
    MachineConfig config{.memory_bytes = std::uint64_t{1} << 20, .stack_bytes = 64 << 10};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      config.shared_regions.push_back({kNames.at(i), parts[i]->size(), kAccess.at(i)});
    }
    WARMFORK_TRY_ASSIGN(pair.ticks_, SharedMemory::create(kTickBytes, true));
    config.shared_regions.push_back({"ticks", kTickBytes, SharedAccess::kReadWrite});
    config.shared = parts;
    config.shared.push_back(pair.ticks_);
    const auto elf = std::as_bytes(std::span(warmfork_bench_ring_echo_begin, warmfork_bench_ring_echo_end));
    WARMFORK_TRY_ASSIGN(pair.caller_, Machine::create(kvm, elf, "ring_call", std::move(config)));
    WARMFORK_TRY(pair.caller_->boot());
    WARMFORK_TRY_ASSIGN(pair.function_, pair.caller_->find_vmcall("ring_call"));
    return pair;
  }

  /// At most kMostTrips.
  Status round_trips(int other_cpu, std::uint64_t count, Histogram& ticks) {
    std::vector<std::uint64_t> arguments;
    for (std::size_t i = 0; i < echo_->parts_.size() + 1; ++i) {
      WARMFORK_TRY_ASSIGN(const auto region, caller_->shared_region(i));
      arguments.push_back(region.begin.value);
    }
    arguments.push_back(count + kUnrecordedTrips);
    std::optional<Result<std::uint64_t>> called;
    WARMFORK_TRY(echo_->serve(other_cpu, count + kUnrecordedTrips + 1,
                              [&] { called = caller_->call(function_, arguments, {.timeout_ns = kTimeoutNs}); }));
    if (!*called) return Failure(called->error());
    if (**called != count + kUnrecordedTrips) {
      return fail(ErrorKind::kGuestFault, "ring: of {} messages {} came back to a guest", count + kUnrecordedTrips,
                  **called);
    }
    for (std::uint64_t i = kUnrecordedTrips; i < count + kUnrecordedTrips; ++i) {
      std::uint64_t one = 0;
      std::memcpy(&one, ticks_->bytes().data() + i * sizeof one, sizeof one);
      ticks.record(one);
    }
    return {};
  }

  static constexpr std::uint64_t kTickBytes = 32 << 10;
  static constexpr std::uint64_t kMostTrips = kTickBytes / 8 - kUnrecordedTrips;

 private:
  std::optional<GuestEcho> echo_;
  std::shared_ptr<SharedMemory> ticks_;
  std::unique_ptr<Machine> caller_;
  Gva function_{};
};

}  // namespace

Status measure_ring_round_trips(const SuiteOptions& options, std::vector<Figure>& out) {
  options.say("ring: there and back");
  std::optional<GuestEcho> echo;  // without a KVM the host is among itself
  std::optional<GuestPair> pair;
  if (options.kvm != nullptr) {
    WARMFORK_TRY_ASSIGN(echo, GuestEcho::create(*options.kvm));
    WARMFORK_TRY_ASSIGN(pair, GuestPair::create(*options.kvm));
  }
  Histogram slots, records, guests, pairs, ping_pongs;
  const std::uint64_t per_round = options.samples(2000, 50);
  for (std::uint64_t round = 0; round < options.samples(100, 3); ++round) {
    WARMFORK_TRY(slot_round_trips<Hostile>(options.other_cpu, per_round, slots));
    if (echo) WARMFORK_TRY(echo->round_trips(options.other_cpu, per_round, guests));
    if (pair) WARMFORK_TRY(pair->round_trips(options.other_cpu, std::min(per_round, GuestPair::kMostTrips), pairs));
    WARMFORK_TRY(record_round_trips_of_ring(options.other_cpu, per_round, records));
    WARMFORK_TRY(ping_pong(options.other_cpu, per_round, ping_pongs));
  }
  Figure floor = from_ticks("floors/cacheline_pingpong", ping_pongs);
  for (const auto& [name, ticks] : {std::pair{"ring/rtt/host_host", &slots},
                                    {"ring/rtt/host_guest", &guests},
                                    {"ring/rtt/guest_guest", &pairs},
                                    {"ring/rtt/host_host/records", &records}}) {
    if (ticks->count() == 0) continue;
    Figure figure = from_ticks(name, *ticks);
    set_floor(figure, floor);
    figure.params["message_bytes"] = 8;
    out.push_back(std::move(figure));
  }
  out.push_back(std::move(floor));
  return {};
}

Status host_thread_round_trips(int other_cpu, std::uint64_t round_trips, Histogram& ticks) {
  return slot_round_trips<ring::Trusted>(other_cpu, round_trips, ticks);
}

}  // namespace warmfork::bench
