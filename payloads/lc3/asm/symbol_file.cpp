#include "lc3/asm/symbol_file.hpp"

#include "lc3/asm/text.hpp"

#include <algorithm>
#include <unordered_map>

namespace warmfork::lc3 {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Headings have no address in their last column.
bool is_heading(std::string_view text) {
  return equal_ignoring_case(text.substr(0, 12), "Symbol table") ||
         equal_ignoring_case(text.substr(0, 11), "Scope level") ||
         equal_ignoring_case(text.substr(0, 11), "Symbol Name") || text.starts_with("---");
}

}  // namespace

Result<std::vector<Symbol>> read_symbols(std::string_view text, const std::string& filename) {
  std::vector<Symbol> symbols;
  std::unordered_map<std::string, std::uint16_t> known;
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::string_view line = trim(take_line(text));
    if (line.empty()) continue;
    if (!line.starts_with("//")) {
      return fail(ErrorKind::kInput, "{}:{}: expected '// NAME ADDRESS', found '{}'", filename, number,
                  printable(line));
    }
    line = trim(line.substr(2));
    if (line.empty() || is_heading(line)) continue;
    const auto gap = std::find_if(line.begin(), line.end(), is_blank);
    const std::string_view name = line.substr(0, static_cast<std::size_t>(gap - line.begin()));
    const std::string_view address_text = trim(line.substr(name.size()));
    const std::string hex = !address_text.empty() && to_upper(address_text.front()) == 'X'
                                ? std::string(address_text)
                                : "x" + std::string(address_text);
    const auto address = parse_number(hex);
    if (!address || hex.size() < 2 || hex[1] == '-' || hex[1] == '+') {
      return fail(ErrorKind::kInput, "{}:{}: expected a hexadecimal address after '{}', found '{}'", filename, number,
                  printable(name), printable(address_text));
    }
    if (*address > 0xFFFF) {
      return fail(ErrorKind::kInput, "{}:{}: address '{}' of '{}' is past xFFFF", filename, number,
                  printable(address_text), printable(name));
    }
    if (name.size() > kMaxLabelLength) {
      return fail(ErrorKind::kInput, "{}:{}: symbol '{}' has {} characters: the limit is {}", filename, number,
                  printable(name), name.size(), kMaxLabelLength);
    }
    if (std::any_of(name.begin(), name.end(), [](char c) { return c <= 0x20 || c >= 0x7F; })) {
      return fail(ErrorKind::kInput, "{}:{}: symbol '{}' has characters outside of ASCII's printable ones", filename,
                  number, printable(name));
    }
    const auto value = static_cast<std::uint16_t>(*address);
    const auto [entry, inserted] = known.try_emplace(upper(name), value);
    if (!inserted && entry->second != value) {
      return fail(ErrorKind::kInput, "{}:{}: '{}' is x{:04X} here and x{:04X} before", filename, number, name, value,
                  entry->second);
    }
    if (inserted) symbols.push_back({std::string(name), value, 0});
  }
  return symbols;
}

std::string write_symbols(const std::vector<Symbol>& symbols) {
  std::string text =
      "// Symbol table\n// Scope level 0:\n//\tSymbol Name       Page Address\n//\t----------------  ------------\n";
  for (const Symbol& symbol : symbols) text += fmt::format("//\t{:<16}  {:04X}\n", symbol.name, symbol.address);
  return text;
}

}  // namespace warmfork::lc3
