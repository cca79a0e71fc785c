// Prints 32 random bytes: half from the auxiliary vector, half from getrandom.
#include <sys/auxv.h>
#include <sys/random.h>

#include <cstdio>

int main() {
  unsigned char bytes[32];
  const auto* given = reinterpret_cast<const unsigned char*>(getauxval(AT_RANDOM));
  for (int i = 0; i < 16; ++i) bytes[i] = given[i];
  if (getrandom(bytes + 16, 16, 0) != 16) return 1;
  for (const unsigned char byte : bytes) std::printf("%02x", byte);
  std::printf("\n");
  return 0;
}
