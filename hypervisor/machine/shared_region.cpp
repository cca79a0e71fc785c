#include "machine/shared_region.hpp"

#include "kvm/kvm.hpp"
#include "machine/guest_layout.hpp"
#include "machine/physical_map.hpp"

#include <algorithm>

namespace warmfork {
namespace {

bool is_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  return !name.empty() && name.size() <= kMaxSharedRegionName &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

}  // namespace

Status check_shared_regions(std::span<const SharedRegionSpec> specs) {
  if (specs.size() > kMaxSharedRegions) {
    return fail(ErrorKind::kLimit, "{} shared regions, at most {}", specs.size(), kMaxSharedRegions);
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const SharedRegionSpec& spec = specs[i];
    if (!is_name(spec.name)) {
      return fail(ErrorKind::kUsage, "shared region {}: a name is 1 … {} letters, digits, '-', '_' and '.'", i,
                  kMaxSharedRegionName);
    }
    const auto same = [&](const SharedRegionSpec& other) { return other.name == spec.name; };
    if (std::ranges::any_of(specs.first(i), same)) {
      return fail(ErrorKind::kUsage, "shared region {}: there is another one named {}", i, spec.name);
    }
    if (spec.bytes == 0 || spec.bytes % kPage != 0) {
      return fail(ErrorKind::kUsage, "shared region {}: {} bytes are not whole pages of {}", spec.name, spec.bytes,
                  kPage);
    }
    if (spec.bytes > kMaxSharedBytes) {
      return fail(ErrorKind::kLimit, "shared region {}: {} bytes, at most {}", spec.name, spec.bytes, kMaxSharedBytes);
    }
  }
  return {};
}

Status check_bindings(const GuestLayout& layout, const SharedBindings& bindings) {
  const std::span<const GuestLayout::SharedRegion> regions = layout.shared_regions();
  if (bindings.size() > regions.size()) {
    return fail(ErrorKind::kUsage, "{} shared memories for a guest with {} shared regions", bindings.size(),
                regions.size());
  }
  for (std::size_t i = 0; i < bindings.size(); ++i) {
    if (bindings[i] == nullptr) continue;
    if (bindings[i]->size() != regions[i].range.size) {
      return fail(ErrorKind::kUsage, "shared region {}: memory of {} bytes, it has {}", regions[i].name,
                  bindings[i]->size(), regions[i].range.size);
    }
    if (!bindings[i]->writable() && regions[i].access == SharedAccess::kReadWrite) {
      return fail(ErrorKind::kUsage, "shared region {}: it is read-write, the memory was attached for reading only",
                  regions[i].name);
    }
  }
  return {};
}

Status check_shared_slots(const kvm::Kvm& kvm, const GuestLayout& layout) {
  if (layout.shared_regions().empty()) return {};
  const int slots = kvm.check_extension(KVM_CAP_NR_MEMSLOTS);
  const std::size_t needed = kWindowSlot + 1 + layout.shared_regions().size();
  if (slots > 0 && static_cast<std::size_t>(slots) >= needed) return {};
  return fail(ErrorKind::kLimit, "{} shared regions need {} memory slots, a VM of this KVM has {}",
              layout.shared_regions().size(), needed, slots);
}

std::vector<BoundRegion> place_bindings(const GuestLayout& layout, const SharedBindings& bindings) {
  std::vector<BoundRegion> bound;
  if (std::ranges::all_of(bindings, [](const auto& memory) { return memory == nullptr; })) return bound;
  bound.resize(layout.shared_regions().size());
  for (std::size_t i = 0; i < bindings.size(); ++i) bound[i] = {bindings[i], layout.shared_regions()[i].gpa};
  return bound;
}

}  // namespace warmfork
