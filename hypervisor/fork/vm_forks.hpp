// Forks with a KVM VM of their own. Nothing but the image and the snapshot's pages, both read-only to every guest, is
// shared between two of them, but for memory that is bound to shared regions of both. Their slots are the VM's and go
// with it.
//
// Threads: make() from one thread at a time; the forks as Fork says.
#pragma once

#include "fork/fork.hpp"

namespace warmfork {

class VmForks final : public ForkSource {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ForkSource>> create(const kvm::Kvm& kvm,
                                                                  std::shared_ptr<const Snapshot> snapshot,
                                                                  const ForkOptions& options);

  [[nodiscard]] ForkKind kind() const override { return ForkKind::kVm; }
  [[nodiscard]] Result<GuestCpu*> make_cpu() override { return nullptr; }

 private:
  [[nodiscard]] Result<std::unique_ptr<Fork>> make_one(const SharedBindings& shared) override;
  [[nodiscard]] const SharedBindings& own_bindings() const override { return options_.shared; }
  VmForks(const kvm::Kvm& kvm, std::shared_ptr<const Snapshot> snapshot, const ForkOptions& options)
      : kvm_(kvm), snapshot_(std::move(snapshot)), options_(options) {}

  const kvm::Kvm& kvm_;
  CaptureContext capture_;
  std::shared_ptr<const Snapshot> snapshot_;
  ForkOptions options_;
};

/// `population`, with kAuto decided for this snapshot.
[[nodiscard]] Population choose_population(Population population, ResetMode mode, const Snapshot& snapshot);
/// Makes `vm` able to track what guests write, as `needs` says.
[[nodiscard]] Status enable_tracking(kvm::VmFd& vm, const TrackingNeeds& needs);

}  // namespace warmfork
