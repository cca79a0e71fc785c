// Optimised code in files, for later runs: LLVM takes milliseconds for what is read in microseconds.
//
// A directory holds one file for each unit, KEY.code. The key is a hash of everything that the code depends on, so an
// entry is never out of date, only useless. What the file says is hostile all the same: it is read once, into memory of
// our own, and refused if it is not what was asked for. Machine code itself cannot be checked; it runs in guests only,
// with their rights (SECURITY.md).
//
// Threads and processes: any, at the same time.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "lc3/jit/ir.hpp"
#include "lc3/jit/machine_code.hpp"
#include "warmfork/lc3/state.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmfork::lc3::jit {

/// SHA-256: what is hashed is chosen by guests, and a guest must not find another program's code under its own key.
using CodeKey = std::array<std::uint8_t, 32>;

/// `compiler`: everything but the unit that code depends on, see code_compiler().
[[nodiscard]] CodeKey key_of(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words,
                             std::string_view compiler);
/// 64 hexadecimal digits.
[[nodiscard]] std::string to_text(const CodeKey& key);

/// A file is this, then the entries (offset and address, four bytes each), then the code. Little-endian, nothing else.
struct CodeFileHeader {
  std::array<char, 8> magic;
  std::uint32_t format;
  std::uint32_t entries;
  CodeKey key;
  std::uint32_t code_bytes;
  std::uint32_t out_of_line;
  std::array<std::uint64_t, 2> checksum;  // XXH3 of all of the file, with zeros here: finds damage, not forgery
};
inline constexpr std::array<char, 8> kCodeFileMagic = {'w', 'f', 'l', 'c', '3', 'j', 'i', 't'};
inline constexpr std::uint32_t kCodeFileFormat = 1;
inline constexpr std::size_t kMaxCodeFile = std::size_t{16} << 20;

/// Makes the checksum right. `file` holds a header at least.
void seal_code_file(std::span<std::byte> file);

/// The file for this code; its marks are left out. Errors (kLimit): larger than kMaxCodeFile.
[[nodiscard]] Result<std::vector<std::byte>> encode_code(const MachineCode& code, const CodeKey& key);
/// What a file holds for this unit. Errors (kInput) say what is wrong with it.
[[nodiscard]] Result<MachineCode> decode_code(std::span<const std::byte> file, const CodeKey& key, const Unit& unit);

struct DiskCounters {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t refused = 0;   // files that were there, but wrong
  std::uint64_t written = 0;   // files
  std::uint64_t failures = 0;  // to write one
  std::uint64_t trimmed = 0;   // files removed because of the limit
};

/// Of all files of compiled code in a directory, in bytes.
inline constexpr std::uint64_t kDefaultCacheLimit = std::uint64_t{256} << 20;

class DiskCache {
 public:
  /// Makes the directory, for its owner only, unless it is there. When what this process keeps makes its files larger
  /// than `limit` bytes together, those that were not used for longest are removed, down to seven eighths of it. Files
  /// of other names, and what is no regular file, are neither counted nor touched. Errors: kUsage (no directory;
  /// somebody else's, or writable by others), kHost.
  [[nodiscard]] static Result<std::shared_ptr<DiskCache>> open(const std::string& directory, std::string compiler,
                                                               std::uint64_t limit = kDefaultCacheLimit);

  /// The code of an earlier run for this unit, which was made of `words`.
  [[nodiscard]] std::optional<MachineCode> find(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words);
  /// Keeps the code for later runs, in place of what is there.
  void keep(const Unit& unit, std::span<const std::uint16_t, kMemoryWords> words, const MachineCode& code);

  [[nodiscard]] DiskCounters counters() const;
  /// What went wrong first, with the file's name: a refusal, or a failure to write. Empty: nothing.
  [[nodiscard]] std::string complaint() const;

 private:
  DiskCache(std::string directory, UniqueFd fd, std::string compiler, std::uint64_t limit)
      : directory_(std::move(directory)), fd_(std::move(fd)), compiler_(std::move(compiler)), limit_(limit) {}
  [[nodiscard]] Result<std::optional<std::vector<std::byte>>> read(const std::string& name) const;
  [[nodiscard]] Status write(const std::string& name, std::span<const std::byte> bytes) const;
  /// Counts `bytes` as written; removes what is too much.
  void make_room(std::uint64_t bytes);
  /// Removes files until no more than `target` bytes are left. Returns how many bytes those are.
  [[nodiscard]] Result<std::uint64_t> trim(std::uint64_t limit, std::uint64_t target, std::uint64_t& removed) const;
  void complain(const std::string& name, const Error& error, std::uint64_t DiskCounters::* counter);

  const std::string directory_;
  const UniqueFd fd_;  // the directory stays the one that was checked, whatever becomes of its name
  const std::string compiler_;
  const std::uint64_t limit_;
  std::mutex trimming_;                // one at a time in this process
  std::optional<std::uint64_t> used_;  // bytes, as far as this process knows; it has not looked yet if empty
  mutable std::mutex mutex_;
  DiskCounters counters_;
  std::string complaint_;
};

}  // namespace warmfork::lc3::jit
