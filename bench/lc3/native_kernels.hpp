// The benchmark kernels of kernels/*.asm once more, in C++: the same algorithms on 16-bit words, for a comparison with
// native code and as their oracle. Pure functions of the number of rounds; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace warmfork::lc3_bench {

struct NativeKernel {
  std::string_view name;    // of kernels/NAME.asm
  std::string_view source;  // that file
  /// Runs `iterations` rounds (0 counts as 65,536, as in the LC-3's loop) and returns the checksum that the LC-3
  /// program leaves in R0 and at RESULT.
  std::uint16_t (*run)(std::uint16_t iterations);
};

/// alu, mem, branch, call, sort, sieve, crc, matmul, smc.
[[nodiscard]] std::span<const NativeKernel> native_kernels();

}  // namespace warmfork::lc3_bench
