// Comparison of vCPU states: every difference is found and named, and nothing that means the same is one.
#include "machine/vcpu_state.hpp"

#include <gmock/gmock.h>

#include <cstring>

namespace warmfork {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// An AVX-512 processor's area with everything initial but by its bytes, as a fresh vCPU's.
VcpuState example() {
  VcpuState state;
  state.from_sregs2 = true;
  state.xsave.resize(4096);
  state.xsave_layout = {{2, 576, 256}, {5, 1088, 64}, {6, 1152, 512}, {7, 1664, 1024}};
  state.msrs = {{0x10, 1000}, {0xc0000102, 0}, {0x4b564d06, std::nullopt}, {0x12345, 7}};
  state.xcrs.nr_xcrs = 1;
  state.xcrs.xcrs[0].value = 0xe7;
  return state;
}

template <class T>
void put(VcpuState& state, std::size_t offset, T value) {
  std::memcpy(state.xsave.data() + offset, &value, sizeof value);
}

void use(VcpuState& state, std::uint64_t components) { put(state, 512, components); }

TEST(VcpuState, EqualStatesHaveNoDifference) {
  EXPECT_THAT(compare(example(), example()), IsEmpty());
  EXPECT_THAT(compare(VcpuState{}, VcpuState{}), IsEmpty());
}

TEST(VcpuState, DifferencesNameRegisterAndBothValues) {
  VcpuState a = example();
  VcpuState b = example();
  a.regs.rip = 0x10110;
  b.regs.rip = 0x400123;
  b.sregs.fs.base = 0x1000;
  b.sregs.cr2 = 0x600000000000;
  b.sregs.idt.limit = 7;
  b.msrs[1].value = 0xffff;
  b.debugregs.dr6 = 0x4000;
  b.events.interrupt.shadow = 1;
  b.xcrs.xcrs[0].value = 7;
  b.mp_state.mp_state = 3;
  EXPECT_THAT(compare(a, b), ElementsAre("rip: 0x10110 != 0x400123", "fs.base: 0x0 != 0x1000", "idt.limit: 0x0 != 0x7",
                                         "cr2: 0x0 != 0x600000000000", "MSR 0xc0000102 (KERNEL_GS_BASE): 0x0 != 0xffff",
                                         "dr6: 0x0 != 0x4000", "events interrupt.shadow: 0x0 != 0x1",
                                         "xcr0: 0xe7 != 0x7", "mp_state: 0x0 != 0x3"));
}

TEST(VcpuState, EveryRegisterAndSegmentIsLookedAt) {
  const VcpuState a = example();
  const auto each_byte = [&](auto member, std::size_t size, std::size_t step) {
    for (std::size_t i = 0; i < size; i += step) {
      VcpuState b = example();
      reinterpret_cast<unsigned char*>(&(b.*member))[i] ^= 1;
      EXPECT_EQ(compare(a, b).size(), 1u) << "byte " << i;
    }
  };
  each_byte(&VcpuState::regs, sizeof(kvm_regs), 8);
  // Every byte of a segment but its padding, which is the last.
  for (std::size_t segment = 0; segment < 8; ++segment) {
    for (std::size_t i = 0; i + 1 < sizeof(kvm_segment); ++i) {
      VcpuState b = example();
      // SAFETY: byte access to a plain C structure.
      reinterpret_cast<unsigned char*>(&b.sregs)[segment * sizeof(kvm_segment) + i] ^= 1;
      EXPECT_EQ(compare(a, b).size(), 1u) << "segment " << segment << " byte " << i;
    }
  }
  for (std::size_t at = offsetof(kvm_sregs2, cr0); at < sizeof(kvm_sregs2); ++at) {
    VcpuState b = example();
    reinterpret_cast<unsigned char*>(&b.sregs)[at] ^= 1;
    EXPECT_EQ(compare(a, b).size(), 1u) << "sregs2 byte " << at;
  }
  each_byte(&VcpuState::debugregs, offsetof(kvm_debugregs, reserved), 1);
}

TEST(VcpuState, ClockIsNoDifferenceUnlessAskedFor) {
  VcpuState b = example();
  b.msrs[0].value = 2000;
  EXPECT_THAT(compare(example(), b), IsEmpty());
  EXPECT_THAT(compare(example(), b, {.clocks = true}), ElementsAre("MSR 0x10 (TSC): 0x3e8 != 0x7d0"));
}

TEST(VcpuState, UnreadableRegisterMustBeSoInBoth) {
  VcpuState b = example();
  b.msrs[2].value = 0;
  EXPECT_THAT(compare(example(), b), ElementsAre("MSR 0x4b564d06 (KVM_ASYNC_PF_INT): cannot be read != 0x0"));
  b = example();
  b.msrs[3].value.reset();
  EXPECT_THAT(compare(example(), b), ElementsAre("MSR 0x12345: 0x7 != cannot be read"));
  b.msrs.pop_back();
  EXPECT_THAT(compare(example(), b), ElementsAre("msrs: the lists differ"));
}

TEST(VcpuState, InitialComponentsAreEqualWhateverTheirBytes) {
  VcpuState a = example();
  VcpuState b = example();
  for (const std::size_t offset : {2UL, 8UL, 40UL, 170UL, 600UL, 1088UL, 1200UL, 2000UL}) put(b, offset, 0x1234);
  EXPECT_THAT(compare(a, b), IsEmpty());
  // The same bytes in use are differences, each in its place.
  use(b, 0xe7);
  put(b, 0, std::uint16_t{0x37f});
  EXPECT_THAT(compare(a, b),
              ElementsAre("xsave fsw byte 2: 0x0 != 0x1234 (2 of 2 bytes differ)",
                          "xsave fip byte 8: 0x0 != 0x1234 (2 of 8 bytes differ)",
                          "xsave st0 byte 40: 0x0 != 0x1234 (2 of 16 bytes differ)",
                          "xsave xmm0 byte 170: 0x0 != 0x1234 (2 of 16 bytes differ)",
                          "xsave component 2 (AVX) byte 600: 0x0 != 0x1234 (2 of 256 bytes differ)",
                          "xsave component 5 (opmask) byte 1088: 0x0 != 0x1234 (2 of 64 bytes differ)",
                          "xsave component 6 (ZMM_Hi256) byte 1200: 0x0 != 0x1234 (2 of 512 bytes differ)",
                          "xsave component 7 (Hi16_ZMM) byte 2000: 0x0 != 0x1234 (2 of 1024 bytes differ)"));
}

TEST(VcpuState, ComponentInUseWithItsInitialValueIsTheSame) {
  VcpuState used = example();
  use(used, 0xe7);
  put(used, 0, std::uint16_t{0x37f});
  EXPECT_THAT(compare(example(), used), IsEmpty());
  EXPECT_THAT(compare(example(), used, {.xstate_bv = true}), ElementsAre("xsave XSTATE_BV: 0x0 != 0xe7"));
  put(used, 0, std::uint16_t{0x40});  // the value after a hardware reset is not the initial one
  EXPECT_THAT(compare(example(), used), ElementsAre("xsave fcw byte 0: 0x37f != 0x40 (2 of 2 bytes differ)"));
}

TEST(VcpuState, MxcsrCountsAlsoWhereSseIsInitial) {
  VcpuState a = example();
  VcpuState b = example();
  put(a, 24, 0x1f80);
  put(b, 24, 0x9f80);
  EXPECT_THAT(compare(a, b), ElementsAre("xsave mxcsr byte 25: 0x1f != 0x9f (1 of 4 bytes differ)"));
}

TEST(VcpuState, BytesOfNoComponentAreComparedAsTheyAre) {
  VcpuState b = example();
  put(b, 464, 1);
  put(b, 520, 1);
  put(b, 900, 1);
  put(b, 4000, 1);
  EXPECT_THAT(compare(example(), b),
              ElementsAre("xsave reserved byte 464: 0x0 != 0x1 (1 of 96 bytes differ)",
                          "xsave header byte 520: 0x0 != 0x1 (1 of 64 bytes differ)",
                          "xsave outside all components byte 900: 0x0 != 0x1 (1 of 256 bytes differ)",
                          "xsave outside all components byte 4000: 0x0 != 0x1 (1 of 1408 bytes differ)"));
}

TEST(VcpuState, AreasThatCannotBeComparedAreADifference) {
  VcpuState b = example();
  b.xsave.resize(8192);
  EXPECT_THAT(compare(example(), b), ElementsAre("xsave: 4096 bytes != 8192 bytes"));
  // A layout that leads outside the area is not followed.
  VcpuState a = example();
  a.xsave_layout.push_back({18, 4096, 8192});
  a.xsave_layout.push_back({19, 0xffffffff, 0xffffffff});
  EXPECT_THAT(compare(a, a), IsEmpty());
}

}  // namespace
}  // namespace warmfork
