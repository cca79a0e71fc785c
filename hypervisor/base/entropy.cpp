#include "base/entropy.hpp"

#include <pthread.h>
#include <sodium.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>

namespace warmfork {
namespace {

// Counts fork(2): a child must not repeat its parent's bytes.
std::atomic<std::uint64_t> process_generation{1};

// A block of stream. Its first bytes are the next key; what has been handed out is overwritten.
struct Generator {
  static constexpr std::size_t kKey = crypto_stream_chacha20_ietf_KEYBYTES;
  static constexpr std::size_t kBlock = 1024;
  std::array<unsigned char, kBlock> stream{};
  std::size_t used = kBlock;
  std::uint64_t generation = 0;  // 0: never seeded
};

void seed(Generator& generator) {
  static std::once_flag once;
  std::call_once(once, [] { ::pthread_atfork(nullptr, nullptr, [] { process_generation.fetch_add(1); }); });
  for (std::size_t have = 0; have < Generator::kKey;) {
    const ssize_t got = ::getrandom(generator.stream.data() + have, Generator::kKey - have, 0);
    if (got > 0) have += static_cast<std::size_t>(got);
  }
  generator.generation = process_generation.load(std::memory_order_relaxed);
  generator.used = Generator::kBlock;
}

void refill(Generator& generator) {
  std::array<unsigned char, Generator::kKey> key;
  std::memcpy(key.data(), generator.stream.data(), key.size());
  // Every key is used once, so the nonce may always be zero.
  constexpr std::array<unsigned char, crypto_stream_chacha20_ietf_NONCEBYTES> kNonce{};
  crypto_stream_chacha20_ietf(generator.stream.data(), generator.stream.size(), kNonce.data(), key.data());
  sodium_memzero(key.data(), key.size());
  generator.used = Generator::kKey;
}

}  // namespace

void draw_entropy(std::span<std::byte> out) {
  thread_local Generator generator;
  if (generator.generation != process_generation.load(std::memory_order_relaxed)) seed(generator);
  while (!out.empty()) {
    if (generator.used == Generator::kBlock) refill(generator);
    const std::size_t size = std::min(out.size(), Generator::kBlock - generator.used);
    unsigned char* const bytes = generator.stream.data() + generator.used;
    std::memcpy(out.data(), bytes, size);
    sodium_memzero(bytes, size);
    generator.used += size;
    out = out.subspan(size);
  }
}

}  // namespace warmfork
