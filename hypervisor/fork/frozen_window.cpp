#include "fork/frozen_window.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace warmfork {

Result<FrozenWindow> freeze_window(std::size_t size, const std::function<Status(std::span<std::byte>)>& fill) {
  FrozenWindow frozen;
  frozen.fd = UniqueFd(::memfd_create("warmfork-window", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!frozen.fd) return fail_errno("memfd_create");
  const int fd = frozen.fd.get();
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return fail_errno("a snapshot of {} bytes", size);
  {
    WARMFORK_TRY_ASSIGN(const Mapping window, Mapping::shared(fd, size));
    WARMFORK_TRY(fill(window.bytes()));
  }
  // F_SEAL_WRITE forbids writable shared mappings, not private ones.
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    return fail_errno("sealing a snapshot of {} bytes", size);
  }
  WARMFORK_TRY_ASSIGN(frozen.view, Mapping::shared_read_only(fd, size));
  return frozen;
}

}  // namespace warmfork
