// Where a duration belongs: exponential buckets, 32 for each power of two, so that a quantile is known to within 2.2 %.
//
//   bucket 0                  up to 2^-30 s (0.93 ns)
//   bucket i, 1 … 1504        above 2^(-30 + (i-1)/32) s, up to and with 2^(-30 + i/32) s; the last one also what is
//                             beyond 2^17 s (36 h)
//
// These are the buckets of a Prometheus native histogram of schema 5, whose bucket k ends at 2^(k/32), with a zero
// bucket up to 2^-30: nothing has to be converted. The classic buckets are powers of two, which are borders here: their
// counts are exact sums.
//
// Durations are whole numbers of 2^-34 s (58 ps), rounded down: a duration within 58 ps above a border counts as below
// it, which is much less than one tick of the clock it was measured with.
//
// Source: prometheus/client_model, metrics.proto, message Histogram ("schema").
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace warmfork::metrics {

inline constexpr int kSchema = 5;
inline constexpr unsigned kPerOctave = 1U << kSchema;
inline constexpr int kUnitBits = 34;  // a unit is 2^-34 s
inline constexpr int kFirstOctave = -30;
inline constexpr int kLastOctave = 17;
inline constexpr std::size_t kBuckets = std::size_t{kPerOctave} * (kLastOctave - kFirstOctave) + 1;

/// The number of bucket i in a native histogram of this schema: its upper border is 2^(it / 32) s.
[[nodiscard]] constexpr int native_index(std::size_t bucket) {
  return static_cast<int>(bucket) + kFirstOctave * static_cast<int>(kPerOctave);
}
/// Upper border in seconds.
[[nodiscard]] double upper_seconds(std::size_t bucket);
[[nodiscard]] constexpr double units_to_seconds(double units) {
  return units / static_cast<double>(std::uint64_t{1} << kUnitBits);
}

/// Powers of two from 2^-25 (30 ns) to 2^6 (64 s): borders of the classic buckets; the last one, infinity, is not here.
inline constexpr int kFirstClassic = -25, kLastClassic = 6;
inline constexpr std::size_t kClassicBuckets = kLastClassic - kFirstClassic + 1;
/// The bucket that ends at classic border i.
[[nodiscard]] constexpr std::size_t classic_end(std::size_t i) {
  return (static_cast<std::size_t>(kFirstClassic - kFirstOctave) + i) * kPerOctave;
}

namespace detail {

/// Of 2^(j/32) in fixed point, 63 bits behind the point; rounded down at most 5 times. The last one is never reached.
struct Borders {
  std::array<std::uint64_t, kPerOctave + 1> mantissa{};
  /// By the 6 bits behind the leading one: how many borders lie below all numbers that begin so. Another one at most
  /// lies among them, because borders are further apart (2^(1/32) - 1 = 0.0219) than 1/64.
  std::array<std::uint8_t, 64> below{};
};

constexpr std::uint64_t root(unsigned __int128 square) {
  std::uint64_t result = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const std::uint64_t next = result | std::uint64_t{1} << bit;
    if (static_cast<unsigned __int128>(next) * next <= square) result = next;
  }
  return result;
}

constexpr Borders make_borders() {
  Borders borders;
  std::array<std::uint64_t, kSchema> roots{};  // 2^(1/2), 2^(1/4), …
  std::uint64_t last = root(static_cast<unsigned __int128>(1) << 127);
  for (std::uint64_t& each : roots) {
    each = last;
    last = root(static_cast<unsigned __int128>(last) << 63);
  }
  for (unsigned j = 0; j < kPerOctave; ++j) {
    std::uint64_t product = std::uint64_t{1} << 63;
    for (unsigned bit = 0; bit < kSchema; ++bit) {
      if ((j >> (kSchema - 1 - bit) & 1) == 0) continue;
      product = static_cast<std::uint64_t>(static_cast<unsigned __int128>(product) * roots[bit] >> 63);
    }
    borders.mantissa[j] = product;
  }
  borders.mantissa[kPerOctave] = ~std::uint64_t{0};
  for (unsigned cell = 0; cell < 64; ++cell) {
    const std::uint64_t least = std::uint64_t{1} << 63 | std::uint64_t{cell} << 57;
    for (unsigned j = 0; j < kPerOctave; ++j) borders.below[cell] += borders.mantissa[j] < least ? 1 : 0;
  }
  return borders;
}

inline constexpr Borders kBorders = make_borders();

}  // namespace detail

/// The bucket of a duration of `units`.
[[nodiscard]] inline std::size_t bucket_of(std::uint64_t units) {
  constexpr std::uint64_t kZero = std::uint64_t{1} << (kUnitBits + kFirstOctave);
  if (units <= kZero) return 0;
  const int leading = std::countl_zero(units);
  const std::uint64_t mantissa = units << leading;
  const std::size_t below = detail::kBorders.below[mantissa >> 57 & 63];
  const std::size_t inside = below + (mantissa > detail::kBorders.mantissa[below] ? 1 : 0);
  const std::size_t octave = static_cast<std::size_t>(63 - leading - (kUnitBits + kFirstOctave));
  const std::size_t bucket = octave * kPerOctave + inside;
  return bucket < kBuckets ? bucket : kBuckets - 1;
}

}  // namespace warmfork::metrics
