#include "machine/address_space.hpp"

#include "warmfork/abi/layout.h"
#include "x86/system_pages.hpp"

#include <algorithm>
#include <cstring>

extern "C" const std::byte warmfork_user_stubs_begin[];
extern "C" const std::byte warmfork_user_stubs_end[];

namespace warmfork {
namespace {

// Guest-physical map. The window is last, so that it may be as large as the processor's address width allows.
constexpr Gpa kImageGpa{0x0010'0000};
constexpr Gpa kTablesGpa{0x8000'0000};
constexpr Gpa kWindowGpa{0x1'0000'0000};

constexpr std::uint32_t kImageSlot = 0;
constexpr std::uint32_t kWindowSlot = 1;
constexpr std::uint32_t kTablesSlot = 2;

constexpr std::uint64_t kExceptionStackSize = kPage;

constexpr x86::Access kUserData{.user = true, .write = true, .execute = false};

}  // namespace

Result<std::unique_ptr<AddressSpace>> AddressSpace::build(const LoadPlan& plan, const WindowSizes& sizes,
                                                          unsigned physical_bits) {
  for (const std::uint64_t size : {sizes.heap, sizes.stack, sizes.call_area}) {
    if (size > x86::kMaxVirtual) {
      return fail(ErrorKind::kLimit, "{} bytes of guest memory, user space is {}", size, x86::kMaxVirtual);
    }
  }
  std::unique_ptr<AddressSpace> space(new AddressSpace);
  std::uint64_t image_offset = 0;
  std::uint64_t window_offset = 0;
  const auto add = [&](Gva begin, std::uint64_t size, x86::Access access, const char* what) {
    std::uint64_t& offset = access.write ? window_offset : image_offset;
    space->pieces_.push_back({{begin, size}, offset, access, what});
    offset += size;
  };

  const Gva system{WARMFORK_SYSTEM_BASE};
  add(system, WARMFORK_EXCEPTION_STUBS_OFFSET, {false, false, false}, "the descriptor tables");
  add(system + WARMFORK_EXCEPTION_STUBS_OFFSET, kPage, {false, false, true}, "the exception stubs");
  add(system + WARMFORK_USER_STUBS_OFFSET, kPage, {true, false, true}, "the user stubs");
  for (const LoadSegment& segment : plan.segments) {
    const Gva begin{page_floor(segment.address.value)};
    const std::uint64_t size = page_ceil(segment.address.value + segment.memory_size) - begin.value;
    add(begin, size, {true, segment.write, segment.execute},
        segment.execute ? "program code" : (segment.write ? "program data" : "read-only program data"));
  }

  // The rest of the window follows the program, with an unmapped guard page around each stack.
  Gva next = plan.end;
  const auto place = [&](std::uint64_t size, x86::Access access, const char* what) {
    const AddressRange range{next, page_ceil(size)};
    if (range.size != 0) add(range.begin, range.size, access, what);
    next = range.end();
    return range;
  };
  space->heap_ = place(sizes.heap, kUserData, "the heap");
  next = next + kPage;
  space->stack_ = place(sizes.stack, kUserData, "the stack");
  next = next + kPage;
  space->call_area_ = place(sizes.call_area, kUserData, "the call area");
  next = next + kPage;
  space->exception_stack_ = place(kExceptionStackSize, {false, true, false}, "the exception stack");
  space->image_size_ = image_offset;
  space->window_size_ = window_offset;
  if (next.value > x86::kMaxVirtual) {
    return fail(ErrorKind::kLimit, "the guest's memory would end at {:#x}, past {:#x}", next.value, x86::kMaxVirtual);
  }
  WARMFORK_TRY(space->allocate(physical_bits));
  WARMFORK_TRY(space->map_all());
  WARMFORK_TRY(space->copy_program(plan));
  return space;
}

Status AddressSpace::allocate(unsigned physical_bits) {
  // 2 MiB pages need the same offset within 2 MiB in all three address spaces: the heap decides it.
  const auto heap = std::ranges::find(pieces_, heap_.begin, [](const Piece& piece) { return piece.range.begin; });
  heap_offset_ = heap == pieces_.end() ? 0 : heap->offset;
  const std::uint64_t skew = (heap_.begin.value - heap_offset_) % x86::kLargePageSize;
  window_gpa_ = kWindowGpa + skew;
  const std::uint64_t physical_end = std::uint64_t{1} << std::min(physical_bits, 52U);
  if (window_gpa_.value + window_size_ > physical_end) {
    return fail(ErrorKind::kLimit, "{} bytes of guest memory do not fit into the processor's {}-bit address space",
                window_size_, physical_bits);
  }
  std::uint64_t mapped = 0;
  for (const Piece& piece : pieces_) mapped += piece.range.size;
  // Enough for 4 KiB pages everywhere: a guest may protect any part of what starts as 2 MiB pages.
  tables_size_ = x86::table_bound(pieces_.size(), mapped) * kPage;

  WARMFORK_TRY_ASSIGN(Mapping image, Mapping::anonymous(image_size_));
  WARMFORK_TRY_ASSIGN(Mapping window, Mapping::anonymous(window_size_ + skew, x86::kLargePageSize));
  WARMFORK_TRY_ASSIGN(Mapping tables, Mapping::anonymous(tables_size_));
  image.populate();  // all of it is about to be written
  WARMFORK_TRY(memory_.add(kImageGpa, std::move(image), 0, image_size_));
  WARMFORK_TRY(memory_.add(window_gpa_, std::move(window), skew, window_size_));
  WARMFORK_TRY(memory_.add(kTablesGpa, std::move(tables), 0, tables_size_));
  return {};
}

Status AddressSpace::map_all() {
  tables_.emplace(memory_.region(kTablesGpa), kTablesGpa.value);
  for (const Piece& piece : pieces_) {
    const Gpa base = piece.access.write ? window_gpa_ : kImageGpa;
    WARMFORK_TRY(tables_->map(piece.range.begin.value, (base + piece.offset).value, piece.range.size, piece.access,
                              piece.range.begin == heap_.begin));
  }
  return {};
}

Status AddressSpace::copy_program(const LoadPlan& plan) {
  x86::build_system_pages(memory_.region(kImageGpa).first(WARMFORK_SYSTEM_SIZE), WARMFORK_SYSTEM_BASE,
                          exception_stack_.end().value, {warmfork_user_stubs_begin, warmfork_user_stubs_end});
  for (const LoadSegment& segment : plan.segments) {
    const auto where = tables_->translate(segment.address.value);
    if (!where) return fail(ErrorKind::kInput, "segment at {:#x} is not mapped", segment.address.value);
    WARMFORK_TRY(memory_.write(Gpa{where->physical}, segment.file_bytes));
  }
  return {};
}

Status AddressSpace::attach(kvm::VmFd& vm) {
  WARMFORK_TRY(vm.set_memory(kImageSlot, KVM_MEM_READONLY, kImageGpa.value, memory_.region(kImageGpa)));
  WARMFORK_TRY(vm.set_memory(kWindowSlot, 0, window_gpa_.value, memory_.region(window_gpa_)));
  // Writable on purpose: nested paging treats the processor's own table walks as writes. No guest address leads here.
  return vm.set_memory(kTablesSlot, 0, kTablesGpa.value, memory_.region(kTablesGpa));
}

Result<Gpa> AddressSpace::resolve(Gva address, bool write) const {
  const auto where = tables_->translate(address.value);
  if (!where || !where->access.user || (write && !where->access.write)) {
    return fail(ErrorKind::kGuestFault, "guest address {:#x} cannot be {} ({})", address.value,
                write ? "written" : "read", describe(address));
  }
  return Gpa{where->physical};
}

Status AddressSpace::read(Gva address, std::span<std::byte> out) const {
  while (!out.empty()) {
    WARMFORK_TRY_ASSIGN(const Gpa gpa, resolve(address, false));
    const std::size_t chunk = std::min<std::size_t>(out.size(), kPage - address.value % kPage);
    WARMFORK_TRY(memory_.read(gpa, out.first(chunk)));
    out = out.subspan(chunk);
    address = address + chunk;
  }
  return {};
}

Status AddressSpace::write(Gva address, std::span<const std::byte> in) {
  while (!in.empty()) {
    WARMFORK_TRY_ASSIGN(const Gpa gpa, resolve(address, true));
    const std::size_t chunk = std::min<std::size_t>(in.size(), kPage - address.value % kPage);
    WARMFORK_TRY(memory_.write(gpa, in.first(chunk)));
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
  if (address < heap_.begin || address.value % kPage != 0 || size % kPage != 0 || size > heap_.size ||
      address.value - heap_.begin.value > heap_.size - size) {
    return fail(ErrorKind::kUsage, "range {:#x} + {:#x} is not in the heap", address.value, size);
  }
  return memory_.zero(window_gpa_ + heap_offset_ + (address.value - heap_.begin.value), size);
}

bool AddressSpace::is_window(Gva address, std::uint64_t size) const {
  for (std::uint64_t offset = 0; offset < size;) {
    const Gva at = address + offset;
    const auto piece = std::ranges::find_if(pieces_, [&](const Piece& p) { return p.range.contains(at); });
    if (piece == pieces_.end() || !piece->access.write || !piece->access.user) return false;
    offset += piece->range.end().value - at.value;
  }
  return true;
}

Status AddressSpace::restore_heap(AddressRange range, kvm::VmFd& vm) {
  for (std::uint64_t offset = 0; offset < range.size; offset += kPage) {
    const auto where = tables_->translate(range.begin.value + offset);
    if (where && where->access == kUserData) continue;
    return protect(range.begin, range.size, kUserData, vm);
  }
  return {};
}

Status AddressSpace::protect(Gva address, std::uint64_t size, std::optional<x86::Access> access, kvm::VmFd& vm) {
  WARMFORK_TRY(tables_->protect(address.value, size, access));
  // KVM may hold translations made from the old tables, and does not watch them being edited. Deleting the slot drops
  // every one that leads into the window, on shadow paging and on nested paging alike.
  WARMFORK_TRY(vm.set_memory(kWindowSlot, 0, window_gpa_.value, {}));
  return vm.set_memory(kWindowSlot, 0, window_gpa_.value, memory_.region(window_gpa_));
}

Result<std::vector<std::uint64_t>> AddressSpace::exception_frame(std::size_t count) const {
  std::vector<std::uint64_t> words(count);
  const auto top = tables_->translate(exception_stack_.end().value - 1);
  if (!top) return fail(ErrorKind::kGuestFault, "the exception stack is not mapped");
  WARMFORK_TRY(memory_.read(Gpa{top->physical + 1 - count * 8}, std::as_writable_bytes(std::span(words))));
  return words;
}

std::string AddressSpace::describe(Gva address) const {
  if (address.value < WARMFORK_SYSTEM_BASE) return "the null guard";
  for (const Piece& piece : pieces_) {
    if (piece.range.contains(address)) return piece.what;
  }
  if (address < stack_.begin && address.value >= stack_.begin.value - kPage) return "the guard page below the stack";
  if (address.value - stack_.end().value < kPage) return "the guard page above the stack";
  if (address.value >= x86::kMaxVirtual) return "outside user space";
  return "not mapped";
}

}  // namespace warmfork
