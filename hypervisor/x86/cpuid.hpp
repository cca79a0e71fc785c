// What a guest sees of the processor: the host's supported CPUID, less what a guest without a kernel must not use.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
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

}  // namespace warmfork::x86
