// Follows calls and returns through trace records, for `next` and `finish`: a shadow stack of return addresses that
// begins empty in the routine where tracking begins. Plain values; copies are snapshots.
//
// A call is JSR, JSRR, a TRAP that went through the vector table, an exception or an interrupt. A return is RTI, any
// JMP to the return address of a frame (which also leaves the frames above it: long jumps), or RET to anywhere else,
// which routines do that skip data behind the call.
#pragma once

#include "lc3/asm/program.hpp"
#include "warmfork/lc3/state.hpp"

#include <cstdint>
#include <vector>

namespace warmfork::lc3 {

class CallTracker {
 public:
  enum class Goal : std::uint8_t {
    kNext,    // one instruction of the routine where tracking began, with all that it calls
    kFinish,  // the return from that routine
  };
  CallTracker(Goal goal, bool second_edition) : goal_(goal), second_edition_(second_edition) {}

  /// Takes one instruction into account; `previous_pc` is the PC before it. True when the goal is reached.
  bool feed(const TraceRecord& record, std::uint16_t previous_pc);

  [[nodiscard]] std::size_t depth() const { return frames_.size(); }

 private:
  struct Frame {
    std::uint16_t return_address;
    bool supervisor;  // left by RTI
    bool interrupt;   // entered between instructions
  };
  void push(std::uint16_t return_address, bool supervisor, bool interrupt);
  void pop_to(std::size_t size);
  void jump(std::uint16_t target, bool is_ret);
  void return_from_supervisor();

  Goal goal_;
  bool second_edition_;  // trap routines return by RET, not by RTI
  std::vector<Frame> frames_;
  bool left_ = false;      // the routine where tracking began has returned
  bool progress_ = false;  // an instruction of it is complete
};

}  // namespace warmfork::lc3
