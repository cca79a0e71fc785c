// Forks that share one KVM VM. Each has page tables and a window of its own at guest-physical addresses no other fork's
// tables lead to; tables and windows are made once per home and keep their place for life, so that KVM's cached
// translations never go stale.
//
//   guest-physical   image | code region | tables 0 | tables 1 | …            | window 0 | window 1 | …
//   slot             0       2             1 (all of them)                      3          4          …
//
// Threads: make() and make_cpu() from one thread at a time; the forks as Fork says. A fork may be destroyed on any
// thread.
#pragma once

#include "fork/fork.hpp"

#include <mutex>
#include <vector>

namespace warmfork {

class SpaceForks final : public ForkSource {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ForkSource>> create(const kvm::Kvm& kvm,
                                                                  std::shared_ptr<const Snapshot> snapshot,
                                                                  const ForkOptions& options, std::size_t capacity);

  [[nodiscard]] Result<std::unique_ptr<Fork>> make() override;
  [[nodiscard]] ForkKind kind() const override { return ForkKind::kSpace; }
  [[nodiscard]] Result<GuestCpu*> make_cpu() override;

 private:
  SpaceForks(std::shared_ptr<const Snapshot> snapshot, const ForkOptions& options)
      : snapshot_(std::move(snapshot)), options_(options) {}
  [[nodiscard]] Status prepare(const kvm::Kvm& kvm, std::size_t capacity);
  void leave(std::size_t index);

  std::shared_ptr<const Snapshot> snapshot_;
  ForkOptions options_;
  CaptureContext capture_;
  kvm::VmFd vm_;
  Mapping tables_;
  std::uint64_t tables_stride_ = 0;
  std::uint64_t window_stride_ = 0;
  std::size_t capacity_ = 0;
  std::vector<std::unique_ptr<GuestCpu>> cpus_;
  std::mutex mutex_;  // of what follows
  std::size_t used_ = 0;
  std::vector<std::size_t> free_;
};

}  // namespace warmfork
