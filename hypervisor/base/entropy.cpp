#include "base/entropy.hpp"

#include <sodium.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>

namespace warmfork {
namespace {

using Key = std::array<unsigned char, crypto_stream_chacha20_ietf_KEYBYTES>;

// A child of fork(2) must not repeat its parent's bytes, so each process has a number its generators are marked with.
// It lies on a page that the kernel gives to children as zeros: that costs a load to look at, where getpid() is a
// system call. 0 is a process that has not drawn a number yet.
using ProcessNumber = std::atomic<std::uint64_t>;

ProcessNumber* make_process_number() {
  const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const page = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return nullptr;
  if (::madvise(page, size, MADV_WIPEONFORK) == 0) return new (page) ProcessNumber(0);
  ::munmap(page, size);
  return nullptr;
}

std::uint64_t this_process() {
  static ProcessNumber* const number = make_process_number();
  if (number == nullptr) [[unlikely]]
    return static_cast<std::uint64_t>(::getpid());
  if (const std::uint64_t known = number->load(std::memory_order_relaxed); known != 0) [[likely]]
    return known;
  static std::atomic<std::uint64_t> last{0};  // a child goes on where its parent was
  const std::uint64_t drawn = last.fetch_add(1, std::memory_order_relaxed) + 1;
  std::uint64_t none = 0;
  return number->compare_exchange_strong(none, drawn) ? drawn : none;
}

struct Generator {
  Key key{};
  std::uint64_t owner = 0;  // this_process() of who seeded it; 0: nobody
};

void seed(Generator& generator, std::uint64_t process) {
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
  if (const std::uint64_t process = this_process(); generator.owner != process) seed(generator, process);
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
