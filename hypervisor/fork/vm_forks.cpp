#include "fork/vm_forks.hpp"

#include "trace/trace.hpp"

namespace warmfork {
namespace {

constexpr trace::Kind kFork{"fork", "fork vm"};

// What a fork of this kind has to itself.
struct Shell {
  kvm::VmFd vm;
  Mapping tables;
  std::unique_ptr<GuestCpu> cpu;
};

}  // namespace

Population choose_population(Population population, ResetMode mode, const Snapshot& snapshot) {
  if (population != Population::kAuto) return population;
  if (mode == ResetMode::kCowRemap) return Population::kCow;
  return snapshot.nonzero().count() * kPage <= kCopyLimit ? Population::kCopy : Population::kCow;
}

Status enable_tracking(kvm::VmFd& vm, const TrackingNeeds& needs) {
  if (needs.dirty_log) {
    WARMFORK_TRY(vm.enable_capability(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE));
  }
  if (needs.ring_entries != 0) {
    WARMFORK_TRY(vm.enable_capability(KVM_CAP_DIRTY_LOG_RING, needs.ring_entries * sizeof(kvm_dirty_gfn)));
  }
  return {};
}

Result<std::unique_ptr<ForkSource>> VmForks::create(const kvm::Kvm& kvm, std::shared_ptr<const Snapshot> snapshot,
                                                    const ForkOptions& options) {
  std::unique_ptr<VmForks> source(new VmForks(kvm, std::move(snapshot), options));
  source->population_ = choose_population(options.population, options.reset, *source->snapshot_);
  WARMFORK_TRY_ASSIGN(source->mode_, choose_reset_mode(options.reset, source->population_, *source->snapshot_, kvm));
  WARMFORK_TRY(check_shared_slots(kvm, *source->snapshot_->layout()));
  WARMFORK_TRY_ASSIGN(source->capture_, CaptureContext::create(kvm));
  return std::unique_ptr<ForkSource>(std::move(source));
}

Result<std::unique_ptr<Fork>> VmForks::make_one(const SharedBindings& shared) {
  const trace::Span span(kFork);
  const GuestLayout& layout = *snapshot_->layout();
  WARMFORK_TRY(check_bindings(layout, shared));
  const TrackingNeeds needs = tracking_needs(mode_, *snapshot_);
  const auto shell = std::make_shared<Shell>();
  WARMFORK_TRY_ASSIGN(shell->vm, kvm_.create_vm());
  WARMFORK_TRY(enable_tracking(shell->vm, needs));
  WARMFORK_TRY_ASSIGN(shell->tables, Mapping::anonymous(layout.tables_bytes()));
  std::unique_ptr<Fork> fork(new Fork(snapshot_, options_, shared));
  Fork::Home home{.tables = shell->tables.bytes(),
                  .window_gpa = kWindowGpa + layout.window_skew(),
                  .tables_gpa = kTablesGpa,
                  .window_slot = kWindowSlot,
                  .shared = place_bindings(layout, shared),
                  .vm = &shell->vm,
                  .leave = {}};
  home.leave = [shell] {};  // keeps the shell as long as the fork
  WARMFORK_TRY(fork->settle(std::move(home), population_, mode_));
  WARMFORK_TRY(fork->memory().attach_shared(shell->vm));
  WARMFORK_TRY(fork->memory().attach_shared_regions(shell->vm));
  WARMFORK_TRY_ASSIGN(shell->cpu, GuestCpu::create(shell->vm, snapshot_->cpu_model(), snapshot_->program()->name, 0,
                                                   needs.ring_entries));
  WARMFORK_TRY(shell->cpu->remember(capture_));
  WARMFORK_TRY(fork->bind(*shell->cpu));
  return fork;
}

}  // namespace warmfork
