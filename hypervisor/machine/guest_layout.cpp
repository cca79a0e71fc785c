#include "machine/guest_layout.hpp"

#include "machine/physical_map.hpp"
#include "warmfork/abi/layout.h"

#include <algorithm>

namespace warmfork {
namespace {

constexpr std::uint64_t kExceptionStackSize = kPage;
constexpr std::uint64_t kCallRingSize = kPage;

constexpr std::uint64_t large_page_ceil(std::uint64_t value) {
  return (value + x86::kLargePageSize - 1) & ~(x86::kLargePageSize - 1);
}
constexpr std::uint64_t large_page_floor(std::uint64_t value) { return value & ~(x86::kLargePageSize - 1); }

}  // namespace

Result<std::shared_ptr<const GuestLayout>> GuestLayout::plan(const LoadPlan& plan, const LayoutSizes& sizes,
                                                             unsigned physical_bits) {
  for (const std::uint64_t size : {sizes.heap, sizes.stack, sizes.call_area, sizes.code}) {
    if (size > x86::kMaxVirtual) {
      return fail(ErrorKind::kLimit, "{} bytes of guest memory, user space is {}", size, x86::kMaxVirtual);
    }
  }
  WARMFORK_TRY(check_shared_regions(sizes.shared));
  const std::shared_ptr<GuestLayout> layout(new GuestLayout);
  const auto add = [&](AddressRange range, x86::Access access, bool in_window, const char* what) {
    std::uint64_t& size = in_window ? layout->window_bytes_ : layout->image_bytes_;
    layout->pieces_.push_back({.range = range,
                               .offset = size,
                               .in_window = in_window,
                               .protectable = in_window && access == kUserData,
                               .access = access,
                               .what = what});
    size += range.size;
  };

  const Gva system{WARMFORK_SYSTEM_BASE};
  add({system, WARMFORK_EXCEPTION_STUBS_OFFSET}, {false, false, false}, false, "the descriptor tables");
  add({system + WARMFORK_EXCEPTION_STUBS_OFFSET, kPage}, {false, false, true}, false, "the exception stubs");
  add({system + WARMFORK_USER_STUBS_OFFSET, kPage}, {true, false, true}, false, "the user stubs");
  add({Gva{WARMFORK_FORK_PAGE}, kPage}, {true, false, false}, true, "the fork page");
  for (const LoadSegment& segment : plan.segments) {
    const Gva begin{page_floor(segment.address.value)};
    const std::uint64_t size = page_ceil(segment.address.value + segment.memory_size) - begin.value;
    add({begin, size}, {true, segment.write, segment.execute}, segment.write,
        segment.execute ? "program code" : (segment.write ? "program data" : "read-only program data"));
  }

  // The rest of the window follows the program, with an unmapped guard page around each stack.
  Gva next = plan.end;
  const auto place = [&](std::uint64_t size, x86::Access access, const char* what) {
    const AddressRange range{next, page_ceil(size)};
    if (range.size != 0) add(range, access, true, what);
    next = range.end();
    return range;
  };
  const std::uint64_t heap_offset = layout->window_bytes_;
  layout->heap_ = place(sizes.heap, kUserData, "the heap");
  next = next + kPage;
  layout->stack_ = place(sizes.stack, kUserData, "the stack");
  next = next + kPage;
  layout->call_area_ = place(sizes.call_area, kUserData, "the call area");
  // The host's threads use the call area and the ring while the guest runs: forget_translations() must never come
  // between.
  if (layout->call_area_.size != 0) layout->pieces_.back().protectable = false;
  next = next + kPage;
  layout->call_ring_ = place(kCallRingSize, kUserData, "the call ring");
  layout->pieces_.back().protectable = false;
  next = next + kPage;
  layout->exception_stack_ = place(kExceptionStackSize, {false, true, false}, "the exception stack");
  layout->window_skew_ = (layout->heap_.begin.value - heap_offset) % x86::kLargePageSize;

  if (sizes.code != 0) {
    WARMFORK_TRY(layout->place_code(next + kPage, large_page_ceil(sizes.code)));
    next = layout->code_.end();
  }
  if (!sizes.shared.empty()) next = layout->place_shared(next + kPage, sizes.shared);

  if (next.value > x86::kMaxVirtual) {
    return fail(ErrorKind::kLimit, "the guest's memory would end at {:#x}, past {:#x}", next.value, x86::kMaxVirtual);
  }
  const std::uint64_t physical_end = std::uint64_t{1} << std::min(physical_bits, 52U);
  if (kWindowGpa.value + layout->window_skew_ + layout->window_bytes_ > physical_end) {
    return fail(ErrorKind::kLimit, "{} bytes of guest memory do not fit into the processor's {}-bit address space",
                layout->window_bytes_, physical_bits);
  }
  if (!layout->shared_.empty() &&
      (layout->shared_.back().gpa + layout->shared_.back().range.size).value > physical_end) {
    return fail(ErrorKind::kLimit, "{} shared regions up to {:#x} do not fit into the processor's {}-bit address space",
                layout->shared_.size(), (layout->shared_.back().gpa + layout->shared_.back().range.size).value,
                physical_bits);
  }
  return layout;
}

// Behind everything else, so that no other address depends on whether there is one.
Status GuestLayout::place_code(Gva lowest, std::uint64_t size) {
  const std::uint64_t physical = large_page_ceil(kImageGpa.value + image_bytes_);
  const std::uint64_t room = physical < kTablesGpa.value ? kTablesGpa.value - physical : 0;
  if (size > room) {
    return fail(ErrorKind::kLimit, "a code region of {} bytes, behind the program's image there is room for {}", size,
                room);
  }
  code_ = {Gva{large_page_ceil(lowest.value)}, size};
  code_gpa_ = Gpa{physical};
  pieces_.push_back({.range = code_,
                     .offset = physical - kImageGpa.value,
                     .always_large = true,
                     .access = {.user = true, .write = false, .execute = true},
                     .what = "the code region"});
  return {};
}

// Behind even the code region, for the same reason. Those with room for a 2 MiB page begin at a multiple of it; small
// ones follow each other with a guard page between, so that they share page tables. Guest-physical they lie as they do
// guest-virtually, behind the window. Returns where the last one ends.
Gva GuestLayout::place_shared(Gva lowest, std::span<const SharedRegionSpec> specs) {
  const std::uint64_t physical = large_page_ceil(kWindowGpa.value + window_skew_ + window_bytes_);
  Gva next = lowest;
  for (const SharedRegionSpec& spec : specs) {
    const bool large = spec.bytes >= x86::kLargePageSize;
    const AddressRange range{large ? Gva{large_page_ceil(next.value)} : next, spec.bytes};
    const Gva first = shared_.empty() ? range.begin : shared_.front().range.begin;
    const Gpa gpa{physical + (range.begin.value - large_page_floor(first.value))};
    shared_.push_back({.name = spec.name, .range = range, .access = spec.access, .gpa = gpa});
    next = range.end() + kPage;
  }
  return shared_.back().range.end();
}

Status GuestLayout::map_into(x86::PageTables& tables, Gpa image, Gpa window) const {
  for (const Piece& piece : pieces_) {
    const Gpa base = piece.in_window ? window : image;
    WARMFORK_TRY(tables.map(piece.range.begin.value, (base + piece.offset).value, piece.range.size, piece.access,
                            piece.always_large || piece.range.begin == heap_.begin));
  }
  return {};
}

std::uint64_t GuestLayout::tables_bytes() const {
  // One root, and at each lower level one table per 512 GiB, 1 GiB and 2 MiB of address space that is used. Pieces are
  // in the order of their addresses.
  constexpr unsigned kLargePageShift = 21;
  std::uint64_t tables = 1;
  for (const unsigned shift : {39U, 30U, kLargePageShift}) {
    std::uint64_t last = ~std::uint64_t{0};
    const auto count = [&](AddressRange range) {
      const std::uint64_t first_used = range.begin.value >> shift;
      const std::uint64_t last_used = (range.end().value - 1) >> shift;
      tables += last_used - first_used + 1 - (first_used == last ? 1 : 0);
      last = last_used;
    };
    for (const Piece& piece : pieces_) {
      if (shift != kLargePageShift || !piece.always_large) count(piece.range);
    }
    for (const SharedRegion& region : shared_) {
      // Only what is left behind the last 2 MiB page needs a table of 4 KiB pages.
      const std::uint64_t whole = shift == kLargePageShift ? large_page_floor(region.range.size) : 0;
      if (whole != region.range.size) count({region.range.begin + whole, region.range.size - whole});
    }
  }
  return tables * kPage;
}

const GuestLayout::Piece* GuestLayout::find(Gva address) const {
  const auto piece = std::ranges::find_if(pieces_, [&](const Piece& p) { return p.range.contains(address); });
  return piece == pieces_.end() ? nullptr : &*piece;
}

std::vector<SharedRegionSpec> GuestLayout::shared_specs() const {
  std::vector<SharedRegionSpec> specs;
  for (const SharedRegion& region : shared_) {
    specs.push_back({.name = region.name, .bytes = region.range.size, .access = region.access});
  }
  return specs;
}

std::optional<std::size_t> GuestLayout::find_shared(Gva address) const {
  const auto region = std::ranges::find_if(shared_, [&](const SharedRegion& r) { return r.range.contains(address); });
  if (region == shared_.end()) return std::nullopt;
  return static_cast<std::size_t>(region - shared_.begin());
}

std::optional<std::size_t> GuestLayout::find_shared(std::string_view name) const {
  const auto region = std::ranges::find(shared_, name, &SharedRegion::name);
  if (region == shared_.end()) return std::nullopt;
  return static_cast<std::size_t>(region - shared_.begin());
}

std::optional<std::uint64_t> GuestLayout::window_offset(Gva address) const {
  const Piece* piece = find(address);
  if (piece == nullptr || !piece->in_window) return std::nullopt;
  return piece->offset + (address.value - piece->range.begin.value);
}

bool GuestLayout::is_protectable(Gva address, std::uint64_t size) const {
  for (std::uint64_t offset = 0; offset < size;) {
    const Gva at = address + offset;
    const Piece* piece = find(at);
    if (piece == nullptr || !piece->protectable) return false;
    offset += piece->range.end().value - at.value;
  }
  return true;
}

std::string GuestLayout::describe(Gva address) const {
  if (address.value < WARMFORK_SYSTEM_BASE) return "the null guard";
  if (const Piece* piece = find(address); piece != nullptr) return piece->what;
  if (address < stack_.begin && address.value >= stack_.begin.value - kPage) return "the guard page below the stack";
  if (address.value - stack_.end().value < kPage) return "the guard page above the stack";
  if (const auto index = find_shared(address)) return fmt::format("the shared region {}", shared_[*index].name);
  for (const SharedRegion& region : shared_) {
    if (address.value - region.range.end().value < kPage) {
      return fmt::format("the guard page behind the shared region {}", region.name);
    }
    if (region.range.begin.value - address.value <= kPage) {
      return fmt::format("the guard page before the shared region {}", region.name);
    }
  }
  if (address.value >= x86::kMaxVirtual) return "outside user space";
  return "not mapped";
}

}  // namespace warmfork
