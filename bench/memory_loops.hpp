// The loops of the memory suite: this very text is compiled into the guest and into the host, so that what differs is
// where it runs. Addresses are offsets into a block, so that both can walk the same chain. Each loop times itself by
// the time stamp counter and leaves what it has computed, which must be the same in both.
//
// Threads: one per block. Source of the dependent chain: what lmbench's lat_mem_rd does.
#pragma once

#include <x86intrin.h>

#include <cstdint>
#include <cstring>

namespace warmfork::bench::memory_loops {

enum class Loop : std::uint64_t { kSequentialRead, kSequentialWrite, kChain, kRandomWrite, kTouch };

/// What a loop is told. All sizes in bytes; `bytes` is a power of two of at least 4 KiB.
struct Task {
  Loop loop = Loop::kChain;
  std::uint64_t bytes = 0;  // of the block, from its beginning
  std::uint64_t count = 0;  // passes over the block; of kChain and kRandomWrite accesses; of kTouch pages
};
struct Answer {
  std::uint64_t ticks = 0;
  std::uint64_t sum = 0;
};

using Vector [[gnu::vector_size(16), gnu::may_alias]] = std::uint64_t;
inline constexpr std::uint64_t kTouchStride = 4096;

inline std::uint64_t word_at(const unsigned char* block, std::uint64_t offset) {
  std::uint64_t word;
  std::memcpy(&word, block + offset, sizeof word);
  return word;
}

/// Sums all words, 64 bytes at a time.
inline std::uint64_t sequential_read(const unsigned char* block, const Task& task) {
  Vector a{}, b{}, c{}, d{};
  for (std::uint64_t pass = 0; pass < task.count; ++pass) {
    // SAFETY: the block is page-aligned, its size a multiple of 64.
    const auto* at = reinterpret_cast<const Vector*>(block);
    const auto* const end = reinterpret_cast<const Vector*>(block + task.bytes);
    for (; at != end; at += 4) {
      a += at[0];
      b += at[1];
      c += at[2];
      d += at[3];
    }
    asm volatile("" : : "r"(block) : "memory");  // no pass is the last one's
  }
  a += b + c + d;
  return a[0] + a[1];
}

/// Fills the block with the number of the pass.
inline std::uint64_t sequential_write(unsigned char* block, const Task& task) {
  for (std::uint64_t pass = 0; pass < task.count; ++pass) {
    const Vector value{pass, pass};
    auto* at = reinterpret_cast<Vector*>(block);
    auto* const end = reinterpret_cast<Vector*>(block + task.bytes);
    for (; at != end; at += 4) {
      at[0] = value;
      at[1] = value;
      at[2] = value;
      at[3] = value;
      asm volatile("" : : "r"(at) : "memory");  // not memset, which is not the same in two C libraries
    }
  }
  return word_at(block, task.bytes - 8);
}

/// Each word read says where the next one lies: nothing can be read ahead.
inline std::uint64_t chain(const unsigned char* block, const Task& task) {
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < task.count; ++i) at = word_at(block, at);
  return at;
}

/// Writes words at random places.
inline std::uint64_t random_write(unsigned char* block, const Task& task) {
  std::uint64_t random = 1;
  for (std::uint64_t i = 0; i < task.count; ++i) {
    random = random * 6364136223846793005U + 1442695040888963407U;  // Knuth's MMIX
    const std::uint64_t at = (random >> 24) & (task.bytes - 8);
    std::memcpy(block + at, &i, sizeof i);
  }
  return random;
}

/// Writes a word to each page.
inline std::uint64_t touch(unsigned char* block, const Task& task) {
  for (std::uint64_t i = 0; i < task.count; ++i) std::memcpy(block + i * kTouchStride, &i, sizeof i);
  return task.count;
}

inline Answer run(unsigned char* block, const Task& task) {
  Answer answer;
  unsigned int aux;
  _mm_lfence();
  const std::uint64_t begin = __rdtsc();
  switch (task.loop) {
    case Loop::kSequentialRead: answer.sum = sequential_read(block, task); break;
    case Loop::kSequentialWrite: answer.sum = sequential_write(block, task); break;
    case Loop::kChain: answer.sum = chain(block, task); break;
    case Loop::kRandomWrite: answer.sum = random_write(block, task); break;
    case Loop::kTouch: answer.sum = touch(block, task); break;
  }
  asm volatile("" : : "r"(answer.sum) : "memory");
  answer.ticks = __rdtscp(&aux) - begin;
  return answer;
}

}  // namespace warmfork::bench::memory_loops
