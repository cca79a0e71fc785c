// Whole files as bytes.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace warmfork {

/// Reads a whole regular file of at most `limit` bytes. Errors (kInput) name the path and why.
[[nodiscard]] Result<std::vector<std::byte>> read_file(const std::string& path, std::size_t limit);

/// Writes a whole file, replacing it; errors (kHost) name the path. A partial regular file is removed.
[[nodiscard]] Status write_file(const std::string& path, const void* data, std::size_t size);

}  // namespace warmfork
