#include "option_checks.hpp"

#include <fmt/format.h>

#include <string>

namespace warmfork::cli {

CLI::Validator not_empty() {
  return {[](std::string& value) { return value.empty() ? std::string("is empty") : std::string(); }, ""};
}

void refuse_empty_values(CLI::App& verb) {
  for (CLI::Option* const option : verb.get_options()) {
    if (option->get_type_size() != 0) option->check(not_empty());  // a flag has no value
  }
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
