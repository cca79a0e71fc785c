#include "metrics/table.hpp"

#include <fmt/format.h>

namespace warmfork::metrics {

std::string table_markdown() {
  std::string text = "| metric | type | labels | meaning |\n|---|---|---|---|\n";
  for (const FamilyInfo& info : kFamilies) {
    std::string labels;
    for (std::size_t i = 0; i < info.labels(); ++i) labels += fmt::format("{}`{}`", i == 0 ? "" : ", ", info.keys[i]);
    text += fmt::format("| `{}` | {} | {} | {} |\n", info.name, name_of(info.type), labels, info.help);
  }
  return text;
}

}  // namespace warmfork::metrics
