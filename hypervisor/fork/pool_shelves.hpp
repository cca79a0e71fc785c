// Where the threads that use a pool park their forks between two requests: a shelf for each, found again without a
// lock.
//
// Every thread of the process has a number, the smallest free one, for as long as it lives: that of its shelf in every
// pool. When there are more threads than shelves some share one, which costs them misses but nothing else.
//
// Threads: any, at any time. An entry belongs to whoever has exchanged it from its shelf.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace warmfork {

struct PoolEntry;

/// `taken` counts acquisitions begun, `returned` those that are over, by failure or release. To return is the last
/// thing a thread does with the pool's memory, so that close() knows when nobody is inside.
struct alignas(64) PoolShelf {
  std::atomic<PoolEntry*> entry{nullptr};
  std::atomic<std::uint64_t> taken{0};
  std::atomic<std::uint64_t> returned{0};
};

class PoolShelves {
 public:
  static constexpr std::size_t kCount = 128;

  /// The calling thread's.
  [[nodiscard]] PoolShelf& mine() { return shelves_[my_number()]; }
  [[nodiscard]] PoolShelf& operator[](std::size_t number) { return shelves_[number]; }
  [[nodiscard]] std::size_t number_of(const PoolShelf& shelf) const {
    return static_cast<std::size_t>(&shelf - shelves_.data());
  }

  /// Takes the first entry that lies on any, beginning with shelf `first`; null: all were found empty.
  [[nodiscard]] PoolEntry* sweep(std::size_t first);

  // Sums over all, of slightly different moments.
  [[nodiscard]] std::uint64_t taken() const;
  [[nodiscard]] std::uint64_t returned() const;
  [[nodiscard]] bool all_returned() const;

 private:
  static constexpr unsigned kNoNumber = ~0U;
  static unsigned choose_number();
  static unsigned my_number() {
    const unsigned number = number_;
    return number != kNoNumber ? number : choose_number();
  }
  static thread_local constinit unsigned number_;

  std::array<PoolShelf, kCount> shelves_;
};

}  // namespace warmfork
