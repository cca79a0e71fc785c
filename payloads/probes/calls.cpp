// Offers vmcalls of every kind the host's tests need.
#include "warmfork/abi/vmcall.hpp"

#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace {
std::uint64_t counter;
}

extern "C" {

std::uint64_t nothing() { return 0; }

// A different weight per argument shows each one in its place.
std::uint64_t weigh(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t e,
                    std::uint64_t f) {
  return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f;
}

std::uint64_t count() { return ++counter; }

std::uint64_t sum_bytes(const unsigned char* bytes, std::size_t size) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < size; ++i) sum += bytes[i];
  return sum;
}

std::uint64_t reverse_bytes(unsigned char* bytes, std::size_t size) {
  for (std::size_t i = 0; i < size / 2; ++i) {
    const unsigned char byte = bytes[i];
    bytes[i] = bytes[size - 1 - i];
    bytes[size - 1 - i] = byte;
  }
  return reinterpret_cast<std::uint64_t>(bytes);
}

std::uint64_t spin() {
  for (;;) asm volatile("" ::: "memory");
}

std::uint64_t spin_for(std::uint64_t iterations) {
  for (std::uint64_t i = 0; i < iterations; ++i) asm volatile("" ::: "memory");
  return iterations;
}

std::uint64_t crash(volatile char* where) { return static_cast<std::uint64_t>(*where); }

std::uint64_t leave(int code) { _exit(code); }

std::uint64_t say(const char* text, std::size_t size) { return static_cast<std::uint64_t>(write(1, text, size)); }

std::uint64_t stack_alignment() { return reinterpret_cast<std::uint64_t>(__builtin_frame_address(0)) % 16; }

std::uint64_t ring_doorbell(unsigned char bell, std::uint64_t times) {
  for (std::uint64_t i = 0; i < times; ++i) asm volatile("outb %0, %1" : : "a"(bell), "i"(WARMFORK_PORT_DOORBELL));
  return times;
}

std::uint64_t ready_again() { warmfork::wait_for_calls(); }

}  // extern "C"

WARMFORK_REGISTER_VMCALL(ring_doorbell);
WARMFORK_REGISTER_VMCALL(nothing);
WARMFORK_REGISTER_VMCALL(weigh);
WARMFORK_REGISTER_VMCALL(count);
WARMFORK_REGISTER_VMCALL(sum_bytes);
WARMFORK_REGISTER_VMCALL(reverse_bytes);
WARMFORK_REGISTER_VMCALL(spin);
WARMFORK_REGISTER_VMCALL(spin_for);
WARMFORK_REGISTER_VMCALL(crash);
WARMFORK_REGISTER_VMCALL(leave);
WARMFORK_REGISTER_VMCALL(say);
WARMFORK_REGISTER_VMCALL(stack_alignment);
WARMFORK_REGISTER_VMCALL(ready_again);

// Not registered: found by its symbol.
extern "C" [[gnu::used, gnu::noinline, gnu::retain, gnu::section(".text.by_symbol")]] std::uint64_t by_symbol(
    std::uint64_t x) {
  return x * 2;
}

int main() { warmfork::wait_for_calls(); }
