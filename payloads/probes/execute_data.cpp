// Jumps into its own data, where it has put a RET.

namespace {
unsigned char code[16] = {0xc3};
}

int main() {
  auto* data = code;
  asm volatile("" : "+r"(data));
  reinterpret_cast<void (*)()>(data)();
}
