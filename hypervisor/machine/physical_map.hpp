// The guest-physical map of every machine: where its slots lie. The window is last, so that it may be as large as the
// processor's address width allows; where many windows share a machine (fork/space_vm.hpp), they follow each other.
#pragma once

#include "memory/address.hpp"

#include <cstddef>
#include <cstdint>

namespace warmfork {

inline constexpr Gpa kImageGpa{0x0010'0000};  // the code region follows, at a multiple of 2 MiB
inline constexpr Gpa kTablesGpa{0x8000'0000};
inline constexpr Gpa kWindowGpa{0x1'0000'0000};  // shared regions follow the last one

inline constexpr std::uint32_t kImageSlot = 0;
inline constexpr std::uint32_t kTablesSlot = 1;
inline constexpr std::uint32_t kCodeSlot = 2;    // where there is a code region
inline constexpr std::uint32_t kWindowSlot = 3;  // the first of as many as there are windows
/// Of shared regions, in a VM with room for so many windows.
[[nodiscard]] constexpr std::uint32_t first_shared_slot(std::size_t windows) {
  return kWindowSlot + static_cast<std::uint32_t>(windows);
}

}  // namespace warmfork
