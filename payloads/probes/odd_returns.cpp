// Returns from vmcalls in every way but the proper one, leaving behind what a call must not find: flags, selectors,
// half-done string instructions. The tests (tests/kvm) make each call, then look at what the next one finds.
#include "warmfork/abi/vmcall.hpp"

#include <cstdint>

namespace {
char bytes[16];
}

extern "C" {

std::uint64_t flags_of_a_call() {
  std::uint64_t flags = 0;
  asm volatile("pushfq\n pop %0" : "=r"(flags));
  return flags;
}

std::uint64_t weigh(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t e,
                    std::uint64_t f) {
  return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f;
}

std::uint64_t by_string() {
  asm volatile("outsb" : : "d"(WARMFORK_PORT_RETURN), "S"(bytes), "a"(1) : "memory");
  return 0;
}
std::uint64_t by_repeated_string() {
  asm volatile("rep outsb" : : "d"(WARMFORK_PORT_RETURN), "S"(bytes), "c"(9), "a"(1) : "memory");
  return 0;
}
// Carry to overflow, direction, alignment check, ID: whatever POPF lets a program set, except TF.
std::uint64_t with_all_flags() {
  asm volatile("push $0x244cd5\n popfq\n outb %%al, %0" : : "i"(WARMFORK_PORT_RETURN), "a"(1) : "memory");
  return 0;
}
std::uint64_t with_single_step() {
  asm volatile("push $0x3102\n popfq\n outb %%al, %0" : : "i"(WARMFORK_PORT_RETURN), "a"(1) : "memory");
  return 0;
}
std::uint64_t with_null_selectors() {
  asm volatile("mov %1, %%ds\n mov %1, %%es\n mov %1, %%gs\n outb %%al, %0"
               :
               : "i"(WARMFORK_PORT_RETURN), "r"(0), "a"(1)
               : "memory");
  return 0;
}
std::uint64_t behind_a_stack_segment_load() {
  asm volatile("mov %1, %%ss\n outb %%al, %0" : : "i"(WARMFORK_PORT_RETURN), "r"(0x2b), "a"(1) : "memory");
  return 0;
}
// Through the stub's own OUT, with no stack at all.
std::uint64_t without_a_stack() {
  asm volatile("xor %%esp, %%esp\n jmp *%0"
               :
               : "r"(std::uint64_t{WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET + WARMFORK_STUB_VMCALL + 2}),
                 "a"(1)
               : "memory");
  return 0;
}
// Looks like a system call whose result nobody waits for: the return address is the stub that returns.
std::uint64_t through_the_system_call_stub() {
  asm volatile("mov $-1, %%r11\n jmp *%0"
               :
               : "r"(std::uint64_t{WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET + WARMFORK_STUB_SYSCALL}),
                 "c"(std::uint64_t{WARMFORK_SYSTEM_BASE + WARMFORK_USER_STUBS_OFFSET + WARMFORK_STUB_VMCALL + 2}),
                 "a"(39)
               : "r11", "memory");
  return 0;
}

}  // extern "C"

WARMFORK_REGISTER_VMCALL(flags_of_a_call);
WARMFORK_REGISTER_VMCALL(weigh);
WARMFORK_REGISTER_VMCALL(by_string);
WARMFORK_REGISTER_VMCALL(by_repeated_string);
WARMFORK_REGISTER_VMCALL(with_all_flags);
WARMFORK_REGISTER_VMCALL(with_single_step);
WARMFORK_REGISTER_VMCALL(with_null_selectors);
WARMFORK_REGISTER_VMCALL(behind_a_stack_segment_load);
WARMFORK_REGISTER_VMCALL(without_a_stack);
WARMFORK_REGISTER_VMCALL(through_the_system_call_stub);

int main() { warmfork::wait_for_calls(); }
