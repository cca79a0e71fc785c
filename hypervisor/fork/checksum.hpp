// Checksums of snapshot files: XXH3, 128 bits. They tell accidents (a torn copy, a bad disk, another file of the same
// name) from the file that was written. They are no signature: whoever can write the file can write its checksums, so
// nothing relies on them for safety.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace warmfork {

struct Checksum {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  [[nodiscard]] bool empty() const { return low == 0 && high == 0; }
  friend bool operator==(const Checksum&, const Checksum&) = default;
};

/// 32 hexadecimal digits.
[[nodiscard]] std::string to_text(const Checksum& checksum);

[[nodiscard]] Checksum checksum_of(std::span<const std::byte> bytes);

/// The same of bytes that come in parts.
class Checksummer {
 public:
  Checksummer();
  void add(std::span<const std::byte> bytes);
  [[nodiscard]] Checksum result() const;

 private:
  struct State;
  struct Free {
    void operator()(State* state) const;
  };
  std::unique_ptr<State, Free> state_;
};

}  // namespace warmfork
