#include "lc3/study/branch_study.hpp"

#include "lc3/core/instruction.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace warmfork::lc3 {
namespace {

constexpr std::size_t kBlock = 65'536;        // branches that are kept
constexpr unsigned kTimedBlocks = 8;          // enough for a median; the rest goes through each predictor once
constexpr std::size_t kTimedAtLeast = 4'096;  // branches between two looks at the clock, which cost some of them
constexpr unsigned kFullMask = kPsrN | kPsrZ | kPsrP;

double percent(std::uint64_t part, std::uint64_t whole) {
  return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::optional<Branch> branch_of(const TraceRecord& record) {
  const Instruction instruction = decode(record.word);
  if (instruction.operation != Operation::kBr || instruction.nzp == 0) return std::nullopt;
  if ((record.entered & kEnteredException) != 0) return std::nullopt;
  // By the condition code, which BR leaves alone: where target and next instruction are the same, the PC cannot tell.
  return Branch{.pc = record.address,
                .target = static_cast<std::uint16_t>(record.address + 1 + instruction.immediate),
                .taken = (record.psr & instruction.nzp) != 0,
                .word = record.word};
}

bool is_unconditional(const Branch& branch) { return decode(branch.word).nzp == kFullMask; }

std::size_t StudyResult::best() const {
  const auto best =
      std::ranges::min_element(predictors, {}, [](const PredictorResult& one) { return one.mispredictions; });
  return static_cast<std::size_t>(best - predictors.begin());
}

std::vector<const BranchSite*> StudyResult::worst(std::size_t predictor, std::size_t count) const {
  std::vector<const BranchSite*> order;
  for (const BranchSite& site : sites) {
    if (site.mispredictions[predictor] != 0) order.push_back(&site);
  }
  const std::size_t kept = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    [&](const BranchSite* a, const BranchSite* b) {
                      return std::pair(b->mispredictions[predictor], a->pc) <
                             std::pair(a->mispredictions[predictor], b->pc);
                    });
  order.resize(kept);
  return order;
}

BranchStudy::BranchStudy(std::vector<std::unique_ptr<Predictor>> predictors, StudyOptions options)
    : predictors_(std::move(predictors)), options_(options), site_of_(kMemoryWords), timings_(predictors_.size()) {
  block_.reserve(kBlock);
  for (const auto& predictor : predictors_) {
    PredictorResult result;
    result.name = predictor->name();
    result.parameters = predictor->parameters();
    result.storage_bits = predictor->storage_bits();
    result_.predictors.push_back(std::move(result));
  }
}

void BranchStudy::add(std::span<const TraceRecord> records) {
  add_instructions(records.size());
  for (const TraceRecord& record : records) {
    const std::optional<Branch> branch = branch_of(record);
    if (!branch) continue;
    if (is_unconditional(*branch)) {
      ++result_.unconditional;
      if (!options_.unconditional) continue;
    } else {
      ++result_.conditional;
      result_.conditional_taken += branch->taken ? 1 : 0;
    }
    add(*branch);
  }
}

void BranchStudy::add(const Branch& branch) {
  block_.push_back(branch);
  if (block_.size() == kBlock) flush();
}

// Copies that have learnt what the predictors have: they meet the block as the predictors will.
void BranchStudy::time_block() {
  const std::size_t rounds = (kTimedAtLeast + block_.size() - 1) / block_.size();
  for (unsigned repeat = 0; repeat < options_.repeats; ++repeat) {
    for (std::size_t i = 0; i < predictors_.size(); ++i) {
      const std::unique_ptr<Predictor> copy = predictors_[i]->clone();
      std::uint64_t wrong = 0;
      const auto begin = std::chrono::steady_clock::now();
      for (std::size_t round = 0; round < rounds; ++round) wrong += copy->replay(block_, {});
      asm volatile("" : : "r"(wrong));  // the guesses must be made
      const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
      timings_[i].push_back(took.count() / static_cast<double>(rounds * block_.size()));
    }
  }
}

void BranchStudy::flush() {
  if (block_.empty()) return;
  if (timed_blocks_ < kTimedBlocks) {
    ++timed_blocks_;
    time_block();
  }
  for (const Branch& branch : block_) {
    std::uint32_t& index = site_of_[branch.pc];
    if (index == 0) {
      BranchSite site;
      site.pc = branch.pc;
      site.mispredictions.resize(predictors_.size());
      result_.sites.push_back(std::move(site));
      index = static_cast<std::uint32_t>(result_.sites.size());
    }
    BranchSite& site = result_.sites[index - 1];
    site.word = branch.word;
    ++site.executed;
    site.taken += branch.taken ? 1 : 0;
  }
  wrong_.resize(block_.size());
  for (std::size_t i = 0; i < predictors_.size(); ++i) {
    result_.predictors[i].branches += block_.size();
    result_.predictors[i].mispredictions += predictors_[i]->replay(block_, wrong_);
    for (std::size_t b = 0; b < block_.size(); ++b) {
      result_.sites[site_of_[block_[b].pc] - 1].mispredictions[i] += wrong_[b];
    }
  }
  block_.clear();
}

StudyResult BranchStudy::result() {
  flush();
  StudyResult result = result_;
  std::ranges::sort(result.sites, {}, &BranchSite::pc);
  for (std::size_t i = 0; i < result.predictors.size(); ++i) {
    PredictorResult& one = result.predictors[i];
    if (one.branches != 0) one.accuracy_percent = percent(one.branches - one.mispredictions, one.branches);
    if (result.instructions != 0) {
      one.mpki = 1000.0 * static_cast<double>(one.mispredictions) / static_cast<double>(result.instructions);
    }
    one.ns_per_branch = median(timings_[i]);
  }
  return result;
}

}  // namespace warmfork::lc3
