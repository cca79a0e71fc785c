// What KVM tells about a vCPU: complete, the same when nothing has run, and possible to put back.
#include "machine/vcpu_state.hpp"

#include "machine_test.hpp"
#include "warmfork/abi/layout.h"

#include <gmock/gmock.h>

#include <set>

namespace warmfork::test {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class VcpuStates : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    auto context = CaptureContext::create(system());
    ASSERT_TRUE(context) << context.error().message;
    context_ = std::move(*context);
  }

  VcpuState captured(Machine& machine) {
    auto state = capture(machine.vcpu(), context_);
    EXPECT_TRUE(state) << (state ? "" : state.error().message);
    return state ? std::move(*state) : VcpuState{};
  }

  CaptureContext context_;
};

TEST_F(VcpuStates, TwoCapturesWithoutARunAreTheSame) {
  for (const bool sregs2 : {true, false}) {
    const auto machine = make_ready("probe_calls");
    ASSERT_NE(machine, nullptr);
    context_.has_sregs2 = context_.has_sregs2 && sregs2;
    const VcpuState first = captured(*machine);
    EXPECT_FALSE(first.msrs.empty());
    EXPECT_THAT(compare(first, captured(*machine), {.xstate_bv = true}), IsEmpty());
  }
}

// The evidence for is_clock_msr(): what it names moves although nothing runs, and nothing else does.
TEST_F(VcpuStates, OnlyClocksMoveByThemselves) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  const VcpuState first = captured(*machine);
  std::set<std::uint32_t> still;
  for (const MsrValue& msr : first.msrs) {
    if (is_clock_msr(msr.index)) still.insert(msr.index);
  }
  EXPECT_TRUE(still.contains(0x10));
  // One of them is the time this thread has used; the kernel counts it in ticks of some milliseconds.
  for (int round = 0; round < 100'000 && !still.empty(); ++round) {
    const VcpuState now = captured(*machine);
    ASSERT_THAT(compare(first, now), IsEmpty());
    for (std::size_t i = 0; i < now.msrs.size(); ++i) {
      if (now.msrs[i].value != first.msrs[i].value) still.erase(now.msrs[i].index);
    }
  }
  EXPECT_THAT(still, IsEmpty()) << "these do not move, so they must be compared";
}

// Two machines that have done the same cannot be told apart by their vCPUs.
TEST_F(VcpuStates, MachinesOfOneKindAreTheSame) {
  const auto first =
      make_ready("probe_calls", {.process = {.arguments = {}, .environment = {}, .seed = 1, .trace = {}}});
  const auto second =
      make_ready("probe_calls", {.process = {.arguments = {}, .environment = {}, .seed = 1, .trace = {}}});
  ASSERT_TRUE(first && second);
  EXPECT_THAT(compare(captured(*first), captured(*second)), IsEmpty());
}

// Each register the host changes by the ioctl of its class is found by its name, and restored.
TEST_F(VcpuStates, RestoreUndoesAChangeOfEveryClass) {
  for (const bool sregs2 : {true, false}) {
    SCOPED_TRACE(sregs2 ? "KVM_GET_SREGS2" : "KVM_GET_SREGS");
    const auto machine = make_ready("probe_calls");
    ASSERT_NE(machine, nullptr);
    context_.has_sregs2 = context_.has_sregs2 && sregs2;
    kvm::VcpuFd& vcpu = machine->vcpu();
    const VcpuState clean = captured(*machine);

    kvm_regs regs = clean.regs;
    regs.r15 ^= 0x1234;
    ASSERT_TRUE(vcpu.set_regs(regs));
    auto sregs = vcpu.sregs();
    ASSERT_TRUE(sregs);
    sregs->cr2 = 0xdead000;
    sregs->gs.base = 0x1000;
    ASSERT_TRUE(vcpu.set_sregs(*sregs));
    const std::uint64_t xcr0 = clean.xcrs.xcrs[0].value;
    ASSERT_TRUE(vcpu.set_xcr0(xcr0 == 1 ? 3 : 1));
    std::vector<std::byte> area = clean.xsave;
    const auto put = [&](std::size_t offset, auto value) { std::memcpy(&area[offset], &value, sizeof value); };
    put(512, std::uint64_t{3});  // x87 and SSE are in use
    put(0, std::uint16_t{0x27f});
    put(24, std::uint32_t{0x9fc0});
    put(32 + 2 * 16, std::uint64_t{0xbb});
    put(160 + 3 * 16, std::uint64_t{0xaa});
    ASSERT_TRUE(vcpu.set_xsave(area));
    kvm_debugregs debug = clean.debugregs;
    debug.db[0] = 0x400000;
    debug.dr6 |= 0x4000;
    ASSERT_TRUE(vcpu.set_debugregs(debug));
    ASSERT_TRUE(vcpu.set_msrs(std::array{kvm::Msr{0xc0000102, 0x7000}, kvm::Msr{0x174, 0x10}}));
    kvm_vcpu_events events = clean.events;
    events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
    events.interrupt.shadow = 1;
    ASSERT_TRUE(vcpu.set_events(events));

    const auto differences = compare(clean, captured(*machine));
    for (const char* name :
         {"r15: ", "cr2: ", "gs.base: ", "xcr0: ", "xsave fcw ", "xsave mxcsr ", "xsave xmm3 ", "xsave st2 ", "dr0: ",
          "dr6: ", "MSR 0xc0000102 (KERNEL_GS_BASE): ", "MSR 0x174 (SYSENTER_CS): ", "events interrupt.shadow: "}) {
      EXPECT_THAT(differences, Contains(StartsWith(name)));
    }
    const auto restored = restore(vcpu, clean);
    ASSERT_TRUE(restored) << restored.error().message;
    EXPECT_THAT(compare(clean, captured(*machine), {.xstate_bv = true}), IsEmpty());
    const auto nothing = machine->find_vmcall("nothing");
    ASSERT_TRUE(nothing);
    const auto called = machine->call(*nothing, {}, {.timeout_ns = kTimeout});
    EXPECT_TRUE(called) << called.error().message;
  }
}

// What KVM refuses of a hand-made XSAVE area: a component that the vCPU's CPUID does not offer, reserved bits of MXCSR
// where SSE is in use.
TEST_F(VcpuStates, XsaveAreasMadeByHandAreTakenWithinTheGuestsCpuid) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  kvm::VcpuFd& vcpu = machine->vcpu();
  const auto area = [&](std::uint64_t components, std::uint32_t mxcsr) {
    std::vector<std::byte> bytes(context_.xsave_size);
    std::memcpy(&bytes[24], &mxcsr, sizeof mxcsr);
    std::memcpy(&bytes[512], &components, sizeof components);
    return bytes;
  };
  EXPECT_TRUE(vcpu.set_xsave(area(0, 0x1f80)));
  EXPECT_TRUE(vcpu.set_xsave(area(7, 0x1f80)));
  const auto foreign = vcpu.set_xsave(area(std::uint64_t{1} << 9 /* PKRU */, 0x1f80));
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().message, HasSubstr("KVM_SET_XSAVE (4096 bytes, XSTATE_BV 0x200, mxcsr 0x1f80)"));
  EXPECT_FALSE(vcpu.set_xsave(area(2, 0xffffffff)));
  EXPECT_FALSE(vcpu.set_xsave({}));
}

// A port read that was never answered: KVM would write its result into whatever registers come next.
TEST_F(VcpuStates, RestoreLeavesNoUnfinishedExit) {
  const auto machine = make("probe_foreign_port", {"41", "in", "8"});
  ASSERT_NE(machine, nullptr);
  const VcpuState fresh = captured(*machine);
  ASSERT_FALSE(machine->boot({.timeout_ns = kTimeout}));
  kvm::VcpuFd& vcpu = machine->vcpu();
  EXPECT_THAT(compare(fresh, captured(*machine)), Contains(StartsWith("rip: ")));
  ASSERT_TRUE(restore(vcpu, fresh));
  EXPECT_THAT(compare(fresh, captured(*machine)), IsEmpty());
  // The next KVM_RUN starts from exactly these registers.
  vcpu.request_immediate_exit();
  vcpu.shared().kvm_dirty_regs = 0;
  EXPECT_EQ(vcpu.run_raw(), EINTR);
  vcpu.clear_immediate_exit();
  EXPECT_THAT(compare(fresh, captured(*machine)), IsEmpty());  // XSTATE_BV: the processor has had the registers since
}

}  // namespace
}  // namespace warmfork::test
