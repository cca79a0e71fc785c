// What the optimising compiler makes one function of: a graph of copies of blocks.
//
// Optimisers want loops that are entered at one place, and calls that return to one place. Machine code for a whole
// program has neither: it may be entered wherever the interpreter happens to stand, and a RET goes to whoever called.
// So blocks are copied. A *context* says for what: the main copy; the body of a subroutine for one of its calls; or
// what is executed after entering inside of a loop, until the main copy can be entered properly. A copy means nothing
// by itself: whatever it assumes is checked where it is assumed, and only control flow differs.
//
// Budgets are checked at few nodes, so that every cycle has one. Each node knows the longest path to the next check: a
// check demands that the budget covers it, and what lies between only makes up for having taken a shorter path.
//
// Threads: any; everything is a function of its arguments.
#pragma once

#include "lc3/jit/ir.hpp"

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace warmfork::lc3::jit {

/// No node: control leaves the function.
inline constexpr std::uint32_t kLeave = ~std::uint32_t{0};

struct Node {
  const Block* block = nullptr;
  std::uint32_t context = 0;
  std::uint32_t target = kLeave;                               // of kBranch and kCall
  std::uint32_t next = kLeave;                                 // of kFall and kBranch
  std::vector<std::pair<std::uint16_t, std::uint32_t>> known;  // of kJump and kCallTo: where they are known to go
  bool check = false;                                          // the budget is checked here
  std::uint32_t longest = 0;  // instructions to the next check on the longest path, this block included
};

struct Region {
  std::vector<Node> nodes;
  std::vector<std::pair<std::uint16_t, std::uint32_t>> entries;  // by address
};

struct RegionOptions {
  std::uint32_t longest_path = 256;      // between checks; a block may be longer
  std::uint32_t inlined_size = 200;      // instructions of a subroutine that is copied for each call
  std::uint32_t inlined_depth = 6;       // of calls
  std::uint32_t copied_in_all = 6000;    // instructions in copies for calls
  std::uint32_t copied_to_enter = 4000;  // instructions in the copy for entries inside of loops
  // Of all loops together, copies included; those that do not fit are left out. LLVM takes more than twice as long for
  // twice as much.
  std::uint32_t instructions_in_all = 1000;
};

/// With entries: one region of everything reachable from them. Without: one for each loop or recursion that is not part
/// of a larger one, of what is on its cycles only; it is entered at its head, and at those of inner ones while a copy
/// for that is cheap. What is executed once is not worth the time.
[[nodiscard]] std::vector<Region> make_regions(const Unit& unit, std::span<const std::uint16_t> entries,
                                               const RegionOptions& options = {});

/// Instructions in all nodes, copies included.
[[nodiscard]] std::uint32_t instructions_of(const Region& region);

}  // namespace warmfork::lc3::jit
