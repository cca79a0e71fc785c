// Where a guest's standard input, output and error lead. Descriptors are 0, 1 and 2; there are no others.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace warmfork {

class GuestIo {
 public:
  virtual ~GuestIo() = default;
  /// Writes to descriptor 1 or 2; returns bytes written or -errno. -EINTR: nothing was written, ask again.
  virtual ssize_t write(int fd, std::span<const std::byte> bytes) = 0;
  /// Reads from descriptor 0; returns bytes read, 0 at the end, or -errno. -EINTR as above.
  virtual ssize_t read(std::span<std::byte> bytes) = 0;
  [[nodiscard]] virtual bool is_terminal(int fd) const = 0;
};

/// The host process's own standard descriptors.
class HostStdio final : public GuestIo {
 public:
  ssize_t write(int fd, std::span<const std::byte> bytes) override;
  ssize_t read(std::span<std::byte> bytes) override;
  [[nodiscard]] bool is_terminal(int fd) const override;
};

/// No descriptors at all: reads see the end of input, writes are discarded.
class NullIo final : public GuestIo {
 public:
  ssize_t write(int, std::span<const std::byte> bytes) override { return static_cast<ssize_t>(bytes.size()); }
  ssize_t read(std::span<std::byte>) override { return 0; }
  [[nodiscard]] bool is_terminal(int) const override { return false; }
};

/// Strings in place of descriptors: input is consumed, output is kept up to a limit (then -ENOSPC).
class BufferIo final : public GuestIo {
 public:
  explicit BufferIo(std::string input = {}, std::size_t limit = std::size_t{64} << 20)
      : input_(std::move(input)), limit_(limit) {}
  ssize_t write(int fd, std::span<const std::byte> bytes) override;
  ssize_t read(std::span<std::byte> bytes) override;
  [[nodiscard]] bool is_terminal(int) const override { return false; }

  [[nodiscard]] const std::string& output() const { return output_; }
  [[nodiscard]] const std::string& error_output() const { return error_; }

 private:
  std::string input_;
  std::size_t consumed_ = 0;
  std::string output_;
  std::string error_;
  std::size_t limit_;
};

}  // namespace warmfork
