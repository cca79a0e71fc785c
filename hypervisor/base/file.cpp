#include "base/file.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace warmfork {
namespace {

Failure input_error(const std::string& path, int error) {
  return Failure(Error{ErrorKind::kInput, fmt::format("{}: {}", path, std::strerror(error)), error});
}

}  // namespace

Result<std::vector<std::byte>> read_file(const std::string& path, std::size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return input_error(path, errno);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return input_error(path, errno);
  if (S_ISDIR(status.st_mode)) return input_error(path, EISDIR);
  if (!S_ISREG(status.st_mode)) return fail(ErrorKind::kInput, "{}: not a regular file", path);
  if (static_cast<std::uint64_t>(status.st_size) > limit) {
    return fail(ErrorKind::kInput, "{}: {} bytes, larger than the limit of {}", path, status.st_size, limit);
  }
  std::vector<std::byte> bytes;
  std::size_t size = 0;
  for (;;) {
    if (size == bytes.size()) bytes.resize(size + (size == 0 ? static_cast<std::size_t>(status.st_size) + 1 : 65536));
    const ssize_t got = ::read(fd.get(), bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return input_error(path, errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size > limit) return fail(ErrorKind::kInput, "{}: larger than the limit of {} bytes", path, limit);
  }
  bytes.resize(size);
  return bytes;
}

Status write_all(int fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno("{}", path);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

std::optional<int> printed_into(const std::string& path) {
  struct stat file{};
  if (::stat(path.c_str(), &file) != 0) return std::nullopt;
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat printed{};
    if (::fstat(fd, &printed) == 0 && printed.st_dev == file.st_dev && printed.st_ino == file.st_ino) return fd;
  }
  return std::nullopt;
}

Status write_file(const std::string& path, const void* data, std::size_t size) {
  if (const auto printed = printed_into(path)) {
    if (*printed == STDOUT_FILENO && std::fflush(stdout) != 0) return fail_errno("{}", path);
    return write_all(*printed, {static_cast<const std::byte*>(data), size}, path);
  }
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return fail_errno("{}", path);
  auto written = write_all(fd.get(), {static_cast<const std::byte*>(data), size}, path);
  if (!written) {
    // Half a file is worse than none. Only what is a file of its own: not a device, nor the link that led to one.
    struct stat status{};
    if (::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) ::unlink(path.c_str());
  }
  return written;
}

Status replace_file(const std::string& path, const std::function<Status(int fd)>& write) {
  std::string target = path;
  struct stat status{};
  if (::lstat(path.c_str(), &status) == 0) {
    if (::stat(path.c_str(), &status) != 0) return fail_errno("{}", path);
    if (!S_ISREG(status.st_mode)) return fail(ErrorKind::kUsage, "{}: not a regular file, which it has to be", path);
    if (printed_into(path)) return fail(ErrorKind::kUsage, "{}: what is printed goes there", path);
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
    if (real == nullptr) return fail_errno("{}", path);
    target = real.get();
  }
  std::string temporary = target + ".XXXXXX";
  {
    const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd) return fail_errno("{}: a new file beside it", path);
    const auto fill = [&]() -> Status {
      WARMFORK_TRY(write(fd.get()));
      if (::fsync(fd.get()) != 0) return fail_errno("{}", path);
      if (::rename(temporary.c_str(), target.c_str()) != 0) return fail_errno("{}", path);
      return {};
    };
    if (auto filled = fill(); !filled) {
      ::unlink(temporary.c_str());
      return filled;
    }
  }
  // The new name must last as well. Some file systems cannot be asked for that.
  const std::size_t slash = target.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd && ::fsync(fd.get()) != 0 && errno == EIO) return fail_errno("{}", folder);
  return {};
}

}  // namespace warmfork
