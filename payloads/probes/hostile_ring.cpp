// A guest that is called through the call ring and does to it what the ring's rules forbid: writes anywhere in it at
// any time, answers what it was not asked, forgets what it was asked, moves sequence numbers, parks and returns
// unasked.
#include "warmfork/abi/call_ring.hpp"
#include "warmfork/abi/layout.h"
#include "warmfork/abi/vmcall.hpp"

#include <cstddef>
#include <cstdint>

namespace {

std::uint64_t random_state = 1;

std::uint64_t next() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

volatile std::uint64_t* words;  // of the ring
constexpr std::size_t kWords = sizeof(warmfork::CallRing) / 8;

void forge_answer(std::uint64_t sequence, std::uint64_t result) {
  volatile std::uint64_t* const response = words +
                                           sequence % WARMFORK_CALL_RING_SLOTS * (sizeof(warmfork::CallSlot) / 8) +
                                           offsetof(warmfork::CallSlot, response) / 8;
  response[1] = result;
  response[0] = sequence;
}

}  // namespace

extern "C" {

// First: where the ring is, and what is random.
std::uint64_t aim(std::uint64_t ring, std::uint64_t seed) {
  words = reinterpret_cast<volatile std::uint64_t*>(ring);
  random_state = seed | 1;
  return 0;
}

// Writes `count` words of junk, and sequence numbers near the one the host is at, all over the ring.
std::uint64_t scribble(std::uint64_t count, std::uint64_t near) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t at = next() % kWords;
    words[at] = next() % 2 == 0 ? near + next() % 40 - 20 : next();
  }
  return count;
}

// Scribbles until somebody stops it.
std::uint64_t scribble_forever(std::uint64_t near) {
  for (;;) scribble(1000, near);
}

// Answers `sequence` and the `count` - 1 numbers after it now.
std::uint64_t forge(std::uint64_t sequence, std::uint64_t count, std::uint64_t result) {
  for (std::uint64_t i = 0; i < count; ++i) forge_answer(sequence + i, result);
  return 0;
}

// Answers its own request before it returns, and goes on for ever.
std::uint64_t forge_and_spin(std::uint64_t sequence, std::uint64_t result) {
  forge_answer(sequence, result);
  for (;;) asm volatile("" ::: "memory");
}

// Turns the request `sequence` into the end of the service.
std::uint64_t forge_end(std::uint64_t sequence) {
  volatile std::uint64_t* const request =
      words + sequence % WARMFORK_CALL_RING_SLOTS * (sizeof(warmfork::CallSlot) / 8);
  request[1] = 0;
  request[0] = sequence;
  return 0;
}

std::uint64_t park(std::uint64_t times) {
  for (std::uint64_t i = 0; i < times; ++i) {
    asm volatile("outb %%al, %0" : : "n"(WARMFORK_PORT_PARK) : "memory");
  }
  return times;
}
std::uint64_t park_forever() {
  for (;;) asm volatile("outb %%al, %0" : : "n"(WARMFORK_PORT_PARK) : "memory");
}
std::uint64_t return_unasked() {
  for (;;) asm volatile("outb %%al, %0" : : "n"(WARMFORK_PORT_RETURN) : "memory");
}
std::uint64_t other_port() {
  for (;;) asm volatile("outb %%al, %0" : : "n"(0x80) : "memory");
}

std::uint64_t twice(std::uint64_t value) { return 2 * value; }

WARMFORK_REGISTER_VMCALL(aim);
WARMFORK_REGISTER_VMCALL(scribble);
WARMFORK_REGISTER_VMCALL(scribble_forever);
WARMFORK_REGISTER_VMCALL(forge);
WARMFORK_REGISTER_VMCALL(forge_and_spin);
WARMFORK_REGISTER_VMCALL(forge_end);
WARMFORK_REGISTER_VMCALL(park);
WARMFORK_REGISTER_VMCALL(park_forever);
WARMFORK_REGISTER_VMCALL(return_unasked);
WARMFORK_REGISTER_VMCALL(other_port);
WARMFORK_REGISTER_VMCALL(twice);
}

int main() { warmfork::wait_for_calls(); }
