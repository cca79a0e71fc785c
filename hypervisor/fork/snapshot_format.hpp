// The format of snapshot files: bytes <-> values. Pure; snapshot_file.hpp does the reading and writing.
//
//   0x0000  header    magic "warmfork\r\n\x1a\nsnap" | format version | ABI version | header size | sections |
//                     file size | 0 | the base's id (0: none) | section table | 0 … | checksum of all before it: the id
//   0x1000  metadata  processor features the program may have found, heap book, FS and GS base, call stack, x87 and
//   MXCSR, page protections;
//                     not in a layer: the program (name, segments, vmcalls, symbols), sizes of heap, stack, call
//                     area and code region, shared regions, checksum of the system pages
//   …       index     which pages of the window follow: (first page, count) …, ascending, with gaps between
//   …       image     the read-only segments: all of the image but the system pages; not in a layer
//   …       window    the pages of the index
//
// Everything is little-endian and every section whole pages, padded with zeros, one behind the other, each with its
// checksum in the table. The id of a snapshot is the checksum of its header, and so stands for all of its bytes. A
// layer holds the pages that differ from its base, and the base's id; it has the base's program and sizes.
//
// Not in the file, because the host makes them itself: page tables, layout (addresses, access rights, guard pages),
// descriptor tables and stubs, the fork page. Nor what the host has written into the code region, which it can do
// again: of that the file has the size. Nor what is behind shared regions: of them it has names, sizes and access, and
// a fork of what is loaded has what it is given for them. So no file can give a guest more than a program file could.
// What is in the file is foreign: every field is checked before it is used, and what is accepted is encoded to the same
// bytes.
//
// Any change of this format is a new kFormatVersion.
#pragma once

#include "base/result.hpp"
#include "fork/checksum.hpp"
#include "fork/fork_page.hpp"
#include "machine/address_space.hpp"
#include "machine/guest_layout.hpp"
#include "machine/linux/process.hpp"
#include "machine/program.hpp"
#include "memory/page_set.hpp"
#include "x86/cpuid.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace warmfork::snapshot_format {

inline constexpr std::uint32_t kFormatVersion = 3;
inline constexpr std::size_t kSections = 4;
enum Section : std::size_t { kMetadata, kIndex, kImage, kWindow };
inline constexpr std::array<const char*, kSections> kSectionNames{"metadata", "index", "image", "window"};
/// Of metadata and of the index, each.
inline constexpr std::uint64_t kMaxTableBytes = std::uint64_t{256} << 20;

struct SectionEntry {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  Checksum checksum;
};

/// The first page of a file, as it is there.
struct Header {
  std::array<char, 16> magic{};
  std::uint32_t format_version = 0;
  std::uint32_t abi_version = 0;
  std::uint32_t header_size = 0;
  std::uint32_t section_count = 0;
  std::uint64_t file_size = 0;
  std::uint64_t reserved = 0;
  Checksum base;
  std::array<SectionEntry, kSections> sections{};
  std::array<std::byte, 3888> zero{};
  Checksum id;
};
static_assert(sizeof(Header) == kPage && offsetof(Header, id) == kPage - sizeof(Checksum));

/// A section's size and checksum; where it lies follows from the sizes.
struct SectionSummary {
  std::uint64_t size = 0;
  Checksum checksum;
};
[[nodiscard]] Header make_header(const std::array<SectionSummary, kSections>& sections, const Checksum& base);
/// What the id must be.
[[nodiscard]] Checksum id_of(const Header& header);
/// Reads the first bytes of a file of `file_size` bytes. Errors: kInput, kUnsupported (another version).
[[nodiscard]] Result<Header> read_header(std::span<const std::byte> bytes, std::uint64_t file_size);

/// The part of a snapshot's state that is no memory.
struct Metadata {
  x86::UserFeatures features;
  std::uint64_t heap_break = 0;
  std::map<std::uint64_t, std::uint64_t> heap_mappings;  // begin -> end
  std::uint64_t fs_base = 0;
  std::uint64_t gs_base = 0;
  Gva random_bytes;
  std::uint64_t call_stack = 0;
  PristineState pristine;
  std::vector<AddressSpace::Override> overrides;

  /// Of a snapshot of a master: what the layout and the image are made from.
  struct Program {
    std::shared_ptr<const GuestProgram> program;
    LayoutSizes sizes;
    Checksum system_pages;
  };
  std::optional<Program> program;
};

/// Whole pages.
[[nodiscard]] std::vector<std::byte> encode_metadata(const Metadata& metadata);
/// Errors (kInput). What depends on the layout is not checked yet: check_metadata().
[[nodiscard]] Result<Metadata> decode_metadata(std::span<const std::byte> bytes, bool layer);

/// The heap, thread and protection state as a guest of this layout can have it. Errors (kInput).
[[nodiscard]] Status check_metadata(const Metadata& metadata, const GuestLayout& layout);
[[nodiscard]] Result<linux_abi::Process::Book> book_of(const Metadata& metadata, const GuestLayout& layout);

/// Consecutive pages of the window.
struct PageRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};
[[nodiscard]] std::vector<PageRun> runs_of(const PageSet& pages);
[[nodiscard]] std::vector<std::byte> encode_index(std::span<const PageRun> runs);
/// Errors (kInput): not ascending, or not as many pages as `window_bytes` of the window section hold.
[[nodiscard]] Result<std::vector<PageRun>> decode_index(std::span<const std::byte> bytes, std::uint64_t window_bytes);
/// Errors (kInput): pages past the window, or the fork page, which is the host's.
[[nodiscard]] Status check_index(std::span<const PageRun> runs, const GuestLayout& layout);

}  // namespace warmfork::snapshot_format
