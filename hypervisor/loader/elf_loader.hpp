// ELF bytes -> validated plan. Reads a static x86-64 ELF executable (ET_EXEC, or static-PIE ET_DYN) and decides where
// its segments go; it maps and copies nothing. Every header field is foreign: each is checked before use, and what is
// refused is refused with one sentence.
// Sources: System V gABI, chapters 4 and 5; System V AMD64 ABI supplement.
#pragma once

#include "base/result.hpp"
#include "memory/address.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork {

struct LoadSegment {
  Gva address;                            // where its first byte goes (any alignment)
  std::uint64_t memory_size = 0;          // bytes in memory; those past the file's are zero
  std::span<const std::byte> file_bytes;  // points into the ELF image given to plan_elf
  bool write = false;
  bool execute = false;
};

/// Symbols with longer names are cut to this many bytes.
inline constexpr std::size_t kMaxSymbolName = 512;

/// A named address range of the program, for reports and for vmcalls by symbol.
struct ElfSymbol {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  std::string name;
  bool is_function = false;
};

struct LoadPlan {
  std::vector<LoadSegment> segments;  // sorted by address, no two share a page, none is writable and executable
  Gva entry;
  std::uint64_t bias = 0;  // added to every link-time address (static-PIE), else 0
  Gva program_headers;     // where the program finds its own program headers in memory (AT_PHDR), 0 if nowhere
  std::uint16_t program_header_count = 0;
  Gva end;                         // first page boundary past the last segment
  std::vector<ElfSymbol> symbols;  // sorted by address
  Gva vmcall_table_begin;          // from the warmfork note, both 0 if the program has none
  Gva vmcall_table_end;

  [[nodiscard]] const ElfSymbol* find_symbol(std::string_view name) const;
  /// "name+0x12" for the function or object that covers `address`, or empty.
  [[nodiscard]] std::string symbolize(std::uint64_t address) const;
};

/// Limits on what a program may ask for; beyond them it is refused.
struct ElfLimits {
  std::uint64_t lowest_address = 0;                        // first address a segment may use
  std::uint64_t highest_address = std::uint64_t{1} << 40;  // one past the last
  std::uint64_t memory_bytes = std::uint64_t{16} << 30;    // all segments together
  std::size_t symbols = 1U << 20;
};

/// Makes the plan. `name` is for messages. The plan points into `elf`, which must outlive it.
[[nodiscard]] Result<LoadPlan> plan_elf(std::span<const std::byte> elf, std::string_view name, const ElfLimits& limits);

}  // namespace warmfork
