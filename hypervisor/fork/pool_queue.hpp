// The threads that wait for a fork of a pool, first come, first served, and the one word that says whether there are
// any. A closed pool says so in the same word: whoever takes or gives back a fork looks at nothing else.
//
// Threads: what is const, but first(), any thread's; the rest is for who holds the pool's lock.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>

namespace warmfork {

struct PoolEntry;

class PoolQueue {
 public:
  /// One thread in the queue, on its stack.
  struct Waiter {
    Waiter* next = nullptr;
    PoolEntry* entry = nullptr;  // what it waited for; the waiter is not in the queue any more
    bool may_grow = false;       // there is room for another fork now
    std::condition_variable wake;
  };

  /// Nobody waits, and the pool is open. Sequentially consistent.
  [[nodiscard]] bool quiet() const { return attention_.load() == 0; }
  [[nodiscard]] bool closed() const { return (attention_.load() & kClosed) != 0; }
  [[nodiscard]] std::uint32_t length() const { return attention_.load() & ~kClosed; }

  /// Null: nobody waits.
  [[nodiscard]] Waiter* first() const { return first_; }

  void add(Waiter& waiter) {
    (last_ == nullptr ? first_ : last_->next) = &waiter;
    last_ = &waiter;
    attention_.fetch_add(1);
  }

  void remove(Waiter& waiter) {
    Waiter* before = nullptr;
    for (Waiter* each = first_; each != &waiter; each = each->next) before = each;
    (before == nullptr ? first_ : before->next) = waiter.next;
    if (last_ == &waiter) last_ = before;
    attention_.fetch_sub(1);
  }

  /// For good; wakes all, who then leave.
  void close() {
    attention_.fetch_or(kClosed);
    for (Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next) waiter->wake.notify_one();
  }

 private:
  static constexpr std::uint32_t kClosed = std::uint32_t{1} << 31;

  std::atomic<std::uint32_t> attention_{0};  // threads in the queue, and kClosed
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

}  // namespace warmfork
