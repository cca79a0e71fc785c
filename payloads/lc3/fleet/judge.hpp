// Whether a run did what was expected of it, and how to say so. Pure; any thread.
#pragma once

#include "lc3/fleet/isolated_run.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace warmfork::lc3 {

/// How outputs are compared.
enum class Compare : std::uint8_t {
  kExact,     // byte for byte
  kTrailing,  // but for blanks (space, tab, CR) at the ends of lines and empty lines at the end of the text
};
inline constexpr std::array kCompareNames = {"exact", "trailing"};

/// How a run has to end to pass.
enum class ExpectedEnd : std::uint8_t {
  kHalt,
  kInput,  // the program asks for input when there is no more: for those that never halt
};
inline constexpr std::array kExpectedEndNames = {"halt", "input"};

/// What is expected of a run. The text is the caller's.
struct Expectation {
  std::optional<std::string_view> output;  // nothing: any
  Compare compare = Compare::kExact;
  ExpectedEnd end = ExpectedEnd::kHalt;
};

enum class Verdict : std::uint8_t {
  kPassed,
  kWrongOutput,
  kInstructionLimit,
  kInputExhausted,
  kFault,
  kOutputLimit,
  kTimeout,
  kCrashed,       // the guest program itself has ended, which no LC-3 program should be able to bring about
  kWrongEnd,      // halted, but should have asked for more input
  kNotAssembled,  // assembler errors, or an object file that is none
  kUnreadable,
  kInterrupted,  // not run, or not to its end
  kDeadlock,     // waited for what could not come any more
};
inline constexpr std::size_t kVerdictCount = 13;
/// A stable word for machines: "passed", "wrong_output", …
[[nodiscard]] const char* name_of(Verdict verdict);
/// For people: "wrong output", …
[[nodiscard]] const char* describe(Verdict verdict);

[[nodiscard]] bool same_output(std::string_view expected, std::string_view actual, Compare compare);
[[nodiscard]] Verdict judge(const IsolatedRun& run, const Expectation& expected);

/// Any bytes for terminals, XML and JSON: control characters and what is not strict UTF-8 become \xNN (\t, \r and \n by
/// name, or newlines as they are with `keep_newlines`); cut after `limit` bytes with "…". Never longer than 4 × limit
/// + 3.
[[nodiscard]] std::string visible(std::string_view bytes, std::size_t limit, bool keep_newlines = false);

/// Where two outputs part: the number of the first line that differs, up to three lines of each from there, made
/// visible. At most 2 KiB. Empty if they are the same.
[[nodiscard]] std::string short_diff(std::string_view expected, std::string_view actual, Compare compare);

}  // namespace warmfork::lc3
