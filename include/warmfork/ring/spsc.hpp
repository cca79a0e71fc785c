// A ring of records from one producer to one consumer, of any length, written and read where they lie.
//
//   the producer's part: it writes, the consumer only reads         the consumer's part: the other way round
//   0x0000 | magic capacity slot_bytes              |               0x0000 | magic                              |
//   0x0080 | tail: written up to here               |               0x0180 | head: read up to here              |
//   0x0100 | wake_at: ring when head passes this    |               0x0200 | wake_at: ring when tail passes this|
//   0x1000 | data: `capacity` bytes, a power of two |               0x1000 (end)
//
//   record | length:32 | type:16 | flags:16 | payload … | up to a multiple of 8                       (short)
//          | length:32 | type:16 | flags:16 | up to a cache line | payload … | up to a multiple of 8  (1 KiB and more)
//
// tail and head count bytes, freely through 64 bits. A record never straddles the end of the data: what does not fit
// there is filled with a record that is flagged as padding, and a record takes at most half of the data, so that one
// that fits at all fits into an empty ring wherever its indices stand. (The idea of cached peer indices is that of
// rigtorp's SPSCQueue: each side looks at the other's index only when what it last saw is not enough, so in the steady
// state the cache line of an index travels once per batch.)
//
//   producer   claim ─> write in place ─> commit ─> … ─> publish ─> needs_wake? ring
//   consumer   peek ─> read in place, or copy ─> advance ─> … ─> release ─> needs_wake? ring
//
// For messages of one size there is a shorter way: slots.hpp. Policies, violations, sleeping and threads: memory.hpp.
#pragma once

#include "warmfork/ring/memory.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace warmfork::ring {

inline constexpr std::uint64_t kSpscMagic = 0x0001'4353'5053'4657;          // "WFSPSC", version 1
inline constexpr std::uint64_t kSpscConsumerMagic = 0x0001'4353'5043'4657;  // "WFCPSC", version 1

struct alignas(kPageBytes) SpscProducerPage {
  std::uint64_t magic;
  std::uint64_t capacity;    // bytes of data behind this page
  std::uint64_t slot_bytes;  // 0: records of any length; else slots.hpp
  alignas(kApart) std::uint64_t tail;
  alignas(kApart) std::uint64_t wake_at;
};

// At other offsets than the producer's: a store and a later load whose addresses differ by a multiple of 4 KiB wait for
// each other on some processors ("4K aliasing").
struct alignas(kPageBytes) SpscConsumerPage {
  std::uint64_t magic;
  std::byte apart[0x180 - 8];
  alignas(kApart) std::uint64_t head;
  alignas(kApart) std::uint64_t wake_at;
};

static_assert(sizeof(SpscProducerPage) == kPageBytes && sizeof(SpscConsumerPage) == kPageBytes);
static_assert(offsetof(SpscProducerPage, magic) == 0 && offsetof(SpscProducerPage, capacity) == 8);
static_assert(offsetof(SpscProducerPage, slot_bytes) == 0x10);
static_assert(offsetof(SpscProducerPage, tail) == 0x80 && offsetof(SpscProducerPage, wake_at) == 0x100);
static_assert(offsetof(SpscConsumerPage, magic) == 0);
static_assert(offsetof(SpscConsumerPage, head) == 0x180 && offsetof(SpscConsumerPage, wake_at) == 0x200);

/// Bytes of the producer's part for `capacity` bytes of data; the consumer's part is one page.
[[nodiscard]] constexpr std::uint64_t spsc_producer_part_bytes(std::uint64_t capacity) { return kPageBytes + capacity; }

/// One ring as one side maps it. The capacity is the agreed one, not what a page says. `start`: the index both sides
/// begin at, a multiple of 8 (of 1 for slots); another than 0 is for tests.
struct SpscProducerView {
  SpscProducerPage* own;  // the producer's part
  const SpscConsumerPage* peer;
  std::uint64_t capacity;  // valid_capacity()
  std::uint64_t start = 0;
};
struct SpscConsumerView {
  SpscConsumerPage* own;
  const SpscProducerPage* peer;  // the producer's part
  std::uint64_t capacity;
  std::uint64_t start = 0;
};

/// Makes both parts an empty ring. Whoever owns the memory does it, before either side runs.
inline void format_spsc(SpscProducerPage& producer, SpscConsumerPage& consumer, std::uint64_t capacity,
                        std::uint64_t slot_bytes = 0, std::uint64_t start = 0) {
  producer.capacity = capacity;
  producer.slot_bytes = slot_bytes;
  store_relaxed(&producer.tail, start);
  store_relaxed(&producer.wake_at, start - 1);  // behind every index to come: nobody sleeps
  store_relaxed(&consumer.head, start);
  store_relaxed(&consumer.wake_at, start - 1);
  store_relaxed(&consumer.magic, kSpscConsumerMagic);
  store_release(&producer.magic, kSpscMagic);  // last: whoever finds it finds the rest
}

/// Whether two parts are what was agreed on, for a side that was handed memory somebody else has formatted; each word
/// is read once. What it says is good for this moment only, and nothing here relies on it later.
[[nodiscard]] inline Violation check_spsc(const SpscProducerPage& producer, const SpscConsumerPage& consumer,
                                          std::uint64_t capacity, std::uint64_t slot_bytes = 0) {
  const std::uint64_t magic = load_acquire(&producer.magic);
  if (magic != kSpscMagic) return {Reason::kMagic, magic, kSpscMagic};
  const std::uint64_t consumer_magic = load_acquire(&consumer.magic);
  if (consumer_magic != kSpscConsumerMagic) return {Reason::kMagic, consumer_magic, kSpscConsumerMagic};
  const std::uint64_t size = load_relaxed(&producer.capacity);
  if (size != capacity) return {Reason::kCapacity, size, capacity};
  const std::uint64_t slot = load_relaxed(&producer.slot_bytes);
  if (slot != slot_bytes) return {Reason::kCapacity, slot, slot_bytes};
  return {};
}

// A record's header, one word: written and read whole.
struct SpscHeader {
  static constexpr std::uint64_t kBytes = 8;
  static constexpr std::uint64_t kPadding = std::uint64_t{1} << 48;  // no record: the rest of the data
  static constexpr std::uint64_t kAligned = std::uint64_t{1} << 49;  // the payload begins with the next cache line
  static constexpr std::uint64_t kLine = 64;
  /// Claims of as many bytes and more are aligned to a cache line; smaller ones would pay for the gap and gain nothing.
  static constexpr std::uint32_t kAlignedFrom = 1024;

  static constexpr std::uint64_t make(std::uint32_t size, std::uint16_t type) {
    return size | std::uint64_t{type} << 32;
  }
  static constexpr std::uint32_t size(std::uint64_t header) { return static_cast<std::uint32_t>(header); }
  static constexpr std::uint16_t type(std::uint64_t header) { return static_cast<std::uint16_t>(header >> 32); }
  /// From a record's beginning at offset `at` of the data to its payload.
  static constexpr std::uint64_t skip(std::uint64_t at, bool aligned) {
    return aligned ? ((at + kBytes + kLine - 1) & ~(kLine - 1)) - at : kBytes;
  }
  /// What a record takes whose payload has `size` bytes.
  static constexpr std::uint64_t record(std::uint64_t skipped, std::uint32_t size) {
    return skipped + ((std::uint64_t{size} + 7) & ~7ULL);
  }
  static constexpr std::uint64_t padding(std::uint64_t header) { return record(kBytes, size(header)); }
};

template <class Policy>
class alignas(kApart) SpscProducer : public Side<Policy> {
 public:
  explicit SpscProducer(const SpscProducerView& view)
      : Side<Policy>({&view.own->tail, &view.own->wake_at, &view.peer->head, &view.peer->wake_at}, view.start, 0, 8),
        // SAFETY: the producer's part goes on behind its page (spsc_producer_part_bytes).
        data_(reinterpret_cast<std::byte*>(view.own) + kPageBytes),
        capacity_(view.capacity) {}

  /// The longest payload that fits at all.
  [[nodiscard]] std::uint32_t longest() const { return static_cast<std::uint32_t>(capacity_ / 2 - SpscHeader::kLine); }

  /// Room for a record of up to `size` bytes, 8-byte aligned, to be written before commit(). Null: no room yet (the
  /// peer has to release something), longer than longest(), or a violation. A claim without a commit is forgotten.
  [[nodiscard]] std::byte* claim(std::uint32_t size) {
    const bool aligned = size >= SpscHeader::kAlignedFrom;
    std::uint64_t at = this->next_ & (capacity_ - 1);
    const std::uint64_t to_end = capacity_ - at;
    std::uint64_t skipped = SpscHeader::skip(at, aligned);
    std::uint64_t need = SpscHeader::record(skipped, size);
    std::uint64_t padding = 0;
    if (need > to_end) {
      padding = to_end;
      skipped = SpscHeader::skip(0, aligned);
      need = SpscHeader::record(skipped, size);
    }
    if (size > longest()) return nullptr;
    if (room() < padding + need && (!this->refresh() || room() < padding + need)) return nullptr;
    if constexpr (!Policy::kTrustsPeer) {
      if (this->violation_) return nullptr;
    }
    if (padding != 0) {
      put_header(at,
                 SpscHeader::make(static_cast<std::uint32_t>(to_end - SpscHeader::kBytes), 0) | SpscHeader::kPadding);
      this->next_ += padding;
      at = 0;
    }
    skipped_ = skipped;
    return data_ + at + skipped;
  }

  /// Ends the record that was claimed, with `size` bytes, at most those claimed. `type` is the caller's. The consumer
  /// sees it with the next publish().
  void commit(std::uint32_t size, std::uint16_t type = 0) {
    // Aligned by chance, without a gap, is the same either way.
    const std::uint64_t flags = skipped_ == SpscHeader::kBytes ? 0 : SpscHeader::kAligned;
    put_header(this->next_ & (capacity_ - 1), SpscHeader::make(size, type) | flags);
    this->next_ += SpscHeader::record(skipped_, size);
  }

  /// Shows the consumer all that was committed: one store, however many records.
  void publish() { this->publish_index(); }

  /// claim, copy, commit; not yet published. False: as claim().
  [[nodiscard]] bool put(std::span<const std::byte> payload, std::uint16_t type = 0) {
    if (payload.size() > longest()) return false;
    const auto size = static_cast<std::uint32_t>(payload.size());
    std::byte* const to = claim(size);
    if (to == nullptr) return false;
    Policy::copy(to, payload.data(), size);
    commit(size, type);
    return true;
  }

  /// put and publish.
  [[nodiscard]] bool push(std::span<const std::byte> payload, std::uint16_t type = 0) {
    if (!put(payload, type)) return false;
    publish();
    return true;
  }

  /// Before sleeping for want of room: publishes, asks to be woken by the next release(), and looks again. True: sleep
  /// until the doorbell rings (it may ring in vain); false: try again at once, or there is a violation.
  [[nodiscard]] bool prepare_sleep() {
    publish();
    return this->announce_sleep();
  }

 private:
  [[nodiscard]] std::uint64_t room() const { return capacity_ - (this->next_ - this->seen_); }
  void put_header(std::uint64_t at, std::uint64_t header) {
    // SAFETY: `at` is masked and a multiple of 8. Relaxed: the release store of the tail orders it.
    store_relaxed(reinterpret_cast<std::uint64_t*>(data_ + at), header);
  }

  std::byte* data_;
  std::uint64_t capacity_;
  std::uint64_t skipped_ = SpscHeader::kBytes;  // of the last claim
};

/// A record where it lies in the ring, until the release() behind the advance() over it.
template <class Policy>
class SpscRecord {
 public:
  SpscRecord(const std::byte* data, std::uint32_t size, std::uint16_t type) : data_(data), size_(size), type_(type) {}

  [[nodiscard]] std::uint32_t size() const { return size_; }
  /// The producer's word; a hostile one can say anything.
  [[nodiscard]] std::uint16_t type() const { return type_; }
  /// The payload, 8-byte aligned; only of a producer that is trusted to write it no more.
  [[nodiscard]] std::span<const std::byte> bytes() const
    requires Policy::kTrustsPeer
  {
    return {data_, size_};
  }
  /// Copies the payload's beginning, at most out.size() bytes, each read once; returns how many.
  std::size_t copy_to(std::span<std::byte> out) const {
    const std::size_t size = out.size() < size_ ? out.size() : size_;
    Policy::copy(out.data(), data_, size);
    return size;
  }

 private:
  const std::byte* data_;
  std::uint32_t size_;
  std::uint16_t type_;
};

template <class Policy>
class alignas(kApart) SpscConsumer : public Side<Policy> {
 public:
  using Record = SpscRecord<Policy>;

  explicit SpscConsumer(const SpscConsumerView& view)
      : Side<Policy>({&view.own->head, &view.own->wake_at, &view.peer->tail, &view.peer->wake_at}, view.start,
                     view.capacity, 8),
        // SAFETY: the producer's part goes on behind its page (spsc_producer_part_bytes).
        data_(reinterpret_cast<const std::byte*>(view.peer) + kPageBytes),
        capacity_(view.capacity) {}

  /// The next record, if there is one; the same one until advance(). Its header is read once: what advance() steps over
  /// is what this has checked. Empty after a violation.
  [[nodiscard]] std::optional<Record> peek() {
    if (!available()) return {};
    std::uint64_t at = this->next_ & (capacity_ - 1);
    std::uint64_t header = header_at(at);
    if ((header & SpscHeader::kPadding) != 0) [[unlikely]] {
      const std::uint64_t to_end = capacity_ - at;
      if constexpr (!Policy::kTrustsPeer) {
        // Padding of the whole ring, which nobody needs, would make this skip for ever.
        const std::uint64_t bytes = SpscHeader::padding(header);
        if (bytes != to_end || at == 0) return caught(Reason::kPadding, bytes, to_end);
        if (to_end > this->seen_ - this->next_) return caught(Reason::kLength, bytes, this->seen_ - this->next_);
      }
      this->next_ += to_end;
      at = 0;
      if (!available()) return {};
      header = header_at(at);
      if constexpr (!Policy::kTrustsPeer) {
        if ((header & SpscHeader::kPadding) != 0) {
          return caught(Reason::kPadding, SpscHeader::padding(header), capacity_);
        }
      }
    }
    const std::uint64_t skipped = SpscHeader::skip(at, (header & SpscHeader::kAligned) != 0);
    const std::uint64_t bytes = SpscHeader::record(skipped, SpscHeader::size(header));
    if constexpr (!Policy::kTrustsPeer) {
      const std::uint64_t there = this->seen_ - this->next_;
      const std::uint64_t to_end = capacity_ - at;
      const std::uint64_t most = there < to_end ? there : to_end;
      if (bytes > most) return caught(Reason::kLength, bytes, most);
    }
    peeked_ = bytes;
    return Record(data_ + at + skipped, SpscHeader::size(header), SpscHeader::type(header));
  }

  /// Steps over the record that peek() has shown; without one, over nothing. It stays readable until release().
  void advance() {
    this->next_ += peeked_;
    peeked_ = 0;
  }

  /// Gives the producer the room of all records stepped over: one store, however many.
  void release() { this->publish_index(); }

  /// peek, copy, advance, release. Returns the record's size, of which at most out.size() bytes were copied; empty: as
  /// peek().
  [[nodiscard]] std::optional<std::uint32_t> pop(std::span<std::byte> out) {
    const std::optional<Record> record = peek();
    if (!record) return {};
    record->copy_to(out);
    advance();
    release();
    return record->size();
  }

  /// Before sleeping for want of records: releases, asks to be woken by the next publish(), and looks again. True:
  /// sleep until the doorbell rings (it may ring in vain); false: there is something, or a violation.
  [[nodiscard]] bool prepare_sleep() {
    release();
    return this->next_ == this->seen_ && this->announce_sleep();
  }

 private:
  [[nodiscard]] bool available() {
    if (this->next_ == this->seen_ && (!this->refresh() || this->next_ == this->seen_)) return false;
    if constexpr (!Policy::kTrustsPeer) return !this->violation_;
    return true;
  }
  // SAFETY: `at` is masked; indices are multiples of 8, whatever the peer has written.
  [[nodiscard]] std::uint64_t header_at(std::uint64_t at) const {
    return load_relaxed(reinterpret_cast<const std::uint64_t*>(data_ + at));
  }
  std::optional<Record> caught(Reason reason, std::uint64_t value, std::uint64_t limit) {
    (void)Side<Policy>::caught(reason, value, limit);
    return {};
  }

  const std::byte* data_;
  std::uint64_t capacity_;
  std::uint64_t peeked_ = 0;
};

}  // namespace warmfork::ring
