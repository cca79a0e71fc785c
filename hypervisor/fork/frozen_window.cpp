#include "fork/frozen_window.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace warmfork {

Result<FrozenWindow> freeze_window(std::size_t size, const std::function<Status(const WriteWindow& write)>& fill) {
  FrozenWindow frozen;
  frozen.fd = UniqueFd(::memfd_create("warmfork-window", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!frozen.fd) return fail_errno("memfd_create");
  const int fd = frozen.fd.get();
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return fail_errno("a snapshot of {} bytes", size);
  WARMFORK_TRY(fill([fd](std::uint64_t offset, std::span<const std::byte> bytes) -> Status {
    while (!bytes.empty()) {
      const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return fail_errno("{} bytes of a snapshot", bytes.size());
      bytes = bytes.subspan(static_cast<std::size_t>(put));
      offset += static_cast<std::uint64_t>(put);
    }
    return {};
  }));
  // F_SEAL_WRITE forbids writable shared mappings, not private ones.
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    return fail_errno("sealing a snapshot of {} bytes", size);
  }
  WARMFORK_TRY_ASSIGN(frozen.view, Mapping::shared_read_only(fd, size));
  return frozen;
}

}  // namespace warmfork
