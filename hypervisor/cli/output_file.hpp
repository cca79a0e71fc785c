// Files that an option names and a verb writes when it has ended.
#pragma once

#include "base/result.hpp"

#include <functional>
#include <string>

namespace warmfork::cli {

/// Whether a file could be made there: what a long run has found should have a place to go. Errors name option and
/// path.
[[nodiscard]] Status check_output_file(const std::string& option, const std::string& path);

/// Replaces the file by what `write` puts into the descriptor, or leaves it as it was (replace_file()); readable by
/// whom the umask lets. Errors name option and path.
[[nodiscard]] Status write_output_file(const std::string& option, const std::string& path,
                                       const std::function<Status(int fd)>& write);

}  // namespace warmfork::cli
