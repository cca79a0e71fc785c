#include "x86/cpuid.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace warmfork::x86 {
namespace {

constexpr std::uint32_t kAll = 0xffffffff;

kvm_cpuid_entry2 leaf(std::uint32_t function, std::uint32_t index, std::uint32_t eax, std::uint32_t ebx,
                      std::uint32_t ecx, std::uint32_t edx) {
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  entry.index = index;
  entry.eax = eax;
  entry.ebx = ebx;
  entry.ecx = ecx;
  entry.edx = edx;
  return entry;
}

std::optional<kvm_cpuid_entry2> find(const CpuModel& model, std::uint32_t function, std::uint32_t index = 0) {
  const auto found = std::ranges::find_if(
      model.cpuid, [&](const kvm_cpuid_entry2& entry) { return entry.function == function && entry.index == index; });
  return found == model.cpuid.end() ? std::nullopt : std::optional(*found);
}

// Feature bits that are gone although the processor has every one.
std::uint32_t removed(std::uint32_t offered, std::uint32_t left) {
  EXPECT_EQ(left & ~offered, 0U) << "a feature was made up";
  return offered & ~left;
}

TEST(Cpuid, TakesAwayExactlyWhatNeedsAKernel) {
  const CpuModel model =
      make_cpu_model(std::vector{leaf(1, 0, kAll, kAll, kAll, kAll), leaf(7, 0, kAll, kAll, kAll, kAll),
                                 leaf(0x80000001, 0, kAll, kAll, kAll, kAll)});
  const auto leaf1 = find(model, 1);
  const auto leaf7 = find(model, 7);
  const auto extended = find(model, 0x80000001);
  ASSERT_TRUE(leaf1 && leaf7 && extended);
  const auto bits = [](std::initializer_list<unsigned> numbers) {
    std::uint32_t mask = 0;
    for (const unsigned number : numbers) mask |= std::uint32_t{1} << number;
    return mask;
  };
  // MONITOR, VMX, PDCM, PCID, x2APIC, TSC deadline, OSXSAVE (KVM sets it with CR4)
  EXPECT_EQ(removed(kAll, leaf1->ecx), bits({3, 5, 15, 17, 21, 24, 27}));
  EXPECT_EQ(leaf1->edx, kAll);
  // FSGSBASE, TSC_ADJUST, SGX, SMEP, INVPCID, MPX, SMAP, processor trace
  EXPECT_EQ(removed(kAll, leaf7->ebx), bits({0, 1, 2, 7, 10, 14, 20, 25}));
  // PKU, OSPKE, WAITPKG, shadow stacks, five-level paging, PKS
  EXPECT_EQ(removed(kAll, leaf7->ecx), bits({3, 4, 5, 7, 16, 31}));
  // IBT and AMX (bfloat16, tiles, int8)
  EXPECT_EQ(removed(kAll, leaf7->edx), bits({20, 22, 24, 25}));
  EXPECT_EQ(removed(kAll, extended->ecx), bits({2, 29}));  // SVM, MONITORX
  EXPECT_EQ(extended->edx, kAll);                          // SYSCALL, NX and long mode stay
}

TEST(Cpuid, OtherLeavesAndSubleavesPassUnchanged) {
  const CpuModel model = make_cpu_model(
      std::vector{leaf(0, 0, 0x16, 1, 2, 3), leaf(7, 1, kAll, kAll, kAll, kAll), leaf(0x80000008, 0, 48, 5, 6, 7)});
  EXPECT_EQ(find(model, 0)->edx, 3U);
  EXPECT_EQ(find(model, 7, 1)->ecx, kAll);
  EXPECT_EQ(find(model, 0x80000008)->ebx, 5U);
  EXPECT_EQ(model.physical_bits, 48);
}

TEST(Cpuid, PerformanceMonitoringIsZeroButThere) {
  const CpuModel model = make_cpu_model(std::vector{leaf(0xa, 0, kAll, kAll, kAll, kAll)});
  const auto entry = find(model, 0xa);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->eax | entry->ebx | entry->ecx | entry->edx, 0U);
}

TEST(Cpuid, KvmLeavesAreDropped) {
  const CpuModel model = make_cpu_model(std::vector{leaf(0x3fffffff, 0, 1, 1, 1, 1), leaf(0x40000000, 0, 1, 1, 1, 1),
                                                    leaf(0x40000001, 0, 1, 1, 1, 1), leaf(0x4fffffff, 0, 1, 1, 1, 1),
                                                    leaf(0x50000000, 0, 1, 1, 1, 1)});
  EXPECT_EQ(model.cpuid.size(), 2U);
  EXPECT_TRUE(find(model, 0x3fffffff));
  EXPECT_TRUE(find(model, 0x50000000));
}

// Leaf 0xd as a processor with everything has it: states 2 (AVX), 3, 4 (MPX), 5-7 (AVX-512), 9 (PKRU), 17, 18 (AMX).
std::vector<kvm_cpuid_entry2> xsave_leaves(std::uint32_t states) {
  std::vector<kvm_cpuid_entry2> leaves{leaf(0xd, 0, states, 11008, 11008, 0xdead), leaf(0xd, 1, kAll, 1, kAll, kAll)};
  struct State {
    std::uint32_t index, size, offset;
  };
  for (const State& s :
       {State{2, 256, 576}, State{3, 64, 960}, State{4, 64, 1024}, State{5, 64, 1088}, State{6, 512, 1152},
        State{7, 1024, 1664}, State{9, 8, 2688}, State{17, 64, 2752}, State{18, 8192, 2816}}) {
    if ((states >> s.index & 1) != 0) leaves.push_back(leaf(0xd, s.index, s.size, s.offset, 0, 0));
  }
  leaves.push_back(leaf(0xd, 63, 1, 1, 1, 1));
  leaves.push_back(leaf(0xd, 64, 1, 1, 1, 1));
  return leaves;
}

TEST(Cpuid, XsaveSizeCoversExactlyTheStatesOffered) {
  struct Case {
    std::uint32_t offered;
    std::uint64_t xcr0;
    std::uint32_t size;
  };
  for (const Case& c :
       {Case{0x3, 0x3, 576}, Case{0x7, 0x7, 832}, Case{0xe7, 0xe7, 2688}, Case{0x602e7 | 0x18, 0xe7, 2688},
        Case{0x1f, 0x7, 832}, Case{0x67, 0x7, 832} /* half of AVX-512 is none */,
        Case{0xe3, 0x3, 576} /* AVX-512 without AVX is none */}) {
    SCOPED_TRACE(c.offered);
    const CpuModel model = make_cpu_model(xsave_leaves(c.offered));
    EXPECT_EQ(model.xcr0, c.xcr0);
    EXPECT_EQ(model.xsave_size, c.size);
    const auto main = find(model, 0xd);
    ASSERT_TRUE(main);
    EXPECT_EQ(main->eax, c.xcr0);
    EXPECT_EQ(main->edx, 0U);
    EXPECT_EQ(main->ecx, c.size);
    for (std::uint32_t index = 2; index <= 64; ++index) {
      const bool wanted = index < 63 && (c.xcr0 >> index & 1) != 0;
      EXPECT_EQ(find(model, 0xd, index).has_value(), wanted) << index;
    }
  }
}

TEST(Cpuid, SupervisorStatesAreNotOffered) {
  const CpuModel model = make_cpu_model(xsave_leaves(0xe7));
  const auto entry = find(model, 0xd, 1);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->eax, kAll & ~std::uint32_t{1 << 3});  // XSAVES
  EXPECT_EQ(entry->ecx, 0U);
  EXPECT_EQ(entry->edx, 0U);
}

TEST(Cpuid, WithoutLeavesThereAreX87AndSse) {
  const CpuModel model = make_cpu_model({});
  EXPECT_TRUE(model.cpuid.empty());
  EXPECT_EQ(model.xcr0, 3U);
  EXPECT_EQ(model.xsave_size, 576U);
  EXPECT_EQ(model.physical_bits, 36);
}

TEST(UserFeatures, WhatIsMissingHasANameAndTheRestDoesNotCount) {
  CpuModel with{{}, 7, 832, 40};
  kvm_cpuid_entry2 leaf{};
  leaf.function = 7;
  leaf.ebx = 1U << 5 /* AVX2 */ | 1U << 20 /* SMAP, a kernel's */;
  with.cpuid.push_back(leaf);
  const UserFeatures wanted = user_features(with);
  EXPECT_EQ(names_of(wanted), (std::vector<std::string>{"avx2", "xcr0.0", "xcr0.1", "xcr0.2"}));
  const UserFeatures none = user_features(CpuModel{{}, 3, 576, 40});
  EXPECT_EQ(names_of(missing_features(wanted, none)), (std::vector<std::string>{"avx2", "xcr0.2"}));
  EXPECT_EQ(missing_features(none, wanted), UserFeatures{});
  EXPECT_EQ(wanted | none, wanted);
  UserFeatures unknown;
  unknown.words[3] = 1U << 4;
  EXPECT_EQ(names_of(unknown), (std::vector<std::string>{"word 3 bit 4"}));
  const UserFeatures native = native_features();
  EXPECT_NE(native.words[1] & 1U << 26, 0U) << "every x86-64 processor has SSE2";
}

}  // namespace
}  // namespace warmfork::x86
