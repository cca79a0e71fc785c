// Jumps onto its own stack, where it has put a RET.

int main() {
  volatile unsigned char code[16] = {0xc3};
  auto* stack = const_cast<unsigned char*>(code);
  asm volatile("" : "+r"(stack));
  reinterpret_cast<void (*)()>(stack)();
}
