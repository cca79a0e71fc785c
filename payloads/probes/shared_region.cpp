// Reads, writes and tries to execute memory it shares with others, by its own instructions and through the host's
// system calls; and keeps a counter of its own, to show what a reset takes back.
#include "warmfork/abi/vmcall.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <cstdint>

namespace {
std::uint64_t calls = 0;
}  // namespace

extern "C" {

std::uint64_t peek(std::uint64_t address) { return *reinterpret_cast<const volatile std::uint64_t*>(address); }
std::uint64_t poke(std::uint64_t address, std::uint64_t value) {
  *reinterpret_cast<volatile std::uint64_t*>(address) = value;
  return 1;
}
std::uint64_t run(std::uint64_t address) { return reinterpret_cast<std::uint64_t (*)()>(address)(); }

// Adds one to the word at `address`, and to a word of its own, which it returns.
std::uint64_t count(std::uint64_t address) {
  __atomic_fetch_add(reinterpret_cast<std::uint64_t*>(address), 1, __ATOMIC_SEQ_CST);
  return ++calls;
}

// Waits until the word at `address` is no longer `old`, and returns it.
std::uint64_t await(std::uint64_t address, std::uint64_t old) {
  std::uint64_t word = old;
  while (word == old) {
    word = __atomic_load_n(reinterpret_cast<const std::uint64_t*>(address), __ATOMIC_ACQUIRE);
    __builtin_ia32_pause();
  }
  return word;
}

// What the host does with a pointer: bytes written to it, bytes read from it; -1 if it refuses.
std::int64_t let_host_write(std::uint64_t address, std::uint64_t size) {
  return getrandom(reinterpret_cast<void*>(address), size, 0);
}
std::int64_t let_host_read(std::uint64_t address, std::uint64_t size) {
  return write(1, reinterpret_cast<const void*>(address), size);
}
// Any system call of three arguments.
std::int64_t system_call(std::uint64_t number, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  auto result = static_cast<std::int64_t>(number);
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

WARMFORK_REGISTER_VMCALL(peek);
WARMFORK_REGISTER_VMCALL(poke);
WARMFORK_REGISTER_VMCALL(run);
WARMFORK_REGISTER_VMCALL(count);
WARMFORK_REGISTER_VMCALL(await);
WARMFORK_REGISTER_VMCALL(let_host_write);
WARMFORK_REGISTER_VMCALL(let_host_read);
WARMFORK_REGISTER_VMCALL(system_call);
}

int main() { warmfork::wait_for_calls(); }
