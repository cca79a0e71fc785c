#include "fork/space_forks.hpp"

#include "fork/vm_forks.hpp"

#include <algorithm>
#include <bit>

namespace warmfork {

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
  const bool large = layout.heap().size >= 2 * x86::kLargePageSize;
  const std::uint64_t unit = large ? x86::kLargePageSize : kPage;
  window_stride_ = (layout.window_skew() + layout.window_bytes() + unit - 1) / unit * unit;
  if (!large) window_stride_ = layout.window_bytes();

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
  WARMFORK_TRY_ASSIGN(vm_, kvm.create_vm());
  WARMFORK_TRY(enable_tracking(vm_, needs));
  WARMFORK_TRY_ASSIGN(tables_, Mapping::anonymous(capacity * tables_stride_));
  WARMFORK_TRY(AddressSpace::attach_read_only(vm_, layout, snapshot_->image(), snapshot_->code_region().bytes));
  // Writable on purpose: nested paging treats the processor's own table walks as writes. No guest address leads here.
  WARMFORK_TRY(vm_.set_memory(kTablesSlot, 0, kTablesGpa.value, tables_.bytes()));
  // Shadow paging keeps a shadow of every table; KVM's default is 2 % of the slots' pages, and past it the oldest go.
  // The code region's, one for each of its 2 MiB pages, are everybody's.
  const std::uint64_t shadows =
      capacity * (tables_stride_ / kPage + 4) + layout.code().size / x86::kLargePageSize + 1024;
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

Result<std::unique_ptr<Fork>> SpaceForks::make() {
  std::size_t index = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else if (used_ < capacity_) {
      index = used_++;
    } else {
      return fail(ErrorKind::kLimit, "all {} forks of this VM are in use", capacity_);
    }
  }
  const GuestLayout& layout = *snapshot_->layout();
  const bool large = layout.heap().size >= 2 * x86::kLargePageSize;
  const std::span<std::byte> tables = tables_.bytes().subspan(index * tables_stride_, tables_stride_);
  std::unique_ptr<Fork> fork(new Fork(snapshot_, options_));
  Fork::Home home{.tables = tables,
                  .window_gpa = kWindowGpa + index * window_stride_ + (large ? layout.window_skew() : 0),
                  .tables_gpa = kTablesGpa + index * tables_stride_,
                  .window_slot = kWindowSlot + static_cast<std::uint32_t>(index),
                  .vm = &vm_,
                  .leave = {}};
  home.leave = [this, index] { leave(index); };
  if (auto settled = fork->settle(std::move(home), population_, mode_); !settled) {
    fork.reset();
    leave(index);
    return Failure(std::move(settled).error());
  }
  return fork;
}

// The home is used again: its slot goes, and with it every translation KVM has of the window; the tables must be zero
// for the next fork to build its own, which will be the same, as all lie where they lay before.
void SpaceForks::leave(std::size_t index) {
  (void)vm_.set_memory(kWindowSlot + static_cast<std::uint32_t>(index), 0, 0, {});
  const std::span<std::byte> tables = tables_.bytes().subspan(index * tables_stride_, tables_stride_);
  std::ranges::fill(tables, std::byte{0});
  const std::scoped_lock lock(mutex_);
  free_.push_back(index);
}

}  // namespace warmfork
