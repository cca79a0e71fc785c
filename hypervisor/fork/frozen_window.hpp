// The memory of a window that never changes again: a sealed memfd, which neither its owner nor a bug can write or
// shorten. Forks map it privately.
//
// Threads: any, once made.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace warmfork {

struct FrozenWindow {
  UniqueFd fd;
  Mapping view;  // read-only
};

/// Puts bytes at an offset of a window.
using WriteWindow = std::function<Status(std::uint64_t offset, std::span<const std::byte> bytes)>;

/// Makes `size` bytes of zeroed memory, lets `fill` write them, and seals them. Errors: kHost, and those of `fill`.
/// Writes are system calls: for new pages they cost half of what faults on a mapping do.
[[nodiscard]] Result<FrozenWindow> freeze_window(std::size_t size,
                                                 const std::function<Status(const WriteWindow& write)>& fill);

}  // namespace warmfork
