// Checks what a program may expect of brk and mmap: fresh pages are zero, freed ones are reusable, hints are hints.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

int failures;

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("failed: %s\n", what);
  ++failures;
}

bool all_zero(const unsigned char* bytes, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

unsigned char* map(std::size_t size, int protection = PROT_READ | PROT_WRITE) {
  return static_cast<unsigned char*>(mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

}  // namespace

int main() {
  constexpr std::size_t kSize = 256 << 10;
  for (int round = 0; round < 4; ++round) {
    unsigned char* memory = map(kSize);
    check(memory != MAP_FAILED && all_zero(memory, kSize), "a new mapping is zero");
    std::memset(memory, 0xa5, kSize);
    check(munmap(memory + 4096, 4096) == 0, "a hole can be cut");
    unsigned char* hole = static_cast<unsigned char*>(
        mmap(memory + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    check(hole == memory + 4096, "a free hint is taken");
    check(all_zero(hole, 4096), "the hole is zero");
    check(memory[0] == 0xa5 && memory[8192] == 0xa5, "what is beside the hole is kept");
    check(munmap(memory, kSize) == 0, "a mapping can be given back");
  }
  check(map(std::size_t{1} << 45) == MAP_FAILED, "an absurd mapping is refused");
  check(map(4096, PROT_READ | PROT_WRITE | PROT_EXEC) == MAP_FAILED, "executable memory is refused");
  // musl's sbrk refuses to grow; the system call itself is what is checked.
  auto* old_break = reinterpret_cast<unsigned char*>(syscall(SYS_brk, 0));
  check(syscall(SYS_brk, old_break + 65536) == reinterpret_cast<long>(old_break + 65536), "brk grows");
  check(all_zero(old_break, 65536), "brk memory is zero");
  std::memset(old_break, 1, 65536);
  check(syscall(SYS_brk, old_break) == reinterpret_cast<long>(old_break), "brk shrinks");
  syscall(SYS_brk, old_break + 65536);
  check(all_zero(old_break, 65536), "brk memory that was given back is zero");
  check(syscall(SYS_brk, old_break + (std::size_t{1} << 45)) == reinterpret_cast<long>(old_break + 65536),
        "an absurd brk is refused");
  return failures;
}
