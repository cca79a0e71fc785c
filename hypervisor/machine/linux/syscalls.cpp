// The table of system calls and their handlers. Each argument is a copy the guest can no longer change; each guest
// pointer is resolved through the address space with the guest's own rights.
#include "machine/linux/process.hpp"

#include <asm/prctl.h>
#include <asm/unistd.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>

namespace warmfork::linux_abi {
namespace {

constexpr std::size_t kIoChunk = 65536;
constexpr std::uint64_t kMaxWrite = 0x7ffff000;  // of one call, as Linux caps it

SyscallOutcome value(std::int64_t result) { return {.result = result}; }
SyscallOutcome error(int number) { return {.result = -number}; }
// The guest's memory may be half changed: it sees ENOMEM only if it is run on, which the machine does not do.
SyscallOutcome host_failed(const Error& why) { return {.result = -ENOMEM, .exit_code = {}, .host_error = why}; }

struct NamedSyscall {
  unsigned number;
  const char* name;
};
constexpr NamedSyscall kNames[] = {
#include "syscall_names.inc"
};

}  // namespace

struct Handlers {
  // --- Descriptors
  // -----------------------------------------------------------------------------------------------------
  static SyscallOutcome read(Process& p, const SyscallRequest& r) {
    if (r.arguments[0] != STDIN_FILENO) return error(EBADF);
    std::array<std::byte, kIoChunk> buffer;
    const std::size_t wanted = std::min<std::uint64_t>(r.arguments[2], buffer.size());
    const ssize_t got = p.io_.read(std::span(buffer).first(wanted));
    if (got == -EINTR) return {.result = -EINTR, .exit_code = {}, .host_error = {}, .interrupted = true};
    if (got <= 0) return value(got);
    const auto bytes = std::span<const std::byte>(buffer).first(static_cast<std::size_t>(got));
    if (!p.space_.write(Gva{r.arguments[1]}, bytes)) return error(EFAULT);
    return value(got);
  }

  // Writes guest memory to a descriptor piece by piece; stops where the guest may not read, or the descriptor is full.
  static SyscallOutcome write_out(Process& p, int fd, std::uint64_t address, std::uint64_t size) {
    std::array<std::byte, kIoChunk> buffer;
    std::uint64_t done = 0;
    while (done < size) {
      const std::size_t chunk = std::min<std::uint64_t>(size - done, buffer.size());
      const auto bytes = std::span(buffer).first(chunk);
      if (!p.space_.read(Gva{address + done}, bytes))
        return done != 0 ? value(static_cast<std::int64_t>(done)) : error(EFAULT);
      const ssize_t put = p.io_.write(fd, bytes);
      if (put < 0) {
        if (done != 0) return value(static_cast<std::int64_t>(done));
        return {.result = put, .exit_code = {}, .host_error = {}, .interrupted = put == -EINTR};
      }
      done += static_cast<std::uint64_t>(put);
      if (static_cast<std::size_t>(put) < chunk) break;
    }
    return value(static_cast<std::int64_t>(done));
  }

  static bool is_output(std::uint64_t fd) { return fd == STDOUT_FILENO || fd == STDERR_FILENO; }

  static SyscallOutcome write(Process& p, const SyscallRequest& r) {
    if (!is_output(r.arguments[0])) return error(EBADF);
    return write_out(p, static_cast<int>(r.arguments[0]), r.arguments[1], std::min(r.arguments[2], kMaxWrite));
  }

  static SyscallOutcome writev(Process& p, const SyscallRequest& r) {
    if (!is_output(r.arguments[0])) return error(EBADF);
    if (r.arguments[2] > IOV_MAX) return error(EINVAL);
    std::int64_t total = 0;
    for (std::uint64_t i = 0; i < r.arguments[2]; ++i) {
      const auto vector = p.space_.read_value<iovec>(Gva{r.arguments[1] + i * sizeof(iovec)});
      if (!vector) return total != 0 ? value(total) : error(EFAULT);
      if (vector->iov_len > static_cast<std::size_t>(SSIZE_MAX)) return total != 0 ? value(total) : error(EINVAL);
      if (vector->iov_len == 0) continue;
      // All vectors may name the same memory: without the cap one call could take as long as 1024 of them.
      const std::uint64_t wanted =
          std::min<std::uint64_t>(vector->iov_len, kMaxWrite - static_cast<std::uint64_t>(total));
      const SyscallOutcome part =
          write_out(p, static_cast<int>(r.arguments[0]), reinterpret_cast<std::uintptr_t>(vector->iov_base), wanted);
      if (part.result < 0) return total != 0 ? value(total) : part;
      total += part.result;
      if (static_cast<std::uint64_t>(part.result) < vector->iov_len) break;
    }
    return value(total);
  }

  static SyscallOutcome readv(Process& p, const SyscallRequest& r) {
    if (r.arguments[0] != STDIN_FILENO) return error(EBADF);
    if (r.arguments[2] > IOV_MAX) return error(EINVAL);
    for (std::uint64_t i = 0; i < r.arguments[2]; ++i) {
      const auto vector = p.space_.read_value<iovec>(Gva{r.arguments[1] + i * sizeof(iovec)});
      if (!vector) return error(EFAULT);
      if (vector->iov_len == 0) continue;
      // A short read is allowed, so one vector is served; the program comes back for the rest.
      return read(p, {r.number, {STDIN_FILENO, reinterpret_cast<std::uintptr_t>(vector->iov_base), vector->iov_len}});
    }
    return value(0);
  }

  static SyscallOutcome close(Process&, const SyscallRequest& r) {
    return r.arguments[0] <= 2 ? value(0) : error(EBADF);
  }
  static SyscallOutcome lseek(Process&, const SyscallRequest& r) { return error(r.arguments[0] <= 2 ? ESPIPE : EBADF); }

  static SyscallOutcome fcntl(Process&, const SyscallRequest& r) {
    if (r.arguments[0] > 2) return error(EBADF);
    switch (r.arguments[1]) {
      case F_GETFL: return value(r.arguments[0] == STDIN_FILENO ? O_RDONLY : O_WRONLY);
      case F_GETFD:
      case F_SETFD: return value(0);
      default: return error(EINVAL);
    }
  }

  static SyscallOutcome ioctl(Process& p, const SyscallRequest& r) {
    if (r.arguments[0] > 2) return error(EBADF);
    if (!p.io_.is_terminal(static_cast<int>(r.arguments[0]))) return error(ENOTTY);
    if (r.arguments[1] == TIOCGWINSZ) {
      const winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
      return p.space_.write(Gva{r.arguments[2]}, std::as_bytes(std::span(&size, 1))) ? value(0) : error(EFAULT);
    }
    return error(ENOTTY);
  }

  static SyscallOutcome stat_descriptor(Process& p, std::uint64_t fd, std::uint64_t address) {
    if (fd > 2) return error(EBADF);
    struct stat status{};
    status.st_mode = (p.io_.is_terminal(static_cast<int>(fd)) ? S_IFCHR : S_IFIFO) | 0600U;
    status.st_nlink = 1;
    status.st_blksize = 4096;
    return p.space_.write(Gva{address}, std::as_bytes(std::span(&status, 1))) ? value(0) : error(EFAULT);
  }
  static SyscallOutcome fstat(Process& p, const SyscallRequest& r) {
    return stat_descriptor(p, r.arguments[0], r.arguments[1]);
  }
  static SyscallOutcome newfstatat(Process& p, const SyscallRequest& r) {
    const auto path = p.space_.read_string(Gva{r.arguments[1]}, 4096);
    if (!path) return error(EFAULT);
    const bool by_descriptor = path->empty() && (r.arguments[3] & AT_EMPTY_PATH) != 0;
    return by_descriptor ? stat_descriptor(p, r.arguments[0], r.arguments[2]) : error(ENOENT);
  }

  static SyscallOutcome no_file(Process&, const SyscallRequest&) { return error(ENOENT); }
  static SyscallOutcome no_thread(Process&, const SyscallRequest&) { return error(EAGAIN); }
  static SyscallOutcome ignore(Process&, const SyscallRequest&) { return value(0); }

  // /proc/self/exe is the one link programs ask for; a program here has no file, and libc copes with its absence.
  static SyscallOutcome readlink(Process&, const SyscallRequest&) { return error(ENOENT); }

  // --- Memory
  // ----------------------------------------------------------------------------------------------------------
  static SyscallOutcome brk(Process& p, const SyscallRequest& r) {
    const std::uint64_t result = p.heap_.brk(r.arguments[0]);
    if (const auto scrubbed = p.scrub_freed(); !scrubbed) return host_failed(scrubbed.error());
    return value(static_cast<std::int64_t>(result));
  }

  static std::optional<x86::Access> access_of(std::uint64_t protection) {
    if (protection == PROT_NONE) return std::nullopt;
    return x86::Access{.user = true, .write = (protection & PROT_WRITE) != 0, .execute = false};
  }

  static SyscallOutcome mmap(Process& p, const SyscallRequest& r) {
    const auto [address, size, protection, flags, fd, offset] = r.arguments;
    if (size == 0 || page_ceil(size) < size) return error(EINVAL);
    if ((flags & MAP_ANONYMOUS) == 0) return error(static_cast<std::int64_t>(fd) >= 0 && fd <= 2 ? ENODEV : EBADF);
    if ((protection & PROT_EXEC) != 0) return error(EPERM);  // nothing a guest writes may ever be executed
    const bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
    if (fixed && address % kPage != 0) return error(EINVAL);
    if ((flags & MAP_FIXED_NOREPLACE) == MAP_FIXED_NOREPLACE && p.heap_.overlaps(address, size)) return error(EEXIST);
    const auto begin = p.heap_.map(page_ceil(size), address, fixed);
    if (!begin) return error(ENOMEM);
    if (const auto scrubbed = p.scrub_freed(); !scrubbed) return host_failed(scrubbed.error());
    if ((protection & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE)) {
      const auto done = p.space_.protect(Gva{*begin}, page_ceil(size), access_of(protection));
      if (!done) return host_failed(done.error());
    }
    return value(static_cast<std::int64_t>(*begin));
  }

  static SyscallOutcome munmap(Process& p, const SyscallRequest& r) {
    const std::uint64_t size = page_ceil(r.arguments[1]);
    if (r.arguments[0] % kPage != 0 || size == 0 || size < r.arguments[1]) return error(EINVAL);
    if (!p.heap_.unmap(r.arguments[0], size)) return error(EINVAL);
    const auto scrubbed = p.scrub_freed();
    return scrubbed ? value(0) : host_failed(scrubbed.error());
  }

  static SyscallOutcome mprotect(Process& p, const SyscallRequest& r) {
    const auto [address, length, protection, unused3, unused4, unused5] = r.arguments;
    const std::uint64_t size = page_ceil(length);
    if (address % kPage != 0 || size < length) return error(EINVAL);
    if (size == 0) return value(0);
    if ((protection & PROT_EXEC) != 0) return error(EACCES);
    if (!p.space_.layout().is_protectable(Gva{address}, size)) return error(EACCES);
    // Heap pages that are not mapped keep their access for their next owner, wherever the range begins.
    const AddressRange heap = p.space_.heap();
    const std::uint64_t heap_begin = std::max(address, heap.begin.value);
    const std::uint64_t heap_end = std::min(address + size, heap.end().value);
    if (heap_begin < heap_end && !p.heap_.covers(heap_begin, heap_end - heap_begin)) return error(ENOMEM);
    const auto done = p.space_.protect(Gva{address}, size, access_of(protection));
    return done ? value(0) : host_failed(done.error());
  }

  // Advice is a hint, but for one: after MADV_DONTNEED private memory reads as zero, and allocators rely on it.
  static SyscallOutcome madvise(Process& p, const SyscallRequest& r) {
    const std::uint64_t address = r.arguments[0];
    const std::uint64_t size = page_ceil(r.arguments[1]);
    if (address % kPage != 0 || size < r.arguments[1]) return error(EINVAL);
    if (r.arguments[2] != MADV_DONTNEED || size == 0) return value(0);
    if (!p.space_.layout().is_protectable(Gva{address}, size)) return error(ENOMEM);
    if (!p.space_.heap().contains(Gva{address})) return error(EINVAL);  // data would come back from the program's file
    if (!p.heap_.covers(address, size)) return error(ENOMEM);
    return p.space_.zero_heap(Gva{address}, size) ? value(0) : error(ENOMEM);
  }

  // --- Process
  // ---------------------------------------------------------------------------------------------------------
  static SyscallOutcome exit(Process&, const SyscallRequest& r) {
    return {.result = 0, .exit_code = static_cast<int>(r.arguments[0] & 0xff)};
  }
  static SyscallOutcome one(Process&, const SyscallRequest&) { return value(1); }  // getpid, gettid, set_tid_address
  static SyscallOutcome root(Process&, const SyscallRequest&) { return value(0); }

  static SyscallOutcome arch_prctl(Process& p, const SyscallRequest& r) {
    const std::uint64_t address = r.arguments[1];
    switch (r.arguments[0]) {
      case ARCH_SET_FS:
      case ARCH_SET_GS:
        if (address >= x86::kMaxVirtual) return error(EPERM);
        (r.arguments[0] == ARCH_SET_FS ? p.fs_base_ : p.gs_base_) = address;
        return value(0);
      case ARCH_GET_FS:
      case ARCH_GET_GS: {
        const std::uint64_t base = r.arguments[0] == ARCH_GET_FS ? p.fs_base_ : p.gs_base_;
        return p.space_.write(Gva{address}, std::as_bytes(std::span(&base, 1))) ? value(0) : error(EFAULT);
      }
      default: return error(EINVAL);
    }
  }

  static SyscallOutcome uname(Process& p, const SyscallRequest& r) {
    utsname names{};
    const auto set = [](auto& field, const char* text) { std::strncpy(field, text, sizeof field - 1); };
    set(names.sysname, "Linux");
    set(names.nodename, "warmfork");
    set(names.release, "6.1.0-warmfork");
    set(names.version, "#1");
    set(names.machine, "x86_64");
    return p.space_.write(Gva{r.arguments[0]}, std::as_bytes(std::span(&names, 1))) ? value(0) : error(EFAULT);
  }

  static SyscallOutcome prlimit64(Process& p, const SyscallRequest& r) {
    if (r.arguments[2] != 0) return error(EPERM);
    if (r.arguments[3] == 0) return value(0);
    rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
    if (r.arguments[1] == RLIMIT_STACK) limit = {p.space_.stack().size, p.space_.stack().size};
    if (r.arguments[1] == RLIMIT_NOFILE) limit = {3, 3};
    return p.space_.write(Gva{r.arguments[3]}, std::as_bytes(std::span(&limit, 1))) ? value(0) : error(EFAULT);
  }
  static SyscallOutcome getrlimit(Process& p, const SyscallRequest& r) {
    return prlimit64(p, {r.number, {0, r.arguments[0], 0, r.arguments[1]}});
  }

  static SyscallOutcome getrandom(Process& p, const SyscallRequest& r) {
    constexpr std::uint64_t kMost = 4096;  // a short answer is allowed above 256 bytes
    std::array<std::byte, kMost> buffer;
    const auto bytes = std::span(buffer).first(std::min(r.arguments[1], kMost));
    p.fill_random(bytes);
    return p.space_.write(Gva{r.arguments[0]}, bytes) ? value(static_cast<std::int64_t>(bytes.size())) : error(EFAULT);
  }

  // --- Time
  // ------------------------------------------------------------------------------------------------------------
  static SyscallOutcome clock_read(Process& p, const SyscallRequest& r, int (*read_clock)(clockid_t, timespec*)) {
    timespec now{};
    // Only clocks that mean something here: a guest sees no process or thread of the host.
    constexpr std::array<std::uint64_t, 6> kClocks{CLOCK_REALTIME,        CLOCK_MONOTONIC,        CLOCK_MONOTONIC_RAW,
                                                   CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    if (std::ranges::find(kClocks, r.arguments[0]) == kClocks.end()) return error(EINVAL);
    if (read_clock(static_cast<clockid_t>(r.arguments[0]), &now) != 0) return error(EINVAL);
    if (r.arguments[1] == 0) return value(0);
    return p.space_.write(Gva{r.arguments[1]}, std::as_bytes(std::span(&now, 1))) ? value(0) : error(EFAULT);
  }
  static SyscallOutcome clock_gettime(Process& p, const SyscallRequest& r) { return clock_read(p, r, ::clock_gettime); }
  static SyscallOutcome clock_getres(Process& p, const SyscallRequest& r) { return clock_read(p, r, ::clock_getres); }

  static SyscallOutcome gettimeofday(Process& p, const SyscallRequest& r) {
    timeval now{};
    ::gettimeofday(&now, nullptr);
    if (r.arguments[0] == 0) return value(0);
    return p.space_.write(Gva{r.arguments[0]}, std::as_bytes(std::span(&now, 1))) ? value(0) : error(EFAULT);
  }
  static SyscallOutcome time(Process& p, const SyscallRequest& r) {
    const std::int64_t now = ::time(nullptr);
    if (r.arguments[0] != 0 && !p.space_.write(Gva{r.arguments[0]}, std::as_bytes(std::span(&now, 1))))
      return error(EFAULT);
    return value(now);
  }
};

std::span<const SyscallEntry> syscall_table() {
  using enum SyscallPolicy;
  static constexpr SyscallEntry kTable[] = {
      {__NR_read, "read", Handlers::read, kServe},
      {__NR_write, "write", Handlers::write, kServe},
      {__NR_open, "open", Handlers::no_file, kRefuse},
      {__NR_close, "close", Handlers::close, kServe},
      {__NR_stat, "stat", Handlers::no_file, kRefuse},
      {__NR_fstat, "fstat", Handlers::fstat, kServe},
      {__NR_lstat, "lstat", Handlers::no_file, kRefuse},
      {__NR_lseek, "lseek", Handlers::lseek, kServe},
      {__NR_mmap, "mmap", Handlers::mmap, kServe},
      {__NR_mprotect, "mprotect", Handlers::mprotect, kServe},
      {__NR_munmap, "munmap", Handlers::munmap, kServe},
      {__NR_brk, "brk", Handlers::brk, kServe},
      {__NR_rt_sigaction, "rt_sigaction", Handlers::ignore, kIgnore},
      {__NR_rt_sigprocmask, "rt_sigprocmask", Handlers::ignore, kIgnore},
      {__NR_ioctl, "ioctl", Handlers::ioctl, kServe},
      {__NR_readv, "readv", Handlers::readv, kServe},
      {__NR_writev, "writev", Handlers::writev, kServe},
      {__NR_access, "access", Handlers::no_file, kRefuse},
      {__NR_sched_yield, "sched_yield", Handlers::ignore, kIgnore},
      {__NR_madvise, "madvise", Handlers::madvise, kServe},
      {__NR_getpid, "getpid", Handlers::one, kServe},
      {__NR_clone, "clone", Handlers::no_thread, kRefuse},
      {__NR_fork, "fork", Handlers::no_thread, kRefuse},
      {__NR_exit, "exit", Handlers::exit, kServe},
      {__NR_uname, "uname", Handlers::uname, kServe},
      {__NR_fcntl, "fcntl", Handlers::fcntl, kServe},
      {__NR_readlink, "readlink", Handlers::readlink, kRefuse},
      {__NR_gettimeofday, "gettimeofday", Handlers::gettimeofday, kServe},
      {__NR_getrlimit, "getrlimit", Handlers::getrlimit, kServe},
      {__NR_getuid, "getuid", Handlers::root, kServe},
      {__NR_getgid, "getgid", Handlers::root, kServe},
      {__NR_geteuid, "geteuid", Handlers::root, kServe},
      {__NR_getegid, "getegid", Handlers::root, kServe},
      {__NR_sigaltstack, "sigaltstack", Handlers::ignore, kIgnore},
      {__NR_arch_prctl, "arch_prctl", Handlers::arch_prctl, kServe},
      {__NR_gettid, "gettid", Handlers::one, kServe},
      {__NR_time, "time", Handlers::time, kServe},
      {__NR_set_tid_address, "set_tid_address", Handlers::one, kServe},
      {__NR_clock_gettime, "clock_gettime", Handlers::clock_gettime, kServe},
      {__NR_clock_getres, "clock_getres", Handlers::clock_getres, kServe},
      {__NR_exit_group, "exit_group", Handlers::exit, kServe},
      {__NR_openat, "openat", Handlers::no_file, kRefuse},
      {__NR_newfstatat, "newfstatat", Handlers::newfstatat, kServe},
      {__NR_readlinkat, "readlinkat", Handlers::readlink, kRefuse},
      {__NR_set_robust_list, "set_robust_list", Handlers::ignore, kIgnore},
      {__NR_prlimit64, "prlimit64", Handlers::prlimit64, kServe},
      {__NR_getrandom, "getrandom", Handlers::getrandom, kServe},
      {__NR_clone3, "clone3", Handlers::no_thread, kRefuse},
  };
  static_assert(std::ranges::is_sorted(kTable, {}, &SyscallEntry::number));
  return kTable;
}

std::string syscall_name(std::uint64_t number) {
  const auto found = std::ranges::find(kNames, number, &NamedSyscall::number);
  return found == std::end(kNames) ? fmt::format("syscall_{}", number) : found->name;
}

Process::Process(AddressSpace& space, GuestIo& io, ProcessConfig config)
    : space_(space), io_(io), config_(std::move(config)), heap_(space.heap()) {
  reseed(config_.seed);
}

void Process::reseed(std::optional<std::uint64_t> seed) {
  if (!seed) {
    seeded_.reset();
  } else if (seeded_) {
    seeded_->seed(*seed);
  } else {
    seeded_ = std::make_unique<std::mt19937_64>(*seed);
  }
}

void Process::restore(const Book& book) {
  heap_.restore(book.heap);
  fs_base_ = book.fs_base;
  gs_base_ = book.gs_base;
  random_bytes_ = book.random_bytes;
}

ForkInfo Process::fork_info() {
  ForkInfo info{};
  fill_random(std::as_writable_bytes(std::span(info.random)));
  return info;
}

SyscallOutcome Process::serve(const SyscallRequest& request) {
  ++calls_;
  const auto table = syscall_table();
  const auto entry = std::ranges::lower_bound(table, request.number, {},
                                              [](const SyscallEntry& e) { return std::uint64_t{e.number}; });
  const bool supported = entry != table.end() && entry->number == request.number;
  const SyscallOutcome outcome = supported ? entry->handler(*this, request) : error(ENOSYS);
  if (config_.trace) config_.trace({request, syscall_name(request.number), outcome, supported});
  return outcome;
}

void Process::fill_random(std::span<std::byte> out) {
  if (seeded_) {
    for (std::byte& byte : out) byte = static_cast<std::byte>((*seeded_)() & 0xff);
    return;
  }
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), std::min<std::size_t>(out.size(), 256), 0);
    if (got > 0) out = out.subspan(static_cast<std::size_t>(got));
  }
}

// Pages given back are readable, writable and zero again, whatever the program had made of them.
Status Process::scrub_freed() {
  for (const AddressRange& range : heap_.take_freed()) {
    WARMFORK_TRY(space_.restore_heap(range));
    WARMFORK_TRY(space_.zero_heap(range.begin, range.size));
  }
  return {};
}

}  // namespace warmfork::linux_abi
