// The book-keeping of a guest's heap: brk grows up from its start, mappings come down from its end.
//
//   begin |== brk ==>        free        <== mapping | mapping | gap | mapping ==| end
//
// The pages are all mapped from the start; only the book changes, so a mapping costs no page-table edit. Pure: it
// decides addresses, and says which pages have to be zeroed before they are used again.
#pragma once

#include "machine/address_space.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace warmfork::linux_abi {

class Heap {
 public:
  explicit Heap(AddressRange range);
  /// A heap over `range` with this break and these mappings (begin, end), as break_end() and mappings() gave them.
  /// nullopt: no heap over this range can be so.
  [[nodiscard]] static std::optional<Heap> rebuild(AddressRange range, std::uint64_t break_end,
                                                   const std::map<std::uint64_t, std::uint64_t>& mappings);

  /// Linux brk: sets the break and returns it, or returns the old one if `wanted` is impossible. Pages given up are
  /// reported by take_freed().
  std::uint64_t brk(std::uint64_t wanted);

  /// Reserves whole pages, at `hint` if that range is free and `fixed` (replacing what is there, as MAP_FIXED does).
  /// nullopt: no room.
  std::optional<std::uint64_t> map(std::uint64_t size, std::uint64_t hint, bool fixed);

  /// Gives whole pages back; parts of mappings are fine, as for munmap. False: empty, outside the heap or on
  /// brk's part.
  bool unmap(std::uint64_t address, std::uint64_t size);

  /// True if all of the range is mapped or below the break.
  [[nodiscard]] bool covers(std::uint64_t address, std::uint64_t size) const;

  /// True if any page of the range is mapped or below the break.
  [[nodiscard]] bool overlaps(std::uint64_t address, std::uint64_t size) const;

  /// Takes over what `other`, a heap over the same range, has in its book; free if neither has changed since the last
  /// time. The limit stays.
  void restore(const Heap& other);

  /// brk and mappings together may not pass `bytes`.
  void limit(std::uint64_t bytes) { limit_ = bytes; }
  /// Bytes in use by brk and mappings.
  [[nodiscard]] std::uint64_t used() const { return mapped_ + (page_ceil(break_) - range_.begin.value); }

  [[nodiscard]] std::uint64_t break_end() const { return break_; }
  /// begin -> end; sorted, disjoint, with a gap between any two.
  [[nodiscard]] const std::map<std::uint64_t, std::uint64_t>& mappings() const { return mappings_; }

  /// Page ranges given back since the last call, which must be zero before they are used again.
  std::vector<AddressRange> take_freed();

 private:
  void remove(std::uint64_t begin, std::uint64_t end);
  void insert(std::uint64_t begin, std::uint64_t end);

  AddressRange range_;
  std::uint64_t break_;
  std::uint64_t limit_ = ~std::uint64_t{0};
  std::uint64_t mapped_ = 0;                         // bytes of all mappings
  bool changed_ = true;                              // since restore()
  std::map<std::uint64_t, std::uint64_t> mappings_;  // begin -> end, disjoint
  std::vector<AddressRange> freed_;
};

}  // namespace warmfork::linux_abi
