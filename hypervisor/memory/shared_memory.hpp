// Memory that several guests and the host share: whole pages of a file in memory, mapped into this process for as long
// as anybody holds it. What guests may do with it is decided where it is bound (machine/shared_region.hpp).
//
// Whoever shortens a mapped file kills the process that touches what is gone (SIGBUS), and for a guest there KVM_RUN
// fails. So nothing that could be shortened by somebody who could not kill this process anyway is taken:
//
//   made here              a memfd, sealed: it keeps its size for life
//   another's memfd        sealed against shrinking before its size is looked at, or sealed already; one that cannot be
//                          sealed any more is refused, as everybody may write it
//   another's file         must belong to this user or to root and be writable by nobody else; all of its pages are
//                          made present at once, so that no hole is left that a full file system could not fill. That
//                          its owner, or one who got a descriptor from him, does not shorten it is on his word
//
// Threads: any. What the bytes mean, and who writes which when, is for those who share them; guests write whenever they
// like, so the host copies what it reads (copy_once) or reads it by atomic accesses, each word once.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace warmfork {

/// The most one shared memory may have.
inline constexpr std::uint64_t kMaxSharedBytes = std::uint64_t{1} << 30;

class SharedMemory {
 public:
  struct AttachOptions {
    bool writable = true;   // false: the host maps it for reading, and no guest can be let write it
    bool populate = false;  // all pages present at once; always so for a file that is not sealed
  };

  /// New zeroed memory of `bytes` bytes. `populate` makes all pages present at once, else they appear when they are
  /// first touched. Errors: kUsage (no whole pages, none), kLimit (more than kMaxSharedBytes), kHost.
  [[nodiscard]] static Result<std::shared_ptr<SharedMemory>> create(std::uint64_t bytes, bool populate = false);
  /// Memory that another process has made: `fd` is its descriptor, the file must have exactly `bytes` bytes. Errors: as
  /// create(), and kInput (another size, not a file as above, a descriptor not open for what is wanted).
  [[nodiscard]] static Result<std::shared_ptr<SharedMemory>> attach(UniqueFd fd, std::uint64_t bytes,
                                                                    AttachOptions options);
  /// The same by name ("/dev/shm/feed"); a link in the last place is not followed.
  [[nodiscard]] static Result<std::shared_ptr<SharedMemory>> attach(const std::string& path, std::uint64_t bytes,
                                                                    AttachOptions options);

  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// All of it, as this process sees it. If it is not writable(), writing there ends the process.
  [[nodiscard]] std::span<std::byte> bytes() const { return mapping_.bytes(); }
  [[nodiscard]] std::uint64_t size() const { return mapping_.size(); }
  [[nodiscard]] bool writable() const { return writable_; }
  /// Sealed against shrinking: nobody can take pages away any more.
  [[nodiscard]] bool sealed() const { return sealed_; }
  /// The file, to be handed to another process; stays this object's.
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  SharedMemory(UniqueFd fd, Mapping mapping, bool writable, bool sealed)
      : fd_(std::move(fd)), mapping_(std::move(mapping)), writable_(writable), sealed_(sealed) {}
  [[nodiscard]] static Result<std::shared_ptr<SharedMemory>> map(UniqueFd fd, std::uint64_t bytes, bool writable,
                                                                 bool sealed, bool populate);

  UniqueFd fd_;
  Mapping mapping_;
  bool writable_;
  bool sealed_;
};

}  // namespace warmfork
