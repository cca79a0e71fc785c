// Memory that every guest of a family executes and none can write: the host puts machine code there, at any time. One
// for a master, its snapshots and all their forks, at the same guest-virtual address in each; not part of what a
// snapshot freezes or a reset restores.
//
// What the host writes is there for all of these guests at once. It must not change instructions that a guest may be
// executing meanwhile: write new code where nothing runs, then tell the guests of it. A guest that runs on while it is
// told needs a serialising instruction before the first jump there (Intel SDM vol. 3, 9.1.3 "Handling Self- and
// Cross-Modifying Code"); a guest that is called finds everything written before the call.
//
// Threads: the bytes are the embedder's to synchronise; guests only read them.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "machine/guest_layout.hpp"

#include <cstddef>
#include <memory>
#include <span>

namespace warmfork {

struct CodeRegion {
  Gva begin;                                   // for the guests
  std::span<std::byte> bytes;                  // for the host; empty: there is no region
  std::shared_ptr<const Mapping> memory = {};  // what keeps `bytes` valid, also when all guests are gone

  /// Zeroed memory for the region of this layout, if it has one; pages appear when they are first written. Errors
  /// (kHost): the host has none.
  [[nodiscard]] static Result<CodeRegion> allocate(const GuestLayout& layout);
};

}  // namespace warmfork
