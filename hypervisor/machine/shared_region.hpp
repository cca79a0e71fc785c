// Shared regions: guest-virtual ranges for memory that several guests and the host share (memory/shared_memory.hpp),
// each with the rights the hardware enforces on the guest.
//
//   SharedRegionSpec   what a master is made with: name, size, access. Part of the layout, so the same for its
//   snapshots
//                      and all their forks, at the same addresses
//   SharedBindings     which memory is behind each region of one guest: a guest's own, for life. A region without
//   memory
//                      is not mapped, and a touch of it ends the guest with a report that names it
//
// One memory can be behind a read-only region of one guest and a writable one of another, and behind several regions of
// one guest. What a region holds is no part of what a snapshot freezes or a reset restores.
#pragma once

#include "base/result.hpp"
#include "memory/address.hpp"
#include "memory/shared_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::kvm {
class Kvm;
}

namespace warmfork {

class GuestLayout;

/// What a guest may do with a shared region; it can never execute from one.
enum class SharedAccess : std::uint8_t { kReadOnly, kReadWrite };

[[nodiscard]] constexpr std::string_view name_of(SharedAccess access) {
  return access == SharedAccess::kReadOnly ? "read-only" : "read-write";
}

inline constexpr std::size_t kMaxSharedRegions = 64;
inline constexpr std::size_t kMaxSharedRegionName = 63;

struct SharedRegionSpec {
  std::string name;         // letters, digits, "-", "_", "."; unlike those of all other regions
  std::uint64_t bytes = 0;  // whole pages, at most kMaxSharedBytes
  SharedAccess access = SharedAccess::kReadOnly;
  friend bool operator==(const SharedRegionSpec&, const SharedRegionSpec&) = default;
};

/// The memory of region i at i; nullptr, or no element: it has none.
using SharedBindings = std::vector<std::shared_ptr<SharedMemory>>;

/// Where the memory of one region lies for a guest; without memory, nowhere.
struct BoundRegion {
  std::shared_ptr<SharedMemory> memory;
  Gpa gpa;
};

/// Errors: kUsage (a name or a size that cannot be, a name twice), kLimit (too many, too large).
[[nodiscard]] Status check_shared_regions(std::span<const SharedRegionSpec> specs);

/// Errors (kUsage): more bindings than the layout has regions, memory of another size than its region, memory the host
/// itself can only read behind a writable region.
[[nodiscard]] Status check_bindings(const GuestLayout& layout, const SharedBindings& bindings);

/// Errors (kLimit): a VM of this KVM has too few memory slots for one guest with all regions of the layout bound.
[[nodiscard]] Status check_shared_slots(const kvm::Kvm& kvm, const GuestLayout& layout);

/// The bindings where the layout places them in a VM of one guest; one element for each region, or none at all.
[[nodiscard]] std::vector<BoundRegion> place_bindings(const GuestLayout& layout, const SharedBindings& bindings);

}  // namespace warmfork
