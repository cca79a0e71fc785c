// What the verbs that handle feeds share: what a feed says about itself, for programs.
#pragma once

#include "feed/certificate.hpp"

#include <nlohmann/json.hpp>

namespace warmfork::cli {

[[nodiscard]] nlohmann::ordered_json to_json(const feed::TapeTotals& totals);
[[nodiscard]] nlohmann::ordered_json to_json(const feed::DecodeCounters& decoded);
/// `code`: the exit code that goes with it.
[[nodiscard]] nlohmann::ordered_json to_json(const feed::Certificate& certificate, int code);

/// One JSON object on standard output. File names may be any bytes.
void print_json(const nlohmann::ordered_json& json);

}  // namespace warmfork::cli
