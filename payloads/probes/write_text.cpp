// Overwrites its own code.
#include <cstdint>

int main() {
  auto* code = reinterpret_cast<volatile unsigned char*>(reinterpret_cast<std::uintptr_t>(&main));
  *code = 0x90;
}
