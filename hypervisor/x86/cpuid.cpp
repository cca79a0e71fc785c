#include "x86/cpuid.hpp"

#include <cpuid.h>
#include <fmt/format.h>

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

// The words of UserFeatures, and what may be set in them (Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).
struct FeatureWord {
  std::uint32_t function;
  std::uint32_t index;
  __u32 kvm_cpuid_entry2::* word;
};
constexpr std::array<FeatureWord, UserFeatures::kWords> kFeatureWords{{
    {1, 0, &kvm_cpuid_entry2::ecx},
    {1, 0, &kvm_cpuid_entry2::edx},
    {7, 0, &kvm_cpuid_entry2::ebx},
    {7, 0, &kvm_cpuid_entry2::ecx},
    {7, 0, &kvm_cpuid_entry2::edx},
    {7, 1, &kvm_cpuid_entry2::eax},
    {7, 1, &kvm_cpuid_entry2::edx},
    {0xd, 1, &kvm_cpuid_entry2::eax},
    {0x80000001, 0, &kvm_cpuid_entry2::ecx},
    {0x80000001, 0, &kvm_cpuid_entry2::edx},
    {0x80000008, 0, &kvm_cpuid_entry2::ebx},
}};
struct Feature {
  std::size_t word;
  unsigned bit;
  const char* name;
};
constexpr Feature kFeatures[] = {
    {0, 0, "sse3"},
    {0, 1, "pclmulqdq"},
    {0, 9, "ssse3"},
    {0, 12, "fma"},
    {0, 13, "cx16"},
    {0, 19, "sse4.1"},
    {0, 20, "sse4.2"},
    {0, 22, "movbe"},
    {0, 23, "popcnt"},
    {0, 25, "aes"},
    {0, 26, "xsave"},
    {0, 28, "avx"},
    {0, 29, "f16c"},
    {0, 30, "rdrand"},
    {1, 0, "fpu"},
    {1, 4, "tsc"},
    {1, 8, "cx8"},
    {1, 15, "cmov"},
    {1, 19, "clflush"},
    {1, 23, "mmx"},
    {1, 24, "fxsr"},
    {1, 25, "sse"},
    {1, 26, "sse2"},
    {2, 3, "bmi1"},
    {2, 4, "hle"},
    {2, 5, "avx2"},
    {2, 8, "bmi2"},
    {2, 9, "erms"},
    {2, 11, "rtm"},
    {2, 16, "avx512f"},
    {2, 17, "avx512dq"},
    {2, 18, "rdseed"},
    {2, 19, "adx"},
    {2, 21, "avx512ifma"},
    {2, 23, "clflushopt"},
    {2, 24, "clwb"},
    {2, 26, "avx512pf"},
    {2, 27, "avx512er"},
    {2, 28, "avx512cd"},
    {2, 29, "sha"},
    {2, 30, "avx512bw"},
    {2, 31, "avx512vl"},
    {3, 0, "prefetchwt1"},
    {3, 1, "avx512vbmi"},
    {3, 6, "avx512vbmi2"},
    {3, 8, "gfni"},
    {3, 9, "vaes"},
    {3, 10, "vpclmulqdq"},
    {3, 11, "avx512vnni"},
    {3, 12, "avx512bitalg"},
    {3, 14, "avx512vpopcntdq"},
    {3, 22, "rdpid"},
    {3, 25, "cldemote"},
    {3, 27, "movdiri"},
    {3, 28, "movdir64b"},
    {4, 2, "avx5124vnniw"},
    {4, 3, "avx5124fmaps"},
    {4, 4, "fsrm"},
    {4, 8, "avx512vp2intersect"},
    {4, 14, "serialize"},
    {4, 16, "tsxldtrk"},
    {4, 23, "avx512fp16"},
    {5, 0, "sha512"},
    {5, 1, "sm3"},
    {5, 2, "sm4"},
    {5, 3, "raoint"},
    {5, 4, "avxvnni"},
    {5, 5, "avx512bf16"},
    {5, 7, "cmpccxadd"},
    {5, 10, "fzrm"},
    {5, 11, "fsrs"},
    {5, 12, "fsrc"},
    {5, 23, "avxifma"},
    {6, 4, "avxvnniint8"},
    {6, 5, "avxneconvert"},
    {6, 10, "avxvnniint16"},
    {6, 14, "prefetchi"},
    {6, 19, "avx10"},
    {7, 0, "xsaveopt"},
    {7, 1, "xsavec"},
    {7, 2, "xgetbv1"},
    {8, 0, "lahf"},
    {8, 5, "lzcnt"},
    {8, 6, "sse4a"},
    {8, 7, "misalignsse"},
    {8, 8, "prefetchw"},
    {8, 11, "xop"},
    {8, 16, "fma4"},
    {8, 21, "tbm"},
    {9, 11, "syscall"},
    {9, 22, "mmxext"},
    {9, 27, "rdtscp"},
    {9, 29, "lm"},
    {9, 30, "3dnowext"},
    {9, 31, "3dnow"},
    {10, 0, "clzero"},
    {10, 4, "rdpru"},
};

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

UserFeatures user_features(const CpuModel& cpu) {
  UserFeatures features;
  features.xcr0 = cpu.xcr0;
  for (const kvm_cpuid_entry2& entry : cpu.cpuid) {
    for (const Feature& feature : kFeatures) {
      const FeatureWord& word = kFeatureWords[feature.word];
      if (entry.function == word.function && entry.index == word.index) {
        features.words[feature.word] |= entry.*word.word & bit(feature.bit);
      }
    }
  }
  return features;
}

UserFeatures native_features() {
  CpuModel native{{}, 0, 0, 0};
  for (const FeatureWord& word : kFeatureWords) {
    kvm_cpuid_entry2 entry{};
    entry.function = word.function;
    entry.index = word.index;
    if (__get_cpuid_count(word.function, word.index, &entry.eax, &entry.ebx, &entry.ecx, &entry.edx) != 0) {
      native.cpuid.push_back(entry);
    }
  }
  return user_features(native);
}

UserFeatures operator|(const UserFeatures& a, const UserFeatures& b) {
  UserFeatures both = a;
  for (std::size_t i = 0; i < UserFeatures::kWords; ++i) both.words[i] |= b.words[i];
  both.xcr0 |= b.xcr0;
  return both;
}

std::vector<std::string> names_of(const UserFeatures& features) {
  std::vector<std::string> names;
  UserFeatures unnamed = features;
  for (const Feature& feature : kFeatures) {
    if ((features.words[feature.word] & bit(feature.bit)) == 0) continue;
    names.emplace_back(feature.name);
    unnamed.words[feature.word] &= ~bit(feature.bit);
  }
  for (std::size_t word = 0; word < UserFeatures::kWords; ++word) {
    for (unsigned i = 0; i < 32; ++i) {
      if ((unnamed.words[word] & bit(i)) != 0) names.push_back(fmt::format("word {} bit {}", word, i));
    }
  }
  for (unsigned i = 0; i < 64; ++i) {
    if ((features.xcr0 >> i & 1) != 0) names.push_back(fmt::format("xcr0.{}", i));
  }
  return names;
}

UserFeatures missing_features(const UserFeatures& wanted, const UserFeatures& offered) {
  UserFeatures missing;
  for (std::size_t i = 0; i < UserFeatures::kWords; ++i) missing.words[i] = wanted.words[i] & ~offered.words[i];
  missing.xcr0 = wanted.xcr0 & ~offered.xcr0;
  return missing;
}

}  // namespace warmfork::x86
