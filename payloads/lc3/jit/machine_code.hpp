// Machine code for a unit, by either compiler: position independent, as warmfork/lc3/code.hpp describes it.
#pragma once

#include <cstdint>
#include <vector>

namespace warmfork::lc3::jit {

struct MachineCode {
  struct Mark {
    std::uint32_t offset;   // from the start of `bytes`
    std::uint16_t address;  // LC-3 address
  };
  std::vector<std::uint8_t> bytes;
  std::uint32_t out_of_line = 0;  // where the blocks end, and what they leave through begins
  std::uint32_t optimised = 0;    // bytes from the start that the optimising compiler has made
  std::uint32_t counters = 0;     // that it uses of Instrumentation::code_counts (counts.hpp)
  std::vector<Mark> entries;      // where blocks begin, by address
  std::vector<Mark> marks;        // which instruction the code from here on belongs to, by offset; only if asked for
};

}  // namespace warmfork::lc3::jit
