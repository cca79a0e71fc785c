// What the fork figures are measured on: a warm master with a block of pages a request can dirty, its snapshot, and
// forks of it. The answer of every request shows whether the fork was pristine; a wrong one is an error, not a figure.
//
// Threads: one at a time.
#pragma once

#include "base/result.hpp"
#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"
#include "machine/machine.hpp"

#include <cstdint>
#include <memory>

namespace warmfork::bench {

struct WindowShape {
  std::uint64_t window_bytes = 256 << 10;  // all a fork can write
  std::uint64_t block_pages = 32;          // of them touched, and there to be dirtied
};

class ForkFixture {
 public:
  [[nodiscard]] static Result<ForkFixture> create(const kvm::Kvm& kvm, const WindowShape& shape);

  [[nodiscard]] const std::shared_ptr<const Snapshot>& snapshot() const { return snapshot_; }
  [[nodiscard]] Machine& master() { return *master_; }
  [[nodiscard]] const kvm::Kvm& kvm() const { return *kvm_; }
  [[nodiscard]] Gva function() const { return function_; }
  [[nodiscard]] Result<std::unique_ptr<ForkSource>> source(const ForkOptions& options, std::size_t capacity = 1) const {
    return make_fork_source(*kvm_, snapshot_, options, capacity);
  }
  /// One request of a pristine guest. Errors: what the call says, or an answer that shows an earlier request.
  [[nodiscard]] Status request(Guest& guest, std::uint64_t argument, std::uint64_t dirty_pages) const;

 private:
  ForkFixture() = default;
  const kvm::Kvm* kvm_ = nullptr;
  std::unique_ptr<Machine> master_;
  std::shared_ptr<const Snapshot> snapshot_;
  Gva function_;
};

}  // namespace warmfork::bench
