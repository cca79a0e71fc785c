// Recurses until its stack ends.

namespace {
[[gnu::noinline]] int descend(volatile int* above) {
  volatile int here[64];
  here[0] = *above + 1;
  if (here[0] < 0) return 0;  // never, but the compiler cannot know
  return descend(here) + here[0];
}
}  // namespace

int main() {
  volatile int zero = 0;
  return descend(&zero);
}
