#include "exposition/live_page.hpp"

namespace warmfork::exposition {

std::string_view live_page() { return {}; }
const char* live_page_type() { return "text/html; charset=utf-8"; }

}  // namespace warmfork::exposition
