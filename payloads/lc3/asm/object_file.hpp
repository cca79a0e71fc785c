// Object files, read and written. Pure functions over bytes; any thread.
//
//   classic     big-endian words, the first is the origin: one segment per file, no symbols
//   +--------+--------+-----
//   | origin | word 0 | ...
//   +--------+--------+-----
//   lc3tools    1C 30 15 C0 01 | 01 01 | records; numbers little-endian
//   record      u16 value | u8 is_origin (0 or 1) | u32 length | `length` bytes of the source line
//
// Readers treat bytes as hostile: every length is checked against what is left before it is used.
#pragma once

#include "base/result.hpp"
#include "lc3/asm/program.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3 {

/// Whether the bytes start with the magic of lc3tools; if not, they can only be a classic object file.
[[nodiscard]] bool is_lc3tools_object(std::span<const std::byte> bytes);

/// Reads an object file of either format. `filename` only serves to name the file. The error (kInput) says in one
/// sentence what is wrong: empty, odd length, truncated record, no words, past xFFFF, overlapping segments.
[[nodiscard]] Result<Program> read_object(std::span<const std::byte> bytes, const std::string& filename);

/// A segment as a classic object file. Precondition: a segment of a valid Program.
[[nodiscard]] std::vector<std::byte> write_classic_object(const Segment& segment);

/// A whole program as an lc3tools object file, with its source lines.
[[nodiscard]] std::vector<std::byte> write_lc3tools_object(const Program& program);

}  // namespace warmfork::lc3
