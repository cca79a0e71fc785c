// Numbers as networks have them: most significant byte first, anywhere in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork::feed {

/// The `Bytes` bytes at `offset`, which the caller has checked to be there.
template <std::size_t Bytes>
[[nodiscard]] constexpr std::uint64_t load_big(std::span<const std::byte> bytes, std::size_t offset) {
  static_assert(Bytes >= 1 && Bytes <= 8);
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < Bytes; ++i) value = value << 8 | std::to_integer<std::uint64_t>(bytes[offset + i]);
  return value;
}

[[nodiscard]] constexpr std::uint8_t load_8(std::span<const std::byte> bytes, std::size_t offset) {
  return static_cast<std::uint8_t>(bytes[offset]);
}
[[nodiscard]] constexpr std::uint16_t load_16(std::span<const std::byte> bytes, std::size_t offset) {
  return static_cast<std::uint16_t>(load_big<2>(bytes, offset));
}
[[nodiscard]] constexpr std::uint32_t load_32(std::span<const std::byte> bytes, std::size_t offset) {
  return static_cast<std::uint32_t>(load_big<4>(bytes, offset));
}
[[nodiscard]] constexpr std::uint64_t load_64(std::span<const std::byte> bytes, std::size_t offset) {
  return load_big<8>(bytes, offset);
}

/// Writes the low `Bytes` bytes of a value at `offset`, where the caller knows to have room.
template <std::size_t Bytes>
constexpr void store_big(std::span<std::byte> bytes, std::size_t offset, std::uint64_t value) {
  static_assert(Bytes >= 1 && Bytes <= 8);
  for (std::size_t i = 0; i < Bytes; ++i) {
    bytes[offset + i] = static_cast<std::byte>(value >> (8 * (Bytes - 1 - i)) & 0xff);
  }
}

}  // namespace warmfork::feed
