// Runs one case on several engines at once, in slices, and compares all that can be observed after each: registers, PC,
// PSR, saved stack pointers, devices, memory, output, input taken, counters, and how each run ended. When two part,
// finds the instruction after which they do.
//
// Threads: one at a time.
#pragma once

#include "lc3/lockstep/case.hpp"
#include "lc3/lockstep/engine.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace warmfork::lc3 {

struct LockstepDifference {
  std::uint64_t instruction = 0;  // equal after one less, different when this one has been asked for
  std::uint16_t pc = 0;           // before it
  std::string engine;             // that is different from the first
  std::vector<std::string> what;  // one per register, word, … : "R3: careful x0001, xbyak x0002"
  std::string report;             // all of it, with the code around
};

struct LockstepOutcome {
  std::uint64_t instructions = 0;  // executed by each engine
  StopReason stop = StopReason::kNone;
  std::optional<LockstepDifference> difference;
};

class Lockstep {
 public:
  /// At least two engines; the first is what the others are measured against.
  explicit Lockstep(std::vector<std::unique_ptr<LockstepEngine>> engines);

  /// Runs the case until its budget is used, the machine has ended, or a difference.
  [[nodiscard]] LockstepOutcome run(const LockstepCase& one);
  /// The same, without finding where and why: whether there is a difference, and after how many instructions it has
  /// been seen.
  [[nodiscard]] std::optional<std::uint64_t> differs(const LockstepCase& one);

 private:
  struct Position {
    std::uint64_t done = 0, slice = 0;
    std::size_t next_input = 0;
    bool closed = false;
    StopReason stop = StopReason::kNone;
  };
  struct Checkpoint {
    Position position;
    std::vector<std::unique_ptr<State>> machines;  // none: the beginning of the case
  };
  enum class Advance { kEqual, kEnded, kDifferent };

  void begin(const LockstepCase& one, Position& position);
  Advance advance(const LockstepCase& one, Position& position, std::uint64_t limit);
  void feed(const LockstepCase& one, Position& position, bool waiting);
  void save(const Position& position);
  void restore(const LockstepCase& one, Position& position, bool from_begin);
  bool differs_at(const LockstepCase& one, std::uint64_t limit, bool from_begin);
  LockstepDifference locate(const LockstepCase& one, const Position& before, std::uint64_t after);

  std::vector<std::unique_ptr<LockstepEngine>> engines_;
  std::vector<std::unique_ptr<State>> machines_;  // of each engine
  std::size_t different_ = 0;                     // the engine that parted last
  Checkpoint checkpoint_;
};

/// What is observably different between two machines, at most `limit` lines.
[[nodiscard]] std::vector<std::string> differences(const State& a, const State& b, std::string_view a_name,
                                                   std::string_view b_name, std::size_t limit = 32);
/// Whether there is anything: much faster.
[[nodiscard]] bool same(const State& a, const State& b);

[[nodiscard]] std::string_view to_string(StopReason reason);

}  // namespace warmfork::lc3
