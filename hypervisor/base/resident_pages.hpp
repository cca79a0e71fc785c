// Which pages of a mapping hold bytes of their own, as the kernel knows it: those that were never touched need neither
// copying nor comparing.
//
// Threads: any.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <functional>
#include <span>

namespace warmfork {

/// Calls visit(page) for every page of `bytes` (whole pages of a private mapping) that is in memory or in swap and is
/// not a page of the mapping's file; in order. Source: Linux Documentation/admin-guide/mm/pagemap.rst. Errors (kHost).
[[nodiscard]] Status for_each_private_page(std::span<const std::byte> bytes,
                                           const std::function<void(std::size_t)>& visit);

}  // namespace warmfork
