// Where everything of a guest lies: which guest-virtual range is part of the image, which of the window, and what each
// may be used for. Pure and immutable; a master and all forks of it share one.
//
//   guest-virtual                                   guest-physical
//   system pages, read-only segments        ->      image, shared by every fork, a read-only slot
//   code region                             ->      behind it, shared as well, a read-only slot of its own
//   fork page, writable segments, heap,     ->      window, one per guest, contiguous
//     stack, call area, call ring, exception stack
//   shared regions                          ->      behind the window, each a slot of its own where memory is bound to
//   it (not mapped)                                    page tables
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "loader/elf_loader.hpp"
#include "machine/shared_region.hpp"
#include "memory/address.hpp"
#include "x86/page_tables.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork {

/// How large the parts are that no program decides, in bytes. Rounded up to pages, the code region to 2 MiB.
struct LayoutSizes {
  std::uint64_t heap = 0;  // brk and mmap together
  std::uint64_t stack = 0;
  std::uint64_t call_area = 0;
  std::uint64_t code = 0;  // machine code the host writes (machine/code_region.hpp); 0: there is no such region
  std::vector<SharedRegionSpec> shared = {};  // not rounded
};

/// A guest-virtual range with a meaning.
struct AddressRange {
  Gva begin;
  std::uint64_t size = 0;
  [[nodiscard]] Gva end() const { return begin + size; }
  [[nodiscard]] bool contains(Gva address) const { return address.value - begin.value < size; }
  friend bool operator==(const AddressRange&, const AddressRange&) = default;
};

class GuestLayout {
 public:
  /// Consecutive pages of one kind.
  struct Piece {
    AddressRange range;
    std::uint64_t offset = 0;  // in the window, or from where the image begins
    bool in_window = false;
    bool protectable = false;   // the guest may change its access (mprotect)
    bool always_large = false;  // 2 MiB pages throughout, whatever the guest does
    x86::Access access;
    std::string what;  // for reports: "the stack"
  };

  /// Where memory that is shared with others can be bound to (machine/shared_region.hpp). Not a Piece: it is neither
  /// image nor window, and what is mapped there is each guest's own affair.
  struct SharedRegion {
    std::string name;
    AddressRange range;
    SharedAccess access = SharedAccess::kReadOnly;
    Gpa gpa;  // in a VM of one guest; congruent to the range's begin in 2 MiB
    /// 2 MiB pages where whole ones fit.
    [[nodiscard]] bool large() const { return range.size >= x86::kLargePageSize; }
    [[nodiscard]] x86::Access page_access() const {
      return {.user = true, .write = access == SharedAccess::kReadWrite, .execute = false};
    }
  };

  /// Lays a program out. Errors: kLimit (more than user space or the processor's `physical_bits` can address, a code
  /// region for which there is no room behind the image), and those of check_shared_regions().
  [[nodiscard]] static Result<std::shared_ptr<const GuestLayout>> plan(const LoadPlan& plan, const LayoutSizes& sizes,
                                                                       unsigned physical_bits);

  /// Writes page tables for this layout into `tables`, with the image at `image` and the window at `window`.
  [[nodiscard]] Status map_into(x86::PageTables& tables, Gpa image, Gpa window) const;
  /// Bytes of page tables for this layout with 4 KiB pages everywhere but in code region and shared regions: a guest
  /// may protect any part of what else starts as 2 MiB pages. Without those all of it is used.
  [[nodiscard]] std::uint64_t tables_bytes() const;

  [[nodiscard]] std::span<const Piece> pieces() const { return pieces_; }
  /// Without the code region, which is memory of its own.
  [[nodiscard]] std::uint64_t image_bytes() const { return image_bytes_; }
  [[nodiscard]] std::uint64_t window_bytes() const { return window_bytes_; }
  /// The window's offset from a 2 MiB boundary, in guest-physical and in host memory: 2 MiB pages need the same offset
  /// in all three address spaces, and the heap's guest-virtual address decides it.
  [[nodiscard]] std::uint64_t window_skew() const { return window_skew_; }

  [[nodiscard]] AddressRange heap() const { return heap_; }
  [[nodiscard]] AddressRange stack() const { return stack_; }
  [[nodiscard]] AddressRange call_area() const { return call_area_; }
  [[nodiscard]] AddressRange call_ring() const { return call_ring_; }
  [[nodiscard]] AddressRange exception_stack() const { return exception_stack_; }
  /// Machine code the host writes; of size 0 at address 0 if there is none.
  [[nodiscard]] AddressRange code() const { return code_; }
  /// Where it lies for the VM: at a multiple of 2 MiB, as for guest and host.
  [[nodiscard]] Gpa code_gpa() const { return code_gpa_; }

  /// In the order of their specs and of their addresses, behind all else.
  [[nodiscard]] std::span<const SharedRegion> shared_regions() const { return shared_; }
  [[nodiscard]] std::vector<SharedRegionSpec> shared_specs() const;
  /// The index of the region an address lies in, or with that name.
  [[nodiscard]] std::optional<std::size_t> find_shared(Gva address) const;
  [[nodiscard]] std::optional<std::size_t> find_shared(std::string_view name) const;

  /// The piece an address lies in, or nullptr.
  [[nodiscard]] const Piece* find(Gva address) const;
  /// Where in the window a guest-virtual address lies, if it does.
  [[nodiscard]] std::optional<std::uint64_t> window_offset(Gva address) const;
  /// True if all of the range is window memory whose access the guest may change.
  [[nodiscard]] bool is_protectable(Gva address, std::uint64_t size) const;
  /// What lies at an address, for reports: "the guard page below the stack", "read-only program data", …
  [[nodiscard]] std::string describe(Gva address) const;

 private:
  GuestLayout() = default;
  [[nodiscard]] Status place_code(Gva lowest, std::uint64_t size);
  [[nodiscard]] Gva place_shared(Gva lowest, std::span<const SharedRegionSpec> specs);

  std::vector<Piece> pieces_;
  std::uint64_t image_bytes_ = 0;
  std::uint64_t window_bytes_ = 0;
  std::uint64_t window_skew_ = 0;
  AddressRange heap_;
  AddressRange stack_;
  AddressRange call_area_;
  AddressRange call_ring_;
  AddressRange exception_stack_;
  AddressRange code_;
  Gpa code_gpa_;
  std::vector<SharedRegion> shared_;
};

/// What an ordinary page of the window allows.
inline constexpr x86::Access kUserData{.user = true, .write = true, .execute = false};

}  // namespace warmfork
