// The assembler: LC-3 source text to a Program, in two passes. The first measures every statement and places every
// label, the second encodes. Pure functions; any thread.
//
// Accepted: .ORIG … .END any number of times in a file, .FILL .BLKW .STRINGZ; numbers #10 #-3 10 -3 x1F x-1 0x1F b101;
// labels with or without a colon, alone on a line or before a statement, compared without regard to case; operands
// apart by commas or blanks; comments from ';' to the end of the line; escapes \n \t \r \0 \" \\ \e in strings.
// A name that reads as a number (x1F, b101) or a register is never a label.
#pragma once

#include "base/result.hpp"
#include "lc3/asm/program.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

/// One error in a source file.
struct Diagnostic {
  std::string file;
  std::uint32_t line = 0;    // from 1
  std::uint32_t column = 0;  // from 1, in bytes
  std::string message;
  std::string source_line;
};

/// `file:line:column: message`, the line, and a caret below the column. No final newline, no colours.
[[nodiscard]] std::string format_diagnostic(const Diagnostic& diagnostic);

/// Diagnostics that are kept: a bound on memory for input that is no source at all.
inline constexpr std::size_t kMaxDiagnostics = 1000;

struct Assembly {
  Program program;                      // meaningful only if there are no diagnostics
  std::vector<Diagnostic> diagnostics;  // all of them, by line, up to kMaxDiagnostics
  std::size_t dropped_diagnostics = 0;  // how many more there were
};

/// Assembles a source and reports everything that is wrong with it. `filename` only serves to name the file.
[[nodiscard]] Assembly assemble_with_diagnostics(std::string_view source, const std::string& filename);

/// As above; the error (kInput) is the text of all diagnostics (beyond the hundredth only their number).
[[nodiscard]] Result<Program> assemble(std::string_view source, const std::string& filename);

}  // namespace warmfork::lc3
