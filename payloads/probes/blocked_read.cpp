// Waits for input that may never come.
#include <unistd.h>

int main() {
  char byte = 0;
  return static_cast<int>(read(0, &byte, 1)) + 10;
}
