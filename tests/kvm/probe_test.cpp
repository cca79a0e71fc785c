// Each protection, proved by a guest that tries to break it: it ends with the right report, and the host and the next
// guest are fine.
#include "machine_test.hpp"

#include <gmock/gmock.h>

namespace warmfork::test {
namespace {

using ::testing::HasSubstr;

struct Hostile {
  std::string name;  // of the test
  std::string guest;
  std::vector<std::string> arguments;
  std::string report;  // part of the report's summary
};

class Protection : public MachineTest, public ::testing::WithParamInterface<Hostile> {};

TEST_P(Protection, EndsTheGuestWithAReport) {
  const Hostile& hostile = GetParam();
  const auto machine = make(hostile.guest, hostile.arguments);
  ASSERT_NE(machine, nullptr);
  const auto outcome = machine->boot({.timeout_ns = kTimeout});
  ASSERT_FALSE(outcome) << "it was allowed; exit code " << outcome->exit_code.value_or(-1);
  EXPECT_EQ(outcome.error().kind, ErrorKind::kGuestFault) << outcome.error().message;
  ASSERT_TRUE(machine->fault()) << outcome.error().message;
  EXPECT_THAT(machine->fault()->summary, HasSubstr(hostile.report));
  EXPECT_THAT(machine->fault()->to_text(), HasSubstr("rsp"));

  // The machine says so when it is used again, and the next guest runs.
  const auto again = machine->call(machine->plan().entry, {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kGuestFault);
  const auto next = make_ready("probe_calls");
  ASSERT_NE(next, nullptr);
}

Hostile privileged(const std::string& instruction) {
  return {"Privileged_" + instruction, "probe_privileged_instruction", {instruction}, "general protection fault"};
}

INSTANTIATE_TEST_SUITE_P(
    Probes, Protection,
    ::testing::Values(Hostile{"WriteToText", "probe_write_text", {}, "page fault: write to"},
                      Hostile{"WriteToConstants", "probe_write_rodata", {}, "read-only program data"},
                      Hostile{"ExecuteData", "probe_execute_data", {}, "page fault: execution of"},
                      Hostile{"ExecuteStack", "probe_execute_stack", {}, "(the stack)"},
                      Hostile{"ReadNull", "probe_read_null", {}, "page fault: read of 0x0 (the null guard)"},
                      Hostile{"ReadWild", "probe_read_wild", {}, "page fault: read of 0x600000000000 (not mapped)"},
                      Hostile{"ReadNonCanonical", "probe_read_wild", {"far"}, "general protection fault"},
                      Hostile{"ReadDescriptorTables", "probe_read_system_pages", {"10000"}, "(the descriptor tables)"},
                      Hostile{"ReadExceptionStubs", "probe_read_system_pages", {"12000"}, "(the exception stubs)"},
                      Hostile{"StackOverflow", "probe_stack_overflow", {}, "stack overflow"},
                      Hostile{"UndefinedInstruction", "probe_undefined_instruction", {}, "invalid opcode"},
                      Hostile{"DivideByZero", "probe_divide_by_zero", {}, "divide error"},
                      Hostile{"SingleStep", "probe_single_step", {}, "debug exception"},
                      Hostile{"ForgedReturn", "probe_forged_return", {}, "a vmcall that was never made"},
                      Hostile{"SystemCallReturnAddress", "probe_bad_syscall_return", {}, "system call returns to"},
                      Hostile{"ProtectedPageWritten", "probe_memory_protection", {"write"}, "page fault: write to"},
                      Hostile{"ProtectedPageRead", "probe_memory_protection", {"read_none"}, "page fault: read of"},
                      privileged("hlt"), privileged("mov_cr3"), privileged("rdmsr"), privileged("wrmsr"),
                      privileged("lidt"), privileged("lgdt"), privileged("ltr"), privileged("mov_dr7"),
                      privileged("wbinvd"), privileged("invlpg"), privileged("clts"), privileged("xsetbv"),
                      privileged("iretq")),
    [](const auto& parameter) { return parameter.param.name; });

// A port that is not ours ends the guest, on every backend, by a fault of the processor or by the host's own check.
class ForeignPort : public MachineTest, public ::testing::WithParamInterface<std::vector<std::string>> {};

TEST_P(ForeignPort, EndsTheGuest) {
  const auto machine = make("probe_foreign_port", GetParam());
  ASSERT_NE(machine, nullptr);
  const auto outcome = machine->boot({.timeout_ns = kTimeout});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::kGuestFault);
  // A string instruction on the system-call port is a system call with the string's count as its return address.
  const auto jumped = HasSubstr("page fault: execution of 0x3f (the null guard)");
  EXPECT_THAT(outcome.error().message,
              ::testing::AnyOf(HasSubstr("general protection fault"), HasSubstr("port "), jumped));
}

INSTANTIATE_TEST_SUITE_P(
    Ports, ForeignPort,
    ::testing::Values(std::vector<std::string>{"3f8", "out", "8"}, std::vector<std::string>{"60", "in", "8"},
                      std::vector<std::string>{"cf8", "out", "32"}, std::vector<std::string>{"40", "in", "8"},
                      std::vector<std::string>{"41", "in", "8"}, std::vector<std::string>{"41", "out", "32"},
                      std::vector<std::string>{"42", "in", "8"}, std::vector<std::string>{"42", "out", "32"},
                      std::vector<std::string>{"3f8", "outs", "0"}, std::vector<std::string>{"40", "outs", "0"},
                      std::vector<std::string>{"2e", "out", "8"}),
    [](const auto& parameter) { return "Port" + parameter.param[0] + "_" + parameter.param[1] + parameter.param[2]; });

class Hostility : public MachineTest {};

// Either the processor refuses the port, or the host sees that no exception brought the guest there.
TEST_F(Hostility, ForgedExceptionIsNotBelieved) {
  const auto machine = make("probe_forged_exception");
  ASSERT_NE(machine, nullptr);
  const auto outcome = machine->boot({.timeout_ns = kTimeout});
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, ::testing::Not(HasSubstr("page fault")));
}

// However a guest returns from a call, the next call starts as the first one did.
TEST_F(Hostility, OddReturnLeavesNothingToTheNextCall) {
  for (const char* way :
       {"by_string", "by_repeated_string", "with_all_flags", "with_single_step", "with_null_selectors",
        "behind_a_stack_segment_load", "without_a_stack", "through_the_system_call_stub"}) {
    SCOPED_TRACE(way);
    const auto machine = make_ready("probe_odd_returns");
    ASSERT_NE(machine, nullptr);
    const auto odd = machine->find_vmcall(way);
    const auto flags = machine->find_vmcall("flags_of_a_call");
    const auto weigh = machine->find_vmcall("weigh");
    ASSERT_TRUE(odd && flags && weigh);
    constexpr std::array<std::uint64_t, 6> kArguments{1, 2, 3, 4, 5, 6};
    for (int round = 0; round < 3; ++round) {
      const auto returned = machine->call(*odd, {}, {.timeout_ns = kTimeout});
      ASSERT_TRUE(returned) << returned.error().message;
      EXPECT_EQ(*returned, 1u);
      const auto found = machine->call(*flags, {}, {.timeout_ns = kTimeout});
      ASSERT_TRUE(found) << found.error().message;
      EXPECT_EQ(*found & 0x244dd5, 0u) << "TF, NT, AC, DF, ID and the arithmetic flags";
      const auto weighed = machine->call(*weigh, kArguments, {.timeout_ns = kTimeout});
      ASSERT_TRUE(weighed) << weighed.error().message;
      EXPECT_EQ(*weighed, 654321u);
    }
  }
}

TEST_F(Hostility, InfiniteLoopMeetsItsDeadline) {
  const auto machine = make("probe_infinite_loop");
  ASSERT_NE(machine, nullptr);
  const auto outcome = machine->boot({.timeout_ns = 100'000'000});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::kDeadline) << outcome.error().message;
  EXPECT_THAT(outcome.error().message, HasSubstr("main"));
}

TEST_F(Hostility, SystemCallFloodMeetsItsDeadline) {
  const auto machine = make("probe_syscall_flood");
  ASSERT_NE(machine, nullptr);
  const auto outcome = machine->boot({.timeout_ns = 200'000'000});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::kDeadline) << outcome.error().message;
  EXPECT_GT(machine->counters().syscalls, 10u);
}

TEST_F(Hostility, HugeAllocationIsRefusedAndTheRestWorks) {
  const auto machine = make("probe_huge_allocation", {}, {.memory_bytes = std::uint64_t{16} << 20});
  ASSERT_NE(machine, nullptr);
  expect_exit(*machine, 0);
  EXPECT_GE(std::stoi(io().output()), 8);
  EXPECT_LT(std::stoi(io().output()), 16);
}

TEST_F(Hostility, TripleFaultEndsTheGuest) {
  const auto machine = make_ready("probe_calls");
  ASSERT_NE(machine, nullptr);
  // No guest can load an IDT, so the host breaks it for this one: the next exception has nowhere to go.
  auto sregs = machine->vcpu().sregs();
  ASSERT_TRUE(sregs);
  sregs->idt.limit = 0;
  ASSERT_TRUE(machine->vcpu().set_sregs(*sregs));
  const auto crash = machine->find_vmcall("crash");
  ASSERT_TRUE(crash);
  const std::array<std::uint64_t, 1> null{0};
  const auto result = machine->call(*crash, null, {.timeout_ns = kTimeout});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kGuestFault);
  EXPECT_THAT(result.error().message, ::testing::AnyOf(HasSubstr("triple fault"), HasSubstr("KVM internal error")));
}

}  // namespace
}  // namespace warmfork::test
