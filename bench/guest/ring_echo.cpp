// The guest of ring/rtt/host_guest: gives back what comes over a ring, over another one; both lie in shared regions.
#include "warmfork/abi/vmcall.hpp"
#include "warmfork/ring/slots.hpp"

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

int main() { warmfork::wait_for_calls(); }
