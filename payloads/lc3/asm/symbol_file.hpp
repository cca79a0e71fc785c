// Symbol files (.sym), read and written. Pure functions; any thread.
//
//   // Symbol table
//   // Scope level 0:
//   //	Symbol Name       Page Address
//   //	----------------  ------------
//   //	LOOP              3003
//
// The reader takes every line `// NAME ADDRESS` with a hexadecimal address of one to four digits (an 'x' before it is
// accepted) for a symbol, passes over the headings, and refuses anything else: names that no source could define,
// addresses past xFFFF, names given twice with different addresses.
#pragma once

#include "base/result.hpp"
#include "lc3/asm/program.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

/// The error (kInput) names file and line. Symbols come with file index 0.
[[nodiscard]] Result<std::vector<Symbol>> read_symbols(std::string_view text, const std::string& filename);

[[nodiscard]] std::string write_symbols(const std::vector<Symbol>& symbols);

}  // namespace warmfork::lc3
