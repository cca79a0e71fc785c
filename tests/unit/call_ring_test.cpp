// The protocol of the call ring between two threads, without a KVM: one is the host, the other an honest guest, or one
// that writes random words all over the ring.
#include "fork/call_ring_client.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <thread>

namespace warmfork {
namespace {

struct Shared {
  CallRing ring{};
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(&ring, 1)); }
};

// Calls the "function" f(n, a) = n + 2 a for every request, as guest-runtime/user_stubs.S would.
void serve(CallRing& ring) {
  for (std::uint64_t sequence = 1;; ++sequence) {
    CallSlot& slot = ring.slots[sequence % WARMFORK_CALL_RING_SLOTS];
    while (std::atomic_ref(slot.request.sequence).load(std::memory_order_acquire) != sequence) {
      std::this_thread::yield();
    }
    const std::uint64_t function = std::atomic_ref(slot.request.function).load(std::memory_order_relaxed);
    if (function == 0) return;
    const std::uint64_t argument = std::atomic_ref(slot.request.arguments[0]).load(std::memory_order_relaxed);
    std::atomic_ref(slot.response.result).store(function + 2 * argument, std::memory_order_relaxed);
    std::atomic_ref(slot.response.sequence).store(sequence, std::memory_order_release);
  }
}

TEST(CallRing, AnswersComeInOrderAndComplete) {
  const auto shared = std::make_unique<Shared>();
  CallRingClient client(shared->bytes());
  client.clear();
  std::jthread guest([&] { serve(shared->ring); });
  constexpr std::uint64_t kRequests = 20'000;
  std::uint64_t posted = 0;
  for (std::uint64_t taken = 0; taken < kRequests;) {
    if (posted < kRequests && !client.full()) {
      client.post(posted + 1, std::array{posted});
      ++posted;
    }
    if (client.in_flight() == 0) continue;
    if (const auto answer = client.take()) {
      ASSERT_EQ(*answer, 3 * taken + 1);
      ++taken;
    } else {
      std::this_thread::yield();
    }
  }
  client.post(0, {});
}

TEST(CallRing, AnythingTheGuestWritesLeavesTheHostsCountAlone) {
  const auto shared = std::make_unique<Shared>();
  CallRingClient client(shared->bytes());
  client.clear();
  std::atomic<bool> enough{false};
  std::jthread guest([&] {
    std::mt19937_64 random(7);
    auto* const words = reinterpret_cast<std::uint64_t*>(shared->bytes().data());
    while (!enough.load(std::memory_order_relaxed)) {
      const std::uint64_t value = random();
      std::atomic_ref(words[random() % (sizeof(CallRing) / 8)])
          .store(value % 4 == 0 ? value : value % 4096, std::memory_order_relaxed);
    }
  });
  std::uint64_t posted = 0;
  std::uint64_t taken = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 1000; ++i) {
      if (!client.full()) {
        client.post(1, {});
        ++posted;
      }
      if (client.take()) ++taken;
      ASSERT_EQ(client.posted(), posted);
      ASSERT_EQ(client.in_flight(), posted - taken);
      ASSERT_LE(client.in_flight(), CallRingClient::kSlots);
    }
  }
  enough = true;
}

}  // namespace
}  // namespace warmfork
