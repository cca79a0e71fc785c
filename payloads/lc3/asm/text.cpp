#include "lc3/asm/text.hpp"

#include "lc3/asm/mnemonics.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace warmfork::lc3 {
namespace {

int digit_value(char c) {
  if (is_digit(c)) return c - '0';
  const char u = to_upper(c);
  return u >= 'A' && u <= 'F' ? u - 'A' + 10 : 99;
}

std::optional<std::int64_t> parse_digits(std::string_view digits, int base, bool negative) {
  if (digits.empty()) return std::nullopt;
  constexpr std::int64_t kMost = 0x7FFFFFFF;
  std::int64_t value = 0;
  for (const char c : digits) {
    const int digit = digit_value(c);
    if (digit >= base) return std::nullopt;
    value = std::min(kMost, value * base + digit);
  }
  return negative ? -value : value;
}

}  // namespace

std::string upper(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), to_upper);
  return result;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return to_upper(x) == to_upper(y); });
}

std::optional<std::int64_t> parse_number(std::string_view text) {
  const auto starts = [&](char c) { return !text.empty() && to_upper(text.front()) == c; };
  const auto take_sign = [&] {
    const bool negative = starts('-');
    if (negative || starts('+')) text.remove_prefix(1);
    return negative;
  };
  int base = 10;
  if (starts('#')) {
    text.remove_prefix(1);
  } else if (starts('X')) {
    base = 16;
    text.remove_prefix(1);
  } else if (starts('B')) {
    base = 2;
    text.remove_prefix(1);
  } else if (text.size() > 2 && text[0] == '0' && to_upper(text[1]) == 'X') {
    return parse_digits(text.substr(2), 16, false);
  }
  const bool negative = take_sign();
  return parse_digits(text, base, negative);
}

std::optional<unsigned> parse_register(std::string_view text) {
  if (text.size() != 2 || to_upper(text[0]) != 'R' || text[1] < '0' || text[1] > '7') return std::nullopt;
  return static_cast<unsigned>(text[1] - '0');
}

std::string why_not_a_label(std::string_view text) {
  if (text.empty()) return "a label needs a name";
  if (text.size() > kMaxLabelLength) {
    return fmt::format("label '{}' has {} characters: the limit is {}", printable(text), text.size(), kMaxLabelLength);
  }
  if (parse_register(text)) return fmt::format("'{}' is a register, so it cannot be a label", text);
  if (parse_number(text)) return fmt::format("'{}' reads as a number, so it cannot be a label", text);
  if (is_mnemonic(text)) return fmt::format("'{}' is an instruction, so it cannot be a label", text);
  if (!is_letter(text.front()) && text.front() != '_') {
    return fmt::format("'{}' cannot be a label: labels start with a letter or '_'", printable(text));
  }
  for (const char c : text) {
    if (is_letter(c) || is_digit(c) || c == '_') continue;
    return fmt::format("'{}' cannot be a label: '{}' is none of a-z, 0-9, '_'", printable(text),
                       printable(std::string_view(&c, 1)));
  }
  return {};
}

std::string printable(std::string_view text) {
  constexpr std::size_t kMost = 60;
  std::string result(text.substr(0, kMost));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F) c = '?';
  }
  if (text.size() > kMost) result += "...";
  return result;
}

std::string without_controls(std::string_view line) {
  std::string result;
  result.reserve(line.size());
  for (std::size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    const auto next = static_cast<unsigned char>(i + 1 < line.size() ? line[i + 1] : 0);
    const bool beyond_ascii = byte == 0xC2 && next >= 0x80 && next < 0xA0;  // U+0080 to U+009F in UTF-8
    if (beyond_ascii) ++i;
    result += beyond_ascii || (byte < 0x20 && byte != '\t') || byte == 0x7F ? '?' : line[i];
  }
  return result;
}

std::string_view take_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

}  // namespace warmfork::lc3
