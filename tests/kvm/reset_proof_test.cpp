// The proof of reset holds, for every kind, population and mode; and it finds what a broken reset would leave.
#include "proof/reset_proof.hpp"

#include "machine_test.hpp"

#include <gmock/gmock.h>

namespace warmfork::test {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ResetProof : public MachineTest {
 protected:
  ResetProofReport prove(const ResetProofOptions& options) {
    auto report = prove_reset(system(), options);
    EXPECT_TRUE(report) << report.error().message;
    return report ? std::move(*report) : ResetProofReport{};
  }
  void expect_no_difference(const ResetProofReport& report, std::uint64_t resets) {
    EXPECT_EQ(report.resets(), resets);
    EXPECT_EQ(report.differing(), 0U);
    for (const ResetProofResult& result : report.results) EXPECT_THAT(result.differences, IsEmpty());
  }
};

TEST_F(ResetProof, SharedRegionsChangeNothingInIt) {
  ResetProofOptions options;
  options.resets = scaled(100);
  options.shared_bytes = 16 * kPage;
  const ResetProofReport report = prove(options);
  expect_no_difference(report, options.resets);
  std::uint64_t forbidden = 0;
  for (const ResetProofResult& result : report.results) {
    if (const auto act = result.acts.find("read-only memory"); act != result.acts.end()) forbidden += act->second;
  }
  EXPECT_GT(forbidden, 0U);
}

class ResetProofKind : public ResetProof, public ::testing::WithParamInterface<std::tuple<ForkKind, Population>> {};

TEST_P(ResetProofKind, AResetForkIsAFreshFork) {
  const auto& [kind, population] = GetParam();
  ResetProofOptions options;
  options.kinds = {kind};
  options.populations = {population};
  options.resets = scaled(500);
  const ResetProofReport report = prove(options);
  expect_no_difference(report, options.resets);
  std::size_t skipped = 0;
  for (const ResetProofResult& result : report.results) {
    skipped += result.skipped.empty() ? 0 : 1;
    EXPECT_TRUE(!result.skipped.empty() || result.bytes > 0);
  }
  EXPECT_LT(skipped, report.results.size());
}

INSTANTIATE_TEST_SUITE_P(Kinds, ResetProofKind,
                         ::testing::Combine(::testing::ValuesIn(kForkKinds),
                                            ::testing::Values(Population::kCopy, Population::kCow)),
                         [](const auto& info) {
                           return std::string(name_of(std::get<0>(info.param))) + "_" +
                                  std::string(name_of(std::get<1>(info.param)));
                         });

TEST_F(ResetProof, HoldsForGuestsWith2MiBPages) {
  ResetProofOptions options;
  options.memory_bytes = 7 << 20;
  options.modes = {ResetMode::kAuto};
  options.resets = scaled(60);
  expect_no_difference(prove(options), options.resets);
}

TEST_F(ResetProof, EndsWhenAsked) {
  ResetProofOptions options;
  options.resets = 1'000'000;
  options.progress = [](std::uint64_t done) { return done < 5; };
  const ResetProofReport report = prove(options);
  EXPECT_TRUE(report.interrupted);
  EXPECT_EQ(report.resets(), 5U);
  EXPECT_EQ(report.differing(), 0U);
}

// --- Faults
// -----------------------------------------------------------------------------------------------------------

struct Fault {
  const char* name;
  void (*make)(Fork&);
  std::vector<const char*> found;  // empty: it must make no difference
};

void flip(Fork& fork, Gva address, std::uint8_t bit) {
  fork.memory().window()[*fork.memory().layout().window_offset(address)] ^= std::byte{bit};
}

const Fault kFaults[] = {
    {"one bit of the heap",
     [](Fork& fork) { flip(fork, fork.memory().heap().begin + 0x1234, 4); },
     {"in the heap", "hash of all readable memory"}},
    {"one bit of the stack", [](Fork& fork) { flip(fork, fork.memory().stack().begin + 0x10, 1); }, {"in the stack"}},
    {"one bit of a page the guest cannot read",
     [](Fork& fork) { flip(fork, fork.memory().layout().exception_stack().begin + 8, 1); },
     {"in the exception stack"}},
    {"one bit of MXCSR in the pristine state",
     [](Fork& fork) { flip(fork, Gva{WARMFORK_FORK_PAGE + 25}, 0x20); },
     {"in the fork page", "seen by the guest: mxcsr", "vCPU after the first call: xsave mxcsr"}},
    {"the seed's random bytes",
     [](Fork& fork) { flip(fork, Gva{WARMFORK_FORK_PAGE + WARMFORK_FORK_INFO_OFFSET + 16}, 1); },
     {"in the fork page"}},
    {"the generation",
     [](Fork& fork) { flip(fork, Gva{WARMFORK_FORK_PAGE + WARMFORK_FORK_INFO_OFFSET + 7}, 0x80); },
     {"generation"}},
    {"one entry of the page tables",
     [](Fork& fork) {  // the last table's last entry in use: the exception stack's, made readable for the guest
       auto tables = fork.memory().regions().tables;
       for (std::size_t at = fork.memory().tables_used() * kPage - 8;; at -= 8) {
         if ((tables[at] & std::byte{1}) == std::byte{0}) continue;
         tables[at] ^= std::byte{4};
         return;
       }
     },
     {"page tables: entry "}},
    {"the break",
     [](Fork& fork) {
       linux_abi::SyscallRequest request{.number = 12, .arguments = {}};
       request.arguments[0] = static_cast<std::uint64_t>(fork.process().serve(request).result) + 0x3000;
       (void)fork.process().serve(request);
     },
     {"the process's book", "system call "}},
    {"the FS base",
     [](Fork& fork) {
       auto book = fork.process().book();
       book.fs_base ^= 0x1000;
       fork.process().restore(book);
     },
     {"the process's book", "vCPU with its registers loaded: fs.base"}},
    {"a model-specific register",
     [](Fork& fork) { ASSERT_TRUE(fork.vcpu().set_msrs(std::array{kvm::Msr{0xc0000102, 0x7000}})); },
     {"KERNEL_GS_BASE"}},
    {"a debug register",
     [](Fork& fork) {
       auto registers = fork.vcpu().debugregs();
       ASSERT_TRUE(registers);
       registers->db[2] = 0x1000;
       ASSERT_TRUE(fork.vcpu().set_debugregs(*registers));
     },
     {"dr2"}},
    {"a fork that has ended", [](Fork& fork) { (void)fork.condemn("a test"); }, {"not ready"}},
    // Every entry loads these: whatever is in them after a reset is never seen.
    {"general registers, before they are loaded",
     [](Fork& fork) {
       auto regs = fork.vcpu().regs();
       ASSERT_TRUE(regs);
       regs->r12 = regs->rax = 0x5ec7e7;
       ASSERT_TRUE(fork.vcpu().set_regs(*regs));
       auto sregs = fork.vcpu().sregs();
       ASSERT_TRUE(sregs);
       sregs->gs.base = 0x5ec7e7;
       ASSERT_TRUE(fork.vcpu().set_sregs(*sregs));
     },
     {}},
};

TEST_F(ResetProof, FindsWhatABrokenResetWouldLeave) {
  for (const Fault& fault : kFaults) {
    SCOPED_TRACE(fault.name);
    ResetProofOptions options;
    options.kinds = {ForkKind::kVm};
    options.populations = {Population::kCopy};
    options.modes = {ResetMode::kFullCopy};
    options.resets = 40;
    options.keep_differences = 1000;
    options.after_reset = fault.make;
    const ResetProofReport report = prove(options);
    ASSERT_EQ(report.results.size(), 1U);
    const auto& differences = report.results[0].differences;
    if (fault.found.empty()) EXPECT_THAT(differences, IsEmpty());
    for (const char* what : fault.found) EXPECT_THAT(differences, Contains(HasSubstr(what)));
    EXPECT_THAT(differences, Not(Contains(HasSubstr("two fresh forks"))));
  }
}

}  // namespace
}  // namespace warmfork::test
