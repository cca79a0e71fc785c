// The host's side of rings against a peer that writes whatever it likes into its part, between any two of the host's
// steps: a consumer of records and of slots, a producer of both, a reader of a broadcast. Whatever comes out lies
// inside the ring and is no longer than what can be in it; a violation stays; every call ends. Beside them an honest
// ring, which loses nothing, and a page in which a reader says what it has got: every message is received or lost.
//
// Input: 1 byte where the indices begin, then steps of 1 byte choice; for a write of the peer's 2 bytes position and
// value.
#include "byte_reader.hpp"
#include "lc3/feed/cursor.hpp"
#include "require.hpp"
#include "warmfork/ring/broadcast.hpp"
#include "warmfork/ring/slots.hpp"
#include "warmfork/ring/spsc.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace {

using namespace warmfork::ring;

constexpr std::uint64_t kCapacity = kLeastCapacity;
constexpr std::uint64_t kCanary = 0x5afe5afe5afe5afe;

// Memory of its own on the heap, so that AddressSanitizer sees every step outside.
template <class Page, std::uint64_t Bytes>
class Part {
 public:
  Part() { std::memset(static_cast<void*>(memory_.get()), 0, sizeof(Memory)); }
  [[nodiscard]] Page& page() { return memory_->page; }
  // Any word of the part.
  void scribble(std::uint64_t at, std::uint64_t value) {
    auto* const words = reinterpret_cast<std::uint64_t*>(memory_.get());
    words[at % (sizeof(Memory) / 8)] = value;
  }

 private:
  struct Memory {
    Page page;
    alignas(kPageBytes) std::array<std::byte, Bytes> data;
  };
  std::unique_ptr<Memory> memory_ = std::make_unique<Memory>();
};

struct Spsc {
  explicit Spsc(std::uint64_t start_index, std::uint64_t slot_bytes = 0) : start(start_index) {
    format_spsc(producer.page(), consumer.page(), kCapacity, slot_bytes, start);
  }
  SpscProducerView for_producer() {
    return {.own = &producer.page(), .peer = &consumer.page(), .capacity = kCapacity, .start = start};
  }
  SpscConsumerView for_consumer() {
    return {.own = &consumer.page(), .peer = &producer.page(), .capacity = kCapacity, .start = start};
  }
  Part<SpscProducerPage, kCapacity> producer;
  Part<SpscConsumerPage, 8> consumer;
  std::uint64_t start;
};

void require_same(const Violation& before, const Violation& now) {
  if (before) WARMFORK_REQUIRE(before.reason == now.reason && before.value == now.value && before.limit == now.limit);
  WARMFORK_REQUIRE(describe(now.reason)[0] != 'u');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  warmfork::fuzz::ByteReader byte(data, size);
  const std::uint64_t start = byte() * 16 - kCapacity / 2;
  Spsc in(start);  // records from the peer
  Spsc in_slots(start, 8);
  Spsc out(start);  // records to the peer
  Spsc out_slots(start, 8);
  Spsc fair(start);
  Part<BroadcastPage, kCapacity> broadcast;
  Part<BroadcastReaderPage, 8> cursor;  // of a guest that reads the broadcast, which the host believes as far as it can
  format_broadcast(broadcast.page(), kCapacity, start);
  SpscConsumer<Hostile> consumer(in.for_consumer());
  SlotConsumer<std::uint64_t, Hostile> slot_consumer(in_slots.for_consumer());
  SpscProducer<Hostile> producer(out.for_producer());
  SlotProducer<std::uint64_t, Hostile> slot_producer(out_slots.for_producer());
  BroadcastReader<Hostile> reader(broadcast.page(), kCapacity, start);
  // An honest peer of each, which also does its work; the scribbling ruins it or not.
  SpscProducer<Trusted> peer_producer(in.for_producer());
  SlotProducer<std::uint64_t, Trusted> peer_slots(in_slots.for_producer());
  BroadcastWriter writer(broadcast.page(), kCapacity, start);
  SpscProducer<Hostile> fair_producer(fair.for_producer());
  SpscConsumer<Hostile> fair_consumer(fair.for_consumer());
  std::uint64_t fair_in = 0;
  std::uint64_t fair_out = 0;

  std::array<std::byte, kCapacity + 8> buffer{};
  const auto canary = [&] { std::memcpy(buffer.data() + kCapacity, &kCanary, 8); };
  const auto require_canary = [&] { WARMFORK_REQUIRE(std::memcmp(buffer.data() + kCapacity, &kCanary, 8) == 0); };
  const auto room = std::span(buffer).first(kCapacity);
  canary();
  while (!byte.empty()) {
    const std::uint64_t published = writer.sequence();
    const auto account = warmfork::lc3::account_for(cursor.page(), published);
    WARMFORK_REQUIRE(account.received <= published && account.received + account.lost == published);
    WARMFORK_REQUIRE(account.sound || account.received == 0);
    const std::uint64_t choice = byte();
    const std::uint64_t named = warmfork::lc3::named_message(static_cast<std::uint32_t>(choice), published, 64);
    WARMFORK_REQUIRE(named <= published && published - named <= 64);
    const std::uint64_t length = choice / 16 * 37;
    switch (choice % 16) {
      case 0:
      case 1: {  // the peer writes: an index (near what is right, or far), or any word
        const std::uint64_t where = byte();
        const std::uint64_t raw = byte();
        std::uint64_t value = raw % 2 == 0 ? start + raw * 16 : raw << (choice / 16 * 4) | byte();
        if (choice % 16 == 1) value = raw | (choice & 0x80) << 41;  // a header: length, perhaps padding
        const std::uint64_t at = choice % 16 == 0 ? (where / 8 % 2 == 0 ? 16 + where / 16 % 3 : where / 16 * 8)
                                                  : kPageBytes / 8 + where * 2 + raw % 2;
        switch (where % 8) {
          case 0:
          case 5: in.producer.scribble(at, value); break;
          case 1: in_slots.producer.scribble(at, value); break;
          case 2: out.consumer.scribble(choice % 16 == 0 ? 48 + where / 64 * 16 : at, value); break;
          case 3: out_slots.consumer.scribble(choice % 16 == 0 ? 48 + where / 64 * 16 : at, value); break;
          case 4: cursor.scribble(at, value); break;
          default: broadcast.scribble(at, value); break;
        }
        break;
      }
      case 2: (void)peer_producer.push(room.first(length)); break;
      case 3: (void)peer_slots.push(length); break;
      case 4: (void)writer.push(room.first(length)); break;
      case 5:
      case 6: {  // a record comes in
        const Violation before = consumer.violation();
        const auto record = consumer.peek();
        require_same(before, consumer.violation());
        WARMFORK_REQUIRE(!record || !consumer.violation());
        if (!record) break;
        WARMFORK_REQUIRE(record->size() <= kCapacity - 8);
        WARMFORK_REQUIRE(record->copy_to(room) == record->size());
        consumer.advance();
        if (choice % 16 == 5) consumer.release();
        break;
      }
      case 7: {
        std::array<std::uint64_t, kCapacity / 8 + 1> words{};
        words.back() = kCanary;
        const Violation before = slot_consumer.violation();
        const std::size_t count = slot_consumer.take(std::span(words).first(kCapacity / 8));
        require_same(before, slot_consumer.violation());
        WARMFORK_REQUIRE(count <= kCapacity / 8 && words.back() == kCanary);
        WARMFORK_REQUIRE(count == 0 || !slot_consumer.violation());
        if (choice >= 128) slot_consumer.release();
        break;
      }
      case 8: {  // a record goes out, filled to its last byte
        const Violation before = producer.violation();
        std::byte* const to = producer.claim(static_cast<std::uint32_t>(length * 4));
        require_same(before, producer.violation());
        WARMFORK_REQUIRE(to == nullptr || !producer.violation());
        if (to == nullptr) break;
        std::memset(to, 1, length * 4);
        producer.commit(static_cast<std::uint32_t>(length * 4));
        producer.publish();
        break;
      }
      case 9: {
        const Violation before = slot_producer.violation();
        const std::span<std::uint64_t> slots = slot_producer.claim(length);
        require_same(before, slot_producer.violation());
        WARMFORK_REQUIRE(slots.size() <= length && (slots.empty() || !slot_producer.violation()));
        for (std::uint64_t& slot : slots) slot = choice;
        slot_producer.commit(slots.size());
        slot_producer.publish();
        break;
      }
      case 10:
      case 11: {
        const Violation before = reader.violation();
        BroadcastRecord record;
        const Found found = reader.read(room, record);
        require_same(before, reader.violation());
        WARMFORK_REQUIRE((found == Found::kViolation) == bool(reader.violation()));
        if (found == Found::kRecord) WARMFORK_REQUIRE(record.size <= kCapacity / 4 - 16);
        break;
      }
      case 12: {
        const Found found = reader.join(choice >= 128);
        WARMFORK_REQUIRE((found == Found::kViolation) == bool(reader.violation()));
        break;
      }
      case 13: {
        (void)(consumer.prepare_sleep() || producer.prepare_sleep() || slot_consumer.prepare_sleep());
        (void)producer.needs_wake();
        WARMFORK_REQUIRE(!producer.needs_wake());  // once per publishing, whatever the peer's page says
        WARMFORK_REQUIRE(!consumer.violation() || !consumer.prepare_sleep());
        break;
      }
      default: {  // the honest pair
        const auto text = static_cast<std::byte>(fair_in);
        if (choice % 16 == 14) {
          std::vector<std::byte> record(length, text);
          if (fair_producer.push(record, static_cast<std::uint16_t>(fair_in)))
            ++fair_in;
          else
            WARMFORK_REQUIRE(fair_in != fair_out);
          break;
        }
        const auto record = fair_consumer.peek();
        WARMFORK_REQUIRE(record.has_value() == (fair_in != fair_out));
        if (!record) break;
        WARMFORK_REQUIRE(record->type() == static_cast<std::uint16_t>(fair_out));
        record->copy_to(room);
        for (const std::byte got : room.first(record->size()))
          WARMFORK_REQUIRE(got == static_cast<std::byte>(fair_out));
        fair_consumer.advance();
        fair_consumer.release();
        ++fair_out;
        break;
      }
    }
    require_canary();
    WARMFORK_REQUIRE(!fair_producer.violation() && !fair_consumer.violation());
  }
  return 0;
}
