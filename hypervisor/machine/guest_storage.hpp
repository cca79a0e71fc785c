// Owns the host memory of one guest with everything of its own: image, window, page tables. A master's; forks share the
// image and bring their windows.
//
// Threads: as the guest's.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "machine/address_space.hpp"
#include "machine/guest_layout.hpp"

#include <memory>

namespace warmfork {

struct GuestStorage {
  std::shared_ptr<const Mapping> image;
  Mapping window;
  Mapping tables;
  GuestRegions regions;

  /// Zeroed memory for a guest of this layout. Errors (kHost): the host has none.
  [[nodiscard]] static Result<GuestStorage> allocate(const GuestLayout& layout);
};

}  // namespace warmfork
