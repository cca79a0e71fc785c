// What a guest of many writes, and where: for the guest and for the test that watches it. Freestanding.
//
// Every entry c = 1, 2, … of a fork's life writes one word into each of its pages, word c % 512: its name in the upper
// half, c in the lower. So each word of each page is known at any time, and so is whose it would be if it is another.
#pragma once

#include <cstddef>
#include <cstdint>

namespace warmfork::neighbour {

inline constexpr std::size_t kWords = 512;  // of a page
inline constexpr std::size_t kWindowPages = 6;
inline constexpr std::size_t kOwnPages = 2;     // shared with the host alone
inline constexpr std::size_t kCommonPages = 2;  // shared by all, read-only; the first word of each only grows
inline constexpr std::size_t kFreshPages = 8;   // of the window too, zero at first: each call leaves its last entry

/// What the snapshot has in the pages of the window.
[[nodiscard]] constexpr std::uint64_t pristine(std::size_t page, std::size_t word) {
  return 0xffff'ffff'0000'0000 | page << 16 | word;
}
[[nodiscard]] constexpr std::uint64_t entry(std::uint32_t name, std::uint64_t number) {
  return std::uint64_t{name} << 32 | number;
}
/// A word of a page that `name` has written from the entry after `before` to `last`; `untouched` without any.
[[nodiscard]] constexpr std::uint64_t word_of(std::uint32_t name, std::uint64_t before, std::uint64_t last,
                                              std::size_t word, std::uint64_t untouched) {
  const std::uint64_t ago = (last - word) % kWords;
  return ago < last - before ? entry(name, last - ago) : untouched;
}

/// What the host wants of a call of sign().
struct Order {
  std::uint64_t name;
  std::uint64_t before;   // the last entry of earlier lives: the window has none of theirs
  std::uint64_t last;     // the last entry of all, which the own pages go on from
  std::uint64_t entries;  // to make
  std::uint64_t own;      // addresses
  std::uint64_t common;
  std::uint64_t at_least;  // what the common pages said before the call
  std::uint64_t spins;     // for which vector registers are held, while the fresh pages are written
};

enum class Wrong : std::uint64_t { kOrder, kWindow, kFresh, kOwn, kCommon, kRegister };
inline constexpr const char* kWrongNames[] = {
    "its order",        "its window",       "the fresh pages of its window", "its own shared pages",
    "the common pages", "a vector register"};

/// What sign() has found: something else than what belongs there.
struct Finding {
  Wrong what;
  std::uint64_t place;  // page << 16 | word; for registers their number
  std::uint64_t value;
  std::uint64_t expected;
};

}  // namespace warmfork::neighbour
