// What the parts of a fleet's file must not be together, each by itself being right. For config.cpp.
#pragma once

#include "base/result.hpp"
#include "lc3/fleet/config.hpp"

#include <cstddef>

namespace warmfork::lc3 {

/// Bytes of a name or value that messages show.
inline constexpr std::size_t kShownBytes = 60;

/// Machines: no name twice, not too many, not too much output in all. Errors (kInput): file, line, value, limit.
[[nodiscard]] Status check_names(const FleetFile& fleet);
/// Links: each port sends to one link and receives from one; all of a machine's have one capacity; not too many bytes
/// or linked machines. Errors (kInput): file, line, value, limit.
[[nodiscard]] Status check_links(const FleetFile& fleet);

}  // namespace warmfork::lc3
