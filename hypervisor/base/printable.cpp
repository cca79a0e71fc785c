#include "base/printable.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace warmfork {
namespace {

// The bytes of the UTF-8 character at the front of `text` if a terminal may have it, else 0: no control character, in
// one byte or two (U+0080 … U+009F act like escape sequences), and nothing that is not strictly UTF-8.
std::size_t harmless_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= ' ' && first != 0x7f ? 1 : 0;
  const std::size_t length = first >= 0xf0 ? 4 : (first >= 0xe0 ? 3 : 2);
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  std::uint32_t code_point = first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return 0;
    code_point = code_point << 6 | (byte(i) & 0x3fU);
  }
  constexpr std::uint32_t kLowest[] = {0xa0, 0x800, 0x10000};  // of two, three and four bytes
  return code_point >= kLowest[length - 2] ? length : 0;
}

}  // namespace

void hide_control_characters(std::string& text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = harmless_length(std::string_view(text).substr(i));
    if (length == 0) text[i] = '?';
    i += std::max<std::size_t>(length, 1);
  }
}

}  // namespace warmfork
