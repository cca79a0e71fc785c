// Uses a port that is not ours; argv[1] is the port, argv[2] "in" or "out", argv[3] the width in bits.
#include <cstdint>
#include <cstdlib>
#include <cstring>

int main(int, char** argv) {
  const auto port = static_cast<std::uint16_t>(std::strtoul(argv[1], nullptr, 16));
  const bool in = std::strcmp(argv[2], "in") == 0;
  const int width = std::atoi(argv[3]);
  if (in && width == 8) asm volatile("inb %%dx, %%al" : : "d"(port) : "rax");
  if (in && width == 32) asm volatile("inl %%dx, %%eax" : : "d"(port) : "rax");
  if (!in && width == 8) asm volatile("outb %%al, %%dx" : : "d"(port), "a"(0));
  if (!in && width == 32) asm volatile("outl %%eax, %%dx" : : "d"(port), "a"(0));
  if (width == 0) {
    char bytes[64] = {};
    auto* from = bytes;
    std::uint64_t count = sizeof bytes;
    asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
  }
  return 0;
}
