#include "lc3/fleet/junit.hpp"

#include <fmt/format.h>

#include <iterator>
#include <string>

namespace warmfork::lc3 {
namespace {

constexpr std::size_t kNameBytes = 4096;
constexpr std::size_t kTextBytes = 16 << 10;

enum class Class : std::uint8_t { kPassed, kFailure, kError, kSkipped };

Class class_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed: return Class::kPassed;
    case Verdict::kInterrupted: return Class::kSkipped;
    case Verdict::kUnreadable:
    case Verdict::kNotAssembled:
    case Verdict::kCrashed: return Class::kError;
    default: return Class::kFailure;
  }
}

struct Tally {
  std::size_t tests = 0, failures = 0, errors = 0, skipped = 0;
  std::uint64_t ns = 0;
  void add(const Cell& cell) {
    ++tests;
    ns += cell.ns;
    const Class one = class_of(cell.verdict);
    failures += one == Class::kFailure ? 1 : 0;
    errors += one == Class::kError ? 1 : 0;
    skipped += one == Class::kSkipped ? 1 : 0;
  }
  [[nodiscard]] std::string attributes() const {
    return fmt::format(R"(tests="{}" failures="{}" errors="{}" skipped="{}" time="{:.6f}")", tests, failures, errors,
                       skipped, static_cast<double>(ns) * 1e-9);
  }
};

}  // namespace

std::string xml_text(std::string_view bytes, bool keep_newlines) {
  std::string text;
  for (const char c : visible(bytes, kTextBytes, keep_newlines)) {
    switch (c) {
      case '&': text += "&amp;"; break;
      case '<': text += "&lt;"; break;
      case '>': text += "&gt;"; break;
      case '"': text += "&quot;"; break;
      case '\'': text += "&apos;"; break;
      default: text += c; break;
    }
  }
  return text;
}

std::string junit_xml(const GradeReport& report, const TestSet& tests) {
  Tally all;
  for (const SubmissionResult& one : report.submissions) {
    for (const Cell& cell : one.cells) all.add(cell);
  }
  std::string xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  auto out = std::back_inserter(xml);
  fmt::format_to(out, "<testsuites name=\"{}\" {}>\n", xml_text(tests.name.substr(0, kNameBytes), false),
                 all.attributes());
  for (const SubmissionResult& one : report.submissions) {
    Tally tally;
    for (const Cell& cell : one.cells) tally.add(cell);
    const std::string suite = xml_text(one.submission.name.substr(0, kNameBytes), false);
    fmt::format_to(out, "  <testsuite name=\"{}\" {}>\n", suite, tally.attributes());
    for (std::size_t i = 0; i < one.cells.size(); ++i) {
      const Cell& cell = one.cells[i];
      fmt::format_to(out, "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.6f}\"", suite,
                     xml_text(tests.tests[i].name, false), static_cast<double>(cell.ns) * 1e-9);
      const std::string& detail = cell.detail.empty() ? one.error : cell.detail;
      switch (class_of(cell.verdict)) {
        case Class::kPassed: xml += "/>\n"; break;
        case Class::kSkipped:
          fmt::format_to(out, ">\n      <skipped message=\"{}\"/>\n    </testcase>\n", describe(cell.verdict));
          break;
        case Class::kFailure:
        case Class::kError: {
          const char* const element = class_of(cell.verdict) == Class::kError ? "error" : "failure";
          fmt::format_to(out, ">\n      <{} type=\"{}\" message=\"{}\">{}</{}>\n    </testcase>\n", element,
                         name_of(cell.verdict), describe(cell.verdict), xml_text(detail, true), element);
          break;
        }
      }
    }
    xml += "  </testsuite>\n";
  }
  xml += "</testsuites>\n";
  return xml;
}

}  // namespace warmfork::lc3
