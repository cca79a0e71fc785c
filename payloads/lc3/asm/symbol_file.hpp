// Symbol files (.sym), read and written. Pure functions; any thread.
//
//   // Symbol table
//   // Scope level 0:
//   //	Symbol Name       Page Address
//   //	----------------  ------------
//   //	LOOP              3003
//
// The reader takes every line `// NAME ADDRESS` with a hexadecimal address (an 'x' before it is accepted) for a symbol,
// and passes over the headings. Other assemblers allow names that ours does not, so a name is any 1 to 64 printable
// ASCII characters without blanks. Anything else is refused: addresses past xFFFF, names given twice with different
// addresses.
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
