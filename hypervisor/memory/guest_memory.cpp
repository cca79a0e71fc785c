#include "memory/guest_memory.hpp"

#include "warmfork/ring/memory.hpp"

#include <sys/mman.h>

namespace warmfork {

void copy_once(void* to, const void* from, std::size_t size) { ring::copy_once(to, from, size); }

Status GuestMemory::add(Gpa gpa, std::span<std::byte> bytes) {
  if (bytes.empty() || gpa.value + bytes.size() < gpa.value) {
    return fail(ErrorKind::kUsage, "guest memory at {:#x}: {} bytes", gpa.value, bytes.size());
  }
  for (const Region& region : regions()) {
    if (gpa.value < region.gpa.value + region.bytes.size() && region.gpa.value < gpa.value + bytes.size()) {
      return fail(ErrorKind::kUsage, "guest memory at {:#x} + {:#x} overlaps {:#x} + {:#x}", gpa.value, bytes.size(),
                  region.gpa.value, region.bytes.size());
    }
  }
  if (count_ == kMaxRegions) {
    return fail(ErrorKind::kUsage, "guest memory at {:#x}: more than {} regions", gpa.value, kMaxRegions);
  }
  regions_[count_++] = {gpa, bytes};
  return {};
}

std::byte* GuestMemory::resolve(Gpa gpa, std::size_t size) const {
  for (const Region& region : regions()) {
    const std::uint64_t offset = gpa.value - region.gpa.value;  // wraps to a huge value below the region
    if (offset <= region.bytes.size() && region.bytes.size() - offset >= size) return region.bytes.data() + offset;
  }
  return nullptr;
}

Status GuestMemory::read(Gpa gpa, std::span<std::byte> out) const {
  const std::byte* from = resolve(gpa, out.size());
  if (from == nullptr) {
    return fail(ErrorKind::kGuestFault, "guest-physical range {:#x} + {:#x} is not memory", gpa.value, out.size());
  }
  copy_once(out.data(), from, out.size());
  return {};
}

Status GuestMemory::write(Gpa gpa, std::span<const std::byte> in) {
  std::byte* to = resolve(gpa, in.size());
  if (to == nullptr) {
    return fail(ErrorKind::kGuestFault, "guest-physical range {:#x} + {:#x} is not memory", gpa.value, in.size());
  }
  copy_once(to, in.data(), in.size());
  return {};
}

std::span<std::byte> GuestMemory::region(Gpa gpa) const {
  for (const Region& region : regions()) {
    if (region.gpa == gpa) return region.bytes;
  }
  return {};
}

Status forget_translations(std::span<std::byte> pages) {
  // SAFETY: the caller's own pages, given back the rights they had.
  if (::mprotect(pages.data(), pages.size(), PROT_READ) != 0 ||
      ::mprotect(pages.data(), pages.size(), PROT_READ | PROT_WRITE) != 0) {
    return fail_errno("mprotect of {} bytes", pages.size());
  }
  return {};
}

Status discard_pages(std::span<std::byte> pages) {
  // SAFETY: whole pages of a private mapping; the caller expects their contents to go.
  if (::madvise(pages.data(), pages.size(), MADV_DONTNEED) != 0) return fail_errno("madvise of {} bytes", pages.size());
  return {};
}

}  // namespace warmfork
