// What the benchmarks of rings have in common: a ring in memory of its own, and two threads that begin together.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "base/tsc_clock.hpp"
#include "bench/suites.hpp"
#include "warmfork/ring/spsc.hpp"

#include <atomic>
#include <cstdint>
#include <thread>

namespace warmfork::bench {

/// One ring in memory of its own, its pages present.
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

/// Runs `partner` on the other CPU and `here` on this one, both begun at the same moment; ticks from there to the end
/// of `here`.
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

}  // namespace warmfork::bench
