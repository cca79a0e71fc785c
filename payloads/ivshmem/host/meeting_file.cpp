#include "ivshmem/host/meeting_file.hpp"

#include "base/unique_fd.hpp"
#include "ivshmem/protocol.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

namespace warmfork::ivshmem {
namespace {

// Of a file that warmfork has made. The bit means nothing for files (chmod(2)), and only the host can set it.
constexpr mode_t kMadeMode = S_ISVTX | S_IRUSR | S_IWUSR;
// The byte that is locked by one who looks whether it is the last; behind both pages.
constexpr off_t kLeavingByte = 2 * kPageBytes;

/// An exclusive lock that ends with the last descriptor of this opening (F_OFD_SETLK). False: another one has it.
bool lock(int fd, off_t at, off_t bytes) {
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = at;
  range.l_len = bytes;
  return ::fcntl(fd, F_OFD_SETLK, &range) == 0;
}

Failure bad_file(const std::string& path) {
  const int why = errno;
  return fail(ErrorKind::kInput, "{}: {}", path, std::strerror(why));
}

Result<std::shared_ptr<SharedMemory>> attach(const std::string& path) {
  struct stat status{};
  // Its size is its maker's choice; the other one may just be about to give it one.
  for (int look = 0; look < 100; ++look) {
    if (::stat(path.c_str(), &status) != 0) return bad_file(path);
    if (!S_ISREG(status.st_mode)) return fail(ErrorKind::kInput, "{}: not a regular file", path);
    if (status.st_size != 0) break;
    ::usleep(1000);
  }
  if (status.st_size == 0) return fail(ErrorKind::kInput, "{}: an empty file", path);
  if (static_cast<std::uint64_t>(status.st_size) % kPageBytes != 0) {
    return fail(ErrorKind::kInput, "{}: {} bytes are not whole pages of {}", path, status.st_size, kPageBytes);
  }
  return SharedMemory::attach(path, static_cast<std::uint64_t>(status.st_size), {});
}

}  // namespace

Result<MeetingFile> MeetingFile::open(const std::string& path, Side side, std::uint64_t bytes,
                                      std::uint64_t frame_bytes) {
  // A file that the last of others removes right now is opened and yet gone: then it is made anew.
  for (int attempt = 0; attempt < 10; ++attempt) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0 && bytes < kFrameOffset + frame_bytes) {
      return fail(ErrorKind::kUsage, "shared memory of {} bytes; a frame of {} needs at least {}", bytes, frame_bytes,
                  kFrameOffset + frame_bytes);
    }
    bool is_new = false;
    {
      const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, kMadeMode));
      if (made && ::ftruncate(made.get(), static_cast<off_t>(bytes)) != 0) {
        const Failure failure = fail_errno("{}: {} bytes", path, bytes);
        ::unlink(path.c_str());
        return failure;
      }
      if (!made && errno != EEXIST) return bad_file(path);
      is_new = made.get() >= 0;
    }
    struct statfs system{};
    if (::statfs(path.c_str(), &system) == 0 && system.f_type == SYSFS_MAGIC) {
      return fail(ErrorKind::kInput, "{}: a device's memory; the program of --save-peer is for that", path);
    }
    auto attached = attach(path);
    if (!attached) {
      if (is_new) ::unlink(path.c_str());  // of a size that cannot be used, which who comes next would find
      return Failure(std::move(attached).error());
    }
    std::shared_ptr<SharedMemory> memory = *std::move(attached);
    const int fd = memory->fd();
    if (::fstat(fd, &status) == 0 && status.st_nlink == 0) continue;
    if (memory->size() < kFrameOffset + frame_bytes) {
      return fail(ErrorKind::kInput, "{}: {} bytes; a frame of {} needs at least {}", path, memory->size(), frame_bytes,
                  kFrameOffset + frame_bytes);
    }
    const bool host = side == Side::kHost;
    if (!lock(fd, host ? 0 : static_cast<off_t>(kGuestPageOffset), kPageBytes)) {
      if (errno == EAGAIN || errno == EACCES) {
        return fail(ErrorKind::kInput, "{}: another {} is using it", path, host ? "host" : "guest");
      }
      return fail_errno("{}: locking a page", path);
    }
    // SAFETY: mapped bytes, more than two pages of them.
    if (!is_meeting(reinterpret_cast<const unsigned char*>(memory->bytes().data()))) {
      return fail(ErrorKind::kInput, "{}: holds something else, which is not written over; name a new file", path);
    }
    return MeetingFile(path, std::move(memory));
  }
  return fail(ErrorKind::kHost, "{}: is made and removed by others all the time", path);
}

MeetingFile::Left MeetingFile::leave() {
  if (memory_ == nullptr || std::exchange(left_, true)) return Left::kKept;
  const int fd = memory_->fd();
  struct stat ours{}, named{};
  if (::fstat(fd, &ours) != 0 || (ours.st_mode & S_ISVTX) == 0) return Left::kKept;
  if (::stat(path_.c_str(), &named) != 0 || named.st_ino != ours.st_ino || named.st_dev != ours.st_dev) {
    return Left::kKept;  // its name is another one's by now
  }
  // Of two that leave at once, one looks behind the other, which then has closed the file: one of them is the last.
  for (int look = 0; look < 100 && !lock(fd, kLeavingByte, 1); ++look) ::usleep(2000);
  // A lease for writing is only given to one who has the file open alone (fcntl(2), F_SETLEASE). Somebody who opens it
  // meanwhile waits, and this process gets a signal, which is to be one that does nothing.
  (void)::fcntl(fd, F_SETSIG, SIGURG);
  for (int look = 0; look < 10; ++look) {
    if (::fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
      ::unlink(path_.c_str());
      (void)::fcntl(fd, F_SETLEASE, F_UNLCK);
      return Left::kRemoved;
    }
    ::usleep(1000);
  }
  return Left::kInUse;
}

}  // namespace warmfork::ivshmem
