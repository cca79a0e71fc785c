#include "memory/shared_memory.hpp"

#include "memory/address.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace warmfork {
namespace {

Status check_size(std::uint64_t bytes) {
  if (bytes == 0 || bytes % kPage != 0) {
    return fail(ErrorKind::kUsage, "shared memory of {} bytes: not whole pages of {}", bytes, kPage);
  }
  if (bytes > kMaxSharedBytes) {
    return fail(ErrorKind::kLimit, "shared memory of {} bytes, at most {}", bytes, kMaxSharedBytes);
  }
  return {};
}

// True once nobody can shorten the file; false if that cannot be had.
bool seal(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return false;  // not a file in memory
  return (seals & F_SEAL_SHRINK) != 0 || ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0;
}

// Of a file that can be shortened: only those can who could kill this process as well.
Status check_owner(const struct stat& status) {
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    return fail(ErrorKind::kInput, "shared memory that is not sealed and belongs to user {}, not to {} or root",
                status.st_uid, ::geteuid());
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(ErrorKind::kInput, "shared memory that is not sealed and that others can write (mode {:o})",
                status.st_mode & 07777U);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<SharedMemory>> SharedMemory::map(UniqueFd fd, std::uint64_t bytes, bool writable, bool sealed,
                                                        bool populate) {
  WARMFORK_TRY_ASSIGN(Mapping mapping,
                      writable ? Mapping::shared(fd.get(), bytes) : Mapping::shared_read_only(fd.get(), bytes));
  // Not a hint, as populate_pages() is: where there is no memory for them, that is to be known now.
  if (populate && ::madvise(mapping.data(), bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) != 0) {
    return fail_errno("making {} bytes of shared memory present", bytes);
  }
  return std::shared_ptr<SharedMemory>(new SharedMemory(std::move(fd), std::move(mapping), writable, sealed));
}

Result<std::shared_ptr<SharedMemory>> SharedMemory::create(std::uint64_t bytes, bool populate) {
  WARMFORK_TRY(check_size(bytes));
  UniqueFd fd(::memfd_create("warmfork-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return fail_errno("shared memory of {} bytes", bytes);
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return fail_errno("sealing shared memory of {} bytes", bytes);
  }
  return map(std::move(fd), bytes, true, true, populate);
}

Result<std::shared_ptr<SharedMemory>> SharedMemory::attach(UniqueFd fd, std::uint64_t bytes, AttachOptions options) {
  WARMFORK_TRY(check_size(bytes));
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) return fail_errno("shared memory from descriptor {}", fd.get());
  const int mode = flags & O_ACCMODE;
  if (mode == O_WRONLY || (options.writable && mode != O_RDWR)) {
    return fail(ErrorKind::kInput, "shared memory from a descriptor that is not open for {}",
                options.writable ? "reading and writing" : "reading");
  }
  const bool sealed = seal(fd.get());
  // Behind the seal: what is found now stays.
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno("shared memory from descriptor {}", fd.get());
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorKind::kInput, "shared memory that is no file (mode {:o})", status.st_mode);
  }
  if (static_cast<std::uint64_t>(status.st_size) != bytes) {
    return fail(ErrorKind::kInput, "shared memory of {} bytes, the file has {}", bytes, status.st_size);
  }
  if (!sealed) WARMFORK_TRY(check_owner(status));
  return map(std::move(fd), bytes, options.writable, sealed, options.populate || !sealed);
}

Result<std::shared_ptr<SharedMemory>> SharedMemory::attach(const std::string& path, std::uint64_t bytes,
                                                           AttachOptions options) {
  // A FIFO in its place must not hold the caller up.
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  UniqueFd fd(::open(path.c_str(), kFlags | (options.writable ? O_RDWR : O_RDONLY)));
  if (!fd) return fail_errno("{}", path);
  auto attached = attach(std::move(fd), bytes, options);
  if (!attached) return with_context(std::move(attached).error(), path);
  return attached;
}

}  // namespace warmfork
