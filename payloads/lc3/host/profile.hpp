// Where samples (machine/sampler.hpp) have found an LC-3 machine: which of its instructions was executed, and by what.
//
//   RIP in compiled code      the instruction that the machine code was made from: exact, but that LLVM moves work
//   between
//                             instructions, and executes both sides of short branches
//   RIP in fast interpreter   from the register that holds its PC: exact to the instruction that is being dispatched
//   RIP elsewhere in guest    the PC of its State, and the guest's function: traps, devices, careful runs
//   RIP in the system stubs   a call that has just been entered: the time is that of exits, not of the guest
//
// Nothing a guest says is believed further than that: a wrong register makes a wrong sample.
//
// Threads: that which runs the machine adds, and reads are ordered behind it by the caller.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>

namespace warmfork::lc3 {

struct ProfilePoint {
  enum class Tier : std::uint8_t {
    kInterpreter,
    kXbyak,
    kLlvm,
    kGuest,  // `function` of the guest program
    kEntry,  // of a call; no address
  };
  Tier tier = Tier::kEntry;
  std::uint16_t pc = 0;
  std::string function;
  auto operator<=>(const ProfilePoint&) const = default;
};
/// "interp", "xbyak", "llvm", "guest", "entry".
[[nodiscard]] const char* name_of(ProfilePoint::Tier tier);

struct Profile {
  std::map<ProfilePoint, std::uint64_t> counts;
  std::uint64_t samples = 0;
  void add(ProfilePoint point) {
    ++counts[std::move(point)];
    ++samples;
  }
};

}  // namespace warmfork::lc3
