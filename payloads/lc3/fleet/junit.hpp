// Results as JUnit XML, as continuous integration reads it: a test suite per submission, a test case per test. Whatever
// a submission, a test or an output says is text that the document cannot be changed by: control characters and bytes
// that are no characters are shown as \xNN, the five special characters are escaped.
#pragma once

#include "lc3/fleet/config.hpp"
#include "lc3/fleet/grade.hpp"

#include <string>
#include <string_view>

namespace warmfork::lc3 {

/// Text for an attribute or an element.
[[nodiscard]] std::string xml_text(std::string_view bytes, bool keep_newlines);

/// The document. What a submission itself did wrong is a <failure>; what could not be run (unreadable, does not
/// assemble, crashed) is an <error>; what was not run is <skipped>.
[[nodiscard]] std::string junit_xml(const GradeReport& report, const TestSet& tests);

}  // namespace warmfork::lc3
