// Snapshots as files, for other processes and later days. The format: snapshot_format.hpp.
//
// A file that is damaged, cut off, foreign, of another version or from a processor with more features is refused with
// one sentence. A file is never mapped: its pages are copied into a sealed memfd, so whatever becomes of the file later
// (truncated, overwritten, on a disk that fails) cannot reach the process that has loaded it.
//
// Of a code region a file holds the size: what is loaded has an empty one of its own at the same addresses.
//
// Threads: any.
#pragma once

#include "base/result.hpp"
#include "fork/checksum.hpp"
#include "fork/snapshot.hpp"
#include "kvm/kvm.hpp"
#include "x86/cpuid.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace warmfork {

/// Writes `snapshot` to `path`, which holds the old file or all of the new one at any time. The file is for its owner
/// only: it holds all of a guest's memory. The same snapshot gives the same bytes. Errors: kUsage (`path` is no regular
/// file), kHost, kInput (state that could not be loaded again).
[[nodiscard]] Status save_snapshot(const Snapshot& snapshot, const std::string& path);

struct LoadOptions {
  std::shared_ptr<const Snapshot> base;  // of a layer
  std::vector<std::string> base_files;   // where to look for bases, and theirs, in any order
  bool verify = true;                    // checksums of image and window too; those of all else are always compared
  std::uint64_t memory_limit = std::uint64_t{64} << 30;  // bytes of a guest
};

/// Loads a snapshot for forks on this processor. Errors: kInput (the file), kUnsupported (another version; a processor
/// without features the program may have found; guests that cannot use XRSTOR), kLimit, kHost.
[[nodiscard]] Result<std::shared_ptr<const Snapshot>> load_snapshot(const kvm::Kvm& kvm, const std::string& path,
                                                                    const LoadOptions& options = {});
/// The same for guests that are shown `cpu` and can execute `offered`.
[[nodiscard]] Result<std::shared_ptr<const Snapshot>> load_snapshot(const x86::CpuModel& cpu,
                                                                    const x86::UserFeatures& offered,
                                                                    const std::string& path,
                                                                    const LoadOptions& options = {});

/// The id `snapshot` has as a file; a layer's file names its base by it. Reads all of it, unless it came from a file.
[[nodiscard]] Result<Checksum> snapshot_id(const Snapshot& snapshot);

/// What a file says about itself, for people. All checksums are compared.
struct SnapshotInfo {
  std::uint32_t format_version = 0;
  std::uint32_t abi_version = 0;
  Checksum id;
  Checksum base;  // empty(): of a master
  std::uint64_t file_bytes = 0;
  std::uint64_t stored_bytes = 0;  // of the window
  std::uint64_t heap_break = 0;
  std::uint64_t heap_mappings = 0;
  std::uint64_t protected_ranges = 0;
  std::vector<std::string> features;
  // Of a master:
  std::string program;
  std::uint64_t image_bytes = 0;
  std::uint64_t window_bytes = 0;
  std::uint64_t heap_bytes = 0;
  std::uint64_t code_bytes = 0;                  // of the code region, which is empty in what is loaded
  std::vector<SharedRegionSpec> shared_regions;  // nothing is behind them in what is loaded
  std::uint64_t segments = 0;
  std::uint64_t symbols = 0;
  std::vector<std::pair<std::string, std::uint64_t>> vmcalls;  // printable names, addresses
};
[[nodiscard]] Result<SnapshotInfo> inspect_snapshot(const std::string& path);

}  // namespace warmfork
