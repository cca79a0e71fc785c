// Guest addresses as strong types: a number from one space cannot be used in another, and none can be dereferenced.
#pragma once

#include <compare>
#include <cstdint>

namespace warmfork {

/// A guest-physical address.
struct Gpa {
  std::uint64_t value = 0;
  friend auto operator<=>(const Gpa&, const Gpa&) = default;
};

/// A guest-virtual address.
struct Gva {
  std::uint64_t value = 0;
  friend auto operator<=>(const Gva&, const Gva&) = default;
};

[[nodiscard]] constexpr Gva operator+(Gva address, std::uint64_t offset) { return {address.value + offset}; }
[[nodiscard]] constexpr Gpa operator+(Gpa address, std::uint64_t offset) { return {address.value + offset}; }

inline constexpr std::uint64_t kPage = 4096;
[[nodiscard]] constexpr std::uint64_t page_floor(std::uint64_t value) { return value & ~(kPage - 1); }
[[nodiscard]] constexpr std::uint64_t page_ceil(std::uint64_t value) { return (value + kPage - 1) & ~(kPage - 1); }

}  // namespace warmfork
