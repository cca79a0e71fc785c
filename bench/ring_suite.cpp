// The rings between two threads on two CPUs: how long a message takes there and back, and how much goes through. Beside
// them what bounds them: a cache line to the other CPU and back, and memcpy.
#include "base/mapping.hpp"
#include "base/tsc_clock.hpp"
#include "bench/floor_probe.hpp"
#include "bench/ring_floor.hpp"
#include "bench/suites.hpp"
#include "machine/machine.hpp"
#include "memory/shared_memory.hpp"
#include "warmfork/ring/broadcast.hpp"
#include "warmfork/ring/slots.hpp"
#include "warmfork/ring/spsc.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

extern "C" const unsigned char warmfork_bench_ring_echo_begin[];
extern "C" const unsigned char warmfork_bench_ring_echo_end[];

namespace warmfork::bench {
namespace {

using ring::Hostile;
using ring::Trusted;

constexpr std::uint64_t kRoundTripCapacity = 4096;
constexpr std::uint64_t kSlotCapacity = 64 << 10;
constexpr std::uint64_t kCapacity = 1 << 20;
constexpr std::uint64_t kBatchSlots = 64;
constexpr std::uint64_t kUnrecordedTrips = 100;
constexpr std::uint64_t kStop = ~std::uint64_t{0};
// Long enough that starting the partner does not count, short enough that many repetitions meet no interrupt.
constexpr std::uint64_t kMessagesPerRepetition = 400'000;
constexpr std::uint64_t kBytesPerRepetition = 16 << 20;

// One ring in memory of its own, its pages present.
class RingMemory {
 public:
  [[nodiscard]] static Result<RingMemory> create(std::uint64_t capacity, std::uint64_t slot_bytes) {
    RingMemory memory;
    memory.capacity_ = capacity;
    WARMFORK_TRY_ASSIGN(memory.producer_, Mapping::anonymous(ring::spsc_producer_part_bytes(capacity)));
    WARMFORK_TRY_ASSIGN(memory.consumer_, Mapping::anonymous(sizeof(ring::SpscConsumerPage)));
    memory.producer_.populate();
    memory.consumer_.populate();
    ring::format_spsc(memory.producer_page(), memory.consumer_page(), capacity, slot_bytes);
    return memory;
  }
  [[nodiscard]] ring::SpscProducerView for_producer() const {
    return {.own = &producer_page(), .peer = &consumer_page(), .capacity = capacity_};
  }
  [[nodiscard]] ring::SpscConsumerView for_consumer() const {
    return {.own = &consumer_page(), .peer = &producer_page(), .capacity = capacity_};
  }

 private:
  // SAFETY: page-aligned mappings of at least a page, formatted before use.
  [[nodiscard]] ring::SpscProducerPage& producer_page() const {
    return *reinterpret_cast<ring::SpscProducerPage*>(producer_.data());
  }
  [[nodiscard]] ring::SpscConsumerPage& consumer_page() const {
    return *reinterpret_cast<ring::SpscConsumerPage*>(consumer_.data());
  }

  std::uint64_t capacity_ = 0;
  Mapping producer_;
  Mapping consumer_;
};

// Runs `partner` on the other CPU and `here` on this one, both begun at the same moment; ticks from there to the end of
// `here`.
template <class Partner, class Here>
Result<std::uint64_t> together(int other_cpu, Partner&& partner, Here&& here) {
  Status pinned;
  std::atomic<int> stage{0};  // 1: the partner is ready; 2: begin; 3: it could not be pinned
  std::jthread thread([&] {
    pinned = pin_to(other_cpu);
    stage = pinned ? 1 : 3;
    if (!pinned) return;
    while (stage.load(std::memory_order_acquire) != 2) {
    }
    partner();
  });
  while (stage.load(std::memory_order_acquire) == 0) std::this_thread::yield();
  if (stage == 3) {
    thread.join();
    return Failure(pinned.error());
  }
  const std::uint64_t begin = tsc_now();
  stage.store(2, std::memory_order_release);
  here();
  return tsc_now_ordered() - begin;
}

// --- there and back ------------------------------------------------------------------------------------------------

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

Status measure_round_trips(const SuiteOptions& options, std::vector<Figure>& out) {
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

// --- how much goes through -----------------------------------------------------------------------------------------

double per_second(std::uint64_t count, std::uint64_t ticks) {
  return static_cast<double>(count) / tsc_to_ns(ticks) * 1e9;
}

// Messages of 8 bytes, put in batches and taken as many as there are; `batch` 1: each is published and released by
// itself.
Result<double> slot_rate(int other_cpu, std::uint64_t messages, std::uint64_t batch) {
  WARMFORK_TRY_ASSIGN(const RingMemory memory, RingMemory::create(kSlotCapacity, 8));
  const auto producer_runs = [&] {
    ring::SlotProducer<std::uint64_t, Trusted> producer(memory.for_producer());
    for (std::uint64_t n = 0; n < messages;) {
      const std::uint64_t end = std::min(n + batch, messages);
      while (n < end && producer.put(n)) ++n;
      producer.publish();
    }
  };
  std::uint64_t sum = 0;
  const auto consumer_runs = [&] {
    ring::SlotConsumer<std::uint64_t, Hostile> consumer(memory.for_consumer());
    std::array<std::uint64_t, kBatchSlots> got{};
    for (std::uint64_t n = 0; n < messages;) {
      const std::size_t count = consumer.take(std::span(got).first(batch));
      for (std::size_t i = 0; i < count; ++i) sum += got[i];
      n += count;
      consumer.release();
    }
  };
  WARMFORK_TRY_ASSIGN(const std::uint64_t ticks, together(other_cpu, producer_runs, consumer_runs));
  if (sum != messages * (messages - 1) / 2) {
    return fail(ErrorKind::kHost, "ring: {} messages have the sum {}", messages, sum);
  }
  return per_second(messages, ticks);
}

// Where records come from and go to: as large as the ring, so that caches hold as much of them.
struct Buffers {
  Mapping from;
  Mapping to;
  static Result<Buffers> create() {
    Buffers buffers;
    WARMFORK_TRY_ASSIGN(buffers.from, Mapping::anonymous(kCapacity));
    WARMFORK_TRY_ASSIGN(buffers.to, Mapping::anonymous(kCapacity));
    std::memset(buffers.from.data(), 1, kCapacity);
    std::memset(buffers.to.data(), 2, kCapacity);
    return buffers;
  }
};

// Goes through a buffer in steps of a record.
class Steps {
 public:
  explicit Steps(std::uint64_t size) : size_(size) {}
  std::uint64_t next() {
    const std::uint64_t at = at_;
    at_ += size_;
    if (at_ + size_ > kCapacity) at_ = 0;
    return at;
  }

 private:
  std::uint64_t size_;
  std::uint64_t at_ = 0;
};

// Bytes published at a time, or one record. Measured with a ring of 1 MiB and records of 1,500 bytes: 8 KiB at a
// time 6.5 GB/s, 64 KiB 7.7, 256 KiB 7.2.
constexpr std::uint64_t kBatchBytes = 64 << 10;

// Payload bytes a second: copied in by one thread, copied out by the other, as a host does with what a guest sends.
Result<double> record_rate(int other_cpu, const Buffers& buffers, std::uint64_t size, std::uint64_t records) {
  WARMFORK_TRY_ASSIGN(const RingMemory memory, RingMemory::create(kCapacity, 0));
  const std::uint64_t batch = std::max<std::uint64_t>(1, kBatchBytes / size);
  const auto producer_runs = [&] {
    ring::SpscProducer<Trusted> producer(memory.for_producer());
    Steps steps(size);
    for (std::uint64_t n = 0; n < records; ++n) {
      const auto record = std::span<const std::byte>(buffers.from.bytes().subspan(steps.next(), size));
      while (!producer.put(record)) producer.publish();
      if (n % batch == batch - 1) producer.publish();
    }
    producer.publish();
  };
  const auto consumer_runs = [&] {
    ring::SpscConsumer<Hostile> consumer(memory.for_consumer());
    Steps steps(size);
    for (std::uint64_t n = 0; n < records;) {
      const auto record = consumer.peek();
      if (!record) {
        consumer.release();
        continue;
      }
      record->copy_to(buffers.to.bytes().subspan(steps.next(), size));
      consumer.advance();
      if (++n % batch == 0) consumer.release();
    }
  };
  WARMFORK_TRY_ASSIGN(const std::uint64_t ticks, together(other_cpu, producer_runs, consumer_runs));
  return per_second(records * size, ticks);
}

// The same with records of one size that need no header.
struct Line64 {
  std::array<std::byte, 64> bytes;
};
Result<double> line_rate(int other_cpu, const Buffers& buffers, std::uint64_t records) {
  WARMFORK_TRY_ASSIGN(const RingMemory memory, RingMemory::create(kCapacity, sizeof(Line64)));
  constexpr std::uint64_t kBatch = kBatchBytes / sizeof(Line64);
  // SAFETY: page-aligned mappings of kCapacity bytes, which is a whole number of lines.
  const auto* const from = reinterpret_cast<const Line64*>(buffers.from.data());
  auto* const to = reinterpret_cast<Line64*>(buffers.to.data());
  constexpr std::uint64_t kLines = kCapacity / sizeof(Line64);
  const auto producer_runs = [&] {
    ring::SlotProducer<Line64, Trusted> producer(memory.for_producer());
    for (std::uint64_t n = 0; n < records; ++n) {
      while (!producer.put(from[n % kLines])) producer.publish();
      if (n % kBatch == kBatch - 1) producer.publish();
    }
    producer.publish();
  };
  const auto consumer_runs = [&] {
    ring::SlotConsumer<Line64, Hostile> consumer(memory.for_consumer());
    for (std::uint64_t n = 0; n < records;) {
      const std::uint64_t to_end = kLines - n % kLines;
      n += consumer.take({to + n % kLines, static_cast<std::size_t>(std::min(kBatch, to_end))});
      consumer.release();
    }
  };
  WARMFORK_TRY_ASSIGN(const std::uint64_t ticks, together(other_cpu, producer_runs, consumer_runs));
  return per_second(records * sizeof(Line64), ticks);
}

// One thread, nothing shared.
double copy_rate(const Buffers& buffers, std::uint64_t size, std::uint64_t records) {
  Steps steps(size);
  const std::uint64_t begin = tsc_now();
  for (std::uint64_t n = 0; n < records; ++n) {
    const std::uint64_t at = steps.next();
    ring::copy_once(buffers.to.data() + at, buffers.from.data() + at, size);
  }
  return per_second(records * size, tsc_now_ordered() - begin);
}

// What memcpy does with bytes that another CPU has just written: two threads hand two buffers of half the ring's size
// to and fro, one copying into them and the other out of them, with a flag each and no ring.
Result<double> handover_rate(int other_cpu, const Buffers& buffers, std::uint64_t size, std::uint64_t records) {
  struct alignas(ring::kApart) Line {
    std::atomic<std::uint64_t> value{0};
  };
  WARMFORK_TRY_ASSIGN(const Mapping shared, Mapping::anonymous(kCapacity));
  shared.populate();
  const std::uint64_t per_half = kCapacity / 2 / size;
  const std::uint64_t halves = std::max<std::uint64_t>(2, records / per_half);
  Line filled;
  Line emptied;
  const auto producer_runs = [&] {
    for (std::uint64_t half = 0; half < halves; ++half) {
      while (half - emptied.value.load(std::memory_order_acquire) >= 2) {
      }
      const std::uint64_t base = half % 2 * (kCapacity / 2);
      for (std::uint64_t i = 0; i < per_half; ++i) {
        ring::copy_once(shared.data() + base + i * size, buffers.from.data() + base + i * size, size);
      }
      filled.value.store(half + 1, std::memory_order_release);
    }
  };
  const auto consumer_runs = [&] {
    for (std::uint64_t half = 0; half < halves; ++half) {
      while (filled.value.load(std::memory_order_acquire) == half) {
      }
      const std::uint64_t base = half % 2 * (kCapacity / 2);
      for (std::uint64_t i = 0; i < per_half; ++i) {
        ring::copy_once(buffers.to.data() + base + i * size, shared.data() + base + i * size, size);
      }
      emptied.value.store(half + 1, std::memory_order_release);
    }
  };
  WARMFORK_TRY_ASSIGN(const std::uint64_t ticks, together(other_cpu, producer_runs, consumer_runs));
  return per_second(halves * per_half * size, ticks);
}

Status measure_slots(const SuiteOptions& options, std::vector<Figure>& out) {
  options.say("ring: messages of 8 bytes");
  const std::uint64_t messages = options.samples(kMessagesPerRepetition, 20'000);
  std::vector<double> batched, single;
  for (std::uint64_t i = 0; i < options.samples(200, 3); ++i) {
    WARMFORK_TRY_ASSIGN(const double many, slot_rate(options.other_cpu, messages, kBatchSlots));
    batched.push_back(many);
    WARMFORK_TRY_ASSIGN(const double one, slot_rate(options.other_cpu, messages, 1));
    single.push_back(one);
  }
  out.push_back(from_values("ring/spsc/8", "msg/s", batched));
  out.back().params["batch"] = kBatchSlots;
  out.push_back(from_values("ring/spsc/8/single", "msg/s", single));
  out.back().params["batch"] = 1;
  return {};
}

Status measure_records(const SuiteOptions& options, std::vector<Figure>& out) {
  WARMFORK_TRY_ASSIGN(const Buffers buffers, Buffers::create());
  for (const std::uint64_t size : {std::uint64_t{64}, std::uint64_t{1500}, std::uint64_t{64 << 10}}) {
    options.say(fmt::format("ring: records of {} bytes", size));
    const std::uint64_t records = options.samples(kBytesPerRepetition, 1 << 20) / size;
    std::vector<double> through_ring, through_slots, copied, handed_over;
    for (std::uint64_t i = 0; i < options.samples(100, 3); ++i) {
      WARMFORK_TRY_ASSIGN(const double rate, record_rate(options.other_cpu, buffers, size, records));
      through_ring.push_back(rate);
      WARMFORK_TRY_ASSIGN(const double handed, handover_rate(options.other_cpu, buffers, size, records));
      handed_over.push_back(handed);
      copied.push_back(copy_rate(buffers, size, records));
      if (size != sizeof(Line64)) continue;
      WARMFORK_TRY_ASSIGN(const double lines, line_rate(options.other_cpu, buffers, records));
      through_slots.push_back(lines);
    }
    Figure figure = from_values(fmt::format("ring/spsc/{}", size), "bytes/s", through_ring);
    Figure floor = from_values(fmt::format("floors/memcpy_handover/{}", size), "bytes/s", handed_over);
    Figure local = from_values(fmt::format("floors/memcpy_local/{}", size), "bytes/s", copied);
    Figure slots = from_values(fmt::format("ring/spsc/{}/slots", size), "bytes/s", through_slots);
    for (Figure* ring : {&figure, &slots}) {
      set_floor(*ring, floor);
      ring->counters["ratio_to_local_memcpy"] = ring->p50 / local.p50;
      ring->counters["records_per_second"] = ring->p50 / static_cast<double>(size);
      ring->params["ring_bytes"] = kCapacity;
    }
    for (Figure* each : {&figure, &slots, &floor, &local}) {
      if (each->samples == 0) continue;
      each->params["record_bytes"] = static_cast<double>(size);
      out.push_back(std::move(*each));
    }
  }
  return {};
}

// The writer never waits: its rate is the figure, and what the reader got of it a counter.
Status measure_broadcast(const SuiteOptions& options, std::vector<Figure>& out) {
  options.say("ring: broadcast");
  constexpr std::uint64_t kSize = 64;
  const std::uint64_t records = options.samples(kMessagesPerRepetition / 2, 20'000);
  WARMFORK_TRY_ASSIGN(const Mapping part, Mapping::anonymous(ring::broadcast_part_bytes(kCapacity)));
  part.populate();
  // SAFETY: page-aligned, and large enough.
  auto& page = *reinterpret_cast<ring::BroadcastPage*>(part.data());
  std::vector<double> written;
  std::uint64_t got = 0, lost = 0;
  for (std::uint64_t i = 0; i < options.samples(200, 3); ++i) {
    ring::format_broadcast(page, kCapacity);
    std::atomic<bool> done{false};
    const auto reader_runs = [&] {
      ring::BroadcastReader<Hostile> reader(page, kCapacity);
      std::array<std::byte, kSize> payload{};
      ring::BroadcastRecord record;
      for (bool last = false;;) {
        const ring::Found found = reader.read(payload, record);
        if (found == ring::Found::kRecord) ++got;
        if (found == ring::Found::kViolation || (found == ring::Found::kNothing && last)) break;
        if (found == ring::Found::kNothing) last = done.load(std::memory_order_acquire);  // and one more look
      }
      lost += reader.lost();
    };
    const auto writer_runs = [&] {
      ring::BroadcastWriter writer(page, kCapacity);
      std::array<std::byte, kSize> payload{};
      for (std::uint64_t n = 0; n < records; ++n) {
        std::memcpy(payload.data(), &n, sizeof n);
        (void)writer.push(payload);
      }
      done.store(true, std::memory_order_release);
    };
    WARMFORK_TRY_ASSIGN(const std::uint64_t ticks, together(options.other_cpu, reader_runs, writer_runs));
    written.push_back(per_second(records, ticks));
  }
  if (got + lost != written.size() * records) {
    return fail(ErrorKind::kHost, "ring: of {} records {} were got and {} counted lost", written.size() * records, got,
                lost);
  }
  Figure figure = from_values("ring/broadcast/64", "msg/s", written);
  figure.params["readers"] = 1;
  figure.counters["got_share"] = static_cast<double>(got) / static_cast<double>(got + lost);
  out.push_back(std::move(figure));
  return {};
}

}  // namespace

Status host_thread_round_trips(int other_cpu, std::uint64_t round_trips, Histogram& ticks) {
  return slot_round_trips<Trusted>(other_cpu, round_trips, ticks);
}

SuiteResult run_ring(const SuiteOptions& options) {
  std::vector<Figure> figures;
  if (options.cpu == options.other_cpu) {
    options.remark("ring: one CPU; two threads on it would measure its scheduler");
    return figures;
  }
  WARMFORK_TRY(pin_to(options.cpu));
  for (const auto measure : {measure_round_trips, measure_slots, measure_records, measure_broadcast}) {
    WARMFORK_TRY(measure(options, figures));
  }
  return figures;
}

}  // namespace warmfork::bench
