// What a guest sees of the processor: the host's supported CPUID, less what a guest without a kernel must not use.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace warmfork::x86 {

/// The processor as a guest gets it.
struct CpuModel {
  std::vector<kvm_cpuid_entry2> cpuid;
  std::uint64_t xcr0;          // extended states the guest may use: x87, SSE, AVX, AVX-512 where supported
  std::uint32_t xsave_size;    // bytes of an XSAVE area (standard format) for xcr0
  std::uint8_t physical_bits;  // guest-physical address width
};

/// Filters `supported` (KVM_GET_SUPPORTED_CPUID). Taken away: everything that needs a kernel or a permission the host
/// does not ask for (FSGSBASE, SMEP, SMAP, PKU, CET, AMX, SGX, MONITOR, WAITPKG, PCID, XSAVES, MPX) and the KVM leaves.
[[nodiscard]] CpuModel make_cpu_model(std::span<const kvm_cpuid_entry2> supported);

/// What a program at CPL 3 may find in CPUID and use. Not in it: what needs a kernel, names, caches, speculation
/// controls. Snapshot files hold these words: their order, and which bits can be set, belong to that format.
struct UserFeatures {
  static constexpr std::size_t kWords = 11;
  std::array<std::uint32_t, kWords> words{};
  std::uint64_t xcr0 = 0;
  friend bool operator==(const UserFeatures&, const UserFeatures&) = default;
};
[[nodiscard]] UserFeatures user_features(const CpuModel& cpu);
/// The same of the processor itself (without xcr0): on kvm-pvm CPUID answers in a guest as it does here, whatever the
/// guest's CPUID is.
[[nodiscard]] UserFeatures native_features();
[[nodiscard]] UserFeatures operator|(const UserFeatures& a, const UserFeatures& b);
/// Their names: "avx2", "xcr0.7"; a bit without a name as "word 3 bit 5".
[[nodiscard]] std::vector<std::string> names_of(const UserFeatures& features);
/// Those of `wanted` that are not `offered`.
[[nodiscard]] UserFeatures missing_features(const UserFeatures& wanted, const UserFeatures& offered);

}  // namespace warmfork::x86
