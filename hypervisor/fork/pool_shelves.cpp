#include "fork/pool_shelves.hpp"

#include <bit>
#include <functional>
#include <thread>

namespace warmfork {
namespace {

std::array<std::atomic<std::uint64_t>, PoolShelves::kCount / 64> numbers_in_use;

}  // namespace

thread_local constinit unsigned PoolShelves::number_ = kNoNumber;

[[gnu::noinline]] unsigned PoolShelves::choose_number() {
  for (std::size_t word = 0; word < numbers_in_use.size(); ++word) {
    std::uint64_t used = numbers_in_use[word].load(std::memory_order_relaxed);
    while (~used != 0) {
      const auto bit = static_cast<unsigned>(std::countr_one(used));
      if (!numbers_in_use[word].compare_exchange_weak(used, used | std::uint64_t{1} << bit)) continue;
      number_ = static_cast<unsigned>(word) * 64 + bit;
      struct GiveBack {
        ~GiveBack() { numbers_in_use[number_ / 64].fetch_and(~(std::uint64_t{1} << number_ % 64)); }
      };
      // The number stays readable behind this, for leases that other thread_local objects hold.
      thread_local const GiveBack at_thread_exit;
      return number_;
    }
  }
  return number_ = static_cast<unsigned>(std::hash<std::thread::id>()(std::this_thread::get_id()) % kCount);
}

PoolEntry* PoolShelves::sweep(std::size_t first) {
  for (std::size_t i = 0; i < kCount; ++i) {
    PoolShelf& shelf = shelves_[(first + i) % kCount];
    if (shelf.entry.load() == nullptr) continue;
    if (PoolEntry* const entry = shelf.entry.exchange(nullptr)) return entry;
  }
  return nullptr;
}

std::uint64_t PoolShelves::taken() const {
  std::uint64_t taken = 0;
  for (const PoolShelf& shelf : shelves_) taken += shelf.taken.load();
  return taken;
}

std::uint64_t PoolShelves::returned() const {
  std::uint64_t returned = 0;
  for (const PoolShelf& shelf : shelves_) returned += shelf.returned.load();
  return returned;
}

// `returned` first: an acquisition that begins and fails in between must not stand for a lease that is still out.
bool PoolShelves::all_returned() const {
  const std::uint64_t returned = this->returned();
  return taken() == returned;
}

}  // namespace warmfork
