// An LC-3 program as the tools pass it around: what goes where in memory, and where it came from. Plain values; any
// thread may use its own copy.
//
// Invariant of every Program that this library returns: no segment is empty, none reaches past xFFFF, no two overlap.
// Segments are in the order of the files and of their .ORIGs.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace warmfork::lc3 {

inline constexpr std::uint32_t kAddressSpaceWords = 0x10000;
inline constexpr std::uint16_t kVectorTablesEnd = 0x0200;

/// Consecutive words from `origin`.
struct Segment {
  std::uint16_t origin = 0;
  std::vector<std::uint16_t> words;
  std::uint32_t file = 0;  // index into Program::files

  /// One past the last address; up to 0x10000.
  [[nodiscard]] std::uint32_t end() const { return origin + static_cast<std::uint32_t>(words.size()); }
  bool operator==(const Segment&) const = default;
};

/// A label. Names compare without regard to case and are unique within a file, not across files.
struct Symbol {
  std::string name;
  std::uint16_t address = 0;
  std::uint32_t file = 0;
  bool operator==(const Symbol&) const = default;
};

/// The source of some consecutive words.
struct SourceLine {
  std::uint16_t address = 0;
  std::uint32_t word_count = 0;
  std::uint32_t line = 0;  // from 1; 0 when the file does not say
  std::uint32_t file = 0;
  std::string text;
  bool operator==(const SourceLine&) const = default;
};

struct Program {
  std::vector<std::string> files;
  std::vector<Segment> segments;
  std::vector<Symbol> symbols;
  std::vector<SourceLine> lines;

  /// Where execution starts: at the first segment that is not in the vector tables (x0000 … x01FF), so that a file may
  /// set its vectors before its code; if all are, at the first. The program has at least one segment.
  [[nodiscard]] std::uint16_t entry() const {
    for (const Segment& segment : segments) {
      if (segment.origin >= kVectorTablesEnd) return segment.origin;
    }
    return segments.front().origin;
  }
  /// The first symbol of that name, upper or lower case; nullptr if there is none.
  [[nodiscard]] const Symbol* find_symbol(std::string_view name) const;
  [[nodiscard]] std::size_t word_count() const;
};

/// Checks the invariant above. The error (kInput) names the files and addresses of the first segments that break it.
[[nodiscard]] Status check_layout(const Program& program);

/// Appends the contents of `other` to `program`. The error of overlapping segments names both files and the addresses.
[[nodiscard]] Status merge(Program& program, Program other);

}  // namespace warmfork::lc3
