// Runs what the host has written into the code region, and tries to write there itself: by its own instructions, and
// through the host's system calls.
#include "warmfork/abi/vmcall.hpp"

#include <cstdint>

namespace {

std::uint64_t call_at(std::uint64_t address) { return reinterpret_cast<std::uint64_t (*)()>(address)(); }

}  // namespace

extern "C" {

std::uint64_t run(std::uint64_t address) { return call_at(address); }

// Waits until the word at `flag` is no longer `old`, and only then runs the code the host may have written meanwhile.
std::uint64_t run_after(std::uint64_t flag, std::uint64_t old, std::uint64_t address) {
  while (__atomic_load_n(reinterpret_cast<const std::uint64_t*>(flag), __ATOMIC_ACQUIRE) == old) {
    __builtin_ia32_pause();
  }
  std::uint32_t leaf = 0;
  asm volatile("cpuid" : "+a"(leaf) : : "ebx", "ecx", "edx", "memory");  // serialises
  return call_at(address);
}

std::uint64_t peek(std::uint64_t address) { return *reinterpret_cast<const volatile std::uint64_t*>(address); }
std::uint64_t poke(std::uint64_t address, std::uint64_t value) {
  *reinterpret_cast<volatile std::uint64_t*>(address) = value;
  return 1;
}

// Any system call of up to four arguments; a fifth would be the descriptor of a mapping, and there is none.
std::int64_t system_call(std::uint64_t number, std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) {
  auto result = static_cast<std::int64_t>(number);
  register std::uint64_t fourth asm("r10") = d;
  register std::int64_t fifth asm("r8") = -1;
  register std::uint64_t sixth asm("r9") = 0;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
               : "rcx", "r11", "memory");
  return result;
}

WARMFORK_REGISTER_VMCALL(run);
WARMFORK_REGISTER_VMCALL(run_after);
WARMFORK_REGISTER_VMCALL(peek);
WARMFORK_REGISTER_VMCALL(poke);
WARMFORK_REGISTER_VMCALL(system_call);
}

int main() { warmfork::wait_for_calls(); }
