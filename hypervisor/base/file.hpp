// Whole files as bytes.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork {

/// Reads a whole regular file of at most `limit` bytes. Errors (kInput) name the path and why.
[[nodiscard]] Result<std::vector<std::byte>> read_file(const std::string& path, std::size_t limit);

/// The descriptor, if standard output or error goes into this very file (as /dev/stdout, or by its name): to replace it
/// would take what is printed away with the old one.
[[nodiscard]] std::optional<int> printed_into(const std::string& path);

/// Writes a whole file, replacing it; errors (kHost) name the path. A partial regular file is removed. Where standard
/// output or error goes it is written behind what is there.
[[nodiscard]] Status write_file(const std::string& path, const void* data, std::size_t size);

/// Replaces the file `path` by one that `write` fills through a descriptor, or leaves it as it is: whoever opens `path`
/// at any time finds the old file or all of the new one, also after a crash. The new file is for its owner only. A link
/// is followed. Errors: kUsage (`path` is something else than a regular file, or printed_into()), kHost, and those of
/// `write`.
[[nodiscard]] Status replace_file(const std::string& path, const std::function<Status(int fd)>& write);

/// Writes all of `bytes` at the descriptor's position; errors (kHost) name the path.
[[nodiscard]] Status write_all(int fd, std::span<const std::byte> bytes, const std::string& path);

}  // namespace warmfork
