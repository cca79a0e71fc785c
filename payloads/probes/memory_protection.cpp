// mprotect means what it says: argv[1] says what to do with a page that was made read-only, or nothing at all.
#include <sys/mman.h>

#include <cstring>

int main(int, char** argv) {
  auto* page = static_cast<volatile unsigned char*>(
      mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  auto* middle = page + 4096;
  *middle = 7;
  const bool none = std::strcmp(argv[1], "read_none") == 0;
  if (mprotect(const_cast<unsigned char*>(middle), 4096, none ? PROT_NONE : PROT_READ) != 0) return 1;
  page[0] = 1;
  page[8192] = 1;
  if (std::strcmp(argv[1], "read") == 0) return *middle == 7 ? 0 : 2;
  if (std::strcmp(argv[1], "write") == 0) *middle = 8;
  if (none) return *middle;
  if (std::strcmp(argv[1], "write_again") == 0) {
    if (mprotect(const_cast<unsigned char*>(middle), 4096, PROT_READ | PROT_WRITE) != 0) return 3;
    *middle = 9;
    return *middle == 9 ? 0 : 4;
  }
  if (std::strcmp(argv[1], "reuse") == 0) {
    // Given back while read-only: the next owner gets it writable and zero.
    if (munmap(const_cast<unsigned char*>(page), 3 * 4096) != 0) return 5;
    auto* again = static_cast<volatile unsigned char*>(
        mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (again != page || again[4096] != 0) return 6;
    again[4096] = 1;
    return 0;
  }
  return 9;
}
