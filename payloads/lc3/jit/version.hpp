// Puts a code version together (warmfork/lc3/code.hpp) where machines will find it.
#pragma once

#include "base/result.hpp"
#include "lc3/jit/frontend.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/machine_code.hpp"
#include "warmfork/lc3/code.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork::lc3::jit {

/// Bytes that a version of this unit takes.
[[nodiscard]] std::size_t version_bytes(const Unit& unit, const MachineCode& code);

/// Writes the version to `out`, which nobody uses yet and whose first kCodeText bytes are zero; its words are those of
/// `source`. Errors (kLimit): no room.
[[nodiscard]] Status write_version(const Unit& unit, const MachineCode& code, const Source& source, std::uint64_t id,
                                   std::span<std::byte> out);

}  // namespace warmfork::lc3::jit
