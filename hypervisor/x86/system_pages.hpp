// Builds the system pages of abi/layout.h: GDT, TSS with I/O bitmap, IDT, exception stubs, user stubs. Pure: bytes in,
// bytes out. They lie in a read-only memory slot, so every bit the processor might set (accessed, busy) is preset.
//
// Sources: AMD APM vol. 2, 4.8.3 "System Descriptors (Long Mode)", 4.8.4 "Gate Descriptors (Long Mode)", 12.2.5
// "64-Bit Task State Segment", 12.2.4 "I/O-permission bitmap"; Intel SDM vol. 3, 6.14.1 "64-Bit Mode IDT", 8.7 "Task
// Management in 64-bit Mode", vol. 1, 19.5.2 "I/O Permission Bit Map".
#pragma once

#include "warmfork/abi/layout.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork::x86 {

/// Where the TSS lies in the GDT page, and its size without and with the I/O bitmap for ports 0x00 … 0xff.
inline constexpr std::size_t kTssOffset = 0x100;
inline constexpr std::size_t kTssFixedSize = 104;
inline constexpr std::size_t kIoBitmapSize = 256 / 8 + 1;  // one byte of ones ends it; ports above are beyond the limit
inline constexpr std::uint32_t kTssLimit = kTssFixedSize + kIoBitmapSize - 1;
inline constexpr std::uint16_t kIdtLimit = WARMFORK_EXCEPTION_COUNT * 16 - 1;

/// Writes all system pages into `pages` (WARMFORK_SYSTEM_SIZE bytes, zeroed). `base` is the guest-virtual address they
/// are mapped at, `exception_stack_top` the address exceptions push below (16-byte aligned), `user_stubs` the machine
/// code of the user stub page (at most a page).
void build_system_pages(std::span<std::byte> pages, std::uint64_t base, std::uint64_t exception_stack_top,
                        std::span<const std::byte> user_stubs);

/// True if exceptions with this vector push an error code (AMD APM vol. 2, table 8-1; Intel SDM vol. 3, table 6-1).
[[nodiscard]] constexpr bool pushes_error_code(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30;
}

/// "page fault", "invalid opcode", …
[[nodiscard]] const char* exception_name(unsigned vector);

}  // namespace warmfork::x86
