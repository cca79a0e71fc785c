#include "machine/guest_io.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace warmfork {

ssize_t HostStdio::write(int fd, std::span<const std::byte> bytes) {
  const ssize_t done = ::write(fd, bytes.data(), bytes.size());
  return done < 0 ? -errno : done;
}

ssize_t HostStdio::read(std::span<std::byte> bytes) {
  const ssize_t done = ::read(STDIN_FILENO, bytes.data(), bytes.size());
  return done < 0 ? -errno : done;
}

bool HostStdio::is_terminal(int fd) const { return ::isatty(fd) == 1; }

ssize_t BufferIo::write(int fd, std::span<const std::byte> bytes) {
  std::string& target = fd == STDERR_FILENO ? error_ : output_;
  if (bytes.size() > limit_ - std::min(limit_, target.size())) return -ENOSPC;
  target.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return static_cast<ssize_t>(bytes.size());
}

ssize_t BufferIo::read(std::span<std::byte> bytes) {
  const std::size_t count = std::min(bytes.size(), input_.size() - consumed_);
  std::memcpy(bytes.data(), input_.data() + consumed_, count);
  consumed_ += count;
  return static_cast<ssize_t>(count);
}

}  // namespace warmfork
