// Guest-physical memory: the only place that turns a guest-physical address into bytes. It copies; it never hands out
// a pointer or span into memory a running guest can change under the reader.
//
// Threads: add() before any other use; copies may run on any thread, also while the guest runs (the bytes read are then
// whatever the guest had written at some moment, each byte once).
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "memory/address.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace warmfork {

class GuestMemory {
 public:
  /// Takes `mapping` as guest-physical memory of `size` bytes from `gpa`, starting `offset` bytes into the mapping.
  /// Errors: overlap with a region already there.
  [[nodiscard]] Status add(Gpa gpa, Mapping mapping, std::size_t offset, std::size_t size);

  /// Copies out / in. Errors (kGuestFault): the range is not wholly inside one region.
  [[nodiscard]] Status read(Gpa gpa, std::span<std::byte> out) const;
  [[nodiscard]] Status write(Gpa gpa, std::span<const std::byte> in);

  /// Makes whole pages zero again and gives their memory back to the host. Errors: not inside one region,
  /// not whole pages.
  [[nodiscard]] Status zero(Gpa gpa, std::size_t size);

  /// The host bytes of the whole region that starts at `gpa`; for setting up slots and for building contents before
  /// the guest first runs.
  [[nodiscard]] std::span<std::byte> region(Gpa gpa) const;

 private:
  struct Region {
    Gpa gpa;
    Mapping mapping;
    std::span<std::byte> bytes;
  };
  [[nodiscard]] std::byte* resolve(Gpa gpa, std::size_t size) const;

  std::vector<Region> regions_;
};

/// memcpy that the compiler may neither repeat nor split into a later second read: what was copied is what gets
/// checked.
void copy_once(void* to, const void* from, std::size_t size);

}  // namespace warmfork
