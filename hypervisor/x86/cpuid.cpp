#include "x86/cpuid.hpp"

#include <algorithm>

namespace warmfork::x86 {
namespace {

// XCR0 bits (AMD APM vol. 2, 11.5.2; Intel SDM vol. 1, 13.3).
constexpr std::uint64_t kX87 = 1U << 0;
constexpr std::uint64_t kSse = 1U << 1;
constexpr std::uint64_t kAvx = 1U << 2;
constexpr std::uint64_t kAvx512 = 0b111U << 5;

constexpr std::uint32_t bit(unsigned number) { return std::uint32_t{1} << number; }

// Registers of leaf 1 (Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).
constexpr std::uint32_t kLeaf1EcxOff = bit(3) /* MONITOR */ | bit(5) /* VMX */ | bit(15) /* PDCM */ |
                                       bit(17) /* PCID */ | bit(21) /* x2APIC */ | bit(24) /* TSC deadline */ |
                                       bit(27) /* OSXSAVE, set by KVM */;
constexpr std::uint32_t kLeaf7EbxOff = bit(0) /* FSGSBASE */ | bit(1) /* TSC_ADJUST */ | bit(2) /* SGX */ |
                                       bit(7) /* SMEP */ | bit(10) /* INVPCID */ | bit(14) /* MPX */ |
                                       bit(20) /* SMAP */ | bit(25) /* PT */;
constexpr std::uint32_t kLeaf7EcxOff = bit(3) /* PKU */ | bit(4) /* OSPKE */ | bit(5) /* WAITPKG */ |
                                       bit(7) /* SHSTK */ | bit(16) /* LA57 */ | bit(31) /* PKS */;
constexpr std::uint32_t kLeaf7EdxOff =
    bit(20) /* IBT */ | bit(22) /* AMX-BF16 */ | bit(24) /* AMX-TILE */ | bit(25) /* AMX-INT8 */;
constexpr std::uint32_t kLeaf13EaxOff = bit(3) /* XSAVES */;
constexpr std::uint32_t kExtended1EcxOff = bit(2) /* SVM */ | bit(29) /* MONITORX */;

}  // namespace

CpuModel make_cpu_model(std::span<const kvm_cpuid_entry2> supported) {
  std::uint64_t offered = kX87 | kSse;
  std::uint8_t physical_bits = 36;
  for (const kvm_cpuid_entry2& entry : supported) {
    if (entry.function == 0xd && entry.index == 0) offered = entry.eax | std::uint64_t{entry.edx} << 32;
    if (entry.function == 0x80000008) physical_bits = static_cast<std::uint8_t>(entry.eax & 0xff);
  }
  CpuModel model{{}, offered & (kX87 | kSse | kAvx), 576, physical_bits};
  if ((offered & kAvx512) == kAvx512 && (offered & kAvx) != 0) model.xcr0 |= kAvx512;

  for (kvm_cpuid_entry2 entry : supported) {
    switch (entry.function) {
      case 0x1: entry.ecx &= ~kLeaf1EcxOff; break;
      case 0x7:
        if (entry.index == 0) {
          entry.ebx &= ~kLeaf7EbxOff;
          entry.ecx &= ~kLeaf7EcxOff;
          entry.edx &= ~kLeaf7EdxOff;
        }
        break;
      case 0xa: entry.eax = entry.ebx = entry.ecx = entry.edx = 0; break;  // no performance monitoring
      case 0xd:
        if (entry.index == 0) {
          entry.eax = static_cast<std::uint32_t>(model.xcr0);
          entry.edx = 0;
        } else if (entry.index == 1) {
          entry.eax &= ~kLeaf13EaxOff;
          entry.ecx = entry.edx = 0;
        } else if (entry.index >= 63 || (model.xcr0 >> entry.index & 1) == 0) {
          continue;
        } else {
          model.xsave_size = std::max(model.xsave_size, entry.ebx + entry.eax);  // offset + size of the component
        }
        break;
      case 0x80000001: entry.ecx &= ~kExtended1EcxOff; break;
      default: break;
    }
    // KVM's own leaves promise para-virtual services a guest without a kernel cannot use.
    if (entry.function >= 0x40000000 && entry.function < 0x50000000) continue;
    model.cpuid.push_back(entry);
  }
  for (kvm_cpuid_entry2& entry : model.cpuid) {
    if (entry.function == 0xd && entry.index == 0) entry.ecx = model.xsave_size;
  }
  return model;
}

}  // namespace warmfork::x86
