// The guest's memory as the guest sees it: which page leads where, and what lies there.
//
//   guest-virtual                                   guest-physical
//   system pages, read-only segments        ->      image slot (KVM_MEM_READONLY)
//   writable segments, heap, stack,         ->      window slot, private, contiguous
//     call area, exception stack
//   (not mapped)                                    page-table slot
//
// Page tables are built here, before the guest first runs, and lie where no guest address leads. Copies to and from
// guest-virtual addresses check what the guest itself would be allowed, so a guest cannot make the host read or write
// on its behalf what it may not touch itself.
//
// Threads: used by the thread that runs the vCPU.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "loader/elf_loader.hpp"
#include "memory/address.hpp"
#include "memory/guest_memory.hpp"
#include "x86/page_tables.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork {

/// How large the parts of a window are, in bytes. All are rounded up to pages.
struct WindowSizes {
  std::uint64_t heap = 0;  // brk and mmap together
  std::uint64_t stack = 0;
  std::uint64_t call_area = 0;
};

/// A guest-virtual range with a meaning.
struct AddressRange {
  Gva begin;
  std::uint64_t size = 0;
  [[nodiscard]] Gva end() const { return begin + size; }
  [[nodiscard]] bool contains(Gva address) const { return address.value - begin.value < size; }
};

class AddressSpace {
 public:
  /// Lays the program out, builds image, window and page tables, and copies the program in.
  [[nodiscard]] static Result<std::unique_ptr<AddressSpace>> build(const LoadPlan& plan, const WindowSizes& sizes,
                                                                   unsigned physical_bits);

  /// Makes the image (read-only), the window and the page tables memory of `vm`.
  [[nodiscard]] Status attach(kvm::VmFd& vm);

  /// Copies from / to guest-virtual memory with the guest's own rights. Errors (kGuestFault) name the first bad page.
  [[nodiscard]] Status read(Gva address, std::span<std::byte> out) const;
  [[nodiscard]] Status write(Gva address, std::span<const std::byte> in);
  /// Reads a NUL-terminated string of at most `limit` bytes.
  [[nodiscard]] Result<std::string> read_string(Gva address, std::size_t limit) const;
  template <class T>
  [[nodiscard]] Result<T> read_value(Gva address) const {
    T value;
    WARMFORK_TRY(read(address, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }

  /// Makes whole pages of the heap zero again.
  [[nodiscard]] Status zero_heap(Gva address, std::uint64_t size);

  /// Changes what the guest may do with pages of the window (nullopt: nothing), and makes KVM forget what it cached.
  /// The vCPU must not be running. Errors: not window pages.
  [[nodiscard]] Status protect(Gva address, std::uint64_t size, std::optional<x86::Access> access, kvm::VmFd& vm);

  /// True if all of the range is window memory of the guest's own (not the exception stack).
  [[nodiscard]] bool is_window(Gva address, std::uint64_t size) const;
  /// Makes heap pages readable and writable again, if a guest's mprotect had changed them.
  [[nodiscard]] Status restore_heap(AddressRange range, kvm::VmFd& vm);

  /// Reads what the processor pushed on the exception stack: `count` 64-bit words below its top.
  [[nodiscard]] Result<std::vector<std::uint64_t>> exception_frame(std::size_t count) const;

  /// What lies at an address, for reports: "the guard page below the stack", "read-only program data", …
  [[nodiscard]] std::string describe(Gva address) const;
  [[nodiscard]] std::optional<x86::PageTables::Translation> translate(Gva address) const {
    return tables_->translate(address.value);
  }

  [[nodiscard]] std::uint64_t root() const { return tables_->root(); }
  [[nodiscard]] AddressRange heap() const { return heap_; }
  [[nodiscard]] AddressRange stack() const { return stack_; }
  [[nodiscard]] AddressRange call_area() const { return call_area_; }
  [[nodiscard]] std::uint64_t window_bytes() const { return window_size_; }
  [[nodiscard]] std::uint64_t image_bytes() const { return image_size_; }

 private:
  AddressSpace() = default;
  [[nodiscard]] Status allocate(unsigned physical_bits);
  [[nodiscard]] Status map_all();
  [[nodiscard]] Status copy_program(const LoadPlan& plan);
  [[nodiscard]] Result<Gpa> resolve(Gva address, bool write) const;

  struct Piece {  // consecutive pages of one kind
    AddressRange range;
    std::uint64_t offset;  // in the window if writable, in the image if not
    x86::Access access;
    const char* what;
  };
  std::vector<Piece> pieces_;
  GuestMemory memory_;
  std::optional<x86::PageTables> tables_;
  Gpa window_gpa_;
  std::uint64_t heap_offset_ = 0;  // of the heap in the window
  std::uint64_t image_size_ = 0;
  std::uint64_t window_size_ = 0;
  std::uint64_t tables_size_ = 0;
  AddressRange heap_;
  AddressRange stack_;
  AddressRange call_area_;
  AddressRange exception_stack_;
};

}  // namespace warmfork
