#include "fork/reset_strategy.hpp"

#include <algorithm>
#include <bit>

namespace warmfork {

Result<ResetMode> choose_reset_mode(ResetMode mode, Population population, const Snapshot& snapshot,
                                    const kvm::Kvm& kvm) {
  const bool has_ring = kvm.check_extension(KVM_CAP_DIRTY_LOG_RING) > 0;
  const bool has_log = kvm.check_extension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0;
  switch (mode) {
    case ResetMode::kAuto:
      if (has_ring) return ResetMode::kDirtyRing;
      if (has_log) return ResetMode::kDirtyLog;
      return population == Population::kCow ? ResetMode::kCowRemap : ResetMode::kFullCopy;
    case ResetMode::kDirtyRing:
      if (!has_ring) return fail(ErrorKind::kUnsupported, "dirty_ring: this KVM lacks KVM_CAP_DIRTY_LOG_RING");
      return mode;
    case ResetMode::kDirtyLog:
      if (!has_log) return fail(ErrorKind::kUnsupported, "dirty_log: this KVM lacks KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
      return mode;
    case ResetMode::kCowRemap:
      if (population != Population::kCow) {
        return fail(ErrorKind::kUsage, "cow_remap needs a window populated by cow ({} bytes, nonzero {})",
                    snapshot.window().size(), snapshot.nonzero().count() * kPage);
      }
      return mode;
    case ResetMode::kFullCopy: break;
  }
  return mode;
}

TrackingNeeds tracking_needs(ResetMode mode, const Snapshot& snapshot) {
  constexpr std::uint32_t kLog = KVM_MEM_LOG_DIRTY_PAGES;
  switch (mode) {
    case ResetMode::kDirtyLog: return {.dirty_log = true, .ring_entries = 0, .window_flags = kLog};
    case ResetMode::kDirtyRing: {
      // Room for every page of a small window; the ring may be as large as KVM lets it (KVM_DIRTY_RING_MAX_ENTRIES).
      const std::size_t pages = snapshot.window().size() / kPage;
      const std::size_t entries = std::clamp<std::size_t>(std::bit_ceil(pages * 4), 1024, 65536);
      return {.dirty_log = false, .ring_entries = entries, .window_flags = kLog};
    }
    default: return {};
  }
}

std::unique_ptr<ResetStrategy> make_reset_strategy(ResetMode mode, bool automatic, const ResetTarget& target) {
  switch (mode) {
    case ResetMode::kDirtyLog: return make_dirty_log(target);
    case ResetMode::kDirtyRing: return make_dirty_ring(target, automatic);
    case ResetMode::kCowRemap: return make_cow_remap(target);
    default: return make_full_copy(target);
  }
}

}  // namespace warmfork
