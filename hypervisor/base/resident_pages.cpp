#include "base/resident_pages.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace warmfork {

Status for_each_private_page(std::span<const std::byte> bytes, const std::function<void(std::size_t)>& visit) {
  constexpr std::size_t kPage = 4096;
  constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
  constexpr std::uint64_t kSwapped = std::uint64_t{1} << 62;
  constexpr std::uint64_t kFile = std::uint64_t{1} << 61;
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap) return fail_errno("/proc/self/pagemap");
  const std::size_t pages = bytes.size() / kPage;
  const std::uint64_t first = reinterpret_cast<std::uintptr_t>(bytes.data()) / kPage;
  std::array<std::uint64_t, 512> entries;
  for (std::size_t page = 0; page < pages;) {
    const std::size_t wanted = std::min(entries.size(), pages - page);
    const ssize_t got = ::pread(pagemap.get(), entries.data(), wanted * sizeof(std::uint64_t),
                                static_cast<off_t>((first + page) * sizeof(std::uint64_t)));
    if (got < static_cast<ssize_t>(sizeof(std::uint64_t))) return fail_errno("/proc/self/pagemap: read");
    const std::size_t count = static_cast<std::size_t>(got) / sizeof(std::uint64_t);
    for (std::size_t i = 0; i < count; ++i) {
      const bool has_bytes = (entries[i] & (kPresent | kSwapped)) != 0;
      if (has_bytes && (entries[i] & kFile) == 0) visit(page + i);
    }
    page += count;
  }
  return {};
}

}  // namespace warmfork
