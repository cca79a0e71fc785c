#include "fork/space_forks.hpp"

#include "fork/vm_forks.hpp"
#include "trace/trace.hpp"

#include <algorithm>
#include <bit>

namespace warmfork {
namespace {

constexpr trace::Kind kFork{"fork", "fork space"};

}  // namespace

Result<std::unique_ptr<ForkSource>> SpaceForks::create(const kvm::Kvm& kvm, std::shared_ptr<const Snapshot> snapshot,
                                                       const ForkOptions& options, std::size_t capacity) {
  std::unique_ptr<SpaceForks> source(new SpaceForks(std::move(snapshot), options));
  source->population_ = choose_population(options.population, options.reset, *source->snapshot_);
  WARMFORK_TRY_ASSIGN(source->mode_, choose_reset_mode(options.reset, source->population_, *source->snapshot_, kvm));
  WARMFORK_TRY_ASSIGN(source->capture_, CaptureContext::create(kvm));
  WARMFORK_TRY(source->prepare(kvm, capacity));
  return std::unique_ptr<ForkSource>(std::move(source));
}

Status SpaceForks::prepare(const kvm::Kvm& kvm, std::size_t capacity) {
  const GuestLayout& layout = *snapshot_->layout();
  tables_stride_ = layout.tables_bytes();
  // Windows with 2 MiB pages need their offset within 2 MiB; others follow each other without a gap.
  const bool large_pages = layout.heap().size >= 2 * x86::kLargePageSize;
  const std::uint64_t unit = large_pages ? x86::kLargePageSize : kPage;
  window_stride_ = (layout.window_skew() + layout.window_bytes() + unit - 1) / unit * unit;
  if (!large_pages) window_stride_ = layout.window_bytes();

  const auto slots = static_cast<std::uint64_t>(std::max(kvm.check_extension(KVM_CAP_NR_MEMSLOTS), 32));
  const std::uint64_t physical = std::uint64_t{1} << std::min<unsigned>(snapshot_->cpu_model().physical_bits, 52);
  const std::uint64_t most = std::min({slots - kWindowSlot, (kWindowGpa.value - kTablesGpa.value) / tables_stride_,
                                       (physical - kWindowGpa.value - x86::kLargePageSize) / window_stride_});
  if (capacity == 0 || capacity > most) {
    return fail(ErrorKind::kLimit, "{} forks in one VM, this one holds 1 … {} (windows of {} bytes)", capacity, most,
                layout.window_bytes());
  }
  capacity_ = capacity;
  const TrackingNeeds needs = tracking_needs(mode_, *snapshot_);
  shared_begin_ = kWindowGpa.value +
                  (capacity * window_stride_ + 2 * x86::kLargePageSize - 1) / x86::kLargePageSize * x86::kLargePageSize;
  shared_end_ = physical;
  next_slot_ = first_shared_slot(capacity);
  slots_end_ = static_cast<std::uint32_t>(slots);
  if (slots_end_ - next_slot_ < layout.shared_regions().size()) {
    return fail(ErrorKind::kLimit, "{} forks with {} shared regions in one VM of {} memory slots", capacity,
                layout.shared_regions().size(), slots);
  }
  WARMFORK_TRY_ASSIGN(vm_, kvm.create_vm());
  WARMFORK_TRY(enable_tracking(vm_, needs));
  WARMFORK_TRY_ASSIGN(tables_, Mapping::anonymous(capacity * tables_stride_));
  WARMFORK_TRY(AddressSpace::attach_read_only(vm_, layout, snapshot_->image(), snapshot_->code_region().bytes));
  // Writable on purpose: nested paging treats the processor's own table walks as writes. No guest address leads here.
  WARMFORK_TRY(vm_.set_memory(kTablesSlot, 0, kTablesGpa.value, tables_.bytes()));
  // Shadow paging keeps a shadow of every table; KVM's default is 2 % of the slots' pages, and past it the oldest go.
  // The code region's, one for each of its 2 MiB pages, are everybody's.
  std::uint64_t large = 0;  // 2 MiB pages of shared regions; every fork may have memory of its own there
  for (const GuestLayout::SharedRegion& region : layout.shared_regions()) {
    large += region.range.size / x86::kLargePageSize;
  }
  const std::uint64_t shadows =
      capacity * (tables_stride_ / kPage + 4 + large) + layout.code().size / x86::kLargePageSize + 1024;
  return vm_.set_mmu_pages(shadows);
}

Result<GuestCpu*> SpaceForks::make_cpu() {
  WARMFORK_TRY_ASSIGN(
      auto cpu, GuestCpu::create(vm_, snapshot_->cpu_model(), snapshot_->program()->name,
                                 static_cast<unsigned>(cpus_.size()), tracking_needs(mode_, *snapshot_).ring_entries));
  WARMFORK_TRY(cpu->remember(capture_));
  cpus_.push_back(std::move(cpu));
  return cpus_.back().get();
}

Result<std::size_t> SpaceForks::take_home() {
  const std::scoped_lock lock(mutex_);
  if (!free_.empty()) {
    const std::size_t index = free_.back();
    free_.pop_back();
    return index;
  }
  if (used_ < capacity_) return used_++;
  return fail(ErrorKind::kLimit, "all {} forks of this VM are in use", capacity_);
}

Result<std::unique_ptr<Fork>> SpaceForks::make_one(const SharedBindings& shared) {
  const trace::Span span(kFork);
  const GuestLayout& layout = *snapshot_->layout();
  WARMFORK_TRY(check_bindings(layout, shared));
  WARMFORK_TRY_ASSIGN(const std::size_t index, take_home());
  auto bound = bind_regions(shared);
  if (!bound) {
    leave(index, {});
    return Failure(std::move(bound).error());
  }
  const bool large = layout.heap().size >= 2 * x86::kLargePageSize;
  const std::span<std::byte> tables = tables_.bytes().subspan(index * tables_stride_, tables_stride_);
  std::unique_ptr<Fork> fork(new Fork(snapshot_, options_, shared));
  Fork::Home home{.tables = tables,
                  .window_gpa = kWindowGpa + index * window_stride_ + (large ? layout.window_skew() : 0),
                  .tables_gpa = kTablesGpa + index * tables_stride_,
                  .window_slot = kWindowSlot + static_cast<std::uint32_t>(index),
                  .shared = *bound,
                  .vm = &vm_,
                  .leave = {}};
  home.leave = [this, index, used = *bound] { leave(index, used); };
  if (auto settled = fork->settle(std::move(home), population_, mode_); !settled) {
    fork.reset();
    leave(index, *bound);
    return Failure(std::move(settled).error());
  }
  return fork;
}

// The home is used again: its slot goes, and with it every translation KVM has of the window and of these tables. Those
// are zero by then, for the next fork to build its own, which may lead to other shared memory.
void SpaceForks::leave(std::size_t index, const std::vector<BoundRegion>& shared) {
  const std::span<std::byte> tables = tables_.bytes().subspan(index * tables_stride_, tables_stride_);
  std::ranges::fill(tables, std::byte{0});
  const Status gone = vm_.set_memory(kWindowSlot + static_cast<std::uint32_t>(index), 0, 0, {});
  const std::scoped_lock lock(mutex_);
  unbind_regions(shared);
  if (gone) free_.push_back(index);  // else KVM may still know the old tables: nobody gets this home any more
}

Result<std::vector<BoundRegion>> SpaceForks::bind_regions(const SharedBindings& shared) {
  std::vector<BoundRegion> bound = place_bindings(*snapshot_->layout(), shared);
  const std::scoped_lock lock(mutex_);
  for (std::size_t i = 0; i < bound.size(); ++i) {
    if (bound[i].memory == nullptr) continue;
    const bool writable = snapshot_->layout()->shared_regions()[i].access == SharedAccess::kReadWrite;
    const auto gpa = bind_memory(bound[i].memory, writable);
    if (!gpa) {
      bound.resize(i);
      unbind_regions(bound);
      return Failure(gpa.error());
    }
    bound[i].gpa = *gpa;
  }
  return bound;
}

// With the lock held. Memory is looked for by address and not by size, and placed in the first gap: there are hundreds
// of them at most, and forks with other memory than their neighbours are not made in a hurry.
Result<Gpa> SpaceForks::bind_memory(const std::shared_ptr<SharedMemory>& memory, bool writable) {
  for (auto& [gpa, slot] : shared_) {
    if (slot.memory != memory || slot.writable != writable) continue;
    ++slot.users;
    return Gpa{gpa};
  }
  constexpr std::uint64_t kUnit = x86::kLargePageSize;
  std::uint64_t at = shared_begin_;
  for (const auto& [gpa, slot] : shared_) {
    if (gpa - at >= memory->size()) break;
    at = (gpa + slot.memory->size() + kUnit - 1) / kUnit * kUnit;
  }
  if (at > shared_end_ || shared_end_ - at < memory->size()) {
    return fail(ErrorKind::kLimit, "{} bytes of shared memory at {:#x} in one VM, its address space ends at {:#x}",
                memory->size(), at, shared_end_);
  }
  if (free_slots_.empty() && next_slot_ == slots_end_) {
    return fail(ErrorKind::kLimit, "{} shared memories in one VM of {} forks, it has no more memory slots",
                shared_.size(), capacity_);
  }
  const std::uint32_t slot = free_slots_.empty() ? next_slot_ : free_slots_.back();
  WARMFORK_TRY(vm_.set_memory(slot, writable ? 0 : KVM_MEM_READONLY, at, memory->bytes()));
  if (free_slots_.empty()) {
    ++next_slot_;
  } else {
    free_slots_.pop_back();
  }
  shared_[at] = {.memory = memory, .writable = writable, .slot = slot, .users = 1};
  return Gpa{at};
}

// With the lock held.
void SpaceForks::unbind_regions(const std::vector<BoundRegion>& shared) {
  for (const BoundRegion& bound : shared) {
    if (bound.memory == nullptr) continue;
    const auto found = shared_.find(bound.gpa.value);
    if (--found->second.users != 0) continue;
    // What KVM keeps stays ours, place and memory: it must not become another's.
    if (!vm_.set_memory(found->second.slot, 0, 0, {})) continue;
    free_slots_.push_back(found->second.slot);
    shared_.erase(found);
  }
}

}  // namespace warmfork
