// The guest of the shared-memory study: the peer's code behind two vmcalls.
#include "ivshmem/peer.hpp"
#include "warmfork/abi/layout.h"
#include "warmfork/abi/vmcall.hpp"

#include <sys/mman.h>

#include <new>

using namespace warmfork::ivshmem;

namespace {
alignas(Peer) unsigned char storage[sizeof(Peer)];
Peer* peer = nullptr;

void ring() { asm volatile("outb %0, %1" : : "a"(kGuestDoorbell), "i"(WARMFORK_PORT_DOORBELL) : "memory"); }
}  // namespace

extern "C" {

// Prepares for a host page, a guest page and a frame at these addresses. 0, or 1 without memory for a copy of the
// frame, whose pages are all made present here: their first touch is no part of what is measured.
std::uint64_t prepare(std::uint64_t host, std::uint64_t guest, std::uint64_t frame, std::uint64_t capacity) {
  void* copy = mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (copy == MAP_FAILED) return 1;
  for (std::uint64_t i = 0; i < capacity; i += kPageBytes) static_cast<volatile unsigned char*>(copy)[i] = 1;
  peer = new (storage) Peer({.host = reinterpret_cast<const HostPage*>(host),
                             .guest = reinterpret_cast<GuestPage*>(guest),
                             .frame = reinterpret_cast<const unsigned char*>(frame),
                             .frame_capacity = capacity,
                             .copy = static_cast<unsigned char*>(copy),
                             .name = "guest of warmfork"});
  peer->begin();
  return 0;
}

// Takes part until the host completes the session (2), or there has been nothing to do for `patience` ticks (0). With
// `doorbell`, every change of state rings.
std::uint64_t serve(std::uint64_t patience, std::uint64_t doorbell) {
  if (peer == nullptr) return 3;
  std::uint64_t last = __builtin_ia32_rdtsc();
  for (;;) {
    const Peer::Step step = peer->step();
    if (step != Peer::Step::kNothing && doorbell != 0) ring();
    if (step == Peer::Step::kCompleted) return 2;
    const std::uint64_t now = __builtin_ia32_rdtsc();
    if (step == Peer::Step::kChanged) {
      last = now;
      continue;
    }
    if (now - last >= patience) return 0;
    __builtin_ia32_pause();
  }
}

// For tests: a guest that writes where it may not, or leaves words there that cannot be.
std::uint64_t poke(std::uint64_t address, std::uint64_t value) {
  *reinterpret_cast<volatile std::uint64_t*>(address) = value;
  return 0;
}

WARMFORK_REGISTER_VMCALL(prepare);
WARMFORK_REGISTER_VMCALL(serve);
WARMFORK_REGISTER_VMCALL(poke);
}

int main() { warmfork::wait_for_calls(); }
