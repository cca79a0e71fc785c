#include "memory/guest_memory.hpp"

#include <sys/mman.h>

#include <cstring>

namespace warmfork {

void copy_once(void* to, const void* from, std::size_t size) {
  if (size == 0) return;  // either pointer may be null then, which memcpy forbids
  asm volatile("" : : "r"(from) : "memory");
  std::memcpy(to, from, size);
  asm volatile("" : : "r"(to) : "memory");
}

Status GuestMemory::add(Gpa gpa, Mapping mapping, std::size_t offset, std::size_t size) {
  if (size == 0 || offset > mapping.size() || mapping.size() - offset < size || gpa.value + size < gpa.value) {
    return fail(ErrorKind::kUsage, "guest memory at {:#x}: {} bytes from offset {} of a mapping of {}", gpa.value, size,
                offset, mapping.size());
  }
  for (const Region& region : regions_) {
    if (gpa.value < region.gpa.value + region.bytes.size() && region.gpa.value < gpa.value + size) {
      return fail(ErrorKind::kUsage, "guest memory at {:#x} + {:#x} overlaps {:#x} + {:#x}", gpa.value, size,
                  region.gpa.value, region.bytes.size());
    }
  }
  const auto bytes = mapping.bytes().subspan(offset, size);
  regions_.push_back({gpa, std::move(mapping), bytes});
  return {};
}

std::byte* GuestMemory::resolve(Gpa gpa, std::size_t size) const {
  for (const Region& region : regions_) {
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

Status GuestMemory::zero(Gpa gpa, std::size_t size) {
  std::byte* to = resolve(gpa, size);
  if (to == nullptr) {
    return fail(ErrorKind::kGuestFault, "guest-physical range {:#x} + {:#x} is not memory", gpa.value, size);
  }
  if (gpa.value % kPage != 0 || size % kPage != 0) {
    return fail(ErrorKind::kUsage, "guest-physical range {:#x} + {:#x} is not made of whole pages", gpa.value, size);
  }
  // SAFETY: whole pages of a private anonymous mapping this object owns; the kernel replaces them by zero pages.
  if (::madvise(to, size, MADV_DONTNEED) != 0) return fail_errno("madvise of {} bytes", size);
  return {};
}

std::span<std::byte> GuestMemory::region(Gpa gpa) const {
  for (const Region& region : regions_) {
    if (region.gpa == gpa) return region.bytes;
  }
  return {};
}

}  // namespace warmfork
