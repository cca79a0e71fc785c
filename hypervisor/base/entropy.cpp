#include "base/entropy.hpp"

#include <sodium.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace warmfork {
namespace {

using Key = std::array<unsigned char, crypto_stream_chacha20_ietf_KEYBYTES>;

struct Generator {
  Key key{};
  pid_t owner = 0;  // a child of fork(2) must not repeat its parent's bytes
};

void seed(Generator& generator, pid_t process) {
  for (std::size_t have = 0; have < generator.key.size();) {
    const ssize_t got = ::getrandom(generator.key.data() + have, generator.key.size() - have, 0);
    if (got > 0) have += static_cast<std::size_t>(got);
  }
  generator.owner = process;
}

}  // namespace

void draw_entropy(std::span<std::byte> out) {
  thread_local Generator generator;
  constexpr std::size_t kPiece = 256;
  if (const pid_t process = ::getpid(); generator.owner != process) seed(generator, process);
  while (!out.empty()) {
    const std::size_t size = std::min(out.size(), kPiece);
    std::array<unsigned char, sizeof(Key) + kPiece> stream;
    // Every key is used once, so the nonce may always be zero.
    constexpr std::array<unsigned char, crypto_stream_chacha20_ietf_NONCEBYTES> kNonce{};
    crypto_stream_chacha20_ietf(stream.data(), sizeof(Key) + size, kNonce.data(), generator.key.data());
    std::memcpy(generator.key.data(), stream.data(), sizeof(Key));
    std::memcpy(out.data(), stream.data() + sizeof(Key), size);
    sodium_memzero(stream.data(), stream.size());
    out = out.subspan(size);
  }
}

}  // namespace warmfork
