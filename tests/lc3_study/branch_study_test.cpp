// What is a branch, what is counted, and that the sums are right.
#include "lc3/study/branch_study.hpp"

#include "unit/random.hpp"

#include <gmock/gmock.h>

namespace warmfork::lc3 {
namespace {

using test::Random;

TraceRecord record(std::uint16_t address, std::uint16_t word, std::uint16_t psr, std::uint16_t entered = 0) {
  TraceRecord one{};
  one.address = address;
  one.word = word;
  one.psr = psr;
  one.entered = entered;
  return one;
}

std::vector<std::unique_ptr<Predictor>> predictors(const PredictorSizes& sizes = {}) {
  auto all = make_predictors(sizes);
  if (!all) ADD_FAILURE() << all.error().message;
  return std::move(all).value();
}

TEST(BranchStudy, KnowsABranchWhenItSeesOne) {
  const auto taken = branch_of(record(0x3005, 0x05FC, kPsrUser | kPsrZ));  // BRz #-4
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->pc, 0x3005);
  EXPECT_EQ(taken->target, 0x3002);
  EXPECT_TRUE(taken->taken);
  EXPECT_EQ(taken->word, 0x05FC);
  EXPECT_FALSE(is_unconditional(*taken));
  EXPECT_FALSE(branch_of(record(0x3005, 0x05FC, kPsrUser | kPsrP))->taken);
  EXPECT_FALSE(branch_of(record(0x3005, 0x01FC, kPsrZ))) << "an empty mask";
  EXPECT_FALSE(branch_of(record(0x3005, 0x1021, kPsrZ))) << "ADD";
  EXPECT_FALSE(branch_of(record(0x3005, 0xC1C0, kPsrZ))) << "RET";
  EXPECT_FALSE(branch_of(record(0x3005, 0x05FC, kPsrZ, kEnteredException))) << "it could not be fetched";
  EXPECT_TRUE(branch_of(record(0x3005, 0x05FC, kPsrZ, kEnteredInterrupt))) << "the routine's first instruction";
  EXPECT_TRUE(is_unconditional(*branch_of(record(0x3005, 0x0FFC, kPsrZ))));
}

TEST(BranchStudy, ABranchToTheNextInstructionIsTakenOrNot) {
  TraceRecord one = record(0x3000, 0x0400, kPsrZ);  // BRz #0
  one.pc = 0x3001;
  EXPECT_TRUE(branch_of(one)->taken);
  one.psr = kPsrN;
  EXPECT_FALSE(branch_of(one)->taken);
}

TEST(BranchStudy, TargetsWrap) {
  EXPECT_EQ(branch_of(record(0xFFFF, 0x0404, kPsrZ))->target, 0x0004);
  EXPECT_EQ(branch_of(record(0x0001, 0x05F0, kPsrZ))->target, 0xFFF2);
}

TEST(BranchStudy, CountsEachKindAndPredictsConditionalOnes) {
  const std::vector<TraceRecord> records{
      record(0x3000, 0x1021, kPsrP), record(0x3001, 0x03FE, kPsrP), record(0x3001, 0x03FE, kPsrZ),
      record(0x3002, 0x0FFE, kPsrZ), record(0x3003, 0x0000, kPsrZ),
  };
  for (const bool unconditional : {false, true}) {
    BranchStudy study(predictors(), {.unconditional = unconditional});
    study.add(records);
    const StudyResult result = study.result();
    EXPECT_EQ(result.instructions, 5U);
    EXPECT_EQ(result.conditional, 2U);
    EXPECT_EQ(result.conditional_taken, 1U);
    EXPECT_EQ(result.unconditional, 1U);
    ASSERT_EQ(result.sites.size(), unconditional ? 2U : 1U);
    EXPECT_EQ(result.sites[0].pc, 0x3001);
    EXPECT_EQ(result.sites[0].word, 0x03FE);
    EXPECT_EQ(result.sites[0].executed, 2U);
    EXPECT_EQ(result.sites[0].taken, 1U);
    const PredictorResult& always = result.predictors.front();
    EXPECT_EQ(always.name, "always_taken");
    EXPECT_EQ(always.branches, unconditional ? 3U : 2U);
    EXPECT_EQ(always.mispredictions, 1U);
    EXPECT_DOUBLE_EQ(*always.accuracy_percent, unconditional ? 200.0 / 3 : 50.0);
    EXPECT_DOUBLE_EQ(*always.mpki, 200.0);
    EXPECT_GT(*always.ns_per_branch, 0.0);
  }
}

TEST(BranchStudy, WithoutBranchesThereIsNothingToDivideBy) {
  BranchStudy study(predictors());
  EXPECT_FALSE(study.result().predictors.front().mpki) << "not even instructions";
  study.add(std::vector{record(0x3000, 0x1021, kPsrP), record(0x3001, 0xF025, kPsrP)});
  const StudyResult result = study.result();
  EXPECT_EQ(result.instructions, 2U);
  EXPECT_TRUE(result.sites.empty());
  EXPECT_TRUE(result.worst(0, 10).empty());
  for (const PredictorResult& one : result.predictors) {
    EXPECT_EQ(one.branches, 0U);
    EXPECT_FALSE(one.accuracy_percent);
    EXPECT_FALSE(one.ns_per_branch);
    EXPECT_DOUBLE_EQ(*one.mpki, 0.0);
  }
}

TEST(BranchStudy, WorstAreThoseMissedMostOften) {
  BranchStudy study(predictors());
  const auto add = [&](std::uint16_t pc, int taken, int not_taken) {
    for (int i = 0; i < taken; ++i) study.add({pc, 0, true});
    for (int i = 0; i < not_taken; ++i) study.add({pc, 0, false});
  };
  add(0x3003, 0, 5);
  add(0x3002, 9, 5);
  add(0x3001, 1, 7);
  add(0x3000, 2, 0);
  const StudyResult result = study.result();
  const auto addresses = [&](std::size_t predictor, std::size_t count) {
    std::vector<std::uint16_t> list;
    for (const BranchSite* site : result.worst(predictor, count)) list.push_back(site->pc);
    return list;
  };
  EXPECT_THAT(addresses(0, 10), testing::ElementsAre(0x3001, 0x3002, 0x3003));  // always taken; equals by address
  EXPECT_THAT(addresses(0, 2), testing::ElementsAre(0x3001, 0x3002));
  EXPECT_THAT(addresses(1, 10), testing::ElementsAre(0x3002, 0x3000, 0x3001));  // not taken
  EXPECT_TRUE(addresses(0, 0).empty());
}

TEST(BranchStudy, SumsAreRightForAnyStreamAndAnySizes) {
  Random random;
  for (int round = 0; round < 20; ++round) {
    const std::uint64_t gshare_bits = random.below(12);
    const PredictorSizes sizes{.bimodal_counters = std::uint64_t{1} << random.below(12),
                               .gshare_counters = std::uint64_t{1} << gshare_bits,
                               .gshare_history = random.below(gshare_bits + 1),
                               .perceptrons = 1 + random.below(100),
                               .perceptron_history = 1 + random.below(kMostPerceptronHistory)};
    BranchStudy study(predictors(sizes), {.repeats = 1});
    const std::uint64_t branches = random.below(3000), addresses = 1 + random.below(200);
    std::uint64_t taken = 0;
    for (std::uint64_t i = 0; i < branches; ++i) {
      const Branch branch{static_cast<std::uint16_t>(random.below(addresses)),
                          static_cast<std::uint16_t>(random.word()), random.one_in(1 + random.below(4))};
      taken += branch.taken ? 1 : 0;
      study.add(branch);
    }
    study.add_instructions(3 * branches);
    const StudyResult result = study.result();
    std::uint64_t executed = 0, site_taken = 0;
    for (const BranchSite& site : result.sites) {
      executed += site.executed;
      site_taken += site.taken;
    }
    EXPECT_EQ(executed, branches);
    EXPECT_EQ(site_taken, taken);
    for (std::size_t i = 0; i < result.predictors.size(); ++i) {
      const PredictorResult& one = result.predictors[i];
      SCOPED_TRACE(one.name);
      EXPECT_EQ(one.branches, branches);
      EXPECT_LE(one.mispredictions, branches);
      std::uint64_t by_site = 0;
      for (const BranchSite& site : result.sites) {
        EXPECT_LE(site.mispredictions[i], site.executed);
        by_site += site.mispredictions[i];
      }
      EXPECT_EQ(by_site, one.mispredictions);
      if (branches == 0) continue;
      EXPECT_GE(*one.accuracy_percent, 0.0);
      EXPECT_LE(*one.accuracy_percent, 100.0);
      EXPECT_NEAR(*one.accuracy_percent / 100 * static_cast<double>(branches) + static_cast<double>(one.mispredictions),
                  static_cast<double>(branches), 1e-6);
      EXPECT_LE(result.predictors[result.best()].mispredictions, one.mispredictions);
    }
    EXPECT_EQ(result.predictors[0].mispredictions, branches - taken);
    EXPECT_EQ(result.predictors[1].mispredictions, taken);
  }
}

TEST(BranchStudy, BlocksAndTimingLeaveNoTrace) {
  Random random;
  std::vector<Branch> branches(200'000);  // several blocks
  for (Branch& branch : branches) {
    branch = {static_cast<std::uint16_t>(random.below(40)), 0, random.one_in(1 + random.below(4))};
  }
  BranchStudy once(predictors(), {.repeats = 1}), often(predictors(), {.repeats = 3});
  for (std::size_t i = 0; i < branches.size(); ++i) {
    once.add(branches[i]);
    often.add(branches[i]);
    if (i == 1000) (void)often.result();  // a look in between changes nothing
  }
  const StudyResult a = once.result(), b = often.result();
  const auto whole = predictors();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(a.predictors[i].mispredictions, whole[i]->replay(branches, {}));
    EXPECT_EQ(a.predictors[i].mispredictions, b.predictors[i].mispredictions);
  }
}

}  // namespace
}  // namespace warmfork::lc3
