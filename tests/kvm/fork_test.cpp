// Forks and resets as their user sees them: every kind, every population, every reset mode.
#include "fork/fork.hpp"

#include "fork/fork_page.hpp"
#include "fork/snapshot.hpp"
#include "machine_test.hpp"

#include <gmock/gmock.h>

#include <array>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace warmfork {
namespace {

using ::testing::HasSubstr;

class ForkTestBase : public test::MachineTest {
 protected:
  /// A warm master of the forks guest with a block of `pages` pages.
  void make_master(std::size_t pages = 64, std::uint64_t memory_bytes = 0) {
    MachineConfig config;
    config.memory_bytes = memory_bytes != 0 ? memory_bytes : (pages + 96) * kPage;
    config.stack_bytes = 8 * kPage;
    config.call_area_bytes = kPage;
    master_ = make("probe_forks", {std::to_string(pages)}, std::move(config));
    ASSERT_NE(master_, nullptr);
    const auto booted = master_->boot({.timeout_ns = kTimeout});
    ASSERT_TRUE(booted) << booted.error().message;
    ASSERT_FALSE(booted->exit_code) << "exit code " << *booted->exit_code;
  }
  void take() {
    auto snapshot = Snapshot::take(system(), *master_);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    snapshot_ = *snapshot;
  }
  void open(const ForkOptions& options, std::size_t capacity = 16) {
    cpu_ = nullptr;
    source_.reset();
    auto source = make_fork_source(system(), snapshot_, options, capacity);
    ASSERT_TRUE(source) << source.error().message;
    source_ = std::move(*source);
    auto cpu = source_->make_cpu();
    ASSERT_TRUE(cpu) << cpu.error().message;
    cpu_ = *cpu;
  }
  std::unique_ptr<Fork> fork() {
    auto made = source_->make();
    EXPECT_TRUE(made) << made.error().message;
    if (!made) return nullptr;
    if (cpu_ != nullptr) EXPECT_TRUE((*made)->bind(*cpu_));
    return std::move(*made);
  }
  Result<std::uint64_t> try_call(Guest& guest, const char* name, std::initializer_list<std::uint64_t> arguments = {},
                                 std::uint64_t timeout_ns = kTimeout) {
    if (cpu_ != nullptr && &guest != master_.get()) EXPECT_TRUE(static_cast<Fork&>(guest).bind(*cpu_));
    const auto function = guest.find_vmcall(name);
    EXPECT_TRUE(function) << function.error().message;
    return guest.call(*function, std::vector<std::uint64_t>(arguments), {.timeout_ns = timeout_ns});
  }
  std::uint64_t call(Guest& guest, const char* name, std::initializer_list<std::uint64_t> arguments = {}) {
    const auto result = try_call(guest, name, arguments);
    EXPECT_TRUE(result) << name << ": " << result.error().message;
    return result.value_or(0);
  }
  void reset(Fork& fork) {
    if (cpu_ != nullptr) ASSERT_TRUE(fork.bind(*cpu_));
    const Status done = fork.reset();
    ASSERT_TRUE(done) << done.error().message;
  }
  /// All of the window but the fork page and the program's 16 random bytes is the snapshot's.
  void expect_pristine(Fork& fork) {
    const auto window = fork.memory().window();
    const auto frozen = fork.snapshot()->window();
    std::vector<std::byte> copy(window.begin(), window.end());
    const GuestLayout& layout = fork.memory().layout();
    const std::uint64_t fork_page = *layout.window_offset(Gva{WARMFORK_FORK_PAGE});
    const std::uint64_t random = *layout.window_offset(fork.snapshot()->book().random_bytes);
    std::copy_n(frozen.begin() + static_cast<std::ptrdiff_t>(random), 16,
                copy.begin() + static_cast<std::ptrdiff_t>(random));
    std::copy_n(frozen.begin() + static_cast<std::ptrdiff_t>(fork_page) + WARMFORK_FORK_INFO_OFFSET, sizeof(ForkInfo),
                copy.begin() + static_cast<std::ptrdiff_t>(fork_page) + WARMFORK_FORK_INFO_OFFSET);
    for (std::size_t page = 0; page < copy.size() / kPage; ++page) {
      ASSERT_EQ(std::memcmp(&copy[page * kPage], &frozen[page * kPage], kPage), 0)
          << "page " << page << " of " << copy.size() / kPage << ", " << fork.strategy().describe();
    }
  }

  std::unique_ptr<Machine> master_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::unique_ptr<ForkSource> source_;
  GuestCpu* cpu_ = nullptr;
};

// --- Every kind, population and mode ---------------------------------------------------------------------------------

using Mode = std::tuple<ForkKind, Population, ResetMode>;

class ForkMode : public ForkTestBase, public ::testing::WithParamInterface<Mode> {
 protected:
  void SetUp() override {
    ForkTestBase::SetUp();
    if (IsSkipped()) return;
    make_master();
    take();
    open(options());
  }
  static ForkOptions options() {
    const auto& [kind, population, mode] = GetParam();
    return {.kind = kind, .population = population, .reset = mode};
  }
};

TEST_P(ForkMode, ForksStartWhereTheMasterWasAndDoNotSeeEachOther) {
  const auto a = fork();
  const auto b = fork();
  ASSERT_TRUE(a && b);
  EXPECT_EQ(call(*a, "count"), 1001U);
  EXPECT_EQ(call(*a, "count"), 1002U);
  EXPECT_EQ(call(*b, "count"), 1001U);
  EXPECT_EQ(call(*a, "count"), 1003U);
  EXPECT_EQ(call(*master_, "count"), 1001U) << "the master goes on by itself";
  const std::uint64_t untouched = call(*b, "sum_block");
  EXPECT_EQ(call(*a, "touch", {0, 64, 77}), 64U);
  EXPECT_NE(call(*a, "sum_block"), untouched);
  EXPECT_EQ(call(*b, "sum_block"), untouched);
  const auto c = fork();
  EXPECT_EQ(call(*c, "sum_block"), untouched) << "the snapshot itself has not changed";
}

TEST_P(ForkMode, ResetBringsEverythingBack) {
  const auto one = fork();
  ASSERT_TRUE(one);
  const std::uint64_t untouched = call(*one, "sum_block");
  for (std::uint64_t round = 0; round < test::scaled(200) + 10; ++round) {
    EXPECT_EQ(call(*one, "count"), round == 0 ? 1001U : 1001U);
    (void)call(*one, "touch", {round * 7, round % 5 == 0 ? 64 : round % 9, round + 1});
    if (round % 3 == 0) (void)call(*one, "touch", {round, 3, round + 2});
    reset(*one);
    expect_pristine(*one);
    if (HasFatalFailure()) return;
    if (round % 50 == 0) EXPECT_EQ(call(*one, "sum_block"), untouched);
  }
  EXPECT_GE(one->reset_stats().resets, 10U);
}

TEST_P(ForkMode, ACrashedFaultyOrLateGuestIsAsGoodAsNewAfterAReset) {
  const auto one = fork();
  ASSERT_TRUE(one);
  const auto expect_new = [&] {
    reset(*one);
    expect_pristine(*one);
    EXPECT_EQ(call(*one, "count"), 1001U);
    EXPECT_FALSE(one->fault());
  };
  EXPECT_EQ(try_call(*one, "peek", {0}).error().kind, ErrorKind::kGuestFault);
  EXPECT_TRUE(one->fault());
  EXPECT_EQ(try_call(*one, "count").error().kind, ErrorKind::kGuestFault) << "ended until it is reset";
  expect_new();
  EXPECT_EQ(try_call(*one, "poke", {WARMFORK_FORK_PAGE, 1}).error().kind, ErrorKind::kGuestFault);
  expect_new();
  EXPECT_EQ(try_call(*one, "spin", {}, 2'000'000).error().kind, ErrorKind::kDeadline);
  expect_new();
  EXPECT_THAT(try_call(*one, "leave", {7}).error().message, HasSubstr("exited with code 7"));
  expect_new();
}

TEST_P(ForkMode, ACancelThatComesTooLateStopsNobodyElse) {
  const auto one = fork();
  const auto other = fork();
  ASSERT_TRUE(one && other);
  EXPECT_EQ(call(*one, "count"), 1001U);
  one->cancel();
  reset(*one);
  EXPECT_EQ(call(*one, "count"), 1001U);
  one->cancel();
  EXPECT_EQ(call(*other, "count"), 1001U);
  reset(*one);
  one->cancel();
  EXPECT_EQ(try_call(*one, "spin").error().kind, ErrorKind::kCancelled) << "before a call: it stops that call";
}

TEST_P(ForkMode, MemoryTheGuestMappedProtectedOrDiscardedComesBack) {
  const auto one = fork();
  ASSERT_TRUE(one);
  const std::uint64_t untouched = call(*one, "sum_block");
  for (int round = 0; round < 3; ++round) {
    const std::uint64_t first = call(*one, "grow", {8});
    EXPECT_NE(first, 0U);
    reset(*one);
    expect_pristine(*one);
    EXPECT_EQ(call(*one, "grow", {8}), first) << "the heap's book is the snapshot's again";
    EXPECT_EQ(call(*one, "freeze_block", {5}), 1U);
    EXPECT_EQ(try_call(*one, "touch", {4, 1, 9}).error().kind, ErrorKind::kGuestFault);
    reset(*one);
    EXPECT_EQ(call(*one, "touch", {4, 1, 9}), 1U) << "the protection is gone";
    EXPECT_EQ(call(*one, "discard_block"), 0U);
    EXPECT_NE(call(*one, "sum_block"), untouched);
    reset(*one);
    expect_pristine(*one);
    EXPECT_EQ(call(*one, "sum_block"), untouched);
    reset(*one);
  }
}

TEST_P(ForkMode, EveryLifeHasItsOwnRandomBytes) {
  const auto a = fork();
  const auto b = fork();
  ASSERT_TRUE(a && b);
  std::set<std::uint64_t> seen;
  std::set<std::uint64_t> generations;
  for (int round = 0; round < 5; ++round) {
    for (Fork* one : {a.get(), b.get()}) {
      for (std::uint64_t i = 0; i < 8; ++i) EXPECT_TRUE(seen.insert(call(*one, "fork_random", {i})).second);
      EXPECT_TRUE(seen.insert(call(*one, "system_random")).second);
      EXPECT_TRUE(seen.insert(call(*one, "program_random")).second);
      EXPECT_TRUE(generations.insert(call(*one, "generation")).second);
      EXPECT_EQ(one->generation(), call(*one, "generation"));
      EXPECT_NE(one->generation(), 0U);
      reset(*one);
    }
  }
  EXPECT_EQ(call(*master_, "generation"), 0U);
}

TEST_P(ForkMode, ASeedGivesEveryLifeTheSameRandomBytes) {
  ForkOptions seeded = options();
  seeded.seed = 42;
  seeded.instruction_budget = 123456;
  open(seeded);
  const auto a = fork();
  const auto b = fork();
  ASSERT_TRUE(a && b);
  const auto draw = [&](Fork& one) {
    return std::array{call(one, "fork_random", {3}), call(one, "program_random"), call(one, "system_random")};
  };
  const auto first = draw(*a);
  EXPECT_EQ(draw(*b), first);
  reset(*a);
  EXPECT_EQ(draw(*a), first);
  EXPECT_EQ(call(*a, "budget"), 123456U);
}

TEST_P(ForkMode, TheHeapLimitHolds) {
  ForkOptions limited = options();
  limited.heap_limit_bytes = (64 + 8) * kPage;  // the block is 64
  open(limited);
  const auto one = fork();
  ASSERT_TRUE(one);
  EXPECT_EQ(call(*one, "grow", {32}), 0U);
  EXPECT_NE(call(*one, "grow", {2}), 0U);
}

std::string mode_name(const ::testing::TestParamInfo<Mode>& info) {
  const auto& [kind, population, mode] = info.param;
  return std::string(name_of(kind)) + "_" + std::string(name_of(population)) + "_" + std::string(name_of(mode));
}

INSTANTIATE_TEST_SUITE_P(Copy, ForkMode,
                         ::testing::Combine(::testing::ValuesIn(kForkKinds), ::testing::Values(Population::kCopy),
                                            ::testing::Values(ResetMode::kAuto, ResetMode::kFullCopy,
                                                              ResetMode::kDirtyLog, ResetMode::kDirtyRing)),
                         mode_name);
INSTANTIATE_TEST_SUITE_P(Cow, ForkMode,
                         ::testing::Combine(::testing::ValuesIn(kForkKinds), ::testing::Values(Population::kCow),
                                            ::testing::ValuesIn(kResetModes)),
                         mode_name);

// --- What does not depend on the mode --------------------------------------------------------------------------------

using ForkTest = ForkTestBase;

TEST_F(ForkTest, AGuestThatIsNotReadyHasNoSnapshot) {
  const auto cold = make("probe_forks");
  ASSERT_NE(cold, nullptr);
  const auto refused = Snapshot::take(system(), *cold);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
}

TEST_F(ForkTest, CowRemapNeedsAPrivateMapping) {
  make_master();
  take();
  const auto refused =
      make_fork_source(system(), snapshot_, {.population = Population::kCopy, .reset = ResetMode::kCowRemap}, 1);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("cow_remap needs"));
}

TEST_F(ForkTest, ASourceHoldsAsManyAsItWasMadeFor) {
  make_master();
  take();
  open({.kind = ForkKind::kSpace}, 2);
  auto a = fork();
  const auto b = fork();
  const auto refused = source_->make();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kLimit);
  EXPECT_EQ(call(*a, "count"), 1001U);
  a.reset();
  const auto c = fork();
  ASSERT_NE(c, nullptr) << "a home is used again";
  EXPECT_EQ(call(*c, "count"), 1001U);
  EXPECT_EQ(call(*b, "count"), 1001U);
  EXPECT_FALSE(make_fork_source(system(), snapshot_, {.kind = ForkKind::kSpace}, 1U << 20));
  EXPECT_FALSE(make_fork_source(system(), snapshot_, {.kind = ForkKind::kSpace}, 0));
}

TEST_F(ForkTest, AVcpuThatACrashedForkHasLeftServesTheNext) {
  make_master();
  take();
  open({.kind = ForkKind::kSpace}, 2);
  for (int round = 0; round < 3; ++round) {
    {
      const auto bad = fork();
      EXPECT_FALSE(try_call(*bad, "poke", {WARMFORK_FORK_PAGE, 1}));
    }
    EXPECT_EQ(call(*fork(), "count"), 1001U);
    {
      const auto late = fork();
      EXPECT_FALSE(try_call(*late, "spin", {}, 2'000'000));
    }
    EXPECT_EQ(call(*fork(), "count"), 1001U);
  }
}

// What a refused call has prepared must not be what the other fork then runs with, its page tables above all.
TEST_F(ForkTest, ACallWithoutTheVcpuIsRefusedAndDoesNotTouchWhoHasIt) {
  make_master();
  take();
  open({.kind = ForkKind::kSpace}, 2);
  const auto first = fork();
  const auto count = first->find_vmcall("count");
  ASSERT_TRUE(count);
  EXPECT_EQ(call(*first, "count"), 1001U);
  const auto second = fork();  // has the vCPU now
  const auto refused = first->call(*count, {}, {.timeout_ns = kTimeout});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  const auto answer = second->call(*count, {}, {.timeout_ns = kTimeout});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(*answer, 1001U) << "it has run in the memory of the other";
}

TEST_F(ForkTest, ACallWithoutAnyVcpuIsRefused) {
  make_master();
  take();
  open({.kind = ForkKind::kSpace}, 1);
  const auto made = source_->make();
  ASSERT_TRUE(made) << made.error().message;
  const auto count = (*made)->find_vmcall("count");
  ASSERT_TRUE(count);
  const auto refused = (*made)->call(*count, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(call(**made, "count"), 1001U);
}

// Between a reset and the next call, or while another fork has the vCPU, its extended state is not this fork's.
TEST_F(ForkTest, ASnapshotOfAForkHasNoOthersControlWords) {
  make_master();
  take();
  open({.kind = ForkKind::kSpace}, 3);
  const auto mxcsr_of = [](const Snapshot& snapshot) {
    const std::uint64_t page = *snapshot.layout()->window_offset(Gva{WARMFORK_FORK_PAGE});
    return PristineState::of_area(snapshot.window().subspan(page, kPage)).mxcsr;
  };
  const auto frozen_mxcsr = [&](Fork& of) {
    const auto layer = Snapshot::take(system(), of);
    EXPECT_TRUE(layer) << layer.error().message;
    return layer ? mxcsr_of(**layer) : 0;
  };
  const std::uint32_t clean = mxcsr_of(*snapshot_);
  constexpr std::uint32_t kTowardZero = 0x7f80;
  ASSERT_NE(clean, kTowardZero);

  const auto living = fork();
  EXPECT_EQ(call(*living, "count"), 1001U);
  auto area = living->vcpu().xsave(system().xsave_size());  // as if the guest had done it
  ASSERT_TRUE(area) << area.error().message;
  std::memcpy(&(*area)[24], &kTowardZero, sizeof kTowardZero);
  (*area)[512] |= std::byte{2};
  ASSERT_TRUE(living->vcpu().set_xsave(*area));
  EXPECT_EQ(frozen_mxcsr(*living), kTowardZero);  // its own

  const auto unbound = source_->make();
  ASSERT_TRUE(unbound) << unbound.error().message;
  EXPECT_EQ(frozen_mxcsr(**unbound), clean) << "of a fork without a vCPU";
  EXPECT_TRUE(living->reset());
  EXPECT_EQ(frozen_mxcsr(*living), clean) << "of the life before";

  EXPECT_EQ(call(*living, "count"), 1001U);
  const auto other = fork();  // has the vCPU now
  EXPECT_EQ(call(*other, "count"), 1001U);
  ASSERT_TRUE(other->vcpu().set_xsave(*area));
  EXPECT_EQ(frozen_mxcsr(*living), clean) << "of another fork";
}

TEST_F(ForkTest, ASnapshotOfAForkHoldsOnlyWhatDiffers) {
  make_master(512);
  (void)call(*master_, "count");
  take();
  EXPECT_GT(snapshot_->stored_bytes(), 256 * kPage);
  for (const Population population : {Population::kCopy, Population::kCow}) {
    open({.population = population});
    auto base_fork = fork();
    EXPECT_EQ(call(*base_fork, "count"), 1002U);
    EXPECT_EQ(call(*base_fork, "touch", {3, 4, 99}), 4U);
    const std::uint64_t sum = call(*base_fork, "sum_block");
    auto layer = Snapshot::take(system(), *base_fork);
    ASSERT_TRUE(layer) << layer.error().message;
    EXPECT_LE((*layer)->stored_bytes(), 12 * kPage);
    EXPECT_EQ((*layer)->base(), snapshot_);
    reset(*base_fork);  // its next call begins pristine, with new random bytes on its page
    const auto second_layer = Snapshot::take(system(), *base_fork);
    ASSERT_TRUE(second_layer) << second_layer.error().message;
    for (const auto& taken : {*layer, *second_layer}) {
      const std::uint64_t info = *taken->layout()->window_offset(Gva{WARMFORK_FORK_PAGE}) + WARMFORK_FORK_INFO_OFFSET;
      EXPECT_TRUE(std::ranges::all_of(taken->window().subspan(info, sizeof(ForkInfo)), [](std::byte byte) {
        return byte == std::byte{0};
      })) << "a snapshot has no generation and no random bytes";
    }
    base_fork.reset();
    const auto root = std::exchange(snapshot_, *layer);
    for (const ResetMode mode : {ResetMode::kAuto, ResetMode::kFullCopy, ResetMode::kCowRemap}) {
      if (mode == ResetMode::kCowRemap && population == Population::kCopy) continue;
      open({.population = population, .reset = mode});
      const auto second = fork();
      for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(call(*second, "count"), 1003U);
        EXPECT_EQ(call(*second, "sum_block"), sum);
        (void)call(*second, "touch", {0, 300, 5});
        reset(*second);
        expect_pristine(*second);
      }
    }
    cpu_ = nullptr;
    source_.reset();
    snapshot_ = root;
  }
}

TEST_F(ForkTest, TheLearnedSetIsGivenUpWhenItIsCopiedInVain) {
  make_master(512);
  take();
  open({.reset = ResetMode::kDirtyRing});
  const auto one = fork();
  (void)call(*one, "touch", {0, 512, 1});
  reset(*one);
  EXPECT_GE(one->memory().dirty().count(), 512U);
  for (int round = 0; round < 256 * 4 && one->reset_stats().relearned == 0; ++round) {
    (void)call(*one, "count");
    reset(*one);
  }
  EXPECT_EQ(one->reset_stats().relearned, 1U);
  EXPECT_LT(one->memory().dirty().count(), 32U);
  (void)call(*one, "touch", {100, 20, 3});
  reset(*one);
  expect_pristine(*one);
}

TEST_F(ForkTest, HugeWindowsForkAndReset) {
  make_master(1024, std::uint64_t{256} << 20);
  take();
  for (const ForkKind kind : kForkKinds) {
    open({.kind = kind}, 2);
    const auto one = fork();
    ASSERT_NE(one, nullptr);
    const std::uint64_t sum = call(*one, "sum_block");
    for (int round = 0; round < 5; ++round) {
      (void)call(*one, "touch", {static_cast<std::uint64_t>(round) * 10, 100, 7});
      EXPECT_NE(call(*one, "grow", {2000}), 0U);
      reset(*one);
      EXPECT_EQ(call(*one, "sum_block"), sum);
    }
    const auto bytes = one->private_bytes();
    ASSERT_TRUE(bytes);
    EXPECT_LT(*bytes, std::uint64_t{64} << 20);
  }
}

}  // namespace
}  // namespace warmfork
