#include "x86/page_tables.hpp"

#include <cassert>
#include <cstring>

namespace warmfork::x86 {
namespace {

constexpr std::uint64_t kPresent = 1U << 0;
constexpr std::uint64_t kWritable = 1U << 1;
constexpr std::uint64_t kUser = 1U << 2;
constexpr std::uint64_t kAccessed = 1U << 5;
constexpr std::uint64_t kDirty = 1U << 6;
constexpr std::uint64_t kLarge = 1U << 7;
// Bits 9-11 are ignored by the processor: here one marks an entry whose access was taken away in place.
constexpr std::uint64_t kTakenAway = 1U << 9;
constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 63;
constexpr std::uint64_t kAddressMask = 0x000f'ffff'ffff'f000;
constexpr std::uint64_t kUpper = kPresent | kWritable | kUser | kAccessed;
constexpr std::size_t kEntries = 512;

constexpr std::size_t index_at(std::uint64_t virtual_address, unsigned level) {
  return virtual_address >> (12 + 9 * level) & (kEntries - 1);
}

constexpr std::uint64_t access_bits(Access access) {
  return kPresent | kAccessed | kDirty | (access.write ? kWritable : 0) | (access.user ? kUser : 0) |
         (access.execute ? 0 : kNoExecute);
}

Status check_range(std::uint64_t virtual_address, std::uint64_t size) {
  if (virtual_address % kPageSize != 0 || size % kPageSize != 0 || size == 0) {
    return fail(ErrorKind::kUsage, "page range {:#x} + {:#x} is not made of whole pages", virtual_address, size);
  }
  if (virtual_address >= kMaxVirtual || size > kMaxVirtual - virtual_address) {
    return fail(ErrorKind::kUsage, "page range {:#x} + {:#x} passes the end of user space {:#x}", virtual_address, size,
                kMaxVirtual);
  }
  return {};
}

}  // namespace

PageTables::PageTables(std::span<std::byte> storage, std::uint64_t gpa) : storage_(storage), gpa_(gpa) {
  assert(storage.size() >= kPageSize && gpa % kPageSize == 0);
}

PageTables::Entry PageTables::read(std::size_t table, std::size_t index) const {
  Entry entry;
  std::memcpy(&entry, storage_.subspan(table * kPageSize + index * sizeof entry, sizeof entry).data(), sizeof entry);
  return entry;
}

void PageTables::write(std::size_t table, std::size_t index, Entry entry) {
  std::memcpy(storage_.subspan(table * kPageSize + index * sizeof entry, sizeof entry).data(), &entry, sizeof entry);
}

std::size_t PageTables::table_of(Entry entry) const {
  return static_cast<std::size_t>(((entry & kAddressMask) - gpa_) / kPageSize);
}

Result<std::size_t> PageTables::allocate_table() {
  if ((used_ + 1) * kPageSize > storage_.size()) {
    return fail(ErrorKind::kLimit, "page tables: all {} tables are used", storage_.size() / kPageSize);
  }
  return used_++;
}

Result<std::size_t> PageTables::descend(std::size_t table, std::size_t index) {
  const Entry entry = read(table, index);
  if (entry == 0) {  // not merely absent: a 2 MiB page whose access was taken away keeps its place
    WARMFORK_TRY_ASSIGN(const std::size_t child, allocate_table());
    write(table, index, (gpa_ + child * kPageSize) | kUpper);
    return child;
  }
  if ((entry & kLarge) != 0) return fail(ErrorKind::kUsage, "page range overlaps a 2 MiB page");
  return table_of(entry);
}

Status PageTables::map(std::uint64_t virtual_address, std::uint64_t physical, std::uint64_t size, Access access,
                       bool allow_large) {
  WARMFORK_TRY(check_range(virtual_address, size));
  constexpr std::uint64_t kPhysicalEnd = kAddressMask + kPageSize;
  if (physical % kPageSize != 0 || physical >= kPhysicalEnd || size > kPhysicalEnd - physical) {
    return fail(ErrorKind::kUsage, "guest-physical {:#x} + {:#x} cannot be mapped", physical, size);
  }
  if (access.write && access.execute) {
    return fail(ErrorKind::kUsage, "page range {:#x} + {:#x} would be writable and executable", virtual_address, size);
  }
  for (std::uint64_t done = 0; done < size;) {
    const std::uint64_t va = virtual_address + done;
    const std::uint64_t pa = physical + done;
    WARMFORK_TRY_ASSIGN(const std::size_t pdpt, descend(0, index_at(va, 3)));
    WARMFORK_TRY_ASSIGN(const std::size_t pd, descend(pdpt, index_at(va, 2)));
    const bool large =
        allow_large && va % kLargePageSize == 0 && pa % kLargePageSize == 0 && size - done >= kLargePageSize;
    std::size_t table = pd;
    if (!large) {
      WARMFORK_TRY_ASSIGN(table, descend(pd, index_at(va, 1)));
    }
    const std::size_t index = index_at(va, large ? 1 : 0);
    if (read(table, index) != 0) return fail(ErrorKind::kUsage, "page {:#x} is mapped twice", va);
    write(table, index, pa | access_bits(access) | (large ? kLarge : 0));
    done += large ? kLargePageSize : kPageSize;
  }
  return {};
}

Status PageTables::split(std::size_t table, std::size_t index) {
  const Entry large = read(table, index);
  WARMFORK_TRY_ASSIGN(const std::size_t child, allocate_table());
  for (std::size_t i = 0; i < kEntries; ++i) write(child, i, (large & ~kLarge) + i * kPageSize);
  write(table, index, (gpa_ + child * kPageSize) | kUpper);
  return {};
}

Status PageTables::protect(std::uint64_t virtual_address, std::uint64_t size, std::optional<Access> access) {
  WARMFORK_TRY(check_range(virtual_address, size));
  if (access && access->write && access->execute) {
    return fail(ErrorKind::kUsage, "page range {:#x} + {:#x} would be writable and executable", virtual_address, size);
  }
  const auto change = [&](Entry entry) {
    const Entry kept = entry & (kAddressMask | kLarge);
    return access ? kept | access_bits(*access) : (entry & ~kPresent) | kTakenAway;
  };
  for (std::uint64_t done = 0; done < size;) {
    const std::uint64_t va = virtual_address + done;
    std::size_t table = 0;
    for (unsigned level = 3; level >= 2; --level) {
      const Entry entry = read(table, index_at(va, level));
      if ((entry & kPresent) == 0) return fail(ErrorKind::kUsage, "page {:#x} is not mapped", va);
      table = table_of(entry);
    }
    const std::size_t pd_index = index_at(va, 1);
    const Entry pd_entry = read(table, pd_index);
    if ((pd_entry & kLarge) != 0 && (pd_entry & (kPresent | kTakenAway)) != 0) {
      if (va % kLargePageSize == 0 && size - done >= kLargePageSize) {
        write(table, pd_index, change(pd_entry));
        done += kLargePageSize;
        continue;
      }
      WARMFORK_TRY(split(table, pd_index));
    } else if ((pd_entry & kPresent) == 0) {
      return fail(ErrorKind::kUsage, "page {:#x} is not mapped", va);
    }
    table = table_of(read(table, pd_index));
    const Entry entry = read(table, index_at(va, 0));
    if ((entry & (kPresent | kTakenAway)) == 0) return fail(ErrorKind::kUsage, "page {:#x} is not mapped", va);
    write(table, index_at(va, 0), change(entry));
    done += kPageSize;
  }
  return {};
}

std::optional<PageTables::Translation> PageTables::translate(std::uint64_t virtual_address) const {
  if (virtual_address >= kMaxVirtual) return std::nullopt;
  std::size_t table = 0;
  for (unsigned level = 3;; --level) {
    const Entry entry = read(table, index_at(virtual_address, level));
    if ((entry & kPresent) == 0) return std::nullopt;
    const bool leaf = level == 0 || (level == 1 && (entry & kLarge) != 0);
    if (!leaf) {
      table = table_of(entry);
      continue;
    }
    const std::uint64_t leaf_size = level == 0 ? kPageSize : kLargePageSize;
    return Translation{(entry & kAddressMask & ~(leaf_size - 1)) + (virtual_address & (leaf_size - 1)),
                       {(entry & kUser) != 0, (entry & kWritable) != 0, (entry & kNoExecute) == 0},
                       leaf_size};
  }
}

}  // namespace warmfork::x86
