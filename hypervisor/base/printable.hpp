// Text from guests and files that goes to terminals.
#pragma once

#include <string>
#include <string_view>

namespace warmfork {

/// Puts a question mark for every byte that may act on a terminal: control characters and what is not strictly UTF-8.
void hide_control_characters(std::string& text);

[[nodiscard]] inline std::string printable(std::string_view text) {
  std::string copy(text);
  hide_control_characters(copy);
  return copy;
}

}  // namespace warmfork
