// The memory of a window that never changes again: a sealed memfd, which neither its owner nor a bug can write or
// shorten. Forks map it privately.
//
// Threads: any, once made.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <cstddef>
#include <functional>
#include <span>

namespace warmfork {

struct FrozenWindow {
  UniqueFd fd;
  Mapping view;  // read-only
};

/// Makes `size` bytes of zeroed memory, lets `fill` write them, and seals them. Errors: kHost, and those of `fill`.
[[nodiscard]] Result<FrozenWindow> freeze_window(std::size_t size,
                                                 const std::function<Status(std::span<std::byte>)>& fill);

}  // namespace warmfork
