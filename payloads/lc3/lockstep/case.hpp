// A program with all that it needs to run the same again: what lockstep runs, generates, shrinks and prints. Plain
// values; any thread.
#pragma once

#include "lc3/asm/program.hpp"
#include "warmfork/lc3/state.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3 {

struct LockstepCase {
  struct Word {
    std::uint16_t address;
    std::uint16_t word;
    bool operator==(const Word&) const = default;
  };
  /// What is typed once `at` instructions have been executed, or earlier, if the machine waits for it.
  struct Input {
    std::uint64_t at;
    std::string text;
    bool operator==(const Input&) const = default;
  };

  std::string name;
  std::uint32_t config = kDefaultConfig;
  std::uint64_t fill = 0;  // memory below the words comes from this seed; 0: it is zero
  std::array<std::uint16_t, 8> registers{0, 0, 0, 0, 0, 0, 0xfe00, 0};
  std::uint16_t pc = kUserBase;
  std::uint16_t psr = kPsrUser | kPsrZ;
  std::uint16_t kbsr = 0;
  std::vector<Word> words;   // below device space; of two at one address the later counts
  std::vector<Input> input;  // in the order of `at`; the input ends with it
  std::uint64_t budget = 10'000;
  std::uint64_t longest_slice = 0;  // runs are cut into slices of random lengths up to this; 0: one slice
  std::uint64_t slice_seed = 0;

  bool operator==(const LockstepCase&) const = default;

  void add(std::uint16_t origin, std::span<const std::uint16_t> some);
};

/// A machine at the beginning of the case. Trap vectors are captured as the words set them.
void prepare(State& state, const LockstepCase& one);

/// The machine's own OS of the case's edition, then the program, which may replace some of it.
[[nodiscard]] LockstepCase case_of(const Program& program, std::uint32_t config);

/// The case as assembler source: words with their addresses, and in comments everything else.
[[nodiscard]] std::string to_source(const LockstepCase& one);

}  // namespace warmfork::lc3
