#include "machine/address_space.hpp"

#include "warmfork/abi/layout.h"
#include "x86/system_pages.hpp"

#include <algorithm>
#include <cstring>

extern "C" const std::byte warmfork_user_stubs_begin[];
extern "C" const std::byte warmfork_user_stubs_end[];

namespace warmfork {

Result<std::unique_ptr<AddressSpace>> AddressSpace::build(std::shared_ptr<const GuestLayout> layout,
                                                          const GuestRegions& regions) {
  if (regions.image.size() != layout->image_bytes() || regions.code.size() != layout->code().size ||
      regions.window.size() != layout->window_bytes() || regions.tables.size() < layout->tables_bytes()) {
    return fail(ErrorKind::kUsage, "guest memory of {} + {} + {} + {} bytes, the layout needs {} + {} + {} + {}",
                regions.image.size(), regions.code.size(), regions.window.size(), regions.tables.size(),
                layout->image_bytes(), layout->code().size, layout->window_bytes(), layout->tables_bytes());
  }
  if (!regions.shared.empty() && regions.shared.size() != layout->shared_regions().size()) {
    return fail(ErrorKind::kUsage, "{} shared memories, the layout has {} shared regions", regions.shared.size(),
                layout->shared_regions().size());
  }
  std::unique_ptr<AddressSpace> space(new AddressSpace(std::move(layout), regions));
  WARMFORK_TRY(space->memory_.add(kImageGpa, regions.image));
  if (!regions.code.empty()) WARMFORK_TRY(space->memory_.add(space->layout_->code_gpa(), regions.code));
  WARMFORK_TRY(space->memory_.add(regions.window_gpa, regions.window));
  WARMFORK_TRY(space->memory_.add(regions.tables_gpa, regions.tables));
  WARMFORK_TRY(space->build_tables());
  return space;
}

Status AddressSpace::build_tables() {
  tables_.emplace(regions_.tables, regions_.tables_gpa.value);
  tables_changed_ = false;
  WARMFORK_TRY(layout_->map_into(*tables_, kImageGpa, regions_.window_gpa));
  // Regions without memory stay unmapped.
  for (std::size_t i = 0; i < regions_.shared.size(); ++i) {
    const GuestLayout::SharedRegion& region = layout_->shared_regions()[i];
    if (regions_.shared[i].memory == nullptr) continue;
    WARMFORK_TRY(tables_->map(region.range.begin.value, regions_.shared[i].gpa.value, region.range.size,
                              region.page_access(), region.large()));
  }
  return {};
}

void AddressSpace::build_system_pages(const GuestLayout& layout, std::span<std::byte> image) {
  x86::build_system_pages(image.first(WARMFORK_SYSTEM_SIZE), WARMFORK_SYSTEM_BASE, layout.exception_stack().end().value,
                          {warmfork_user_stubs_begin, warmfork_user_stubs_end});
}

Status AddressSpace::load(const LoadPlan& plan) {
  build_system_pages(*layout_, regions_.image);
  for (const LoadSegment& segment : plan.segments) {
    const auto where = tables_->translate(segment.address.value);
    if (!where) return fail(ErrorKind::kInput, "segment at {:#x} is not mapped", segment.address.value);
    WARMFORK_TRY(memory_.write(Gpa{where->physical}, segment.file_bytes));
  }
  return {};
}

Status AddressSpace::attach_read_only(kvm::VmFd& vm, const GuestLayout& layout, std::span<std::byte> image,
                                      std::span<std::byte> code) {
  WARMFORK_TRY(vm.set_memory(kImageSlot, KVM_MEM_READONLY, kImageGpa.value, image));
  if (code.empty()) return {};
  return vm.set_memory(kCodeSlot, KVM_MEM_READONLY, layout.code_gpa().value, code);
}

Status AddressSpace::attach_shared(kvm::VmFd& vm) const {
  WARMFORK_TRY(attach_read_only(vm, *layout_, regions_.image, regions_.code));
  // Writable on purpose: nested paging treats the processor's own table walks as writes. No guest address leads here.
  return vm.set_memory(kTablesSlot, 0, regions_.tables_gpa.value, regions_.tables);
}

Status AddressSpace::attach_window(kvm::VmFd& vm, std::uint32_t flags) const {
  return vm.set_memory(regions_.window_slot, flags, regions_.window_gpa.value, regions_.window);
}

Status AddressSpace::attach_shared_regions(kvm::VmFd& vm) const {
  for (std::size_t i = 0; i < regions_.shared.size(); ++i) {
    const BoundRegion& bound = regions_.shared[i];
    if (bound.memory == nullptr) continue;
    const bool writable = layout_->shared_regions()[i].access == SharedAccess::kReadWrite;
    WARMFORK_TRY(vm.set_memory(first_shared_slot(1) + static_cast<std::uint32_t>(i), writable ? 0 : KVM_MEM_READONLY,
                               bound.gpa.value, bound.memory->bytes()));
  }
  return {};
}

std::string AddressSpace::describe(Gva address) const {
  std::string what = layout_->describe(address);
  const auto shared = layout_->find_shared(address);
  if (shared && (regions_.shared.empty() || regions_.shared[*shared].memory == nullptr)) what += ", without memory";
  return what;
}

// The host's byte at an address of a shared region with memory, whatever the guest may do there; else nullptr.
std::byte* AddressSpace::find_shared(Gva address) const {
  if (regions_.shared.empty()) return nullptr;
  const auto index = layout_->find_shared(address);
  if (!index || regions_.shared[*index].memory == nullptr) return nullptr;
  const std::uint64_t offset = address.value - layout_->shared_regions()[*index].range.begin.value;
  return regions_.shared[*index].memory->bytes().subspan(offset).data();
}

Result<Gpa> AddressSpace::resolve(Gva address, bool write) const {
  const auto where = tables_->translate(address.value);
  if (!where || !where->access.user || (write && !where->access.write)) {
    return fail(ErrorKind::kGuestFault, "guest address {:#x} cannot be {} ({})", address.value,
                write ? "written" : "read", describe(address));
  }
  return Gpa{where->physical};
}

void AddressSpace::mark_dirty(std::uint64_t window_offset, std::uint64_t size) {
  for (std::uint64_t page = window_offset / kPage; page * kPage < window_offset + size; ++page) dirty_.add(page);
}

Status AddressSpace::read(Gva address, std::span<std::byte> out) const {
  while (!out.empty()) {
    WARMFORK_TRY_ASSIGN(const Gpa gpa, resolve(address, false));
    const std::size_t chunk = std::min<std::size_t>(out.size(), kPage - address.value % kPage);
    if (const std::byte* const from = find_shared(address)) {
      copy_once(out.data(), from, chunk);
    } else {
      WARMFORK_TRY(memory_.read(gpa, out.first(chunk)));
    }
    out = out.subspan(chunk);
    address = address + chunk;
  }
  return {};
}

Status AddressSpace::write(Gva address, std::span<const std::byte> in) {
  while (!in.empty()) {
    WARMFORK_TRY_ASSIGN(const Gpa gpa, resolve(address, true));
    const std::size_t chunk = std::min<std::size_t>(in.size(), kPage - address.value % kPage);
    if (std::byte* const to = find_shared(address)) {
      copy_once(to, in.data(), chunk);
    } else {
      WARMFORK_TRY(memory_.write(gpa, in.first(chunk)));
      mark_dirty(gpa.value - regions_.window_gpa.value, chunk);
    }
    in = in.subspan(chunk);
    address = address + chunk;
  }
  return {};
}

Result<std::string> AddressSpace::read_string(Gva address, std::size_t limit) const {
  std::string text;
  while (text.size() < limit) {
    const std::size_t chunk = std::min<std::size_t>(limit - text.size(), kPage - address.value % kPage);
    const std::size_t begin = text.size();
    text.resize(begin + chunk);
    WARMFORK_TRY(read(address, std::as_writable_bytes(std::span(text).subspan(begin))));
    if (const auto end = text.find('\0', begin); end != std::string::npos) {
      text.resize(end);
      return text;
    }
    address = address + chunk;
  }
  return fail(ErrorKind::kGuestFault, "string at {:#x} is longer than {} bytes", address.value, limit);
}

Status AddressSpace::zero_heap(Gva address, std::uint64_t size) {
  const AddressRange range = heap();
  if (address < range.begin || address.value % kPage != 0 || size % kPage != 0 || size > range.size ||
      address.value - range.begin.value > range.size - size) {
    return fail(ErrorKind::kUsage, "range {:#x} + {:#x} is not in the heap", address.value, size);
  }
  if (size == 0) return {};
  const std::uint64_t begin = *layout_->window_offset(address);
  const std::span<std::byte> bytes = regions_.window.subspan(begin, size);
  // A few pages are cheaper to write than to lose and fault in again.
  constexpr std::uint64_t kWorthDiscarding = 64 * kPage;
  if (backing_.nonzero != nullptr && size < kWorthDiscarding) {
    std::ranges::fill(bytes, std::byte{0});
    mark_dirty(begin, size);
    return {};
  }
  WARMFORK_TRY(discard_pages(bytes));
  if (backing_.nonzero == nullptr) return {};
  for (std::uint64_t page = begin / kPage; page < (begin + size) / kPage; ++page) {
    if (!backing_.nonzero->contains(page)) continue;
    if (backing_.file_backed) std::ranges::fill(regions_.window.subspan(page * kPage, kPage), std::byte{0});
    dirty_.add(page);
  }
  return {};
}

void AddressSpace::set_fork_info(const ForkInfo& info) {
  const std::uint64_t offset = *layout_->window_offset(Gva{WARMFORK_FORK_PAGE}) + WARMFORK_FORK_INFO_OFFSET;
  std::memcpy(regions_.window.subspan(offset, sizeof info).data(), &info, sizeof info);
}

Status AddressSpace::forget(Gva address, std::uint64_t size) {
  for (const GuestLayout::Piece& piece : layout_->pieces()) {
    if (!piece.in_window) continue;
    const std::uint64_t begin = std::max(address.value, piece.range.begin.value);
    const std::uint64_t end = std::min(address.value + size, piece.range.end().value);
    if (begin >= end) continue;
    const std::uint64_t offset = piece.offset + (begin - piece.range.begin.value);
    WARMFORK_TRY(forget_translations(regions_.window.subspan(offset, end - begin)));
  }
  return {};
}

Status AddressSpace::restore_heap(AddressRange range) {
  const bool plain = !tables_changed_ && !overridden_;
  for (std::uint64_t offset = 0; !plain && offset < range.size; offset += kPage) {
    const auto where = tables_->translate(range.begin.value + offset);
    if (where && where->access == kUserData) continue;
    return protect(range.begin, range.size, kUserData);
  }
  return {};
}

Status AddressSpace::protect(Gva address, std::uint64_t size, std::optional<x86::Access> access) {
  tables_changed_ = true;  // also if only part of it succeeds
  WARMFORK_TRY(tables_->protect(address.value, size, access));
  return forget(address, size);
}

Status AddressSpace::rebuild_tables(std::span<const Override> overrides) {
  std::ranges::fill(regions_.tables.first(tables_->tables_used() * kPage), std::byte{0});
  WARMFORK_TRY(build_tables());
  overridden_ = !overrides.empty();
  for (const Override& change : overrides) {
    WARMFORK_TRY(tables_->protect(change.range.begin.value, change.range.size, change.access));
  }
  return forget_translations(regions_.window);
}

std::vector<AddressSpace::Override> AddressSpace::overrides() const {
  std::vector<Override> changes;
  if (!tables_changed_ && !overridden_) return changes;
  for (const GuestLayout::Piece& piece : layout_->pieces()) {
    for (Gva at = piece.range.begin; piece.protectable && at < piece.range.end(); at = at + kPage) {
      const auto where = tables_->translate(at.value);
      const auto access = where ? std::optional(where->access) : std::nullopt;
      if (access == piece.access) continue;
      if (!changes.empty() && changes.back().access == access && changes.back().range.end() == at) {
        changes.back().range.size += kPage;
      } else {
        changes.push_back({{at, kPage}, access});
      }
    }
  }
  return changes;
}

Result<std::vector<std::uint64_t>> AddressSpace::exception_frame(std::size_t count) const {
  std::vector<std::uint64_t> words(count);
  const auto top = layout_->window_offset(Gva{layout_->exception_stack().end().value - 1});
  if (!top) return fail(ErrorKind::kGuestFault, "the exception stack is not mapped");
  WARMFORK_TRY(memory_.read(regions_.window_gpa + (*top + 1 - count * 8), std::as_writable_bytes(std::span(words))));
  return words;
}

}  // namespace warmfork
