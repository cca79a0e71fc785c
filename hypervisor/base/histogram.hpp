// A log-linear histogram of unsigned 64-bit values with three significant digits: 1,024 linear buckets per power of
// two, so any recorded value is known to within 0.1 %. Recording is an index computation and an increment; it never
// allocates after construction.
//
//   value < 2048          bucket = value
//   value in [2^k, 2^k+1) 1,024 buckets of width 2^(k-10)
//
// Threads: one writer; reading needs the writer to have stopped.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace warmfork {

class Histogram {
 public:
  Histogram() : buckets_(kBucketCount) {}

  void record(std::uint64_t value) {
    ++buckets_[index(std::min(value, kMaxValue))];
    ++count_;
    sum_ += static_cast<double>(value);
    sum_of_squares_ += static_cast<double>(value) * static_cast<double>(value);
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
  }

  /// record() of each; of many it costs less.
  void record_each(std::span<const std::uint64_t> values) {
    // In locals: a bucket could be any of the members, as far as the compiler knows.
    std::uint64_t* const buckets = buckets_.data();
    double sum = 0, squares = 0;
    std::uint64_t low = min_, high = max_;
    for (const std::uint64_t value : values) {
      ++buckets[index(std::min(value, kMaxValue))];
      const auto real = static_cast<double>(value);
      sum += real;
      squares += real * real;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    count_ += values.size();
    sum_ += sum;
    sum_of_squares_ += squares;
    min_ = low;
    max_ = high;
  }

  /// Adds all that `other` has recorded.
  void merge(const Histogram& other) {
    for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    sum_of_squares_ += other.sum_of_squares_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
  }

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t min() const { return count_ == 0 ? 0 : min_; }
  [[nodiscard]] std::uint64_t max() const { return max_; }
  [[nodiscard]] double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  /// Sample standard deviation.
  [[nodiscard]] double stddev() const {
    if (count_ < 2) return 0;
    const double n = static_cast<double>(count_);
    return std::sqrt(std::max(0.0, (sum_of_squares_ - sum_ * sum_ / n) / (n - 1)));
  }

  /// The smallest recorded value (to within its bucket) that at least `fraction` of all values do not exceed: the
  /// nearest-rank quantile. `fraction` in (0, 1].
  [[nodiscard]] double quantile(double fraction) const {
    if (count_ == 0) return 0;
    return at_rank(static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(count_))));
  }
  /// The value at `rank`, from 1, of all recorded ones in order (to within its bucket).
  [[nodiscard]] double at_rank(std::uint64_t rank) const {
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen >= std::max<std::uint64_t>(rank, 1)) {
        return std::clamp(middle(i), static_cast<double>(min_), static_cast<double>(max_));
      }
    }
    return static_cast<double>(max_);
  }
  /// The value below which `below` of all values lie (0 … count()) if each value, read from a clock that advances in
  /// steps of `step`, stands for an interval as long as a step around it: the median of grouped data, L + h (n/2 -
  /// F)/f, for any rank (Kendall and Stuart, The Advanced Theory of Statistics, volume 1, chapter 2). A nearest-rank
  /// quantile is a multiple of the step; this is a fraction of a step from the truth wherever latencies spread over
  /// one, and at most 0.09 steps from a latency that never changes, as long as it begins at any phase of the clock.
  [[nodiscard]] double grouped_at(double below, double step) const {
    if (count_ == 0) return 0;
    const auto rank = static_cast<std::uint64_t>(std::ceil(std::clamp(below, 1.0, static_cast<double>(count_))));
    std::size_t at = 0;
    for (std::uint64_t seen = buckets_[0]; seen < rank;) seen += buckets_[++at];
    // All of the buckets up to this one end here or before, and none of the others begins so early.
    const double half = width(at, step) / 2;
    double low = middle(at) - half, high = middle(at) + half;
    struct Part {
      double begin, width, count;
    };
    std::vector<Part> parts;  // the intervals that reach into this range
    double before = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      const double begin = middle(i) - width(i, step) / 2;
      if (begin >= high) break;
      if (buckets_[i] == 0) continue;
      if (begin + width(i, step) <= low) {
        before += static_cast<double>(buckets_[i]);
      } else {
        parts.push_back({begin, width(i, step), static_cast<double>(buckets_[i])});
      }
    }
    for (int i = 0; i < 50; ++i) {
      const double guess = (low + high) / 2;
      double sum = before;
      for (const Part& part : parts) sum += part.count * std::clamp((guess - part.begin) / part.width, 0.0, 1.0);
      (sum < below ? low : high) = guess;
    }
    return std::clamp(high, static_cast<double>(min_), static_cast<double>(max_));
  }
  /// The quantile `fraction` of such values.
  [[nodiscard]] double grouped_quantile(double fraction, double step) const {
    return grouped_at(fraction * static_cast<double>(count_), step);
  }
  /// By how much recorded values exceed `limit`, summed up over those that do (to within their buckets).
  [[nodiscard]] double sum_beyond(double limit) const {
    double sum = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      if (buckets_[i] != 0 && middle(i) > limit) sum += static_cast<double>(buckets_[i]) * (middle(i) - limit);
    }
    return sum;
  }
  /// How many of them are less than `low` or greater than `high` (to within their buckets).
  [[nodiscard]] std::uint64_t count_outside(double low, double high) const {
    std::uint64_t outside = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      if (buckets_[i] != 0 && (middle(i) < low || middle(i) > high)) outside += buckets_[i];
    }
    return outside;
  }

 private:
  static constexpr unsigned kSubBits = 10;
  static constexpr std::uint64_t kLinear = std::uint64_t{2} << kSubBits;
  static constexpr std::uint64_t kMaxValue = (std::uint64_t{1} << 48) - 1;
  static constexpr std::size_t kBucketCount = kLinear + (48 - kSubBits - 1) * (kLinear / 2);

  static std::size_t index(std::uint64_t value) {
    if (value < kLinear) return static_cast<std::size_t>(value);
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kSubBits - 1;
    return static_cast<std::size_t>((std::uint64_t{shift} << kSubBits) + (value >> shift));
  }
  static double middle(std::size_t bucket) {
    if (bucket < kLinear) return static_cast<double>(bucket);
    const unsigned shift = static_cast<unsigned>((bucket >> kSubBits) - 1);
    const std::uint64_t low = (bucket - (std::uint64_t{shift} << kSubBits)) << shift;
    return static_cast<double>(low) + static_cast<double>((std::uint64_t{1} << shift) - 1) / 2;
  }

  // Of the interval a value in this bucket stands for.
  static double width(std::size_t bucket, double step) {
    const unsigned shift = bucket < kLinear ? 0 : static_cast<unsigned>((bucket >> kSubBits) - 1);
    return std::max(step, static_cast<double>(std::uint64_t{1} << shift));
  }

  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0;
  double sum_ = 0;
  double sum_of_squares_ = 0;
  std::uint64_t min_ = ~std::uint64_t{0};
  std::uint64_t max_ = 0;
};

}  // namespace warmfork
