// A warm guest, frozen: everything a fork starts from and a reset goes back to. Immutable.
//
//   image    shared by all forks, read-only to every guest
//   window   the writable memory, in a sealed memfd: forks map it privately or copy it
//   state    extended processor state, heap book, FS and GS base, page protections, the stack of vmcalls
//
// A snapshot of a fork is a layer: it holds the pages that differ from its base and refers to the base for the rest.
//
// Threads: any, once taken.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "kvm/kvm.hpp"
#include "machine/address_space.hpp"
#include "machine/guest_layout.hpp"
#include "machine/linux/process.hpp"
#include "machine/machine.hpp"
#include "machine/program.hpp"
#include "memory/page_set.hpp"
#include "x86/cpuid.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace warmfork {

class Fork;

class Snapshot {
 public:
  /// Freezes a master that waits for vmcalls. The master may go on afterwards; it and the snapshot share nothing that
  /// changes. Errors: kUsage (not ready), kUnsupported (guests here cannot use XRSTOR, by which a fork's first call
  /// begins), kHost.
  [[nodiscard]] static Result<std::shared_ptr<const Snapshot>> take(const kvm::Kvm& kvm, Machine& master);
  /// Freezes a fork between two calls, as a layer over the snapshot it was made from.
  [[nodiscard]] static Result<std::shared_ptr<const Snapshot>> take(const kvm::Kvm& kvm, Fork& fork);

  [[nodiscard]] const std::shared_ptr<const GuestProgram>& program() const { return program_; }
  [[nodiscard]] const std::shared_ptr<const GuestLayout>& layout() const { return layout_; }
  [[nodiscard]] const x86::CpuModel& cpu_model() const { return cpu_model_; }
  [[nodiscard]] const linux_abi::Process::Book& book() const { return book_; }
  [[nodiscard]] std::span<const AddressSpace::Override> overrides() const { return overrides_; }
  [[nodiscard]] std::uint64_t call_stack() const { return call_stack_; }

  /// The image's bytes. Writable only for KVM's sake, whose slot is read-only; nobody writes them.
  [[nodiscard]] std::span<std::byte> image() const { return image_->bytes(); }
  /// The window as it was frozen, fork page included.
  [[nodiscard]] std::span<const std::byte> window() const { return view_.bytes(); }
  /// The window of the lowest layer, for private mappings; pages of delta() have to be copied over it.
  [[nodiscard]] int window_fd() const { return base_ ? base_->window_fd() : window_fd_.get(); }
  /// Pages that are not zero; in a layer also those that differ from the base.
  [[nodiscard]] const PageSet& nonzero() const { return nonzero_; }
  /// The pages this layer and those below it (but the lowest) hold themselves. Empty in a snapshot of a master.
  [[nodiscard]] const PageSet& delta() const { return delta_; }
  [[nodiscard]] const std::shared_ptr<const Snapshot>& base() const { return base_; }

  /// Bytes this snapshot itself holds of the window: its nonzero pages, or for a layer those that differ.
  [[nodiscard]] std::uint64_t stored_bytes() const { return (base_ ? own_pages_ : nonzero_.count()) * kPage; }

 private:
  Snapshot() = default;
  [[nodiscard]] static Result<std::shared_ptr<Snapshot>> begin(const kvm::Kvm& kvm, Guest& guest,
                                                               const x86::CpuModel& cpu);
  [[nodiscard]] Status freeze_window(std::span<const std::byte> window);
  [[nodiscard]] Status store_state(const kvm::Kvm& kvm, kvm::VcpuFd& vcpu, std::span<std::byte> window) const;

  std::shared_ptr<const GuestProgram> program_;
  std::shared_ptr<const GuestLayout> layout_;
  std::shared_ptr<const Mapping> image_;
  std::shared_ptr<const Snapshot> base_;
  x86::CpuModel cpu_model_;
  linux_abi::Process::Book book_{.heap = linux_abi::Heap({}), .fs_base = 0, .gs_base = 0, .random_bytes = {}};
  std::vector<AddressSpace::Override> overrides_;
  std::uint64_t call_stack_ = 0;
  UniqueFd window_fd_;
  Mapping view_;
  PageSet nonzero_;
  PageSet delta_;
  std::size_t own_pages_ = 0;
};

}  // namespace warmfork
