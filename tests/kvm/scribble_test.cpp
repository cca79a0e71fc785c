// The guests of the reset's proof do what they claim: they dirty every register and all memory, and see dirt where
// there is some. A guest that left nothing, or saw nothing, would prove nothing.
#include "machine/vcpu_state.hpp"
#include "machine_test.hpp"
#include "scribble_guest.hpp"

#include <gmock/gmock.h>

#include <set>

namespace warmfork::test {
namespace {

using scribble::Crash;
using scribble::StateReport;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class Scribble : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped()) return;
    auto context = CaptureContext::create(system());
    ASSERT_TRUE(context) << context.error().message;
    context_ = std::move(*context);
    const auto machine = ready();
    ASSERT_NE(machine, nullptr);
    options_ = ScribbleGuest(*machine).find_options();
  }

  std::unique_ptr<Machine> ready() {
    return make_ready("probe_scribble", {.memory_bytes = 2 << 20,
                                         .stack_bytes = 256 << 10,
                                         .process = {.arguments = {}, .environment = {}, .seed = 1, .trace = {}}});
  }

  VcpuState captured(Machine& machine) {
    auto state = capture(machine.vcpu(), context_);
    EXPECT_TRUE(state) << (state ? "" : state.error().message);
    return state ? std::move(*state) : VcpuState{};
  }

  StateReport reported(Machine& machine) {
    const auto report = ScribbleGuest(machine).report(options_);
    EXPECT_TRUE(report) << (report ? "" : report.error().message);
    return report ? *report : StateReport{};
  }

  // The names of what differs between two reports.
  static std::set<std::string> differences(const StateReport& a, const StateReport& b) {
    std::set<std::string> found;
    const auto look = [&](const char* name, const auto& x, const auto& y) {
      if (std::memcmp(&x, &y, sizeof x) != 0) found.insert(name);
    };
    const auto bytes = [&](const std::string& name, const std::uint8_t* x, const std::uint8_t* y, std::size_t offset,
                           std::size_t size) {
      if (std::memcmp(x + offset, y + offset, size) != 0) found.insert(name);
    };
    look("gprs", a.gprs, b.gprs);
    look("rflags", a.rflags, b.rflags);
    look("return_address", a.return_address, b.return_address);
    look("below_stack", a.below_stack, b.below_stack);
    look("cs", a.cs, b.cs);
    look("ss", a.ss, b.ss);
    look("ds", a.ds, b.ds);
    look("es", a.es, b.es);
    look("fs", a.fs, b.fs);
    look("gs", a.gs, b.gs);
    look("fs_base", a.fs_base, b.fs_base);
    look("gs_base", a.gs_base, b.gs_base);
    look("mxcsr", a.mxcsr, b.mxcsr);
    look("pkru", a.pkru, b.pkru);
    look("xcr0", a.xcr0, b.xcr0);
    look("memory_hash", a.memory_hash, b.memory_hash);
    bytes("fnstenv", a.x87_environment, b.x87_environment, 0, 28);
    bytes("fxsave x87", a.fxsave, b.fxsave, 0, 6);
    bytes("fxsave fop", a.fxsave, b.fxsave, 6, 2);
    bytes("fxsave fip", a.fxsave, b.fxsave, 8, 8);
    bytes("fxsave fdp", a.fxsave, b.fxsave, 16, 8);
    bytes("fxsave mxcsr", a.fxsave, b.fxsave, 24, 4);
    for (std::size_t i = 0; i < 8; ++i) bytes(fmt::format("fxsave st{}", i), a.fxsave, b.fxsave, 32 + 16 * i, 16);
    for (std::size_t i = 0; i < 16; ++i) bytes(fmt::format("fxsave xmm{}", i), a.fxsave, b.fxsave, 160 + 16 * i, 16);
    bytes("xsave components", a.xsave, b.xsave, 576, sizeof a.xsave - 576);
    return found;
  }

  CaptureContext context_;
  std::uint64_t options_ = 0;
};

// Nobody sets the control words of a new vCPU: KVM's are those that Linux gives a program.
TEST_F(Scribble, AProgramStartsWithTheControlWordsOfLinux) {
  const auto machine = ready();
  ASSERT_NE(machine, nullptr);
  const StateReport report = reported(*machine);
  std::uint16_t fcw = 0;
  std::memcpy(&fcw, report.fxsave, sizeof fcw);
  EXPECT_EQ(fcw, 0x37f);
  EXPECT_EQ(report.mxcsr, 0x1f80U);
}

// What a guest finds without a reset: the registers that the host sets at every entry are clean, all others are not.
TEST_F(Scribble, RegistersStayDirtyWithoutAReset) {
  for (const std::uint64_t pending : {0UL, std::uint64_t{SCRIBBLE_PENDING}}) {
    const auto machine = ready();
    ASSERT_NE(machine, nullptr);
    const StateReport clean = reported(*machine);
    ASSERT_THAT(differences(clean, reported(*machine)), ::testing::IsSubsetOf({"below_stack", "memory_hash"}));
    const auto returned = ScribbleGuest(*machine).registers(77, options_ | pending);
    ASSERT_TRUE(returned) << returned.error().message;
    const auto found = differences(clean, reported(*machine));
    for (const char* name : {"mxcsr", "fnstenv", "fxsave x87", "fxsave mxcsr", "fxsave st0", "fxsave xmm0",
                             "fxsave xmm15", "memory_hash"}) {
      EXPECT_THAT(found, Contains(name));
    }
    if (clean.xcr0 != 0) {
      EXPECT_THAT(found, Contains("xsave components"));
    }
    if (options_ != 0) {
      EXPECT_THAT(found, Contains("fs_base"));
      EXPECT_THAT(found, Contains("gs_base"));
    }
    for (const char* name : {"gprs", "rflags", "return_address", "cs", "ss", "xcr0"}) {
      EXPECT_THAT(found, ::testing::Not(Contains(name)));
    }
  }
}

// The host sees the same dirt, in every class of registers that code at CPL 3 reaches, and what a guest can see of an
// earlier one; restore() takes it away, for the host's eyes and for the guest's.
TEST_F(Scribble, RestoreCleansEveryRegister) {
  const auto machine = ready();
  ASSERT_NE(machine, nullptr);
  const StateReport clean_report = reported(*machine);
  const VcpuState clean = captured(*machine);
  std::set<std::string> seen;        // by the host: registers found dirty after some seed
  std::set<std::string> guest_seen;  // by the guest
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    SCOPED_TRACE(seed);
    ASSERT_TRUE(ScribbleGuest(*machine).registers(seed, options_ | (seed % 2 == 0 ? SCRIBBLE_PENDING : 0)));
    for (const std::string& difference : compare(clean, captured(*machine))) {
      seen.insert(difference.substr(0, difference.find_first_of(':')));
    }
    guest_seen.merge(differences(clean_report, reported(*machine)));
    const auto restored = restore(machine->vcpu(), clean);
    ASSERT_TRUE(restored) << restored.error().message;
    ASSERT_THAT(compare(clean, captured(*machine), {.xstate_bv = true}), IsEmpty());
    EXPECT_THAT(differences(clean_report, reported(*machine)),
                ::testing::IsSubsetOf({"below_stack", "memory_hash"}));  // memory is not the vCPU's
  }
  for (const char* name : {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12",
                           "r13", "r14", "r15", "rip", "rflags"}) {
    EXPECT_THAT(seen, Contains(name));
  }
  // On kvm-pvm these are the thread's, and gone with the call's return (VcpuFd::run_raw).
  for (const std::string name : {"ds", "es", "fs", "gs"}) {
    EXPECT_EQ(guest_seen.contains(name), seen.contains(name + ".selector")) << name;
  }
  // QEMU's emulated processor does not keep these.
  for (const std::string name : {"fop", "fip", "fdp"}) {
    const bool is_seen =
        std::ranges::any_of(seen, [&](const std::string& x) { return x.starts_with("xsave " + name); });
    EXPECT_EQ(guest_seen.contains("fxsave " + name), is_seen) << name;
  }
  if (options_ != 0) {
    EXPECT_THAT(seen, ::testing::IsSupersetOf({"fs.base", "gs.base"}));
  }
  for (const char* name : {"xsave fcw ", "xsave fsw ", "xsave ftw ", "xsave mxcsr ", "xsave st0 ", "xsave st7 ",
                           "xsave xmm0 ", "xsave xmm15 "}) {
    EXPECT_THAT(seen, Contains(StartsWith(name)));
  }
  for (const XsaveComponent& component : context_.xsave_layout) {
    if ((clean_report.xcr0 >> component.number & 1) == 0) continue;
    EXPECT_THAT(seen, Contains(StartsWith(fmt::format("xsave component {} ", component.number))));
  }
}

// The state before the first run has every component initial; putting that back must reach the processor, MXCSR
// included, and not only what KVM shows.
TEST_F(Scribble, RestoreOfAStateThatNeverRanIsComplete) {
  const auto machine = make("probe_scribble");
  ASSERT_NE(machine, nullptr);
  const VcpuState fresh = captured(*machine);
  ASSERT_TRUE(machine->boot({.timeout_ns = kTimeout}));
  const StateReport clean = reported(*machine);
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    ASSERT_TRUE(ScribbleGuest(*machine).registers(seed, options_));
    const auto restored = restore(machine->vcpu(), fresh);
    ASSERT_TRUE(restored) << restored.error().message;
    machine->cpu().reload();  // page tables, FS and GS base are loaded at the first entry
    const StateReport after = reported(*machine);
    EXPECT_EQ(after.mxcsr, 0x1f80u);
    // The program's thread pointer and what its start has left in the vector registers are not in that state.
    for (const char* name : {"fxsave x87", "fxsave mxcsr", "fxsave st0", "fxsave st7", "fxsave xmm15", "fs", "gs"}) {
      EXPECT_THAT(differences(clean, after), ::testing::Not(Contains(name)));
    }
    for (std::size_t i = 160; i < 416; ++i) EXPECT_EQ(after.fxsave[i], 0) << "byte " << i;
  }
}

// Segment registers a guest loads reach neither the host's thread nor the next guest on it.
TEST_F(Scribble, SelectorsStayWithTheirGuest) {
  const auto machine = ready();
  const auto other = ready();
  ASSERT_TRUE(machine && other);
  const StateReport clean = reported(*other);
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    ASSERT_TRUE(ScribbleGuest(*machine).registers(seed, options_));
    std::uint32_t ds = 1;
    std::uint32_t es = 1;
    std::uint32_t fs = 1;
    std::uint32_t gs = 1;
    asm volatile("mov %%ds, %0\n mov %%es, %1\n mov %%fs, %2\n mov %%gs, %3" : "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs));
    EXPECT_EQ(ds | es | fs | gs, 0u) << "seed " << seed;
    EXPECT_THAT(differences(clean, reported(*other)), ::testing::IsSubsetOf({"below_stack", "memory_hash"}));
  }
}

TEST_F(Scribble, MemoryIsFullOfThePattern) {
  constexpr std::uint64_t kSeed = 12345;
  const auto machine = ready();
  ASSERT_NE(machine, nullptr);
  const std::uint64_t clean = reported(*machine).memory_hash;
  const auto written = ScribbleGuest(*machine).memory(kSeed);
  ASSERT_TRUE(written) << written.error().message;
  std::uint64_t total = 0;
  std::uint64_t other = 0;
  for (const scribble::Range& range : writable_ranges(*machine)) {
    std::vector<std::uint64_t> words(range.size / 8);
    ASSERT_TRUE(machine->memory().read(Gva{range.begin}, std::as_writable_bytes(std::span(words))));
    for (std::size_t i = 0; i < words.size(); ++i) {
      total += 8;
      if (words[i] != scribble::pattern(kSeed, range.begin + i * 8)) other += 8;
    }
  }
  // All but the top of the stack, in use at that time.
  EXPECT_EQ(total - *written, other);
  EXPECT_LT(other, 3 * kPage);
  EXPECT_NE(reported(*machine).memory_hash, clean);
  // It needs none of what it has overwritten.
  EXPECT_TRUE(ScribbleGuest(*machine).all(kSeed + 1, options_));
  EXPECT_TRUE(ScribbleGuest(*machine).memory(kSeed));
}

TEST_F(Scribble, RandomGuestDoesTheSameForASeedAndNeverFaults) {
  std::set<std::uint64_t> hashes;
  for (std::uint64_t seed = 1; seed <= scaled(20); ++seed) {
    std::array<std::uint64_t, 2> hash{};
    std::array<std::uint64_t, 2> sum{};
    for (std::size_t i = 0; i < 2; ++i) {
      const auto machine = ready();
      ASSERT_NE(machine, nullptr);
      const auto result = ScribbleGuest(*machine).random(seed, 300);
      ASSERT_TRUE(result) << "seed " << seed << ": " << result.error().message;
      sum[i] = *result;
      hash[i] = reported(*machine).memory_hash;
      EXPECT_GT(machine->counters().syscalls, 20u);
      const auto again = ScribbleGuest(*machine).random(seed + 1000, 300, SCRIBBLE_KEEP);
      EXPECT_TRUE(again) << "seed " << seed + 1000 << ": " << again.error().message;
    }
    EXPECT_EQ(hash[0], hash[1]) << "seed " << seed;
    EXPECT_EQ(sum[0], sum[1]) << "seed " << seed;
    EXPECT_TRUE(hashes.insert(hash[0]).second) << "two seeds have the same effect";
  }
}

// What is left of each crash in the vCPU can be taken away.
class Crashes : public Scribble, public ::testing::WithParamInterface<std::uint64_t> {};

TEST_P(Crashes, EndsTheCallAndIsRestored) {
  const auto which = static_cast<Crash>(GetParam());
  const auto machine = ready();
  ASSERT_NE(machine, nullptr);
  const VcpuState clean = captured(*machine);
  const bool loops = which == Crash::kInfiniteLoop;
  const auto result = ScribbleGuest(*machine).crash(which, loops ? 50'000'000 : kTimeout);
  // Those that are a return, or are one on some backends; QEMU's emulated processor raises no exceptions of SSE.
  const std::set<Crash> may_return{Crash::kMovSsThenOut, Crash::kReturnWithTrap, Crash::kOwnPortOutString,
                                   Crash::kSingleStepSyscall, Crash::kSseException};
  if (!may_return.contains(which)) {
    ASSERT_FALSE(result) << "it returned " << *result;
    EXPECT_EQ(result.error().kind, loops ? ErrorKind::kDeadline : ErrorKind::kGuestFault) << result.error().message;
  }
  RecordProperty("outcome", result ? "returned" : result.error().message);
  const auto restored = restore(machine->vcpu(), clean);
  ASSERT_TRUE(restored) << restored.error().message;
  EXPECT_THAT(compare(clean, captured(*machine), {.xstate_bv = true}), IsEmpty());
  // Nothing comes after it either.
  machine->vcpu().shared().kvm_dirty_regs = 0;
  machine->vcpu().request_immediate_exit();
  EXPECT_EQ(machine->vcpu().run_raw(), EINTR);
  machine->vcpu().clear_immediate_exit();
  EXPECT_THAT(compare(clean, captured(*machine)), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Variants, Crashes,
                         ::testing::Range<std::uint64_t>(0, static_cast<std::uint64_t>(Crash::kCount)));

}  // namespace
}  // namespace warmfork::test
