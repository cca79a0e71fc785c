// Owns the host memory of one guest with everything of its own: image, code region, window, page tables. A master's;
// forks share image and code region, and bring their windows.
//
// Threads: as the guest's.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "machine/address_space.hpp"
#include "machine/code_region.hpp"
#include "machine/guest_layout.hpp"

#include <memory>

namespace warmfork {

struct GuestStorage {
  std::shared_ptr<const Mapping> image;
  CodeRegion code;
  Mapping window;
  Mapping tables;
  GuestRegions regions;

  /// Zeroed memory for a guest of this layout; nothing is bound to its shared regions. Errors (kHost): the host has
  /// none.
  [[nodiscard]] static Result<GuestStorage> allocate(const GuestLayout& layout);
};

}  // namespace warmfork
