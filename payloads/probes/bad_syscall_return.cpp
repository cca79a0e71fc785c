// Jumps to the system-call entry with a return address outside user space and flags a guest must never get.
#include "warmfork/abi/layout.h"

#include <cstdint>

int main() {
  asm volatile("mov $-1, %%r11\n jmp *%0"
               :
               : "r"(std::uintptr_t{WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET + WARMFORK_STUB_SYSCALL}),
                 "a"(39), "c"(0xffff800000000000)
               : "r11");
}
