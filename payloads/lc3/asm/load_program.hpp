// Programs from files. Reads files; otherwise as pure as the readers it joins. Any thread.
#pragma once

#include "base/result.hpp"
#include "lc3/asm/program.hpp"

#include <span>
#include <string>

namespace warmfork::lc3 {

/// Largest file that is read, in bytes.
inline constexpr std::size_t kMaxSourceBytes = std::size_t{16} << 20;

/// Reads one or more files and merges them in the order given; execution starts at Program::entry().
/// `.asm` is assembled; `.obj` is read in either object format, with the `.sym` file beside it if there is one; a
/// `.sym` given by itself adds its symbols to the program. Names compare without regard to case. Errors are kInput,
/// name the file, and for overlapping segments both files and the addresses; a list without a segment is an error.
[[nodiscard]] Result<Program> load_program(std::span<const std::string> paths);

}  // namespace warmfork::lc3
