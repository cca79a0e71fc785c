// Checks the answers of the served system calls that libc and programs rely on, with good and with bad arguments.
#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

int failures;

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("failed: %s (errno %d)\n", what, errno);
  ++failures;
}

template <class T>
T* bad_pointer() {
  return reinterpret_cast<T*>(std::uintptr_t{0x123450000000});
}

}  // namespace

int main(int argc, char** argv) {
  check(argc == 3 && std::strcmp(argv[1], "one") == 0 && std::strcmp(argv[2], "two words") == 0, "argv");
  const char* value = std::getenv("WARMFORK_PROBE");
  check(value != nullptr && std::strcmp(value, "set") == 0, "environment");
  check(getauxval(AT_PAGESZ) == 4096, "AT_PAGESZ");
  check(getauxval(AT_ENTRY) != 0 && getauxval(AT_PHDR) != 0, "AT_ENTRY and AT_PHDR");

  check(write(1, bad_pointer<char>(), 5) == -1 && errno == EFAULT, "write from nowhere is EFAULT");
  check(write(7, "x", 1) == -1 && errno == EBADF, "write to another descriptor is EBADF");
  check(read(0, bad_pointer<char>(), 5) == -1 && errno == EFAULT, "read to nowhere is EFAULT");
  check(
      read(0, reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(&bad_pointer<int>)), 1) == -1 && errno == EFAULT,
      "read into code is EFAULT");
  // A system page: the host must not write there for us.
  check(read(0, reinterpret_cast<void*>(std::uintptr_t{0x10000}), 1) == -1 && errno == EFAULT,
        "read into the descriptor tables is EFAULT");
  check(write(1, reinterpret_cast<void*>(std::uintptr_t{0x10000}), 16) == -1 && errno == EFAULT,
        "write from the descriptor tables is EFAULT");
  iovec vectors[2] = {{const_cast<char*>("vec"), 3}, {const_cast<char*>("tor\n"), 4}};
  check(writev(1, vectors, 2) == 7, "writev");
  check(writev(1, vectors, 100000) == -1 && errno == EINVAL, "too many vectors are EINVAL");
  check(open("/etc/passwd", O_RDONLY) == -1 && errno == ENOENT, "there are no files");
  struct stat status{};
  check(fstat(1, &status) == 0 && status.st_mode != 0, "fstat of a descriptor");
  check(stat("/", &status) == -1 && errno == ENOENT, "stat of a path");
  check(lseek(1, 0, SEEK_CUR) == -1 && errno == ESPIPE, "a descriptor cannot be sought");
  check(isatty(1) == 0, "output is no terminal");

  timespec first{};
  timespec second{};
  check(clock_gettime(CLOCK_MONOTONIC, &first) == 0 && clock_gettime(CLOCK_MONOTONIC, &second) == 0, "clock_gettime");
  check(second.tv_sec > first.tv_sec || (second.tv_sec == first.tv_sec && second.tv_nsec >= first.tv_nsec),
        "the clock does not go back");
  check(time(nullptr) > 1700000000, "time");
  unsigned char random[64] = {};
  check(getrandom(random, sizeof random, 0) == sizeof random, "getrandom");
  utsname names{};
  check(uname(&names) == 0 && std::strcmp(names.sysname, "Linux") == 0, "uname");
  check(syscall(SYS_fork) == -1 && errno == EAGAIN, "fork is refused");
  check(syscall(SYS_socket, 2, 1, 0) == -1 && errno == ENOSYS, "what is not served is ENOSYS");
  check(syscall(99999) == -1 && errno == ENOSYS, "what does not exist is ENOSYS");
  // Flags a program must not get: NT, AC is fine, IOPL stays; the call comes back at all.
  std::uint64_t flags = 0;
  asm volatile("pushfq\n orq $0x4000, (%%rsp)\n popfq\n mov $39, %%eax\n syscall\n pushfq\n popq %0"
               : "=r"(flags)
               :
               : "rax", "rcx", "r11", "memory", "cc");
  check((flags & 0x4000) == 0, "NT does not survive a system call");
  // Single-stepping ends with the system call; it must not go on where the processor is more privileged.
  asm volatile("mov $39, %%eax\n pushfq\n orq $0x100, (%%rsp)\n popfq\n syscall\n pushfq\n popq %0"
               : "=r"(flags)
               :
               : "rax", "rcx", "r11", "memory", "cc");
  check((flags & 0x100) == 0, "TF does not survive a system call");
  return failures;
}
