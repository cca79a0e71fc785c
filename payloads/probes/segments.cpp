// Loads every segment register with what the descriptor tables offer CPL 3, then uses thread-local storage, a system
// call and memory as if nothing had happened. FS loses its base by that; it comes back with the system call.
#include <unistd.h>

#include <cstdio>

namespace {
thread_local volatile int local = 5;
}

int main() {
  asm volatile("mov %0, %%ds\n mov %0, %%es\n mov %0, %%fs\n mov %0, %%gs" : : "r"(0x2b));
  asm volatile("syscall" : : "a"(39) : "rcx", "r11", "memory");
  local = local + 1;
  std::printf("%d\n", local);
  return 0;
}
