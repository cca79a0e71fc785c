#include "feed/itch.hpp"

#include "feed/wire.hpp"

#include <algorithm>

namespace warmfork::feed {
namespace {

template <std::size_t N>
void load_text(std::array<char, N>& text, std::span<const std::byte> bytes, std::size_t offset) {
  for (std::size_t i = 0; i < N; ++i) text[i] = static_cast<char>(bytes[offset + i]);
}
template <std::size_t N>
void store_text(std::span<std::byte> bytes, std::size_t offset, const std::array<char, N>& text) {
  for (std::size_t i = 0; i < N; ++i) bytes[offset + i] = static_cast<std::byte>(text[i]);
}

constexpr char letter_of(Side side) { return side == Side::kBuy ? 'B' : 'S'; }

}  // namespace

Parsed<ItchMessage> parse_itch(std::span<const std::byte> bytes) {
  const auto wrong = [](std::string_view what, std::uint64_t value, std::uint64_t limit) {
    return tl::unexpected(Malformed{what, value, limit, false});
  };
  if (bytes.empty()) return wrong("ITCH message shorter than", 0, 1);
  ItchMessage message;
  message.type = static_cast<char>(bytes[0]);
  const std::size_t length = itch_length(message.type);
  if (length == 0) return wrong("ITCH message of a type that is none of the known", load_8(bytes, 0), 23);
  if (bytes.size() != length) return wrong("ITCH message of another length than its type's", bytes.size(), length);
  message.locate = load_16(bytes, 1);
  message.tracking = load_16(bytes, 3);
  message.time_ns = load_big<6>(bytes, 5);
  switch (message.type) {
    case 'S': message.event = static_cast<char>(bytes[11]); break;
    case 'A':
    case 'F':
    case 'P': {
      message.reference = load_64(bytes, 11);
      const char side = static_cast<char>(bytes[19]);
      if (side != 'B' && side != 'S') return wrong("ITCH side is neither B nor", load_8(bytes, 19), 'S');
      message.side = side == 'B' ? Side::kBuy : Side::kSell;
      message.shares = load_32(bytes, 20);
      load_text(message.stock, bytes, 24);
      message.price = load_32(bytes, 32);
      if (message.type == 'F') load_text(message.participant, bytes, 36);
      if (message.type == 'P') message.match = load_64(bytes, 36);
      break;
    }
    case 'E':
    case 'C':
      message.reference = load_64(bytes, 11);
      message.shares = load_32(bytes, 19);
      message.match = load_64(bytes, 23);
      if (message.type == 'C') {
        message.printable = static_cast<char>(bytes[31]);
        message.price = load_32(bytes, 32);
      }
      break;
    case 'X':
      message.reference = load_64(bytes, 11);
      message.shares = load_32(bytes, 19);
      break;
    case 'D': message.reference = load_64(bytes, 11); break;
    case 'U':
      message.reference = load_64(bytes, 11);
      message.new_reference = load_64(bytes, 19);
      message.shares = load_32(bytes, 27);
      message.price = load_32(bytes, 31);
      break;
    default: break;
  }
  return message;
}

std::size_t write_itch(std::span<std::byte> room, const ItchMessage& message) {
  switch (message.type) {
    case 'S': room[11] = static_cast<std::byte>(message.event); break;
    case 'A':
    case 'F':
    case 'P':
      store_big<8>(room, 11, message.reference);
      room[19] = static_cast<std::byte>(letter_of(message.side));
      store_big<4>(room, 20, message.shares);
      store_text(room, 24, message.stock);
      store_big<4>(room, 32, message.price);
      if (message.type == 'F') store_text(room, 36, message.participant);
      if (message.type == 'P') store_big<8>(room, 36, message.match);
      break;
    case 'E':
    case 'C':
      store_big<8>(room, 11, message.reference);
      store_big<4>(room, 19, message.shares);
      store_big<8>(room, 23, message.match);
      if (message.type == 'C') {
        room[31] = static_cast<std::byte>(message.printable);
        store_big<4>(room, 32, message.price);
      }
      break;
    case 'X':
      store_big<8>(room, 11, message.reference);
      store_big<4>(room, 19, message.shares);
      break;
    case 'D': store_big<8>(room, 11, message.reference); break;
    case 'U':
      store_big<8>(room, 11, message.reference);
      store_big<8>(room, 19, message.new_reference);
      store_big<4>(room, 27, message.shares);
      store_big<4>(room, 31, message.price);
      break;
    default: return 0;
  }
  room[0] = static_cast<std::byte>(message.type);
  store_big<2>(room, 1, message.locate);
  store_big<2>(room, 3, message.tracking);
  store_big<6>(room, 5, message.time_ns);
  return itch_length(message.type);
}

}  // namespace warmfork::feed
