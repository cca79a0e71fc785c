// For tests of what is between LC-3 words and machine code: words to translate from, and what was made of them, as
// text.
#pragma once

#include "lc3/jit/frontend.hpp"
#include "lc3/jit/ir.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3::jit {

/// Memory to translate from.
class Memory {
 public:
  Memory() : words_(kMemoryWords) {}
  Memory(std::uint16_t origin, std::initializer_list<std::uint16_t> words) : Memory() { set(origin, words); }

  Memory& set(std::uint16_t origin, std::initializer_list<std::uint16_t> words) {
    std::uint32_t at = origin;
    for (const std::uint16_t word : words) words_[at++] = word;
    return *this;
  }
  [[nodiscard]] std::span<std::uint16_t, kMemoryWords> words() {
    return std::span<std::uint16_t, kMemoryWords>(words_);
  }
  [[nodiscard]] Source source() { return {words(), left_out, lea_sets_cc}; }
  Unit unit(const std::vector<std::uint16_t>& roots, std::uint32_t most = 16384) {
    Unit made = translate(source(), roots, most);
    EXPECT_EQ(verify(made), "");
    return made;
  }

  WordSet left_out;
  bool lea_sets_cc = false;

 private:
  std::vector<std::uint16_t> words_;
};

inline std::vector<std::uint16_t> firsts(const Unit& unit) {
  std::vector<std::uint16_t> addresses;
  for (const auto& [first, block] : unit.blocks) addresses.push_back(first);
  return addresses;
}

inline std::string text(const Unit& unit) {
  std::string all;
  for (const auto& [first, block] : unit.blocks) all += to_string(block);
  return all;
}

template <class T>
T at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

}  // namespace warmfork::lc3::jit
