// One guest's memory as that guest sees it: its layout, its page tables, and the bytes behind them. Copies to and from
// guest-virtual addresses check what the guest itself would be allowed, so a guest cannot make the host read or write
// on its behalf what it may not touch itself.
//
// Page tables are built before the guest first runs and lie where no guest address leads. The host keeps a book of the
// window's pages it has written itself, because no dirty tracking of KVM sees those.
//
// Threads: used by the thread that runs the vCPU.
#pragma once

#include "base/result.hpp"
#include "kvm/kvm.hpp"
#include "machine/guest_layout.hpp"
#include "machine/physical_map.hpp"
#include "memory/address.hpp"
#include "memory/guest_memory.hpp"
#include "memory/page_set.hpp"
#include "warmfork/abi/fork_info.hpp"
#include "x86/page_tables.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork {

/// The host memory of one guest and where it lies for the guest; all of it outlives the AddressSpace.
struct GuestRegions {
  std::span<std::byte> image;  // read-only to the guest, may be shared
  std::span<std::byte> code;   // the code region, likewise; empty if the layout has none
  std::span<std::byte> window;
  std::span<std::byte> tables;  // layout.tables_bytes(), zeroed or holding a clone
  Gpa window_gpa;
  Gpa tables_gpa;
  std::uint32_t window_slot = kWindowSlot;
  std::vector<BoundRegion> shared = {};  // by the layout's shared regions; empty: nothing is bound to any
};

/// What a window's pages fall back to when they are given back to the host's kernel.
struct WindowBacking {
  /// Pages that are not zero in the snapshot; nullptr: the window is not a fork's, all its pages began as zero.
  const PageSet* nonzero = nullptr;
  bool file_backed = false;  // pages given back read as the snapshot's, not as zero
};

class AddressSpace {
 public:
  /// A space over `regions` with page tables of its own, built from the layout.
  [[nodiscard]] static Result<std::unique_ptr<AddressSpace>> build(std::shared_ptr<const GuestLayout> layout,
                                                                   const GuestRegions& regions);

  /// Copies the program's segments and builds the system pages: once, for the master.
  [[nodiscard]] Status load(const LoadPlan& plan);

  /// Builds the system pages at the start of `image` (zeroed there), as every guest of this layout has them.
  static void build_system_pages(const GuestLayout& layout, std::span<std::byte> image);

  /// Makes image and code region (read-only) and the page tables memory of `vm`.
  [[nodiscard]] Status attach_shared(kvm::VmFd& vm) const;
  /// The same without page tables, for a VM of several guests.
  [[nodiscard]] static Status attach_read_only(kvm::VmFd& vm, const GuestLayout& layout, std::span<std::byte> image,
                                               std::span<std::byte> code);
  /// Makes the window memory of `vm`, with `flags` (KVM_MEM_LOG_DIRTY_PAGES or none). Again with other flags: they
  /// change; switching the log on write-protects every page.
  [[nodiscard]] Status attach_window(kvm::VmFd& vm, std::uint32_t flags) const;

  /// Makes what is bound to the shared regions memory of `vm`, which is this guest's alone: a slot each, read-only ones
  /// for read-only regions.
  [[nodiscard]] Status attach_shared_regions(kvm::VmFd& vm) const;

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
  [[nodiscard]] Status protect(Gva address, std::uint64_t size, std::optional<x86::Access> access);
  /// Makes heap pages readable and writable again, if a guest's mprotect had changed them.
  [[nodiscard]] Status restore_heap(AddressRange range);
  /// True once protect() has changed anything since the tables were built or rebuilt.
  [[nodiscard]] bool tables_changed() const { return tables_changed_; }
  /// Builds the page tables anew from the layout and `overrides`, and makes KVM forget the old ones.
  struct Override {
    AddressRange range;
    std::optional<x86::Access> access;
    friend bool operator==(const Override&, const Override&) = default;
  };
  [[nodiscard]] Status rebuild_tables(std::span<const Override> overrides);
  /// Where the tables differ from the layout: ranges of one access, in order.
  [[nodiscard]] std::vector<Override> overrides() const;

  /// Reads what the processor pushed on the exception stack: `count` 64-bit words below its top.
  [[nodiscard]] Result<std::vector<std::uint64_t>> exception_frame(std::size_t count) const;

  /// What a guest can only read about itself; not part of what a reset restores.
  void set_fork_info(const ForkInfo& info);

  /// What lies at an address, for reports.
  [[nodiscard]] std::string describe(Gva address) const;
  [[nodiscard]] std::optional<x86::PageTables::Translation> translate(Gva address) const {
    return tables_->translate(address.value);
  }

  [[nodiscard]] std::uint64_t root() const { return tables_->root(); }
  [[nodiscard]] const GuestLayout& layout() const { return *layout_; }
  [[nodiscard]] const std::shared_ptr<const GuestLayout>& shared_layout() const { return layout_; }
  [[nodiscard]] AddressRange heap() const { return layout_->heap(); }
  [[nodiscard]] AddressRange stack() const { return layout_->stack(); }
  [[nodiscard]] AddressRange call_area() const { return layout_->call_area(); }
  [[nodiscard]] std::span<std::byte> window() const { return regions_.window; }
  [[nodiscard]] std::uint32_t window_slot() const { return regions_.window_slot; }
  [[nodiscard]] std::span<std::byte> image() const { return regions_.image; }
  [[nodiscard]] const GuestRegions& regions() const { return regions_; }
  [[nodiscard]] std::size_t tables_used() const { return tables_->tables_used(); }

  /// Pages of the window the host has written since the set was last cleared; dirty tracking adds the guest's.
  [[nodiscard]] PageSet& dirty() { return dirty_; }
  void set_backing(const WindowBacking& backing) { backing_ = backing; }

 private:
  AddressSpace(std::shared_ptr<const GuestLayout> layout, const GuestRegions& regions)
      : layout_(std::move(layout)), regions_(regions), dirty_(regions.window.size() / kPage) {}
  [[nodiscard]] Status build_tables();
  [[nodiscard]] Result<Gpa> resolve(Gva address, bool write) const;
  [[nodiscard]] std::byte* find_shared(Gva address) const;
  void mark_dirty(std::uint64_t window_offset, std::uint64_t size);
  [[nodiscard]] Status forget(Gva address, std::uint64_t size);

  std::shared_ptr<const GuestLayout> layout_;
  GuestRegions regions_;
  GuestMemory memory_;
  std::optional<x86::PageTables> tables_;
  PageSet dirty_;
  WindowBacking backing_;
  bool tables_changed_ = false;
  bool overridden_ = false;  // the tables were rebuilt with overrides
};

}  // namespace warmfork
