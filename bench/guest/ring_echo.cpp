// The guest of ring/rtt: gives back what comes over a ring, over another one; or sends, and waits for what comes back.
// The rings lie in shared regions.
#include "warmfork/abi/vmcall.hpp"
#include "warmfork/ring/slots.hpp"

#include <x86intrin.h>

#include <cstdint>

namespace {
namespace ring = warmfork::ring;
// SAFETY: the host gives the addresses of its regions, which hold rings.
template <class Page>
Page* page_at(std::uint64_t address) {
  return reinterpret_cast<Page*>(address);  // NOLINT(performance-no-int-to-ptr)
}
}  // namespace

// Echoes until it has echoed ~0, and returns how many; addresses: the sender's part and the own page of the ring there,
// the own part and the receiver's page of the ring back. Takes the host for hostile, as two guests take each other.
extern "C" std::uint64_t ring_echo(std::uint64_t in_peer, std::uint64_t in_own, std::uint64_t out_own,
                                   std::uint64_t out_peer, std::uint64_t capacity) {
  ring::SlotConsumer<std::uint64_t, ring::Hostile> in(
      {page_at<ring::SpscConsumerPage>(in_own), page_at<const ring::SpscProducerPage>(in_peer), capacity});
  ring::SlotProducer<std::uint64_t, ring::Hostile> out(
      {page_at<ring::SpscProducerPage>(out_own), page_at<const ring::SpscConsumerPage>(out_peer), capacity});
  std::uint64_t count = 0;
  for (std::uint64_t message = 0; message != ~std::uint64_t{0};) {
    if (!in.pop(message)) continue;
    if (!out.push(message)) break;
    ++count;
  }
  return count;
}
WARMFORK_REGISTER_VMCALL(ring_echo);

// Sends `count` messages, each when the one before is back, then ~0. What each took goes to `ticks`; returns how many
// came back as they were. Addresses as of ring_echo, from the other side; the rings have the capacity of
// bench/ring_suite.cpp.
extern "C" std::uint64_t ring_call(std::uint64_t out_own, std::uint64_t out_peer, std::uint64_t in_peer,
                                   std::uint64_t in_own, std::uint64_t ticks, std::uint64_t count) {
  constexpr std::uint64_t kCapacity = 4096;
  ring::SlotProducer<std::uint64_t, ring::Hostile> out(
      {page_at<ring::SpscProducerPage>(out_own), page_at<const ring::SpscConsumerPage>(out_peer), kCapacity});
  ring::SlotConsumer<std::uint64_t, ring::Hostile> in(
      {page_at<ring::SpscConsumerPage>(in_own), page_at<const ring::SpscProducerPage>(in_peer), kCapacity});
  auto* const took = page_at<std::uint64_t>(ticks);
  std::uint64_t same = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    unsigned int aux;
    std::uint64_t answer = 0;
    const std::uint64_t begin = __rdtsc();
    if (!out.push(i)) break;
    while (!in.pop(answer)) {
    }
    took[i] = __rdtscp(&aux) - begin;
    same += answer == i ? 1U : 0U;
  }
  (void)out.push(~std::uint64_t{0});
  return same;
}
WARMFORK_REGISTER_VMCALL(ring_call);

int main() { warmfork::wait_for_calls(); }
