// Messages of NASDAQ TotalView-ITCH 5.0 (interface specification 5.0, section 4): bytes to a struct and back. Pure.
//
// All numbers are big-endian. Every message begins
//
//   0 type 1 │ 1 stock locate 2 │ 3 tracking number 2 │ 5 nanoseconds since midnight 6 │ 11 …
//
// and goes on, by type:
//
//   S  system event     11 event code 1
//   A  add order        11 reference 8 │ 19 B or S 1 │ 20 shares 4 │ 24 stock 8 │ 32 price 4
//   F  with attribution the same │ 36 participant 4
//   E  order executed   11 reference 8 │ 19 shares 4 │ 23 match number 8
//   C  … with a price   the same │ 31 printable 1 │ 32 price 4
//   X  order cancel     11 reference 8 │ 19 shares 4
//   D  order delete     11 reference 8
//   U  order replace    11 original reference 8 │ 19 new reference 8 │ 27 shares 4 │ 31 price 4
//   P  trade            11 reference 8 │ 19 B or S 1 │ 20 shares 4 │ 24 stock 8 │ 32 price 4 │ 36 match number 8
//
// Of the other types (stock directory, trading action, crosses, …) the length is known and checked, and the beginning
// is given. A price is a number of ticks of 1/10,000 dollar.
#pragma once

#include "feed/network.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork::feed {

/// The length of messages of a type; 0 if the specification has no such type.
[[nodiscard]] constexpr std::size_t itch_length(char type) {
  switch (type) {
    case 'S': return 12;  // system event
    case 'R': return 39;  // stock directory
    case 'H': return 25;  // stock trading action
    case 'Y': return 20;  // Reg SHO restriction
    case 'L': return 26;  // market participant position
    case 'V': return 35;  // MWCB decline level
    case 'W': return 12;  // MWCB status
    case 'K': return 28;  // quoting period update
    case 'J': return 35;  // LULD auction collar
    case 'h': return 21;  // operational halt
    case 'A': return 36;
    case 'F': return 40;
    case 'E': return 31;
    case 'C': return 36;
    case 'X': return 23;
    case 'D': return 19;
    case 'U': return 35;
    case 'P': return 44;
    case 'Q': return 40;  // cross trade
    case 'B': return 19;  // broken trade
    case 'I': return 50;  // net order imbalance
    case 'N': return 20;  // retail interest
    case 'O': return 48;  // direct listing with capital raise
    default: return 0;
  }
}

enum class Side : std::uint8_t { kNone, kBuy, kSell };

/// A message. What its type does not have is zero, and spaces in text.
struct ItchMessage {
  char type = 0;
  std::uint16_t locate = 0;  // which symbol; 0 if of none
  std::uint16_t tracking = 0;
  std::uint64_t time_ns = 0;  // since midnight, 48 bits
  std::uint64_t reference = 0;
  std::uint64_t new_reference = 0;
  Side side = Side::kNone;
  std::uint32_t shares = 0;
  std::uint32_t price = 0;
  std::uint64_t match = 0;
  char event = 0;      // of S
  char printable = 0;  // of C: Y or N
  std::array<char, 8> stock{' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
  std::array<char, 4> participant{' ', ' ', ' ', ' '};

  bool operator==(const ItchMessage&) const = default;
};

/// Malformed: empty, of no known type, not of its type's length, or a side that is neither B nor S.
[[nodiscard]] Parsed<ItchMessage> parse_itch(std::span<const std::byte> message);

/// Writes a message of one of the types that are spelled out above and returns its length. `room` has 44 bytes at
/// least. Nothing is written, and 0 returned, for other types.
[[nodiscard]] std::size_t write_itch(std::span<std::byte> room, const ItchMessage& message);

inline constexpr std::size_t kLongestWrittenItch = 44;

}  // namespace warmfork::feed
