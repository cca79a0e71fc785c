// The host's side of the call ring against a guest that writes whatever it likes, whenever it likes: between any two of
// the host's steps any words of the ring change. The host stays inside the ring, keeps its own count, and takes an
// answer only if its number is the one expected at that moment.
//
// Input: steps of 1 byte choice, then for a write of the guest's 1 byte position and 2 bytes value.
#include "byte_reader.hpp"
#include "fork/call_ring_client.hpp"
#include "require.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace {

using warmfork::CallRing;
using warmfork::CallRingClient;
using warmfork::CallSlot;

constexpr std::size_t kWords = sizeof(CallRing) / 8;
constexpr std::uint64_t kCanary = 0x5afe5afe5afe5afe;

struct alignas(64) Memory {
  std::array<std::uint64_t, 8> before;
  std::array<std::uint64_t, kWords> ring;
  std::array<std::uint64_t, 8> after;
};

std::size_t response(std::uint64_t sequence) {
  return sequence % CallRingClient::kSlots * (sizeof(CallSlot) / 8) + offsetof(CallSlot, response) / 8;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  warmfork::fuzz::ByteReader byte(data, size);
  Memory memory;
  memory.before.fill(kCanary);
  memory.after.fill(kCanary);
  memory.ring.fill(byte() * 0x0101010101010101);
  CallRingClient client(std::as_writable_bytes(std::span(memory.ring)));
  client.clear();
  for (const std::uint64_t word : memory.ring) WARMFORK_REQUIRE(word == 0);
  std::uint64_t posted = 0;
  std::uint64_t taken = 0;
  while (!byte.empty()) {
    const std::uint64_t choice = byte();
    switch (choice % 4) {
      case 0: {  // a request
        if (client.full()) break;
        const std::array<std::uint64_t, 6> arguments{1, 2, 3, 4, 5, 6};
        client.post(0x1000 + choice, std::span(arguments).first(choice % 7));
        ++posted;
        const std::uint64_t* const slot = &memory.ring[posted % CallRingClient::kSlots * (sizeof(CallSlot) / 8)];
        WARMFORK_REQUIRE(slot[0] == posted && slot[1] == 0x1000 + choice);
        for (std::uint64_t i = 0; i < 6; ++i) WARMFORK_REQUIRE(slot[2 + i] == (i < choice % 7 ? i + 1 : 0));
        break;
      }
      case 1: {  // an answer, if there is one
        const std::size_t at = response(taken + 1);
        const bool there = memory.ring[at] == taken + 1 && posted != taken;
        const auto answer = client.take();
        WARMFORK_REQUIRE(answer.has_value() == there);
        if (answer) {
          WARMFORK_REQUIRE(*answer == memory.ring[at + 1]);
          ++taken;
        }
        break;
      }
      case 2: {  // the guest writes somewhere
        const std::size_t at = (byte() | choice / 4 << 8) % kWords;
        const std::uint64_t low = byte();
        memory.ring[at] = choice >= 128 ? client.posted() + low - 128 : low | byte() << 56;
        break;
      }
      default: {  // the guest answers, rightly or a little ahead
        const std::uint64_t sequence = taken + choice / 4 % 4;
        memory.ring[response(sequence) + 1] = choice;
        memory.ring[response(sequence)] = sequence;
        break;
      }
    }
    WARMFORK_REQUIRE(client.posted() == posted && client.oldest() == taken + 1);
    WARMFORK_REQUIRE(client.in_flight() == posted - taken && posted - taken <= CallRingClient::kSlots);
    WARMFORK_REQUIRE(client.full() == (posted - taken == CallRingClient::kSlots));
  }
  for (const std::uint64_t word : memory.before) WARMFORK_REQUIRE(word == kCanary);
  for (const std::uint64_t word : memory.after) WARMFORK_REQUIRE(word == kCanary);
  return 0;
}
