#include "lc3/jit/orc/region.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace warmfork::lc3::jit {
namespace {

constexpr std::uint8_t kLink = 7;  // the register of return addresses
constexpr std::size_t kMostConstants = 16;
// Programs can be made that take hours to understand. What takes longer than this is not worth it.
constexpr std::uint64_t kMostSteps = 1 << 18;      // over all bodies of subroutines
constexpr std::uint64_t kMostNodesSeen = 1 << 20;  // over all levels of loops

/// What is reached from a call's target until it returns.
struct Subroutine {
  std::set<std::uint16_t> body;
  std::vector<std::uint16_t> callees;
  std::vector<std::uint16_t> returns;  // where its calls return to
  std::uint32_t size = 0;
  bool recursive = false;
};

class Subroutines {
 public:
  explicit Subroutines(const Unit& unit) : unit_(unit) {
    for (const auto& [first, block] : unit.blocks) {
      if (block.end.kind != EndKind::kCall) continue;
      Subroutine& callee = all_[block.end.target];
      callee.returns.push_back(block.end.next);
    }
    if (examine()) return;
    all_.clear();
    returns_from_.clear();
  }

  [[nodiscard]] const Subroutine* find(std::uint16_t entry) const {
    const auto found = all_.find(entry);
    return found == all_.end() ? nullptr : &found->second;
  }
  /// Where a RET in this block may go.
  [[nodiscard]] const std::set<std::uint16_t>& returns_from(std::uint16_t block) const {
    static const std::set<std::uint16_t> kNone;
    const auto found = returns_from_.find(block);
    return found == returns_from_.end() ? kNone : found->second;
  }

 private:
  /// False: it would take too long.
  bool examine() {
    for (auto& [entry, subroutine] : all_) find_body(entry, subroutine);
    for (auto& [entry, subroutine] : all_) subroutine.recursive = reaches(entry, entry);
    for (const auto& [entry, subroutine] : all_) {
      for (const std::uint16_t at : subroutine.body) {
        steps_ += subroutine.returns.size();
        if (too_long()) return false;
        auto& returns = returns_from_[at];
        returns.insert(subroutine.returns.begin(), subroutine.returns.end());
      }
    }
    return !too_long();
  }
  [[nodiscard]] bool too_long() const { return steps_ > kMostSteps; }

  void find_body(std::uint16_t entry, Subroutine& subroutine) {
    std::vector<std::uint16_t> pending{entry};
    while (!pending.empty() && !too_long()) {
      ++steps_;
      const std::uint16_t at = pending.back();
      pending.pop_back();
      const auto found = unit_.blocks.find(at);
      if (found == unit_.blocks.end() || !subroutine.body.insert(at).second) continue;
      const Block& block = found->second;
      subroutine.size += block.count;
      const End& end = block.end;
      if (end.kind == EndKind::kCall) subroutine.callees.push_back(end.target);
      if (end.kind == EndKind::kBranch) pending.push_back(end.target);
      if (end.kind == EndKind::kJump || end.kind == EndKind::kInterpret) continue;
      if (end.kind == EndKind::kBranch && end.nzp == 7) continue;
      pending.push_back(end.next);
    }
  }

  [[nodiscard]] bool reaches(std::uint16_t from, std::uint16_t to) {
    std::set<std::uint16_t> seen;
    std::vector<std::uint16_t> pending{from};
    while (!pending.empty() && !too_long()) {
      const std::uint16_t at = pending.back();
      pending.pop_back();
      for (const std::uint16_t callee : all_.at(at).callees) {
        ++steps_;
        if (callee == to) return true;
        if (seen.insert(callee).second) pending.push_back(callee);
      }
    }
    return false;
  }

  const Unit& unit_;
  std::map<std::uint16_t, Subroutine> all_;
  std::map<std::uint16_t, std::set<std::uint16_t>> returns_from_;
  std::uint64_t steps_ = 0;
};

class Graph {
 public:
  Graph(const Unit& unit, const Subroutines& subroutines, const RegionOptions& options)
      : unit_(unit), subroutines_(subroutines), options_(options) {
    for (const auto& [first, block] : unit.blocks) {
      for (const Op& op : block.ops) {
        if (op.kind == OpKind::kConst && unit.blocks.contains(op.imm)) constants_.insert(op.imm);
      }
    }
    if (constants_.size() > kMostConstants) constants_.clear();
  }

  /// `tops`: entered in the main copy. `inner`: in one of their own, which goes on in the main copy at the next of the
  /// tops.
  /// Nothing beyond `inside`, if there is one.
  Region build(std::span<const std::uint16_t> tops, std::span<const std::uint16_t> inner,
               const std::set<std::uint16_t>* inside = nullptr) {
    inside_ = inside;
    tops_.insert(tops.begin(), tops.end());
    for (const std::uint16_t pc : tops) enter(pc, kMain);
    for (const std::uint16_t pc : inner) enter(pc, kInner);
    for (std::size_t i = 0; i < region_.nodes.size(); ++i) connect(i);  // which adds nodes
    std::ranges::sort(region_.entries);
    return std::move(region_);
  }

 private:
  static constexpr std::uint32_t kMain = 0, kInner = 1;

  struct Context {
    std::uint32_t entry = kMain;  // the context that it began in: the main copy or that of an entry
    std::uint32_t parent = 0;     // of a call: where it was made
    std::uint32_t depth = 0;      // of calls
    std::uint16_t returns = 0;    // of a call
  };

  void enter(std::uint16_t pc, std::uint32_t context) {
    if (const std::uint32_t node = node_of(pc, context); node != kLeave) region_.entries.emplace_back(pc, node);
  }

  std::uint32_t node_of(std::uint16_t pc, std::uint32_t context) {
    const auto found = unit_.blocks.find(pc);
    if (found == unit_.blocks.end() || (inside_ != nullptr && !inside_->contains(pc))) return kLeave;
    const auto [at, added] = numbers_.try_emplace({pc, context}, static_cast<std::uint32_t>(region_.nodes.size()));
    if (added) region_.nodes.push_back({.block = &found->second, .context = context});
    return at->second;
  }

  /// Where an edge leads. From a copy that was made for an entry into the main copy, as soon as that can be entered.
  std::uint32_t go(std::uint16_t pc, std::uint32_t context) {
    const Context& from = contexts_[context];
    if (from.depth == 0 && context != kMain && tops_.contains(pc)) return node_of(pc, kMain);
    return node_of(pc, context);
  }

  std::uint32_t call(const Block& block, std::uint32_t from) {
    const std::uint16_t callee = block.end.target;
    const Subroutine* subroutine = subroutines_.find(callee);
    // It has its code where it stands in no loop of the caller: else a copy for each call keeps loops apart.
    if (subroutine == nullptr || subroutine->recursive || contexts_[from].depth >= options_.inlined_depth ||
        subroutine->size > options_.inlined_size || copied_ + subroutine->size > options_.copied_in_all) {
      return go(callee, contexts_[from].entry);
    }
    const auto [at, added] = calls_.try_emplace({from, block.end.next}, static_cast<std::uint32_t>(contexts_.size()));
    if (added) {
      contexts_.push_back({.entry = contexts_[from].entry,
                           .parent = from,
                           .depth = contexts_[from].depth + 1,
                           .returns = block.end.next});
      copied_ += subroutine->size;
    }
    return node_of(callee, at->second);
  }

  void connect(std::size_t index) {
    // Copies: nodes move while some are added.
    const Block& block = *region_.nodes[index].block;
    const std::uint32_t context = region_.nodes[index].context;
    Node to;
    const End& end = block.end;
    switch (end.kind) {
      case EndKind::kFall: to.next = go(end.next, context); break;
      case EndKind::kBranch:
        to.target = go(end.target, context);
        if (end.nzp != 7) to.next = go(end.next, context);
        break;
      case EndKind::kCall: to.target = call(block, context); break;
      case EndKind::kCallTo:
      case EndKind::kJump: jump(block, context, to); break;
      case EndKind::kInterpret: break;
    }
    Node& node = region_.nodes[index];
    node.target = to.target;
    node.next = to.next;
    node.known = std::move(to.known);
  }

  void jump(const Block& block, std::uint32_t context, Node& to) {
    const auto add = [&](std::uint16_t pc, std::uint32_t in) {
      if (const std::uint32_t node = go(pc, in); node != kLeave) to.known.emplace_back(pc, node);
    };
    const Context from = contexts_[context];
    if (block.end.kind == EndKind::kJump && block.end.a == kLink) {
      if (from.depth != 0) {
        add(from.returns, from.parent);
      } else {
        for (const std::uint16_t pc : subroutines_.returns_from(block.first)) add(pc, context);
      }
      return;
    }
    for (const std::uint16_t pc : constants_) add(pc, context);
  }

  const Unit& unit_;
  const Subroutines& subroutines_;
  const RegionOptions& options_;
  std::set<std::uint16_t> constants_;  // addresses of blocks that the program computes with
  std::set<std::uint16_t> tops_;
  const std::set<std::uint16_t>* inside_ = nullptr;
  std::vector<Context> contexts_{Context{.entry = kMain}, Context{.entry = kInner}};
  std::map<std::pair<std::uint32_t, std::uint16_t>, std::uint32_t> calls_;
  std::map<std::pair<std::uint16_t, std::uint32_t>, std::uint32_t> numbers_;
  std::uint32_t copied_ = 0;
  Region region_;
};

template <class Visit>
void for_each_successor(const Node& node, Visit visit) {
  if (node.target != kLeave) visit(node.target);
  if (node.next != kLeave) visit(node.next);
  for (const auto& [pc, to] : node.known) visit(to);
}

std::vector<std::uint32_t> successors(const Node& node) {
  std::vector<std::uint32_t> all;
  for_each_successor(node, [&](std::uint32_t to) { all.push_back(to); });
  return all;
}

/// The nodes, each after all it leads to but for checks. They are on every cycle.
std::vector<std::uint32_t> backwards(const Region& region) {
  struct Open {
    std::uint32_t node;
    std::vector<std::uint32_t> to;
  };
  std::vector<bool> seen(region.nodes.size());
  std::vector<std::uint32_t> order;
  std::vector<Open> open;
  const auto visit = [&](std::uint32_t node) {
    seen[node] = true;
    open.push_back({node, successors(region.nodes[node])});
  };
  for (std::uint32_t from = 0; from < region.nodes.size(); ++from) {
    if (!seen[from]) visit(from);
    while (!open.empty()) {
      if (open.back().to.empty()) {
        order.push_back(open.back().node);
        open.pop_back();
        continue;
      }
      const std::uint32_t to = open.back().to.back();
      open.back().to.pop_back();
      if (!seen[to] && !region.nodes[to].check) visit(to);
    }
  }
  return order;
}

void measure_paths(Region& region, std::uint32_t limit) {
  for (const std::uint32_t index : backwards(region)) {
    Node& node = region.nodes[index];
    std::uint32_t rest = 0;
    for_each_successor(node, [&](std::uint32_t to) {
      if (!region.nodes[to].check) rest = std::max(rest, region.nodes[to].longest);
    });
    node.longest = rest + node.block->count;
    if (node.longest > limit) node.check = true;
  }
}

/// The cycles of a graph without the edges into some nodes, those that share nodes taken together.
class Cycles {
 public:
  Cycles(const Region& region, const std::vector<bool>& not_into)
      : region_(region), not_into_(not_into), state_(region.nodes.size()) {
    for (std::uint32_t i = 0; i < region.nodes.size(); ++i) {
      if (state_[i].number == 0) search(i);
    }
    std::vector<std::uint32_t> size(components_ + 1);
    on_cycle_.resize(region.nodes.size());
    for (const State& state : state_) ++size[state.component];
    for (std::uint32_t i = 0; i < region.nodes.size(); ++i) {
      on_cycle_[i] = size[component(i)] > 1;
      for (const std::uint32_t to : followed(i)) on_cycle_[i] = on_cycle_[i] || to == i;
    }
  }

  [[nodiscard]] bool on_cycle(std::uint32_t node) const { return on_cycle_[node]; }
  [[nodiscard]] std::uint32_t component(std::uint32_t node) const { return state_[node].component; }

  /// One node for each: what it is entered at, if possible, not in a copy for a call, and first in memory.
  [[nodiscard]] std::vector<std::uint32_t> heads() const {
    std::vector<bool> entered(region_.nodes.size());
    for (std::uint32_t i = 0; i < region_.nodes.size(); ++i) {
      for_each_successor(region_.nodes[i], [&](std::uint32_t to) {
        if (component(to) != component(i)) entered[to] = true;
      });
    }
    const auto rank = [&](std::uint32_t node) {
      return std::tuple(!entered[node], region_.nodes[node].context != 0, region_.nodes[node].block->first);
    };
    std::map<std::uint32_t, std::uint32_t> heads;
    for (std::uint32_t i = 0; i < region_.nodes.size(); ++i) {
      if (!on_cycle_[i]) continue;
      const auto [at, added] = heads.try_emplace(component(i), i);
      if (!added && rank(i) < rank(at->second)) at->second = i;
    }
    std::vector<std::uint32_t> result;
    for (const auto& [component, node] : heads) result.push_back(node);
    return result;
  }

 private:
  struct State {
    std::uint32_t number = 0, low = 0, component = 0;
    bool waiting = false;
  };

  [[nodiscard]] std::vector<std::uint32_t> followed(std::uint32_t node) const {
    std::vector<std::uint32_t> to = successors(region_.nodes[node]);
    std::erase_if(to, [&](std::uint32_t at) { return not_into_[at]; });
    return to;
  }

  // Tarjan's strongly connected components, without recursion.
  void search(std::uint32_t from) {
    struct Open {
      std::uint32_t node;
      std::vector<std::uint32_t> to;
    };
    std::vector<Open> open;
    const auto visit = [&](std::uint32_t node) {
      state_[node].number = state_[node].low = ++numbers_;
      state_[node].waiting = true;
      waiting_.push_back(node);
      open.push_back({node, followed(node)});
    };
    visit(from);
    while (!open.empty()) {
      const std::uint32_t node = open.back().node;
      State& state = state_[node];
      if (!open.back().to.empty()) {
        const std::uint32_t to = open.back().to.back();
        open.back().to.pop_back();
        if (state_[to].number == 0) {
          visit(to);
        } else if (state_[to].waiting) {
          state.low = std::min(state.low, state_[to].number);
        }
        continue;
      }
      open.pop_back();
      if (!open.empty()) state_[open.back().node].low = std::min(state_[open.back().node].low, state.low);
      if (state.low != state.number) continue;
      ++components_;
      while (true) {
        const std::uint32_t member = waiting_.back();
        waiting_.pop_back();
        state_[member].waiting = false;
        state_[member].component = components_;
        if (member == node) break;
      }
    }
  }

  const Region& region_;
  const std::vector<bool>& not_into_;
  std::vector<State> state_;
  std::vector<bool> on_cycle_;
  std::vector<std::uint32_t> waiting_;
  std::uint32_t numbers_ = 0, components_ = 0;
};

/// Loops and the loops in them: each has a head, which is a check; what is behind a loop is one, too, so that the loop
/// pays for itself only.
struct Loops {
  std::vector<std::uint32_t> outer_heads;
  std::vector<std::uint32_t> outer;  // by node: which of these it belongs to, kLeave: none
  std::vector<bool> is_head;         // by node
};

Loops find_loops(Region& region) {
  const auto count = static_cast<std::uint32_t>(region.nodes.size());
  Loops loops{.outer = std::vector<std::uint32_t>(count, kLeave), .is_head = std::vector<bool>(count)};
  std::uint64_t seen = 0;
  for (bool outermost = true;; outermost = false) {
    const Cycles cycles(region, loops.is_head);
    const std::vector<std::uint32_t> found = cycles.heads();
    if (found.empty()) return loops;
    if (outermost) {
      loops.outer_heads = found;
      for (const std::uint32_t head : found) {
        for (std::uint32_t i = 0; i < count; ++i) {
          if (cycles.component(i) == cycles.component(head)) loops.outer[i] = head;
        }
      }
    }
    seen += count;
    if (seen > kMostNodesSeen) {  // nested too deeply: every cycle has a check if every node on one is
      for (std::uint32_t i = 0; i < count; ++i) {
        if (cycles.on_cycle(i)) region.nodes[i].check = true;
      }
      return loops;
    }
    for (const std::uint32_t head : found) loops.is_head[head] = region.nodes[head].check = true;
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!cycles.on_cycle(i)) continue;
      for_each_successor(region.nodes[i], [&](std::uint32_t to) {
        if (cycles.component(to) != cycles.component(i)) region.nodes[to].check = true;
      });
    }
  }
}

void place_checks(Region& region, const RegionOptions& options) {
  find_loops(region);
  measure_paths(region, options.longest_path);
}

Region everything_from(const Unit& unit, const Subroutines& subroutines, std::span<const std::uint16_t> entries,
                       const RegionOptions& options) {
  Region whole = Graph(unit, subroutines, options).build(entries, {});
  const Loops loops = find_loops(whole);
  std::set<std::uint16_t> tops, inner;
  for (const std::uint32_t head : loops.outer_heads) tops.insert(whole.nodes[head].block->first);
  for (const auto& [pc, node] : whole.entries) {
    if (!tops.contains(pc)) (loops.outer[node] == kLeave ? tops : inner).insert(pc);
  }
  std::vector<std::uint16_t> all_tops(tops.begin(), tops.end());
  const std::vector<std::uint16_t> all_inner(inner.begin(), inner.end());
  const std::uint32_t least = instructions_of(Graph(unit, subroutines, options).build(all_tops, {}));
  Region region = Graph(unit, subroutines, options).build(all_tops, all_inner);
  if (instructions_of(region) > least + options.copied_to_enter) {
    // Then in the middle of loops, and these suffer.
    all_tops.insert(all_tops.end(), all_inner.begin(), all_inner.end());
    region = Graph(unit, subroutines, options).build(all_tops, {});
  }
  return region;
}

std::vector<Region> loops_of(const Unit& unit, const Subroutines& subroutines, const RegionOptions& options) {
  std::vector<std::uint16_t> all;
  for (const auto& [first, block] : unit.blocks) all.push_back(first);
  Region whole = Graph(unit, subroutines, options).build(all, {});
  const Loops loops = find_loops(whole);
  std::vector<Region> regions;
  std::set<std::uint16_t> taken;  // an address has one entry
  std::uint32_t left = options.instructions_in_all;
  for (const std::uint32_t head : loops.outer_heads) {
    if (left == 0) break;
    std::set<std::uint16_t> inside, inner;
    for (std::uint32_t i = 0; i < whole.nodes.size(); ++i) {
      if (loops.outer[i] != head) continue;
      const Node& node = whole.nodes[i];
      inside.insert(node.block->first);
      // Those in copies for calls are entered by calls.
      if (i != head && node.context == 0 && loops.is_head[i]) inner.insert(node.block->first);
    }
    const std::uint16_t top = whole.nodes[head].block->first;
    if (!taken.insert(top).second) continue;
    inner.erase(top);
    std::erase_if(inner, [&](std::uint16_t pc) { return !taken.insert(pc).second; });
    const std::vector<std::uint16_t> tops{top}, all_inner(inner.begin(), inner.end());
    Region region = Graph(unit, subroutines, options).build(tops, {}, &inside);
    Region with = Graph(unit, subroutines, options).build(tops, all_inner, &inside);
    const std::uint32_t least = instructions_of(region);
    if (least > left) continue;
    const bool cheap = instructions_of(with) <= std::min(least + options.copied_to_enter, left);
    regions.push_back(cheap ? std::move(with) : std::move(region));
    left -= instructions_of(regions.back());
  }
  return regions;
}

}  // namespace

std::vector<Region> make_regions(const Unit& unit, std::span<const std::uint16_t> entries,
                                 const RegionOptions& options) {
  const Subroutines subroutines(unit);
  std::vector<Region> regions;
  if (entries.empty()) {
    regions = loops_of(unit, subroutines, options);
  } else {
    regions.push_back(everything_from(unit, subroutines, entries, options));
  }
  std::erase_if(regions, [](const Region& region) { return region.entries.empty(); });
  for (Region& region : regions) place_checks(region, options);
  return regions;
}

std::uint32_t instructions_of(const Region& region) {
  std::uint32_t count = 0;
  for (const Node& node : region.nodes) count += node.block->count;
  return count;
}

}  // namespace warmfork::lc3::jit
