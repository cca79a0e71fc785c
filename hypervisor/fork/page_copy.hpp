// Copies pages of a snapshot back into a window, and looks now and then whether that was needed.
//
// Threads: the thread that uses the fork.
#pragma once

#include "fork/reset_strategy.hpp"
#include "memory/page_set.hpp"

#include <cstddef>
#include <cstdint>

namespace warmfork {

/// Copies every run of `pages`.
void copy_pages(const ResetTarget& target, const PageSet& pages, ResetStats& stats);
/// Copies the whole window.
void copy_window(const ResetTarget& target, ResetStats& stats);

/// The judgement whether a learned set of pages is worth copying. Each reset it is told what is copied; every
/// kSamplePeriod-th it compares first. A set is given up when, over several samples, so few of its pages differed that
/// protecting all pages and taking the faults of those that are written again would have been cheaper.
class LearnedSet {
 public:
  /// Copies `pages` back. Returns true if the set should be given up: nothing of it need be remembered then.
  [[nodiscard]] bool copy_back(const ResetTarget& target, const PageSet& pages, ResetStats& stats);

 private:
  std::uint32_t until_sample_ = 1;  // the first reset is a sample
  std::uint32_t poor_samples_ = 0;
};

}  // namespace warmfork
