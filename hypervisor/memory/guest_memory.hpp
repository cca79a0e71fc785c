// Guest-physical memory: the only place that turns a guest-physical address into bytes. It copies; it never hands out
// a pointer or span into memory a running guest can change under the reader.
//
// It owns nothing: image, window and page tables belong to the guest's owner and outlive it. A guest has a handful of
// regions, and there may be tens of thousands of guests, so they lie in the object itself.
//
// Threads: add() before any other use; copies may run on any thread, also while the guest runs (the bytes read are then
// whatever the guest had written at some moment, each byte once).
#pragma once

#include "base/result.hpp"
#include "memory/address.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork {

class GuestMemory {
 public:
  static constexpr std::size_t kMaxRegions = 4;

  /// Takes `bytes` as guest-physical memory from `gpa`. Errors: empty, past the end of the address space, overlap with
  /// a region already there, too many regions.
  [[nodiscard]] Status add(Gpa gpa, std::span<std::byte> bytes);

  /// Copies out / in. Errors (kGuestFault): the range is not wholly inside one region.
  [[nodiscard]] Status read(Gpa gpa, std::span<std::byte> out) const;
  [[nodiscard]] Status write(Gpa gpa, std::span<const std::byte> in);

  /// The host bytes of the whole region that starts at `gpa`; for setting up slots and for building contents before
  /// the guest first runs.
  [[nodiscard]] std::span<std::byte> region(Gpa gpa) const;

 private:
  struct Region {
    Gpa gpa;
    std::span<std::byte> bytes;
  };
  [[nodiscard]] std::byte* resolve(Gpa gpa, std::size_t size) const;
  [[nodiscard]] std::span<const Region> regions() const { return std::span(regions_).first(count_); }

  std::array<Region, kMaxRegions> regions_{};
  std::size_t count_ = 0;
};

/// memcpy that the compiler may neither repeat nor split into a later second read: what was copied is what gets
/// checked.
void copy_once(void* to, const void* from, std::size_t size);

/// Makes KVM forget every translation it has cached to these host pages (whole pages of one mapping, readable and
/// writable), so that the guest's next access walks its page tables anew: the way to make an edit of page tables
/// count. A change of protection raises the event KVM listens to (Linux, include/linux/mmu_notifier.h); it is undone
/// at once, so no other thread may touch the pages meanwhile.
[[nodiscard]] Status forget_translations(std::span<std::byte> pages);

/// Gives whole pages of a private mapping back: they read as the mapping's file, or as zero if it has none.
[[nodiscard]] Status discard_pages(std::span<std::byte> pages);

}  // namespace warmfork
