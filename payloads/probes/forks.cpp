// What tests of forks call: it keeps state between calls, writes as many pages as asked, and tells what makes a fork
// different from another. argv[1]: pages of the block it can write (default 64).
#include "warmfork/abi/fork_info.hpp"
#include "warmfork/abi/vmcall.hpp"

#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {
constexpr std::size_t kPage = 4096;
std::uint64_t counter = 1000;
std::size_t block_pages = 64;
unsigned char* block;
const unsigned char* startup_random;  // what AT_RANDOM pointed at
}  // namespace

extern "C" {

std::uint64_t count() { return ++counter; }

// Writes one word into each of `pages` pages of the block, from page `first` on.
std::uint64_t touch(std::uint64_t first, std::uint64_t pages, std::uint64_t value) {
  for (std::uint64_t i = 0; i < pages; ++i) {
    std::memcpy(block + (first + i) % block_pages * kPage + value % 500 * 8, &value, sizeof value);
  }
  return pages;
}

std::uint64_t sum_block() {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < block_pages * kPage; ++i) sum = sum * 31 + block[i];
  return sum;
}

std::uint64_t generation() { return warmfork::fork_info().generation; }
std::uint64_t budget() { return warmfork::fork_info().instruction_budget; }

std::uint64_t fork_random(std::uint64_t index) {
  std::uint64_t word = 0;
  for (unsigned i = 0; i < 8; ++i) word = word << 8 | warmfork::fork_info().random[(index % 8) * 8 + i];
  return word;
}

std::uint64_t system_random() {
  std::uint64_t word = 0;
  return getrandom(&word, sizeof word, 0) == sizeof word ? word : 0;
}

std::uint64_t program_random() {
  std::uint64_t word = 0;
  std::memcpy(&word, startup_random, sizeof word);
  return word;
}

// Maps `pages` pages, fills them and keeps them; 0 if there is no room.
std::uint64_t grow(std::uint64_t pages) {
  void* memory = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 0;
  std::memset(memory, 0x5a, pages * kPage);
  return reinterpret_cast<std::uintptr_t>(memory);
}

// Makes the first `pages` pages of the block read-only.
std::uint64_t freeze_block(std::uint64_t pages) { return mprotect(block, pages * kPage, PROT_READ) == 0 ? 1 : 0; }

// Gives the block's pages back (they read as zero) and returns what the first byte is afterwards.
std::uint64_t discard_block() {
  if (madvise(block, block_pages * kPage, MADV_DONTNEED) != 0) return 1000;
  return block[0];
}

std::uint64_t peek(std::uint64_t address) { return *reinterpret_cast<const volatile std::uint64_t*>(address); }
std::uint64_t poke(std::uint64_t address, std::uint64_t value) {
  *reinterpret_cast<volatile std::uint64_t*>(address) = value;
  return 1;
}

std::uint64_t spin() {
  for (;;) asm volatile("");
}
std::uint64_t leave(std::uint64_t code) { _exit(static_cast<int>(code)); }

WARMFORK_REGISTER_VMCALL(count);
WARMFORK_REGISTER_VMCALL(touch);
WARMFORK_REGISTER_VMCALL(sum_block);
WARMFORK_REGISTER_VMCALL(generation);
WARMFORK_REGISTER_VMCALL(budget);
WARMFORK_REGISTER_VMCALL(fork_random);
WARMFORK_REGISTER_VMCALL(system_random);
WARMFORK_REGISTER_VMCALL(program_random);
WARMFORK_REGISTER_VMCALL(grow);
WARMFORK_REGISTER_VMCALL(freeze_block);
WARMFORK_REGISTER_VMCALL(discard_block);
WARMFORK_REGISTER_VMCALL(peek);
WARMFORK_REGISTER_VMCALL(poke);
WARMFORK_REGISTER_VMCALL(spin);
WARMFORK_REGISTER_VMCALL(leave);
}

int main(int argc, char** argv, char** environment) {
  if (argc > 1) block_pages = std::strtoul(argv[1], nullptr, 10);
  block = static_cast<unsigned char*>(
      mmap(nullptr, block_pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (block == MAP_FAILED) return 1;
  for (std::size_t i = 0; i < block_pages; i += 2) std::memset(block + i * kPage, static_cast<int>(i + 1), kPage);
  while (*environment != nullptr) ++environment;
  for (auto* entry = reinterpret_cast<const std::uint64_t*>(environment + 1); entry[0] != 0; entry += 2) {
    if (entry[0] == 25 /* AT_RANDOM */) startup_random = reinterpret_cast<const unsigned char*>(entry[1]);
  }
  if (startup_random == nullptr) return 2;
  warmfork::wait_for_calls();
}
