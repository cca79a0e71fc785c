// Random numbers that are the same everywhere for ever: seeds of generated programs are written down.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace warmfork::lc3 {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  /// 0 … limit - 1.
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>((next() >> 32) * limit >> 32); }
  /// first … last.
  int between(int first, int last) {
    return first + static_cast<int>(below(static_cast<std::uint32_t>(last - first + 1)));
  }
  bool chance(std::uint32_t percent) { return below(100) < percent; }
  std::uint16_t word() { return static_cast<std::uint16_t>(next() >> 48); }
  template <class T>
  T one_of(std::initializer_list<T> some) {
    return some.begin()[below(static_cast<std::uint32_t>(some.size()))];
  }

 private:
  std::uint64_t state_;
};

}  // namespace warmfork::lc3
