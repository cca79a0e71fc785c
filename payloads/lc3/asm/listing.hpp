// A Program as assembler source. Pure; any thread.
#pragma once

#include "lc3/asm/program.hpp"

#include <string>

namespace warmfork::lc3 {

/// The whole program as source text: one line per word, its address and value in a comment, labels where the program
/// has symbols (of equal names only the first) and L_xxxx where an instruction refers to a word of the program that has
/// none. Assembling the text gives the same segments again.
[[nodiscard]] std::string disassemble(const Program& program);

}  // namespace warmfork::lc3
