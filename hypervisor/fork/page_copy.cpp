#include "fork/page_copy.hpp"

#include <cstring>

namespace warmfork {
namespace {

// Comparing costs more than copying: so seldom that it is not seen in the 99th percentile.
constexpr std::uint32_t kSamplePeriod = 256;
constexpr std::uint32_t kPoorSamples = 2;
// Copying a page in vain costs about 50 ns; protecting it and taking the fault costs about 5 µs when it is written.
// So a set pays as long as one page in a hundred is written; below that, and only where the set is not small anyway,
// it is given up.
constexpr std::size_t kWorthPerWritten = 100;
constexpr std::size_t kSmallSet = 32;

}  // namespace

void copy_pages(const ResetTarget& target, const PageSet& pages, ResetStats& stats) {
  std::byte* const to = target.space.window().data();
  const std::byte* const from = target.snapshot.window().data();
  pages.for_each_run([&](std::size_t first, std::size_t count) {
    std::memcpy(to + first * kPage, from + first * kPage, count * kPage);
  });
  stats.pages_copied += pages.count();
}

void copy_window(const ResetTarget& target, ResetStats& stats) {
  const std::span<std::byte> window = target.space.window();
  std::memcpy(window.data(), target.snapshot.window().data(), window.size());
  stats.pages_copied += window.size() / kPage;
}

bool LearnedSet::copy_back(const ResetTarget& target, const PageSet& pages, ResetStats& stats) {
  if (--until_sample_ != 0) {
    copy_pages(target, pages, stats);
    return false;
  }
  until_sample_ = kSamplePeriod;
  std::byte* const to = target.space.window().data();
  const std::byte* const from = target.snapshot.window().data();
  std::size_t differing = 0;
  pages.for_each_run([&](std::size_t first, std::size_t count) {
    for (std::size_t offset = first * kPage; offset < (first + count) * kPage; offset += kPage) {
      if (std::memcmp(to + offset, from + offset, kPage) == 0) continue;
      std::memcpy(to + offset, from + offset, kPage);
      ++differing;
    }
  });
  stats.pages_copied += differing;
  stats.pages_sampled += pages.count();
  stats.pages_differing += differing;
  const bool poor = pages.count() > kSmallSet && differing * kWorthPerWritten < pages.count();
  poor_samples_ = poor ? poor_samples_ + 1 : 0;
  if (poor_samples_ < kPoorSamples) return false;
  poor_samples_ = 0;
  ++stats.relearned;
  return true;
}

}  // namespace warmfork
