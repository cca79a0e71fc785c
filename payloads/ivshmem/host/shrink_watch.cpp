#include "ivshmem/host/shrink_watch.hpp"

#include "ivshmem/protocol.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cassert>
#include <cerrno>
#include <csignal>
#include <cstdint>

namespace warmfork::ivshmem {
namespace {

// What the handler sees. Written before it is installed and after it is removed, but for the last.
std::uintptr_t watched_begin = 0, watched_end = 0;
struct sigaction handled_before{};
std::atomic<bool> found_short{false};
static_assert(std::atomic<bool>::is_always_lock_free, "used in a signal handler");

// Async-signal-safe: system calls (mmap too, although POSIX does not list it) and an atomic store.
void on_bus_error(int signal, siginfo_t* info, void*) {
  const int saved = errno;
  const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
  bool replaced = false;
  if (info->si_code == BUS_ADRERR && at >= watched_begin && at < watched_end) {
    const std::uintptr_t page = at / kPageBytes * kPageBytes;
    // SAFETY: pages of the watched mapping, which nobody can access as they are: behind the end of a file everything is
    // gone. What comes in their place is part of that mapping's range and goes with it.
    replaced = ::mmap(reinterpret_cast<void*>(page), watched_end - page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
  }
  if (replaced) {
    found_short.store(true);
  } else {
    ::sigaction(signal, &handled_before, nullptr);  // the access is made again, and ends as it would have
  }
  errno = saved;
}

}  // namespace

ShrinkWatch::ShrinkWatch(std::span<std::byte> memory) {
  assert(watched_end == 0);
  // SAFETY: an address as a number.
  watched_begin = reinterpret_cast<std::uintptr_t>(memory.data());
  watched_end = watched_begin + memory.size();
  found_short.store(false);
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, &handled_before);
}

ShrinkWatch::~ShrinkWatch() {
  ::sigaction(SIGBUS, &handled_before, nullptr);
  watched_begin = watched_end = 0;
}

bool ShrinkWatch::shortened() const { return found_short.load(); }

}  // namespace warmfork::ivshmem
