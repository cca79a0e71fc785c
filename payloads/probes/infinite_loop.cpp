// Never ends, never exits to the host.

int main() {
  for (;;) asm volatile("" ::: "memory");
}
