// What traces and samples say of guests.
#include "trace/trace.hpp"

#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "lc3_fixture.hpp"
#include "machine/sampler.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <utility>

namespace warmfork::test {
namespace {

class Trace : public MachineTest, public ::testing::WithParamInterface<ForkKind> {};

// Every event of a thread lies inside of another one or beside it.
void expect_nested(const trace::Recording::Thread& thread) {
  std::vector<std::uint64_t> open;
  for (const trace::Recording::Event& event : thread.events) {
    while (!open.empty() && open.back() <= event.begin) open.pop_back();
    if (!open.empty()) ASSERT_LE(event.end, open.back()) << event.kind->name;
    open.push_back(event.end);
  }
}

TEST_P(Trace, CountsAreTheMachinesOwn) {
  ASSERT_TRUE(trace::start());
  const auto ended = [&] {
    const auto master = make("probe_forks", {"8"});
    ASSERT_NE(master, nullptr);
    ASSERT_TRUE(master->boot({.timeout_ns = kTimeout}));
    const auto snapshot = Snapshot::take(system(), *master);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    auto source = make_fork_source(system(), *snapshot, {.kind = GetParam()}, 2);
    ASSERT_TRUE(source) << source.error().message;
    auto fork = (*source)->make();
    ASSERT_TRUE(fork) << fork.error().message;
    const auto cpu = (*source)->make_cpu();
    ASSERT_TRUE(cpu) << cpu.error().message;
    if (*cpu != nullptr) ASSERT_TRUE((*fork)->bind(**cpu));
    const auto function = (*fork)->find_vmcall("count");
    ASSERT_TRUE(function) << function.error().message;
    for (std::uint64_t i = 0; i < 5; ++i) {
      for (int call = 0; call < 2; ++call) ASSERT_TRUE((*fork)->call(*function, {}, {.timeout_ns = kTimeout}));
      ASSERT_TRUE((*fork)->reset());
    }
    const MachineCounters boot = master->counters(), calls = (*fork)->counters();
    const std::uint64_t resets = (*fork)->reset_stats().resets;
    const trace::Recording recording = trace::stop();
    EXPECT_EQ(recording.lost(), 0U);
    std::map<std::string, std::uint64_t> counts;
    for (const trace::Recording::Thread& thread : recording.threads) {
      expect_nested(thread);
      for (const trace::Recording::Event& event : thread.events) {
        std::string name = event.kind->name;
        if (name == "vmcall") name += " " + event.kind->describe(event.argument);
        ++counts[name];
        if (name.starts_with("KVM_RUN")) ++counts["KVM_RUN"];
      }
    }
    EXPECT_EQ(counts["KVM_RUN"], boot.kvm_run + calls.kvm_run);
    EXPECT_EQ(counts["KVM_RUN: return"], calls.vmcalls);
    EXPECT_EQ(counts["vmcall count"], calls.vmcalls);
    EXPECT_EQ(calls.vmcalls, 10U);
    EXPECT_EQ(counts["KVM_RUN: system call"], boot.syscalls + calls.syscalls);
    EXPECT_EQ(counts["serve"], boot.syscalls + calls.syscalls);
    EXPECT_EQ(counts["KVM_RUN: interrupted"], boot.interrupted + calls.interrupted);
    EXPECT_EQ(counts["KVM_RUN: ready"], 1U);
    EXPECT_EQ(counts["reset"], resets);
    EXPECT_EQ(resets, 5U);
    EXPECT_EQ(counts[GetParam() == ForkKind::kVm ? "fork vm" : "fork space"], 1U);
    EXPECT_EQ(counts["snapshot"], 1U);
    EXPECT_EQ(counts["boot"], 1U);
  };
  ended();
  (void)trace::stop();
}
INSTANTIATE_TEST_SUITE_P(Kinds, Trace, ::testing::Values(ForkKind::kVm, ForkKind::kSpace),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// For ever: two loops in subroutines, three turns of one for each of the other. Each turn is a chain of results that no
// compiler shortens, and longer than what the place of a branch costs: so the turns take the same time. A round of both
// is far shorter than the time between two samples on any machine: with 4,000 turns it took about as long on an
// emulated one, and samples met the same place again and again.
constexpr const char* kTwoLoops = R"(
        .ORIG x3000
START   JSR LONG
        JSR SHORT
        BRnzp START
LONG    LD R3, MASK
        LD R1, THREE
LLOOP   ADD R2, R2, R1
        AND R2, R2, R3
        ADD R2, R2, R1
        AND R2, R2, R3
        ADD R2, R2, R1
        AND R2, R2, R3
        ADD R2, R2, R1
        AND R2, R2, R3
        ADD R1, R1, #-1
        BRp LLOOP
        RET
SHORT   LD R3, MASK
        LD R1, ONE
SLOOP   ADD R2, R2, R1
        AND R2, R2, R3
        ADD R2, R2, R1
        AND R2, R2, R3
        ADD R2, R2, R1
        AND R2, R2, R3
        ADD R2, R2, R1
        AND R2, R2, R3
        ADD R1, R1, #-1
        BRp SLOOP
        RET
THREE   .FILL #300
ONE     .FILL #100
MASK    .FILL x0FFF
        .END
)";

class ProfileOf : public Lc3Test, public ::testing::WithParamInterface<lc3::Engine> {};

TEST_P(ProfileOf, FindsTheSharesOfTwoLoopsAndChangesNothing) {
  using Tier = lc3::ProfilePoint::Tier;
  const lc3::Program code = program(kTwoLoops);
  const auto vm = make_lc3({.engine = GetParam(), .locate_samples = true});
  ASSERT_NE(vm, nullptr);
  ASSERT_TRUE(vm->load(code));
  lc3::Profile profile;
  vm->sample_into(profile);
  // In the turns of a loop, from its label to the branch back. On an emulated machine up to two thirds of the samples
  // of a run are at the few instructions between the loops, which says nothing of the loops' shares.
  const auto in_loop = [&](std::string_view label) {
    const std::uint16_t begin = code.find_symbol(label)->address, end = begin + 10;
    std::uint64_t count = 0;
    for (const auto& [point, samples] : profile.counts) {
      const bool in_code = point.tier != Tier::kEntry && point.tier != Tier::kGuest;
      if (in_code && point.pc >= begin && point.pc < end) count += samples;
    }
    return count;
  };
  constexpr std::uint64_t kEnough = 300, kSlice = 10'000'000;
  std::uint64_t executed = 0;
  {
    const auto sampler = Sampler::start(1997);
    ASSERT_TRUE(sampler) << sampler.error().message;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(40);
    while (in_loop("LLOOP") + in_loop("SLOOP") < kEnough && std::chrono::steady_clock::now() < until) {
      const auto run = vm->run(kSlice);
      ASSERT_TRUE(run) << run.error().message;
      ASSERT_EQ(run->stop, lc3::StopReason::kBudget);
      executed += run->executed;
    }
    EXPECT_GE((*sampler)->requested() + 1, profile.samples);
  }
  const auto sampled = vm->registers();
  ASSERT_TRUE(sampled);
  // The same number of instructions at once, and unobserved.
  const auto other = make_lc3({.engine = lc3::Engine::kXbyak});
  ASSERT_NE(other, nullptr);
  ASSERT_TRUE(other->load(code));
  const auto run = other->run(executed);
  ASSERT_TRUE(run) << run.error().message;
  EXPECT_EQ(run->executed, executed);
  EXPECT_EQ(*sampled, *other->registers());

  std::uint64_t compiled = 0;
  for (const auto& [point, count] : profile.counts) {
    if (point.tier == Tier::kXbyak || point.tier == Tier::kLlvm) compiled += count;
  }
  if (GetParam() == lc3::Engine::kInterpreter) EXPECT_EQ(compiled, 0U);
  const std::uint64_t in_long = in_loop("LLOOP"), in_short = in_loop("SLOOP");
  ASSERT_GE(in_long + in_short, 200U) << "of " << profile.samples;
  const double share = static_cast<double>(in_long) / static_cast<double>(in_long + in_short);
  EXPECT_GT(share, 0.55) << in_long << " : " << in_short;
  EXPECT_LT(share, 0.92) << in_long << " : " << in_short;
  if (GetParam() == lc3::Engine::kXbyak) EXPECT_GT(compiled, profile.samples / 2);
}
INSTANTIATE_TEST_SUITE_P(Engines, ProfileOf,
                         ::testing::Values(lc3::Engine::kInterpreter, lc3::Engine::kXbyak, lc3::Engine::kOrc,
                                           lc3::Engine::kAuto),
                         [](const auto& info) { return lc3::kEngineNames[static_cast<std::size_t>(info.param)]; });

TEST(SamplerTest, RefusesImpossibleRates) {
  for (const unsigned rate : {0U, kMostSamplesPerSecond + 1}) {
    const auto sampler = Sampler::start(rate);
    ASSERT_FALSE(sampler);
    EXPECT_EQ(sampler.error().kind, ErrorKind::kUsage);
  }
}

}  // namespace
}  // namespace warmfork::test
