// The backend probe: it answers on every KVM, and its answers agree with what machines see.
#include "machine/backend_probe.hpp"
#include "machine/raw_guest.hpp"
#include "machine_test.hpp"
#include "warmfork/abi/layout.h"

namespace warmfork::test {
namespace {

class BackendProbe : public MachineTest {};

TEST_F(BackendProbe, AnswersTheSameTwice) {
  const auto first = probe_backend(system());
  ASSERT_TRUE(first) << first.error().message;
  const auto second = probe_backend(system());
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(first->name, second->name);
  EXPECT_EQ(first->syscall_enters_cpl0, second->syscall_enters_cpl0);
  EXPECT_EQ(first->cpl0_is_native, second->cpl0_is_native);
  EXPECT_EQ(first->exit_rip_is_after_out, second->exit_rip_is_after_out);
  EXPECT_GE(first->xsave_bytes, 4096u);
  EXPECT_GE(first->memory_slots, 3u);
  EXPECT_EQ(first->guest_xcr0 & 3, 3u);
  RecordProperty("backend", first->name);
}

// The privilege level a system call arrives at, seen through the segments of a whole machine.
TEST_F(BackendProbe, AgreesWithAMachineOnSystemCalls) {
  const auto info = probe_backend(system());
  ASSERT_TRUE(info);
  const auto guest = RawGuest::create(system());
  ASSERT_TRUE(guest) << guest.error().message;
  ASSERT_TRUE((*guest)->prepare(RawGuest::Code::kSyscall));
  const auto exit = (*guest)->vcpu().run();
  ASSERT_TRUE(exit);
  const auto* io = std::get_if<kvm::ExitIo>(&*exit);
  ASSERT_NE(io, nullptr) << kvm::describe(*exit);
  EXPECT_EQ(io->port, WARMFORK_PORT_SYSCALL);
  const auto sregs = (*guest)->vcpu().sregs();
  ASSERT_TRUE(sregs);
  EXPECT_EQ(info->syscall_enters_cpl0, (sregs->cs.selector & 3) == 0);
  EXPECT_EQ(info->name == "pvm", !info->syscall_enters_cpl0);
}

// CPUID and CR4.OSXSAVE decide where they are enforced; the check runs the instruction and so knows either way.
TEST_F(BackendProbe, XrstorIsTriedNotAssumed) {
  x86::CpuModel model = x86::make_cpu_model(system().supported_cpuid());
  const Status possible = check_xrstor(system(), model);
  EXPECT_TRUE(possible) << possible.error().message;
  for (kvm_cpuid_entry2& entry : model.cpuid) {
    if (entry.function == 1) entry.ecx &= ~(1U << 26);  // XSAVE
  }
  const auto backend = probe_backend(system());
  ASSERT_TRUE(backend);
  const Status without = check_xrstor(system(), model);
  EXPECT_EQ(without.has_value(), backend->name == "pvm");
  if (!without) {
    EXPECT_EQ(without.error().kind, ErrorKind::kUnsupported);
    EXPECT_NE(without.error().message.find("XRSTOR"), std::string::npos);
  }
}

}  // namespace
}  // namespace warmfork::test
