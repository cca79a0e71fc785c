// The rings between two threads on two CPUs: how much goes through, beside memcpy; ring_round_trips.cpp has how long a
// message takes.
#include "base/mapping.hpp"
#include "bench/floor_probe.hpp"
#include "bench/ring_fixture.hpp"
#include "bench/ring_round_trips.hpp"
#include "bench/suites.hpp"
#include "warmfork/ring/broadcast.hpp"
#include "warmfork/ring/slots.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

namespace warmfork::bench {
namespace {

using ring::Hostile;
using ring::Trusted;

constexpr std::uint64_t kSlotCapacity = 64 << 10;
constexpr std::uint64_t kCapacity = 1 << 20;
constexpr std::uint64_t kBatchSlots = 64;
// Long enough that starting the partner does not count, short enough that many repetitions meet no interrupt.
constexpr std::uint64_t kMessagesPerRepetition = 400'000;
constexpr std::uint64_t kBytesPerRepetition = 16 << 20;

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

SuiteResult run_ring(const SuiteOptions& options) {
  std::vector<Figure> figures;
  if (options.cpu == options.other_cpu) {
    options.remark("ring: one CPU; two threads on it would measure its scheduler");
    return figures;
  }
  WARMFORK_TRY(pin_to(options.cpu));
  for (const auto measure : {measure_ring_round_trips, measure_slots, measure_records, measure_broadcast}) {
    WARMFORK_TRY(measure(options, figures));
  }
  return figures;
}

}  // namespace warmfork::bench
