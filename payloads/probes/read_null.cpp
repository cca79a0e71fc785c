// Follows a null pointer.

int main() {
  volatile int* null = nullptr;
  asm volatile("" : "+r"(null));
  return *null;
}
