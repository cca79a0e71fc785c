// What the readers of text formats share: ASCII case, numbers, labels, lines. Pure; any thread. Locale plays no part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace warmfork::lc3 {

/// Longest label, in characters.
inline constexpr std::size_t kMaxLabelLength = 64;

constexpr char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) { return to_upper(c) >= 'A' && to_upper(c) <= 'Z'; }
constexpr bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r'; }

[[nodiscard]] std::string upper(std::string_view text);
[[nodiscard]] bool equal_ignoring_case(std::string_view a, std::string_view b);

/// A number in any of the assembler's forms: #10 #-3 10 -3 x1F x-1 0x1F b101. Values beyond 32 bits are cut to the
/// nearest 32-bit one, which is out of every range that the assembler checks. Nothing if `text` has no such form.
[[nodiscard]] std::optional<std::int64_t> parse_number(std::string_view text);

/// R0 to R7.
[[nodiscard]] std::optional<unsigned> parse_register(std::string_view text);

/// Empty if `text` can be a label, else why not.
[[nodiscard]] std::string why_not_a_label(std::string_view text);

/// Bytes of a user's file, fit for a message: control characters become '?', long text is cut to 60 characters.
[[nodiscard]] std::string printable(std::string_view text);

/// A line of a user's file, to be shown as it is but for control characters, which terminals obey: they become '?'.
/// Tabs stay, and so does text beyond ASCII.
[[nodiscard]] std::string without_controls(std::string_view line);

/// Takes the next line off `rest`, without its end (\n, \r\n or the end of the text).
[[nodiscard]] std::string_view take_line(std::string_view& rest);

}  // namespace warmfork::lc3
