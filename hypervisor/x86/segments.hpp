// The segment registers and selectors of a guest: one flat 64-bit code and data segment per ring, one task state
// segment. Selectors follow Linux's numbers. Pure data, no KVM call.
// Sources: AMD APM vol. 2, 4.7 "Legacy Segment Descriptors", 4.8 "Long-Mode Segment Descriptors"; Intel SDM vol. 3,
// 3.4.5 "Segment Descriptors", 8.2.3 "TSS Descriptor in 64-bit mode".
#pragma once

#include <linux/kvm.h>

#include <cstdint>

namespace warmfork::x86 {

inline constexpr std::uint16_t kKernelCode = 0x10;
inline constexpr std::uint16_t kKernelData = 0x18;  // SYSCALL loads SS with STAR[47:32] + 8
inline constexpr std::uint16_t kUserData = 0x28 | 3;
inline constexpr std::uint16_t kUserCode = 0x30 | 3;
inline constexpr std::uint16_t kTaskState = 0x40;  // 16 bytes: entries 8 and 9
inline constexpr std::uint16_t kGdtLimit = 0x50 - 1;

/// CS for 64-bit code at privilege level `level` (0 or 3).
[[nodiscard]] kvm_segment code_segment(unsigned level);
/// SS, DS, ES, FS or GS for data at privilege level `level` (0 or 3), with `base` (FS and GS only).
[[nodiscard]] kvm_segment data_segment(unsigned level, std::uint64_t base = 0);
/// TR: a busy 64-bit TSS at `base`; `limit` is its size minus one.
[[nodiscard]] kvm_segment task_segment(std::uint64_t base, std::uint32_t limit);
/// LDTR: unusable.
[[nodiscard]] kvm_segment no_segment();

}  // namespace warmfork::x86
