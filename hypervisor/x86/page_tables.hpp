// Builds 4-level page tables. Pure: it writes tables into bytes the caller owns and knows their guest-physical address.
//
//   PML4 -> PDPT -> PD -> PT -> 4 KiB page
//                    \-> 2 MiB page, where address, size and alignment allow it and the caller prefers it
//
// Accessed and dirty bits are preset, so that the processor never writes to a table; tables lie in a slot no guest
// address maps. Permissions are decided by the leaf alone: upper levels allow
// everything.
// Sources: AMD APM vol. 2, 5.3 "Long-Mode Page Translation", 5.4 "Page-Translation-Table Entry Fields"; Intel SDM
// vol. 3, 4.5 "4-Level Paging", table 4-19 "Format of a Page-Table Entry that Maps a 4-KByte Page".
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace warmfork::x86 {

inline constexpr std::uint64_t kPageSize = 0x1000;
inline constexpr std::uint64_t kLargePageSize = 0x200000;
inline constexpr std::uint64_t kMaxVirtual = std::uint64_t{1} << 47;  // user half of the canonical space
[[nodiscard]] constexpr bool is_user_address(std::uint64_t address) { return address < kMaxVirtual; }

/// What a leaf allows. Write and execute together are refused.
struct Access {
  bool user = false;
  bool write = false;
  bool execute = false;
  friend bool operator==(const Access&, const Access&) = default;
};

class PageTables {
 public:
  /// Tables go into `storage` (page-sized tables, zeroed), whose first byte has guest-physical address `gpa`. The first
  /// table is the root. `storage` must outlive this object.
  PageTables(std::span<std::byte> storage, std::uint64_t gpa);

  /// Maps [virtual_address, +size) to [physical, +size), all multiples of 4 KiB. `allow_large` uses 2 MiB leaves where
  /// both addresses are aligned for it. Errors: misaligned, past the user half, already mapped, write with execute,
  /// storage used up.
  [[nodiscard]] Status map(std::uint64_t virtual_address, std::uint64_t physical, std::uint64_t size, Access access,
                           bool allow_large);

  /// Changes what the pages of [virtual_address, +size) allow; nullopt takes the access away but keeps the address
  /// (unmap in place: a later protect gives it back). Splits 2 MiB leaves where needed. All pages must be mapped or
  /// taken away. The caller must make KVM forget what it cached of these tables.
  [[nodiscard]] Status protect(std::uint64_t virtual_address, std::uint64_t size, std::optional<Access> access);

  struct Translation {
    std::uint64_t physical;
    Access access;
    std::uint64_t leaf_size;  // 4 KiB or 2 MiB
  };
  /// Where an address leads: the walk the processor would do.
  [[nodiscard]] std::optional<Translation> translate(std::uint64_t virtual_address) const;

  [[nodiscard]] std::uint64_t root() const { return gpa_; }
  [[nodiscard]] std::size_t tables_used() const { return used_; }

 private:
  using Entry = std::uint64_t;
  [[nodiscard]] Entry read(std::size_t table, std::size_t index) const;
  void write(std::size_t table, std::size_t index, Entry entry);
  [[nodiscard]] Result<std::size_t> allocate_table();
  [[nodiscard]] Result<std::size_t> descend(std::size_t table, std::size_t index);
  [[nodiscard]] std::size_t table_of(Entry entry) const;
  [[nodiscard]] Status split(std::size_t table, std::size_t index);

  std::span<std::byte> storage_;
  std::uint64_t gpa_;
  std::size_t used_ = 1;
};

/// Tables needed, at most, to map `ranges` ranges of `bytes` bytes in all with 4 KiB leaves.
[[nodiscard]] constexpr std::size_t table_bound(std::size_t ranges, std::uint64_t bytes) {
  // Root, and per range: two partial tables at each of three levels, and one full one per 2 MiB, 1 GiB, 512 GiB.
  return static_cast<std::size_t>(1 + ranges * 6 + bytes / kLargePageSize + bytes / (kLargePageSize << 9) +
                                  bytes / (kLargePageSize << 18));
}

}  // namespace warmfork::x86
