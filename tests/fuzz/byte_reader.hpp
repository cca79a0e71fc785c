// A fuzz input, byte by byte; zeros when it is used up, as an input is never too short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace warmfork::fuzz {

class ByteReader {
 public:
  ByteReader(const std::uint8_t* data, std::size_t size) : input_(data, size) {}
  [[nodiscard]] bool empty() const { return input_.empty(); }
  std::uint64_t operator()() {
    if (input_.empty()) return 0;
    const std::uint8_t value = input_.front();
    input_ = input_.subspan(1);
    return value;
  }

 private:
  std::span<const std::uint8_t> input_;
};

}  // namespace warmfork::fuzz
