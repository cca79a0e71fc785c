// A ring of messages of one type from one producer to one consumer: spsc.hpp without headers, lengths and padding. For
// messages of a few words, whose header would cost as much as they do.
//
// The same two parts as spsc.hpp; tail and head count slots, and slot i lies at data + i mod slots × sizeof(Message).
// slot_bytes in the producer's page is sizeof(Message). A message has no gap that must not be seen: it is copied as it
// is.
//
// What costs is the cache line of an index that goes to the other processor: put() … publish() and take() … release()
// share one between many messages, and are how 8-byte messages go at 10^8 a second and more. push() and pop() publish
// each.
//
// Policies, violations, sleeping and threads: memory.hpp.
#pragma once

#include "warmfork/ring/memory.hpp"
#include "warmfork/ring/spsc.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace warmfork::ring {

// Whole slots, none across the ring's end.
template <class Message>
concept SlotMessage = std::is_trivially_copyable_v<Message> && (sizeof(Message) & (sizeof(Message) - 1)) == 0 &&
                      sizeof(Message) >= 8 && sizeof(Message) <= kLeastCapacity && alignof(Message) <= kPageBytes;

template <SlotMessage Message, class Policy>
class alignas(kApart) SlotProducer : public Side<Policy> {
 public:
  explicit SlotProducer(const SpscProducerView& view)
      : Side<Policy>({&view.own->tail, &view.own->wake_at, &view.peer->head, &view.peer->wake_at}, view.start, 0, 1),
        // SAFETY: the producer's part goes on behind its page, on which every Message is aligned; it holds bytes of
        // trivially copyable messages.
        slots_(reinterpret_cast<Message*>(reinterpret_cast<std::byte*>(view.own) + kPageBytes)),
        count_(view.capacity / sizeof(Message)) {}

  /// Slots that can be written, in one piece, at least one and at most `most`, to be written before commit(). Empty: no
  /// room yet, or a violation.
  [[nodiscard]] std::span<Message> claim(std::size_t most) {
    const std::uint64_t room = find_room();
    const std::uint64_t at = this->next_ & (count_ - 1);
    const std::uint64_t to_end = count_ - at;
    std::uint64_t size = room < to_end ? room : to_end;
    if (most < size) size = most;
    return {slots_ + at, static_cast<std::size_t>(size)};
  }
  /// `count` of the claimed slots are written; the consumer sees them with the next publish().
  void commit(std::size_t count) { this->next_ += count; }
  void publish() { this->publish_index(); }

  /// One message, not yet published. False: no room yet, or a violation.
  [[nodiscard]] bool put(const Message& message) {
    if (find_room() == 0) return false;
    Policy::copy(slots_ + (this->next_ & (count_ - 1)), &message, sizeof message);
    ++this->next_;
    return true;
  }
  [[nodiscard]] bool push(const Message& message) {
    if (!put(message)) return false;
    publish();
    return true;
  }
  /// As SpscProducer::prepare_sleep().
  [[nodiscard]] bool prepare_sleep() {
    publish();
    return this->announce_sleep();
  }

 private:
  std::uint64_t find_room() {
    if constexpr (!Policy::kTrustsPeer) {
      if (this->violation_) return 0;
    }
    if (this->next_ - this->seen_ == count_ && !this->refresh()) return 0;
    return count_ - (this->next_ - this->seen_);
  }

  Message* slots_;
  std::uint64_t count_;
};

template <SlotMessage Message, class Policy>
class alignas(kApart) SlotConsumer : public Side<Policy> {
 public:
  explicit SlotConsumer(const SpscConsumerView& view)
      : Side<Policy>({&view.own->head, &view.own->wake_at, &view.peer->tail, &view.peer->wake_at}, view.start,
                     view.capacity / sizeof(Message), 1),
        // SAFETY: as SlotProducer.
        slots_(reinterpret_cast<const Message*>(reinterpret_cast<const std::byte*>(view.peer) + kPageBytes)),
        count_(view.capacity / sizeof(Message)) {}

  /// Messages that are there, where they lie, in one piece; empty: none. Only of a producer that is trusted to write
  /// them no more.
  [[nodiscard]] std::span<const Message> peek()
    requires Policy::kTrustsPeer
  {
    const std::uint64_t there = find_messages();
    const std::uint64_t at = this->next_ & (count_ - 1);
    const std::uint64_t to_end = count_ - at;
    return {slots_ + at, static_cast<std::size_t>(there < to_end ? there : to_end)};
  }
  /// `count` of the messages peek() has shown are done with; their slots are free with the next release().
  void advance(std::size_t count)
    requires Policy::kTrustsPeer
  {
    this->next_ += count;
  }

  /// Copies as many messages as there are and fit, each byte read once; returns how many. Free with the next release().
  [[nodiscard]] std::size_t take(std::span<Message> out) {
    const std::uint64_t there = find_messages();
    const std::uint64_t count = there < out.size() ? there : out.size();
    const std::uint64_t at = this->next_ & (count_ - 1);
    const std::uint64_t first = count < count_ - at ? count : count_ - at;
    Policy::copy(out.data(), slots_ + at, first * sizeof(Message));
    Policy::copy(out.data() + first, slots_, (count - first) * sizeof(Message));
    this->next_ += count;
    return static_cast<std::size_t>(count);
  }
  void release() { this->publish_index(); }

  /// One message. False: none, or a violation.
  [[nodiscard]] bool pop(Message& out) {
    if (find_messages() == 0) return false;
    Policy::copy(&out, slots_ + (this->next_ & (count_ - 1)), sizeof out);
    ++this->next_;
    release();
    return true;
  }
  /// As SpscConsumer::prepare_sleep().
  [[nodiscard]] bool prepare_sleep() {
    release();
    return this->next_ == this->seen_ && this->announce_sleep();
  }

 private:
  std::uint64_t find_messages() {
    if constexpr (!Policy::kTrustsPeer) {
      if (this->violation_) return 0;
    }
    if (this->next_ == this->seen_ && !this->refresh()) return 0;
    return this->seen_ - this->next_;
  }

  const Message* slots_;
  std::uint64_t count_;
};

}  // namespace warmfork::ring
