// The page that `/` serves, if this build has one.
#pragma once

#include <string_view>

namespace warmfork::exposition {

/// Its bytes, for as long as the process lives; empty: there is none, and `/` lists the numbers (to_plain_page()).
[[nodiscard]] std::string_view live_page();
[[nodiscard]] const char* live_page_type();

}  // namespace warmfork::exposition
