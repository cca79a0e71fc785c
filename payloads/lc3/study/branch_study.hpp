// A study of the branches that a program executes: each goes through all predictors, in order.
//
//   trace records ──> branch_of() ──> blocks of branches ──> every predictor ──> StudyResult
//                                                       └──> copies of it, against the clock
//
// BR with an empty mask (000) is no branch. BR with a full one (111) is always taken: it is counted, and predicted only
// on request. Memory is bounded: a block of branches, and one entry for each address that holds a branch. One thread.
#pragma once

#include "lc3/study/predictor.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace warmfork::lc3 {

/// The branch that a record is of; nothing if it is of another instruction, or of a BR that has not been executed (its
/// fetch raised an exception) or has an empty mask.
[[nodiscard]] std::optional<Branch> branch_of(const TraceRecord& record);
/// True of BR with a full mask.
[[nodiscard]] bool is_unconditional(const Branch& branch);

struct StudyOptions {
  bool unconditional = false;  // predict these, too
  unsigned repeats = 5;        // how often a block of branches is timed; at least 1
};

/// What one predictor has done. Figures that need branches (or instructions) are missing without them.
struct PredictorResult {
  std::string_view name;
  std::vector<Predictor::Parameter> parameters;
  std::uint64_t storage_bits = 0;
  std::uint64_t branches = 0;
  std::uint64_t mispredictions = 0;
  std::optional<double> accuracy_percent;
  std::optional<double> mpki;           // mispredictions per 1,000 instructions
  std::optional<double> ns_per_branch;  // on this host, predict() and update(): the median of all repeats
};

/// A branch by its address. Where a program has changed the instruction, `word` is what was executed last.
struct BranchSite {
  std::uint16_t pc = 0;
  std::uint16_t word = 0;
  std::uint64_t executed = 0;
  std::uint64_t taken = 0;
  std::vector<std::uint64_t> mispredictions;  // by predictor
};

struct StudyResult {
  std::uint64_t instructions = 0;
  std::uint64_t conditional = 0;
  std::uint64_t conditional_taken = 0;
  std::uint64_t unconditional = 0;
  std::vector<PredictorResult> predictors;
  std::vector<BranchSite> sites;  // those that were predicted, by address

  /// The predictor with the fewest mispredictions, the first of equals.
  [[nodiscard]] std::size_t best() const;
  /// The `count` sites where a predictor was wrong most often, worst first; none where it never was.
  [[nodiscard]] std::vector<const BranchSite*> worst(std::size_t predictor, std::size_t count) const;
};

class BranchStudy {
 public:
  explicit BranchStudy(std::vector<std::unique_ptr<Predictor>> predictors, StudyOptions options = {});

  /// Records in program order.
  void add(std::span<const TraceRecord> records);
  /// One branch that shall be predicted, and instructions, for streams from elsewhere.
  void add(const Branch& branch);
  void add_instructions(std::uint64_t count) { result_.instructions += count; }

  [[nodiscard]] std::uint64_t instructions() const { return result_.instructions; }

  /// Everything up to here; more can be added afterwards.
  [[nodiscard]] StudyResult result();

 private:
  void flush();
  void time_block();

  std::vector<std::unique_ptr<Predictor>> predictors_;
  StudyOptions options_;
  std::vector<Branch> block_;
  std::vector<std::uint8_t> wrong_;
  std::vector<std::uint32_t> site_of_;        // by address: index into result_.sites plus 1, or 0
  std::vector<std::vector<double>> timings_;  // by predictor: ns a branch
  unsigned timed_blocks_ = 0;
  StudyResult result_;
};

}  // namespace warmfork::lc3
