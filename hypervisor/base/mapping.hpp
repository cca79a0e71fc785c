// Owns one mmap'ed range of host memory. Move-only; unmapped on destruction.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace warmfork {

/// Makes whole pages present and writable at once, which is cheaper than one fault each. A hint: a kernel without
/// MADV_POPULATE_WRITE (before 5.14) leaves it to the faults.
void populate_pages(std::span<std::byte> pages);

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  /// Private zeroed memory, `alignment` (a power of two, at least a page) aligned; pages appear when first touched.
  [[nodiscard]] static Result<Mapping> anonymous(std::size_t size, std::size_t alignment = 4096);
  /// Private (copy-on-write) mapping of `size` bytes of `fd` from its start; `skew` bytes (whole pages) of unused
  /// address space come before it, and begin at a multiple of `alignment`.
  [[nodiscard]] static Result<Mapping> private_file(int fd, std::size_t size, std::size_t skew = 0,
                                                    std::size_t alignment = 4096);
  /// Shared mapping for reading only.
  [[nodiscard]] static Result<Mapping> shared_read_only(int fd, std::size_t size);
  /// Shared mapping of `size` bytes of `fd` from `offset`, for reading and writing.
  [[nodiscard]] static Result<Mapping> shared(int fd, std::size_t size, std::int64_t offset = 0);

  /// Takes the right to write away from the whole mapping.
  [[nodiscard]] Status make_read_only() const;

  /// Makes all pages present and writable at once.
  void populate() const { populate_pages(bytes()); }

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  Mapping(std::byte* data, std::size_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace warmfork
