// Rings between guests, or between a guest and the host: the shared memory of each, in the parts that hardware gives
// different rights to, and how its two sides wake each other.
//
//   Link   one sender, one receiver (warmfork/ring/spsc.hpp): two parts, two doorbells
//   Feed   one sender, the host; any number of receivers (warmfork/ring/broadcast.hpp): one part, and a page for each
//          receiver that wants others to see how far it is
//
// Guests get the parts as shared regions: each writes its own part and can only read its peer's. The host's ends of a
// link take a guest for hostile; those of guests do the same with each other.
//
// Threads: creation by one; then the memory belongs to the two sides, the doorbells to anybody.
#pragma once

#include "base/result.hpp"
#include "machine/doorbell.hpp"
#include "memory/shared_memory.hpp"
#include "warmfork/ring/broadcast.hpp"
#include "warmfork/ring/spsc.hpp"

#include <cstdint>
#include <memory>

namespace warmfork {

class Link {
 public:
  /// An empty ring of `capacity` bytes (a power of two from 4 KiB up), all of its pages present. Errors: kUsage
  /// (another capacity), kHost.
  [[nodiscard]] static Result<std::shared_ptr<Link>> create(std::uint64_t capacity);

  [[nodiscard]] std::uint64_t capacity() const { return capacity_; }
  /// The sender writes it, the receiver reads it.
  [[nodiscard]] const std::shared_ptr<SharedMemory>& producer_part() const { return producer_part_; }
  /// The other way round.
  [[nodiscard]] const std::shared_ptr<SharedMemory>& consumer_part() const { return consumer_part_; }

  /// For the host's end, if it has one.
  [[nodiscard]] ring::SpscProducerView producer_view() const;
  [[nodiscard]] ring::SpscConsumerView consumer_view() const;

  /// Rings when there is a message and the receiver sleeps.
  [[nodiscard]] const std::shared_ptr<Doorbell>& receiver_bell() const { return receiver_bell_; }
  /// Rings when there is room and the sender sleeps.
  [[nodiscard]] const std::shared_ptr<Doorbell>& sender_bell() const { return sender_bell_; }

 private:
  Link() = default;
  std::uint64_t capacity_ = 0;
  std::shared_ptr<SharedMemory> producer_part_, consumer_part_;
  std::shared_ptr<Doorbell> receiver_bell_, sender_bell_;
};

class Feed {
 public:
  /// As Link::create().
  [[nodiscard]] static Result<std::shared_ptr<Feed>> create(std::uint64_t capacity);

  [[nodiscard]] std::uint64_t capacity() const { return capacity_; }
  [[nodiscard]] const std::shared_ptr<SharedMemory>& memory() const { return memory_; }
  [[nodiscard]] ring::BroadcastPage& page() const;

 private:
  Feed() = default;
  std::uint64_t capacity_ = 0;
  std::shared_ptr<SharedMemory> memory_;
};

}  // namespace warmfork
