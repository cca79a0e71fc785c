#include "base/mapping.hpp"

#include <sys/mman.h>

namespace warmfork {

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<Mapping> Mapping::anonymous(std::size_t size, std::size_t alignment) {
  constexpr std::size_t kPage = 4096;
  const std::size_t slack = alignment > kPage ? alignment : 0;
  if (size == 0 || size + slack < size) return fail(ErrorKind::kUsage, "mapping of {} bytes", size);
  // SAFETY: a fresh private mapping; nothing else refers to it. Slack on either side is given back below.
  void* raw = ::mmap(nullptr, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return fail_errno("mmap of {} bytes", size + slack);
  auto* base = static_cast<std::byte*>(raw);
  if (slack != 0) {
    const auto address = reinterpret_cast<std::uintptr_t>(base);
    const std::size_t head = (alignment - address % alignment) % alignment;
    if (head != 0) ::munmap(base, head);
    if (slack != head) ::munmap(base + head + size, slack - head);
    base += head;
  }
  return Mapping(base, size);
}

Result<Mapping> Mapping::private_file(int fd, std::size_t size, std::size_t skew, std::size_t alignment) {
  WARMFORK_TRY_ASSIGN(Mapping mapping, anonymous(skew + size, alignment));
  // SAFETY: replaces pages of the fresh mapping above, which nothing refers to yet.
  if (::mmap(mapping.data() + skew, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0) ==
      MAP_FAILED) {
    return fail_errno("mmap of {} bytes of fd {}", size, fd);
  }
  return mapping;
}

Result<Mapping> Mapping::shared_read_only(int fd, std::size_t size) {
  // SAFETY: a fresh mapping of a descriptor the caller owns.
  void* raw = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (raw == MAP_FAILED) return fail_errno("mmap of {} bytes of fd {}", size, fd);
  return Mapping(static_cast<std::byte*>(raw), size);
}

Status Mapping::make_read_only() const {
  if (::mprotect(data_, size_, PROT_READ) != 0) return fail_errno("mprotect of {} bytes", size_);
  return {};
}

void populate_pages(std::span<std::byte> pages) { ::madvise(pages.data(), pages.size(), MADV_POPULATE_WRITE); }

Result<Mapping> Mapping::shared(int fd, std::size_t size, std::int64_t offset) {
  // SAFETY: a fresh mapping of a descriptor the caller owns.
  void* raw = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (raw == MAP_FAILED) return fail_errno("mmap of {} bytes of fd {}", size, fd);
  return Mapping(static_cast<std::byte*>(raw), size);
}

}  // namespace warmfork
