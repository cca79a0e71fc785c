// How forks are made and put back. Plain values, shared by the fork sources, the pool and the command line.
#pragma once

#include "machine/guest_io.hpp"
#include "machine/shared_region.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace warmfork {

/// What separates one fork from another. SECURITY.md says what each is worth.
enum class ForkKind : std::uint8_t {
  kVm,     // a KVM VM of its own
  kSpace,  // page tables and a window of its own in a VM shared with other forks
};

/// How a new window gets the snapshot's bytes.
enum class Population : std::uint8_t {
  kAuto,  // copy up to kCopyLimit bytes that are not zero, else cow
  kCopy,  // all at once: no page fault later
  kCow,   // a private mapping of the snapshot: pages are copied by the host's kernel when first written
};
/// Up to here a copy costs less than the faults of the pages a request usually writes.
inline constexpr std::uint64_t kCopyLimit = std::uint64_t{1} << 20;

/// How a reset finds and restores what a request has changed.
enum class ResetMode : std::uint8_t {
  kAuto,
  kFullCopy,   // copies every page: the oracle the others are compared with
  kDirtyLog,   // KVM's dirty bitmap, one ioctl per reset
  kDirtyRing,  // KVM's dirty ring, read from shared memory
  kCowRemap,   // drops the private pages; the next request faults them in again
};

inline constexpr ForkKind kForkKinds[] = {ForkKind::kVm, ForkKind::kSpace};
inline constexpr ResetMode kResetModes[] = {ResetMode::kAuto, ResetMode::kFullCopy, ResetMode::kDirtyLog,
                                            ResetMode::kDirtyRing, ResetMode::kCowRemap};

[[nodiscard]] constexpr std::string_view name_of(ForkKind kind) { return kind == ForkKind::kVm ? "vm" : "space"; }
[[nodiscard]] constexpr std::string_view name_of(Population population) {
  switch (population) {
    case Population::kCopy: return "copy";
    case Population::kCow: return "cow";
    default: return "auto";
  }
}
[[nodiscard]] constexpr std::string_view name_of(ResetMode mode) {
  switch (mode) {
    case ResetMode::kFullCopy: return "full_copy";
    case ResetMode::kDirtyLog: return "dirty_log";
    case ResetMode::kDirtyRing: return "dirty_ring";
    case ResetMode::kCowRemap: return "cow_remap";
    default: return "auto";
  }
}

struct ForkOptions {
  ForkKind kind = ForkKind::kSpace;
  Population population = Population::kAuto;
  ResetMode reset = ResetMode::kAuto;
  std::uint64_t heap_limit_bytes = 0;    // brk and mmap together; 0: as far as the window goes
  std::uint64_t instruction_budget = 0;  // for payloads that count instructions themselves (ForkInfo); 0: none
  std::optional<std::uint64_t> seed;     // every fork and every reset gives the same random bytes
  GuestIo* io = nullptr;                 // must outlive the forks; nullptr: reads see the end, writes are discarded
  /// What is behind the shared regions of each fork, for all of its lives; held as long as the source is. The master's
  /// bindings are its own.
  SharedBindings shared = {};
};

}  // namespace warmfork
