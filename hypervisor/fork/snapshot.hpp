// A warm guest, frozen: everything a fork starts from and a reset goes back to. Immutable.
//
//   image    shared by all forks, read-only to every guest; so is the code region, but that is not frozen: the host may
//            write it at any time, and master, snapshots and forks have the same one
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
#include "fork/checksum.hpp"
#include "kvm/kvm.hpp"
#include "machine/address_space.hpp"
#include "machine/code_region.hpp"
#include "machine/guest_layout.hpp"
#include "machine/linux/process.hpp"
#include "machine/machine.hpp"
#include "machine/program.hpp"
#include "memory/page_set.hpp"
#include "x86/cpuid.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace warmfork {

class Fork;
class Snapshot;

/// What a snapshot consists of.
struct SnapshotParts {
  std::shared_ptr<const GuestProgram> program;
  std::shared_ptr<const GuestLayout> layout;
  std::shared_ptr<const Mapping> image;
  CodeRegion code;
  std::shared_ptr<const Snapshot> base;  // of a layer
  x86::CpuModel cpu_model;               // what forks get
  x86::UserFeatures features;            // what the program may have found so far
  linux_abi::Process::Book book{.heap = linux_abi::Heap({}), .fs_base = 0, .gs_base = 0, .random_bytes = {}};
  std::vector<AddressSpace::Override> overrides;
  std::uint64_t call_stack = 0;
  UniqueFd window_fd;  // sealed (fork/frozen_window.hpp); none in a layer
  Mapping view;        // the whole window, read-only
  PageSet own;         // pages that are not zero; in a layer: that differ from the base. With the fork page
  std::optional<Checksum> file_id;  // of the file it was read from
};

class Snapshot {
 public:
  /// Freezes a master that waits for vmcalls. The master may go on afterwards; it and the snapshot share nothing that
  /// changes. Errors: kUsage (not ready), kUnsupported (guests here cannot use XRSTOR, by which a fork's first call
  /// begins), kHost.
  [[nodiscard]] static Result<std::shared_ptr<const Snapshot>> take(const kvm::Kvm& kvm, Machine& master);
  /// Freezes a fork between two calls, as a layer over the snapshot it was made from.
  [[nodiscard]] static Result<std::shared_ptr<const Snapshot>> take(const kvm::Kvm& kvm, Fork& fork);

  /// Puts a snapshot together whose parts the caller vouches for; only their sizes are checked (kUsage). For a layer
  /// image, code region, program, layout and CPU model are the base's.
  [[nodiscard]] static Result<std::shared_ptr<const Snapshot>> assemble(SnapshotParts parts);

  [[nodiscard]] const std::shared_ptr<const GuestProgram>& program() const { return parts_.program; }
  [[nodiscard]] const std::shared_ptr<const GuestLayout>& layout() const { return parts_.layout; }
  [[nodiscard]] const x86::CpuModel& cpu_model() const { return parts_.cpu_model; }
  [[nodiscard]] const x86::UserFeatures& features() const { return parts_.features; }
  [[nodiscard]] const linux_abi::Process::Book& book() const { return parts_.book; }
  [[nodiscard]] std::span<const AddressSpace::Override> overrides() const { return parts_.overrides; }
  [[nodiscard]] std::uint64_t call_stack() const { return parts_.call_stack; }
  [[nodiscard]] const std::optional<Checksum>& file_id() const { return parts_.file_id; }

  /// The image's bytes. Writable only for KVM's sake, whose slot is read-only; nobody writes them.
  [[nodiscard]] std::span<std::byte> image() const { return parts_.image->bytes(); }
  [[nodiscard]] const std::shared_ptr<const Mapping>& shared_image() const { return parts_.image; }
  /// The master's code region, for the host to write although the snapshot is const; of a snapshot from a file, one of
  /// its own, which begins empty (zero): what the guests' memory refers to there has to be written again.
  [[nodiscard]] const CodeRegion& code_region() const { return parts_.code; }
  /// The window as it was frozen, fork page included.
  [[nodiscard]] std::span<const std::byte> window() const { return parts_.view.bytes(); }
  /// The window of the lowest layer, for private mappings; pages of delta() have to be copied over it.
  [[nodiscard]] int window_fd() const { return parts_.base ? parts_.base->window_fd() : parts_.window_fd.get(); }
  /// Pages that are not zero; in a layer also those that differ from the base.
  [[nodiscard]] const PageSet& nonzero() const { return nonzero_; }
  /// The pages this layer and those below it (but the lowest) hold themselves. Empty in a snapshot of a master.
  [[nodiscard]] const PageSet& delta() const { return delta_; }
  /// The pages this snapshot itself holds, the fork page among them.
  [[nodiscard]] const PageSet& own() const { return parts_.own; }
  [[nodiscard]] const std::shared_ptr<const Snapshot>& base() const { return parts_.base; }

  /// Bytes this snapshot itself holds of the window: its nonzero pages, or for a layer those that differ.
  [[nodiscard]] std::uint64_t stored_bytes() const { return parts_.own.count() * kPage; }

 private:
  explicit Snapshot(SnapshotParts parts) : parts_(std::move(parts)) {}
  [[nodiscard]] static Result<SnapshotParts> begin(Guest& guest, const x86::CpuModel& cpu);

  SnapshotParts parts_;
  PageSet nonzero_;
  PageSet delta_;
};

/// The window of a new layer over `base`, as it is in the base; writable, private.
[[nodiscard]] Result<Mapping> layer_view(const Snapshot& base);

}  // namespace warmfork
