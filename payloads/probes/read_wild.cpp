// Follows a pointer to nowhere, and one outside the canonical address space if asked to.
#include <cstdint>

int main(int argc, char**) {
  std::uintptr_t address = argc > 1 ? 0x8000000000000000 : 0x600000000000;
  asm volatile("" : "+r"(address));
  return *reinterpret_cast<volatile int*>(address);
}
