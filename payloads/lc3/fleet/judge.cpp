#include "lc3/fleet/judge.hpp"

#include "base/printable.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace warmfork::lc3 {
namespace {

constexpr std::size_t kDiffLines = 3;
constexpr std::size_t kDiffLineBytes = 80;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// Takes one line off `rest`, with its newline.
std::string_view take_line(std::string_view& rest) {
  const std::size_t end = std::min(rest.find('\n'), rest.size() - 1) + 1;
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end);
  return line;
}

std::string_view without_blanks(std::string_view line) {
  while (!line.empty() && (is_blank(line.back()) || line.back() == '\n')) line.remove_suffix(1);
  return line;
}

// What is compared of the next line; past the end: empty lines, which is what makes those at the end not count.
std::string_view next(std::string_view& rest, Compare compare) {
  if (rest.empty()) return {};
  const std::string_view line = take_line(rest);
  return compare == Compare::kExact ? line : without_blanks(line);
}

// The length of the strict UTF-8 character that `text` begins with if a terminal may have it, else 0.
std::size_t harmless(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  const std::size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (text.size() < length) return 0;
  std::string one(text.substr(0, length));
  const std::string before = one;
  hide_control_characters(one);
  if (one != before) return 0;
  // Surrogates and the last two of a plane are no characters for XML.
  if (length == 3) {
    const auto second = static_cast<unsigned char>(text[1]);
    if (first == 0xed && second >= 0xa0) return 0;
    if (first == 0xef && second == 0xbf && static_cast<unsigned char>(text[2]) >= 0xbe) return 0;
  }
  if (length == 4 && first == 0xf4 && static_cast<unsigned char>(text[1]) >= 0x90) return 0;
  return length;
}

void show_lines(std::string& text, char sign, std::string_view rest) {
  if (rest.empty()) {
    text += fmt::format("\n{} (end of the output)", sign);
    return;
  }
  for (std::size_t i = 0; i < kDiffLines && !rest.empty(); ++i) {
    std::string_view line = take_line(rest);
    const bool whole = line.ends_with('\n');
    if (whole) line.remove_suffix(1);
    text += fmt::format("\n{} {}{}", sign, visible(line, kDiffLineBytes), whole ? "" : " (no newline)");
  }
  if (!rest.empty()) text += fmt::format("\n{} …", sign);
}

}  // namespace

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed: return "passed";
    case Verdict::kWrongOutput: return "wrong_output";
    case Verdict::kInstructionLimit: return "instruction_limit";
    case Verdict::kInputExhausted: return "input_exhausted";
    case Verdict::kFault: return "fault";
    case Verdict::kOutputLimit: return "output_limit";
    case Verdict::kTimeout: return "timeout";
    case Verdict::kCrashed: return "crashed";
    case Verdict::kWrongEnd: return "wrong_end";
    case Verdict::kNotAssembled: return "not_assembled";
    case Verdict::kUnreadable: return "unreadable";
    case Verdict::kInterrupted: return "interrupted";
    case Verdict::kDeadlock: return "deadlock";
  }
  return "unknown";
}

const char* describe(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed: return "passed";
    case Verdict::kWrongOutput: return "wrong output";
    case Verdict::kInstructionLimit: return "instruction limit";
    case Verdict::kInputExhausted: return "input exhausted";
    case Verdict::kFault: return "fault";
    case Verdict::kOutputLimit: return "output limit";
    case Verdict::kTimeout: return "timeout";
    case Verdict::kCrashed: return "crashed guest";
    case Verdict::kWrongEnd: return "wrong end";
    case Verdict::kNotAssembled: return "does not assemble";
    case Verdict::kUnreadable: return "unreadable";
    case Verdict::kInterrupted: return "interrupted";
    case Verdict::kDeadlock: return "deadlock";
  }
  return "unknown";
}

bool same_output(std::string_view expected, std::string_view actual, Compare compare) {
  if (compare == Compare::kExact) return expected == actual;
  while (!expected.empty() || !actual.empty()) {
    if (next(expected, compare) != next(actual, compare)) return false;
  }
  return true;
}

Verdict judge(const IsolatedRun& run, const Expectation& expected) {
  switch (run.end()) {
    case RunEnd::kInstructionLimit: return Verdict::kInstructionLimit;
    case RunEnd::kFault: return Verdict::kFault;
    case RunEnd::kOutputLimit: return Verdict::kOutputLimit;
    case RunEnd::kTimeout: return Verdict::kTimeout;
    case RunEnd::kCrashed: return Verdict::kCrashed;
    case RunEnd::kInterrupted: return Verdict::kInterrupted;
    case RunEnd::kDeadlock: return Verdict::kDeadlock;
    case RunEnd::kInputExhausted:
      if (expected.end != ExpectedEnd::kInput) return Verdict::kInputExhausted;
      break;
    case RunEnd::kHalted:
      if (expected.end != ExpectedEnd::kHalt) return Verdict::kWrongEnd;
      break;
  }
  const bool same = !expected.output || same_output(*expected.output, run.output(), expected.compare);
  return same ? Verdict::kPassed : Verdict::kWrongOutput;
}

std::string visible(std::string_view bytes, std::size_t limit, bool keep_newlines) {
  const bool cut = bytes.size() > limit;
  std::string text;
  for (std::size_t i = 0; i < std::min(bytes.size(), limit);) {
    const std::size_t length = harmless(bytes.substr(i));
    if (length != 0 && i + length <= limit) {
      text += bytes.substr(i, length);
      i += length;
      continue;
    }
    const char c = bytes[i++];
    if (c == '\n') {
      text += keep_newlines ? "\n" : "\\n";
    } else if (c == '\t') {
      text += "\\t";
    } else if (c == '\r') {
      text += "\\r";
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (cut) text += "…";
  return text;
}

std::string short_diff(std::string_view expected, std::string_view actual, Compare compare) {
  if (same_output(expected, actual, compare)) return {};
  for (std::size_t line = 1;; ++line) {
    std::string_view e = expected;
    std::string_view a = actual;
    if (next(e, compare) == next(a, compare) && (!e.empty() || !a.empty())) {
      expected = e;
      actual = a;
      continue;
    }
    std::string text = fmt::format("line {}, - expected, + actual", line);
    show_lines(text, '-', expected);
    show_lines(text, '+', actual);
    return text;
  }
}

}  // namespace warmfork::lc3
