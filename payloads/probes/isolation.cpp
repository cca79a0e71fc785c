// A fork that looks for another fork's secret: in every register, behind every address, through every selector, and
// through the host's own eyes (system calls with pointers). One fork keeps the secret, another one searches.
#include "warmfork/abi/vmcall.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace {
constexpr std::size_t kWords = 2048;
std::uint64_t kept[kWords];
}  // namespace

extern "C" {

// Fills memory with the secret.
std::uint64_t keep(std::uint64_t secret) {
  volatile std::uint64_t on_stack[64];
  for (auto& word : on_stack) word = secret;
  for (auto& word : kept) word = secret;
  return on_stack[secret % 64];
}

// The words of [begin, +size) that are the secret.
std::uint64_t search(std::uint64_t begin, std::uint64_t size, std::uint64_t secret) {
  std::uint64_t found = 0;
  for (std::uint64_t at = begin; at + 8 <= begin + size; at += 8) {
    found += *reinterpret_cast<const volatile std::uint64_t*>(at) == secret ? 1 : 0;
  }
  return found;
}

std::uint64_t peek(std::uint64_t address) { return *reinterpret_cast<const volatile std::uint64_t*>(address); }

std::uint64_t poke(std::uint64_t address, std::uint64_t value) {
  *reinterpret_cast<volatile std::uint64_t*>(address) = value;
  return 1;
}

// The word at `address` through a segment of one's own choice.
std::uint64_t peek_through(std::uint64_t selector, std::uint64_t address) {
  std::uint64_t value = 0;
  asm volatile("mov %w1, %%gs\n movq %%gs:(%2), %0" : "=r"(value) : "r"(selector), "r"(address));
  return value;
}

// What the host does with a pointer: bytes written to it, bytes read from it; -1 if it refuses.
std::int64_t let_host_write(std::uint64_t address) { return getrandom(reinterpret_cast<void*>(address), 8, 0); }
std::int64_t let_host_read(std::uint64_t address) { return write(1, reinterpret_cast<const void*>(address), 8); }

WARMFORK_REGISTER_VMCALL(keep);
WARMFORK_REGISTER_VMCALL(search);
WARMFORK_REGISTER_VMCALL(peek);
WARMFORK_REGISTER_VMCALL(poke);
WARMFORK_REGISTER_VMCALL(peek_through);
WARMFORK_REGISTER_VMCALL(let_host_write);
WARMFORK_REGISTER_VMCALL(let_host_read);
}

int main() { warmfork::wait_for_calls(); }
