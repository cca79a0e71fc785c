// What CLI11's own checks let through, and a verb must not.
#pragma once

#include <CLI/CLI.hpp>

namespace warmfork::cli {

/// Refuses an empty value: what a script's unset variable gives is not the same as not asking.
[[nodiscard]] CLI::Validator not_empty();
/// The same of every option the verb has by now.
void refuse_empty_values(CLI::App& verb);

/// Digits, or 0x and hexadecimal ones, of a number below 2^64. CLI11 takes -1, and what is too large, for the largest
/// of all numbers.
[[nodiscard]] CLI::Validator whole_number();

/// As CLI::Range, which takes NaN: it is neither below nor above anything.
[[nodiscard]] CLI::Validator number_in(double least, double most);

}  // namespace warmfork::cli
