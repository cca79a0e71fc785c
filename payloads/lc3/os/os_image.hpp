// warmfork's own LC-3 operating system, assembled at build time from the .asm files of this folder. Host side; any
// thread.
//
//   x0000  trap vectors                         x0200  trap routines (traps_edition_2.asm, traps_edition_3.asm)
//   x0100  exception and interrupt vectors      x0500  what ends a program with a message (fatal.asm)
//   x3000  the supervisor stack grows down from here; the OS lies below x0700
#pragma once

#include "lc3/asm/program.hpp"
#include "lc3/core/instruction.hpp"

namespace warmfork::lc3 {

/// The OS for an edition: segments and symbols, no source lines. Load it before the program. The reference stays valid.
[[nodiscard]] const Program& os_image(Edition edition);

}  // namespace warmfork::lc3
