// Snapshots without a KVM: of a program that has never run, with state made up for it. And what must hold for every
// snapshot a file has given.
//
//   0x400000 code, two pages | 0x403000 constants, 100 bytes | 0x404000 data, 0x1800 bytes | heap, 16 pages | …
#pragma once

#include "fork/fork_page.hpp"
#include "fork/frozen_window.hpp"
#include "fork/snapshot.hpp"
#include "fork/snapshot_format.hpp"
#include "machine/guest_storage.hpp"
#include "warmfork/abi/layout.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace warmfork::test {

/// A processor with everything: all features, or none.
inline x86::CpuModel every_processor(bool features = true) {
  x86::CpuModel cpu{{}, features ? 0xe7U : 3U, 4096, 46};
  const std::uint32_t bits = features ? ~0U : 0U;
  for (const auto& [function, index] :
       {std::pair{1U, 0U}, {7U, 0U}, {7U, 1U}, {0xdU, 1U}, {0x80000001U, 0U}, {0x80000008U, 0U}}) {
    kvm_cpuid_entry2 entry{};
    entry.function = function;
    entry.index = index;
    entry.eax = entry.ebx = entry.ecx = entry.edx = bits;
    cpu.cpuid.push_back(entry);
  }
  return cpu;
}

inline constexpr LayoutSizes kTinySizes{.heap = 16 * kPage, .stack = 2 * kPage, .call_area = kPage};
inline constexpr LayoutSizes kTinySizesWithCode{
    .heap = 16 * kPage, .stack = 2 * kPage, .call_area = kPage, .code = x86::kLargePageSize};

inline std::shared_ptr<const GuestProgram> tiny_program() {
  const auto program = std::make_shared<GuestProgram>();
  program->name = "tiny";
  program->plan.segments = {{Gva{0x400000}, 2 * kPage, {}, false, true},
                            {Gva{0x403000}, 100, {}, false, false},
                            {Gva{0x404000}, 0x1800, {}, true, false}};
  program->plan.entry = Gva{0x400010};
  program->plan.end = Gva{0x406000};
  program->plan.symbols = {{0x400010, 16, "start", true}, {0x404000, 8, "counter", false}};
  program->vmcalls = {{"count", Gva{0x400100}}, {"touch", Gva{0x400200}}};
  return program;
}

inline SnapshotParts tiny_parts(const x86::CpuModel& cpu, const LayoutSizes& sizes = kTinySizes) {
  SnapshotParts parts;
  parts.program = tiny_program();
  parts.layout = *GuestLayout::plan(parts.program->plan, sizes, cpu.physical_bits);
  parts.cpu_model = cpu;
  parts.features = x86::user_features(cpu);
  const AddressRange heap = parts.layout->heap();
  parts.book.heap = linux_abi::Heap(heap);
  (void)parts.book.heap.brk(heap.begin.value + 5000);
  (void)parts.book.heap.map(3 * kPage, heap.begin.value + 4 * kPage, false);
  (void)parts.book.heap.map(2 * kPage, 0, false);
  parts.book.fs_base = 0x404040;
  parts.book.random_bytes = Gva{parts.layout->stack().end().value - 64};
  parts.call_stack = parts.layout->stack().end().value - 256;
  parts.overrides = {{{heap.begin + 4 * kPage, kPage}, std::nullopt},
                     {{heap.begin + 5 * kPage, kPage}, x86::Access{.user = true, .write = false, .execute = false}}};
  parts.own = PageSet(parts.layout->window_bytes() / kPage);
  return parts;
}

inline void fill_page(std::span<std::byte> window, SnapshotParts& parts, std::size_t page, int value) {
  std::memset(window.data() + page * kPage, value, kPage);
  parts.own.add(page);
}

inline std::shared_ptr<const Snapshot> tiny_snapshot(const x86::CpuModel& cpu = every_processor(),
                                                     const LayoutSizes& sizes = kTinySizes) {
  SnapshotParts parts = tiny_parts(cpu, sizes);
  Mapping image = *Mapping::anonymous(parts.layout->image_bytes());
  std::memset(image.data() + WARMFORK_SYSTEM_SIZE, 0x90, image.size() - WARMFORK_SYSTEM_SIZE);
  AddressSpace::build_system_pages(*parts.layout, image.bytes());
  parts.image = std::make_shared<const Mapping>(std::move(image));
  parts.code = *CodeRegion::allocate(*parts.layout);
  std::vector<std::byte> bytes(parts.layout->window_bytes());
  for (const std::size_t page : {1U, 3U, 4U, 7U}) fill_page(bytes, parts, page, static_cast<int>(page));
  write_fork_page(std::span(bytes).first(kPage), {.x87_in_use = true, .x87_control = 0x37f, .mxcsr = 0x1f80});
  parts.own.add(0);
  FrozenWindow window = *freeze_window(bytes.size(), [&](const WriteWindow& write) { return write(0, bytes); });
  parts.window_fd = std::move(window.fd);
  parts.view = std::move(window.view);
  return *Snapshot::assemble(std::move(parts));
}

inline std::shared_ptr<const Snapshot> tiny_layer(const std::shared_ptr<const Snapshot>& base, int value = 0x5a) {
  SnapshotParts parts = tiny_parts(base->cpu_model());
  parts.program = base->program();
  parts.layout = base->layout();
  parts.image = base->shared_image();
  parts.code = base->code_region();
  parts.base = base;
  parts.view = *layer_view(*base);
  fill_page(parts.view.bytes(), parts, 3, value);
  fill_page(parts.view.bytes(), parts, 9, value + 1);
  write_fork_page(parts.view.bytes().first(kPage), {.x87_in_use = false, .x87_control = 0, .mxcsr = 0x1fa0});
  parts.own.add(0);
  (void)parts.view.make_read_only();
  return *Snapshot::assemble(std::move(parts));
}

/// Makes all checksums right, as whoever wants to be believed would. False: there is no section table to go by.
inline bool reseal(std::vector<std::byte>& file) {
  using snapshot_format::Header;
  if (file.size() < sizeof(Header)) return false;
  Header header;
  std::memcpy(&header, file.data(), sizeof header);
  for (snapshot_format::SectionEntry& section : header.sections) {
    if (section.offset > file.size() || section.size > file.size() - section.offset) continue;
    section.checksum = checksum_of(std::span(file).subspan(section.offset, section.size));
  }
  header.id = snapshot_format::id_of(header);
  std::memcpy(file.data(), &header, sizeof header);
  return true;
}

/// True if the tables of a file that has been accepted are what would be written for what they say.
inline bool is_canonical(std::span<const std::byte> file) {
  namespace format = snapshot_format;
  const auto header = format::read_header(file.first(sizeof(format::Header)), file.size());
  if (!header) return false;
  const auto section = [&](format::Section which) {
    return file.subspan(header->sections[which].offset, header->sections[which].size);
  };
  const auto metadata = format::decode_metadata(section(format::kMetadata), !header->base.empty());
  const auto runs = format::decode_index(section(format::kIndex), header->sections[format::kWindow].size);
  return metadata && runs && std::ranges::equal(format::encode_metadata(*metadata), section(format::kMetadata)) &&
         std::ranges::equal(format::encode_index(*runs), section(format::kIndex));
}

/// What a file may never give a guest, or nullptr if it has not.
inline const char* broken_promise(const Snapshot& snapshot) {
  const GuestLayout& layout = *snapshot.layout();
  auto storage = GuestStorage::allocate(layout);
  if (!storage) return "there is memory for the guest";
  auto space = AddressSpace::build(snapshot.layout(), storage->regions);
  if (!space || !(*space)->rebuild_tables(snapshot.overrides())) return "page tables can be built";
  std::size_t user_writable = 0;
  for (const GuestLayout::Piece& piece : layout.pieces()) {
    for (Gva at = piece.range.begin; at < piece.range.end(); at = at + kPage) {
      const auto where = (*space)->translate(at);
      if (!where) {
        if (!piece.protectable) return "only what a program may protect can be taken away";
        continue;
      }
      const x86::Access access = where->access;
      if (access.write && access.execute) return "nothing is writable and executable";
      if (!piece.in_window && access.write) return "the image is read-only";
      if (access.user && !piece.access.user) return "what is the host's stays the host's";
      if ((access.write && !piece.access.write) || (access.execute && !piece.access.execute)) {
        return "no access is more than the layout's";
      }
      if (!piece.protectable && access != piece.access) return "only what a program may protect differs";
      if (access.user && access.write) ++user_writable;
    }
  }
  for (const GuestLayout::SharedRegion& region : layout.shared_regions()) {
    if ((*space)->translate(region.range.begin)) return "a shared region has no memory before it is given some";
  }
  if (user_writable * kPage > layout.window_bytes()) return "there is no more writable memory than the window";
  const auto fork_page = (*space)->translate(Gva{WARMFORK_FORK_PAGE});
  if (!fork_page || !fork_page->access.user || fork_page->access.write) return "the fork page is read-only";
  if ((*space)->translate(layout.exception_stack().begin)->access.user) return "the exception stack is the host's";
  const CodeRegion& code = snapshot.code_region();
  if (code.begin != layout.code().begin || code.bytes.size() != layout.code().size) return "a code region is whole";
  if (!code.bytes.empty() && code.bytes[0] != std::byte{0}) return "a code region is empty";
  std::vector<std::byte> system(WARMFORK_SYSTEM_SIZE);
  AddressSpace::build_system_pages(layout, system);
  if (std::memcmp(system.data(), snapshot.image().data(), system.size()) != 0) return "the host makes the system pages";
  const auto state = snapshot.window().subspan(*layout.window_offset(Gva{WARMFORK_FORK_PAGE}), kPage);
  std::vector<std::byte> page(kPage);
  const PristineState pristine = PristineState::of_area(state);
  write_fork_page(page, pristine);
  if (!pristine.check() || std::memcmp(page.data(), state.data(), kPage) != 0) return "the host makes the fork page";
  if (!x86::is_user_address(snapshot.call_stack()) || snapshot.call_stack() % 16 != 0) return "calls have a stack";
  if (snapshot.book().heap.used() > layout.heap().size) return "the heap's book is of this heap";
  for (const auto& [name, function] : snapshot.program()->vmcalls) {
    const GuestLayout::Piece* piece = layout.find(function);
    if (piece == nullptr || !piece->access.execute || !piece->access.user) return "vmcalls are code";
  }
  return nullptr;
}

}  // namespace warmfork::test
