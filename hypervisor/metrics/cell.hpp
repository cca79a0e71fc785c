// A number that one thread at a time writes and any may read: a plain store, no locked instruction.
//
// Threads: one writer, or several that hand it over to each other in an order of their own; readers see some value it
// has had, and the last one once they are ordered behind the writer.
#pragma once

#include <atomic>
#include <cstdint>

namespace warmfork::metrics {

class Cell {
 public:
  constexpr Cell() = default;
  constexpr Cell(std::uint64_t value) : value_(value) {}
  Cell(const Cell& other) : value_(other.value()) {}
  Cell& operator=(const Cell& other) {
    set(other.value());
    return *this;
  }

  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }
  operator std::uint64_t() const { return value(); }
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(std::uint64_t more) { set(value() + more); }
  Cell& operator++() {
    add(1);
    return *this;
  }

 private:
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace warmfork::metrics
