// The file in which a host and somebody else's guest meet, in the layout of QEMU's ivshmem-plain: who makes it, who may
// use it, and who removes it.
//
//   made       by whoever is first, so that either side may start first; for its owner only
//   refused    another size than whole pages, something that is no file, others' data: nothing is written over that
//              is not zero or of this protocol
//   used       by one host and one guest at a time: each holds a lock on the page that it writes. Locks do not reach
//              into other machines, so a second guest in there is told apart by what it does only
//   removed    if warmfork has made it (the file's sticky bit says so, which a guest cannot change), by the last that
//              has it open. What QEMU has made, or still has open, stays: who comes later could not meet it elsewhere
//
// Threads: one.
#pragma once

#include "base/result.hpp"
#include "memory/shared_memory.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace warmfork::ivshmem {

class MeetingFile {
 public:
  enum class Side : std::uint8_t { kHost, kGuest };
  enum class Left : std::uint8_t {
    kRemoved,
    kInUse,  // it would have been removed, but somebody else has it open
    kKept,   // somebody else has made it
  };

  /// Opens `path`, or makes it with `bytes` bytes if they are enough for a frame of `frame_bytes`. A file that is there
  /// keeps its size. Errors: kUsage (too few bytes), kInput (not a file for this, or used by another one on that side),
  /// kHost.
  [[nodiscard]] static Result<MeetingFile> open(const std::string& path, Side side, std::uint64_t bytes,
                                                std::uint64_t frame_bytes);

  MeetingFile(MeetingFile&&) = default;
  MeetingFile& operator=(MeetingFile&&) = delete;
  MeetingFile(const MeetingFile&) = delete;
  MeetingFile& operator=(const MeetingFile&) = delete;
  ~MeetingFile() { (void)leave(); }

  [[nodiscard]] const std::shared_ptr<SharedMemory>& memory() const { return memory_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  /// Removes the file or leaves it, as above; once. The memory stays mapped.
  Left leave();

 private:
  MeetingFile(std::string path, std::shared_ptr<SharedMemory> memory)
      : path_(std::move(path)), memory_(std::move(memory)) {}

  std::string path_;
  std::shared_ptr<SharedMemory> memory_;  // nullptr: moved from
  bool left_ = false;
};

}  // namespace warmfork::ivshmem
