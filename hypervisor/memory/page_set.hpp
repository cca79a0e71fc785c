// A set of page numbers below a fixed bound: which pages of a window may differ from the snapshot.
//
// Two levels of bits, so that walking a small set of a huge window costs what the set costs. No allocation after
// construction; adding a member twice is as cheap as once.
//
// Threads: one at a time.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace warmfork {

class PageSet {
 public:
  PageSet() = default;
  /// An empty set of pages 0 … `pages` - 1.
  explicit PageSet(std::size_t pages) : pages_(pages), words_((pages + 63) / 64), summary_((words_.size() + 63) / 64) {}

  /// Adds `page`. Pages past the bound are ignored: a caller that must know checks with covers().
  void add(std::size_t page) {
    if (page >= pages_) return;
    std::uint64_t& word = words_[page / 64];
    const std::uint64_t bit = std::uint64_t{1} << page % 64;
    count_ += (word & bit) == 0 ? 1 : 0;
    word |= bit;
    summary_[page / 4096] |= std::uint64_t{1} << page / 64 % 64;
  }
  void remove(std::size_t page) {
    if (page >= pages_) return;
    std::uint64_t& word = words_[page / 64];
    const std::uint64_t bit = std::uint64_t{1} << page % 64;
    count_ -= (word & bit) != 0 ? 1 : 0;
    word &= ~bit;
  }
  void clear() {
    for (std::size_t i = 0; i < summary_.size(); ++i) {
      for (std::uint64_t bits = summary_[i]; bits != 0; bits &= bits - 1) {
        words_[i * 64 + static_cast<std::size_t>(std::countr_zero(bits))] = 0;
      }
      summary_[i] = 0;
    }
    count_ = 0;
  }

  [[nodiscard]] bool contains(std::size_t page) const {
    return page < pages_ && (words_[page / 64] >> page % 64 & 1) != 0;
  }
  [[nodiscard]] bool covers(std::size_t page) const { return page < pages_; }
  /// Members, and the bound they stay below.
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::size_t pages() const { return pages_; }
  [[nodiscard]] bool empty() const { return count_ == 0; }

  /// Calls visit(first, count) for each run of consecutive members, in order. `visit` must not change the set.
  template <class Visit>
  void for_each_run(Visit visit) const {
    std::size_t begin = 0;
    std::size_t length = 0;
    for (std::size_t i = 0; i < summary_.size(); ++i) {
      for (std::uint64_t bits = summary_[i]; bits != 0; bits &= bits - 1) {
        const std::size_t base = (i * 64 + static_cast<std::size_t>(std::countr_zero(bits))) * 64;
        for (std::uint64_t word = words_[base / 64]; word != 0;) {
          const auto low = static_cast<std::size_t>(std::countr_zero(word));
          const auto ones = static_cast<std::size_t>(std::countr_one(word >> low));
          if (length != 0 && begin + length == base + low) {
            length += ones;
          } else {
            if (length != 0) visit(begin, length);
            begin = base + low;
            length = ones;
          }
          if (low + ones == 64) break;
          word &= ~std::uint64_t{0} << (low + ones);
        }
      }
    }
    if (length != 0) visit(begin, length);
  }

 private:
  std::size_t pages_ = 0;
  std::size_t count_ = 0;
  std::vector<std::uint64_t> words_;
  std::vector<std::uint64_t> summary_;  // bit w: words_[w] may be nonzero
};

}  // namespace warmfork
