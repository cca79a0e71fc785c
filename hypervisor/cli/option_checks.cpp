#include "option_checks.hpp"

#include "base/printable.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>

namespace warmfork::cli {

CLI::Validator not_empty() {
  return {[](std::string& value) { return value.empty() ? std::string("is empty") : std::string(); }, ""};
}

void refuse_empty_values(CLI::App& verb) {
  for (CLI::Option* const option : verb.get_options()) {
    if (option->get_type_size() != 0) option->check(not_empty());  // a flag has no value
  }
}

CLI::Validator whole_number() {
  return {[](std::string& value) {
            const bool hex = value.starts_with("0x");
            const char* const begin = value.data() + (hex ? 2 : 0);
            const char* const end = value.data() + value.size();
            std::uint64_t number = 0;
            const auto [rest, error] = std::from_chars(begin, end, number, hex ? 16 : 10);
            if (begin != end && rest == end && error == std::errc()) return std::string();
            return fmt::format("\"{}\" is no whole number from 0 to {}", printable(value),
                               std::numeric_limits<std::uint64_t>::max());
          },
          ""};
}

CLI::Validator number_in(double least, double most) {
  return {[least, most](std::string& value) {
            double number = 0;
            if (CLI::detail::lexical_cast(value, number) && number >= least && number <= most) return std::string();
            return fmt::format("{} is not in range {} to {}", value, least, most);
          },
          fmt::format("in [{} - {}]", least, most)};
}

}  // namespace warmfork::cli
