// The live page: one HTML file, script and style inside, that asks the process it came from for /live.json once a
// second and nobody for anything else.
#pragma once

#include <string_view>

namespace warmfork::metrics {

struct LivePage {
  /// UTF-8; empty when this build could not bundle it (no npm, no registry, instrumented): serve something plain then.
  std::string_view html;
  /// Value of the header Content-Security-Policy under which it works; by the hashes of its script and style.
  std::string_view policy;
};

/// What the build has put into the binary; lives as long as the process. Any thread.
[[nodiscard]] LivePage live_page();

}  // namespace warmfork::metrics
