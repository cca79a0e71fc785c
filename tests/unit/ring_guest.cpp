// The rings as a guest's compiler builds them (musl, no exceptions, no libstdc++); static, so the host's kernel runs it
// as it is. Exit status 0: a message has gone through each.
#include "warmfork/ring/broadcast.hpp"
#include "warmfork/ring/slots.hpp"
#include "warmfork/ring/spsc.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace {

using namespace warmfork::ring;

constexpr std::uint64_t kCapacity = 4096;

template <class Page>
struct Part {
  Page page;
  std::byte data[kCapacity];
};
Part<SpscProducerPage> spsc;
SpscConsumerPage spsc_consumer;
Part<BroadcastPage> broadcast;

const SpscProducerView kProducer{.own = &spsc.page, .peer = &spsc_consumer, .capacity = kCapacity};
const SpscConsumerView kConsumer{.own = &spsc_consumer, .peer = &spsc.page, .capacity = kCapacity};

template <class Policy>
bool records(std::span<const std::byte> sent, std::span<std::byte> got) {
  format_spsc(spsc.page, spsc_consumer, kCapacity);
  if (check_spsc(spsc.page, spsc_consumer, kCapacity)) return false;
  SpscProducer<Policy> producer(kProducer);
  SpscConsumer<Policy> consumer(kConsumer);
  return consumer.prepare_sleep() && producer.push(sent) && producer.needs_wake() && consumer.pop(got) == sent.size();
}

template <class Policy>
bool slots(std::uint64_t value) {
  format_spsc(spsc.page, spsc_consumer, kCapacity, 8);
  SlotProducer<std::uint64_t, Policy> producer(kProducer);
  SlotConsumer<std::uint64_t, Policy> consumer(kConsumer);
  std::uint64_t got = 0;
  return producer.push(value) && consumer.pop(got) && got == value;
}

template <class Policy>
bool one_to_many(std::span<const std::byte> sent, std::span<std::byte> got) {
  format_broadcast(broadcast.page, kCapacity);
  BroadcastWriter writer(broadcast.page, kCapacity);
  BroadcastReader<Policy> reader(broadcast.page, kCapacity);
  BroadcastRecord record;
  return writer.push(sent) && reader.read(got, record) == Found::kRecord && record.size == sent.size();
}

bool same(std::span<const std::byte> one, std::span<const std::byte> other) {
  for (std::size_t i = 0; i < one.size(); ++i) {
    if (one[i] != other[i]) return false;
  }
  return true;
}

template <class Policy>
bool all() {
  const std::uint64_t words[3] = {1, 2, 3};
  const auto sent = std::as_bytes(std::span(words));
  std::byte got[sizeof words] = {};
  if (!records<Policy>(sent, got) || !same(sent, got)) return false;
  got[0] = std::byte{9};
  return one_to_many<Policy>(sent, got) && same(sent, got) && slots<Policy>(7);
}

}  // namespace

int main() { return all<Trusted>() && all<Hostile>() ? 0 : 1; }
