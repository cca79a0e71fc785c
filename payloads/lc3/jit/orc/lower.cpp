#include "lc3/jit/orc/lower.hpp"

#include "lc3/jit/frontend.hpp"
#include "warmfork/lc3/code.hpp"
#include "warmfork/lc3/layout.h"
#include "warmfork/lc3/state.hpp"

#include <llvm/IR/DIBuilder.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/MDBuilder.h>

#include <array>
#include <map>

namespace warmfork::lc3::jit {
namespace {

using llvm::BasicBlock;
using llvm::Value;

class Lowering {
 public:
  Lowering(llvm::Module& module, const Unit& unit, const Region& region, std::string_view name)
      : context_(module.getContext()), region_(region), b_(context_), word_(b_.getInt16Ty()) {
    for (const auto& [first, block] : unit.blocks) {
      for (std::uint32_t i = 0; i < block.count; ++i) guarded_.set(first + i);
    }
    auto* type = llvm::FunctionType::get(b_.getInt32Ty(), {b_.getPtrTy(), b_.getPtrTy(), b_.getInt32Ty()}, false);
    function_ = llvm::Function::Create(type, llvm::Function::ExternalLinkage, llvm::StringRef(name.data(), name.size()),
                                       module);
    function_->setDoesNotThrow();
    function_->addFnAttr(llvm::Attribute::NoRecurse);
    function_->addFnAttr(llvm::Attribute::NoImplicitFloat);  // the registers of SSE and beyond belong to others
    function_->addFnAttr(llvm::Attribute::NoRedZone);
    for (unsigned i = 0; i < 2; ++i) {
      function_->addParamAttr(i, llvm::Attribute::NoAlias);
      function_->addParamAttr(i, llvm::Attribute::NoUndef);
      function_->addParamAttr(i, llvm::Attribute::NonNull);
    }
    function_->addParamAttr(1, llvm::Attribute::ReadOnly);
    function_->addDereferenceableParamAttr(0, 2 * std::uint64_t{kMemoryWords});
    function_->addDereferenceableParamAttr(1, kCodeText);
    memory_ = function_->getArg(0);
    version_ = function_->getArg(1);
    cold_ = llvm::MDBuilder(context_).createUnlikelyBranchWeights();
    invariant_ = llvm::MDNode::get(context_, {});
  }

  void keep_lines(llvm::Module& module) {
    llvm::DIBuilder builder(module);
    llvm::DIFile* file = builder.createFile("lc3", "");
    builder.createCompileUnit(llvm::dwarf::DW_LANG_C, file, "warmfork", true, "", 0, "",
                              llvm::DICompileUnit::LineTablesOnly);
    scope_ = builder.createFunction(file, function_->getName(), function_->getName(), file, 0,
                                    builder.createSubroutineType(builder.getOrCreateTypeArray({})), 0,
                                    llvm::DINode::FlagZero, llvm::DISubprogram::SPFlagDefinition);
    function_->setSubprogram(scope_);
    builder.finalize();
  }

  llvm::Function& run() {
    auto* start = block();
    b_.SetInsertPoint(start);
    find_registers();
    for (unsigned r = 0; r < kVariables; ++r) {
      variables_[r] = b_.CreateAlloca(word_);
      if (used_[r]) b_.CreateStore(b_.CreateLoad(word_, in_state(offset_of(r))), variables_[r]);
    }
    budget_ = b_.CreateAlloca(b_.getInt64Ty());
    out_ = b_.CreateAlloca(b_.getInt32Ty());
    exit_ = block();
    for (const Node& node : region_.nodes) {
      bodies_.push_back(block());
      checks_.push_back(node.check ? block() : nullptr);
    }
    dispatch();
    for (std::uint32_t i = 0; i < region_.nodes.size(); ++i) emit(i);
    finish();
    return *function_;
  }

 private:
  static constexpr std::size_t kMostOperations = 16, kLongestChain = 6;
  static constexpr unsigned kLast = 8, kVariables = 9;  // the last result comes behind the registers

  static int offset_of(unsigned variable) {
    return variable == kLast ? WARMFORK_LC3_LAST_RESULT : WARMFORK_LC3_REGISTERS + 2 * static_cast<int>(variable);
  }
  BasicBlock* block() { return BasicBlock::Create(context_, "", function_); }
  Value* in_state(int offset) {
    return b_.CreateInBoundsGEP(b_.getInt8Ty(), memory_,
                                b_.getInt64(static_cast<std::uint64_t>(std::int64_t{offset} - WARMFORK_LC3_MEMORY)));
  }

  void find_registers() {
    used_[kLast] = changed_[kLast] = true;
    for (const Node& node : region_.nodes) {
      for (const Op& op : node.block->ops) {
        if (writes_register(op.kind)) used_[op.dr] = changed_[op.dr] = true;
        if (reads_a(op.kind)) used_[op.a] = true;
        if (reads_b(op.kind)) used_[op.b] = true;
      }
      const End& end = node.block->end;
      if (end.kind == EndKind::kCall || end.kind == EndKind::kCallTo) used_[7] = changed_[7] = true;
      if (end.kind == EndKind::kJump || end.kind == EndKind::kCallTo) used_[end.a] = true;
    }
  }

  /// What is built from here on comes from the instruction there.
  void at(std::uint16_t pc) {
    if (scope_ == nullptr) return;
    b_.SetCurrentDebugLocation(llvm::DILocation::get(context_, std::uint32_t{pc} + 1, 0, scope_));
  }
  void at_end_of(const Block& block) { at(static_cast<std::uint16_t>(block.first + block.count - 1)); }

  Value* get(unsigned variable) { return b_.CreateLoad(word_, variables_[variable]); }
  void set(unsigned variable, Value* value) { b_.CreateStore(value, variables_[variable]); }
  void add_budget(std::int64_t amount) {
    if (amount == 0) return;
    auto* value = b_.CreateLoad(b_.getInt64Ty(), budget_);
    b_.CreateStore(b_.CreateAdd(value, b_.getInt64(static_cast<std::uint64_t>(amount))), budget_);
  }

  /// A block that leaves; `given_back`: instructions that the budget has been charged for, and that are not executed.
  BasicBlock* leave(std::uint32_t given_back, std::uint16_t pc, std::uint32_t how) {
    const llvm::IRBuilder<>::InsertPointGuard guard(b_);
    BasicBlock* at = block();
    b_.SetInsertPoint(at);
    leave_here(given_back, b_.getInt32(pc | how));
    return at;
  }
  void leave_here(std::uint32_t given_back, Value* out) {
    // Each stores for itself: one place for all would be a merge of everything with everything.
    auto* remaining = b_.CreateAdd(b_.CreateLoad(b_.getInt64Ty(), budget_), b_.getInt64(given_back));
    b_.CreateStore(remaining, in_state(WARMFORK_LC3_FAST_BUDGET));
    for (unsigned r = 0; r < kVariables; ++r) {
      if (changed_[r]) b_.CreateStore(get(r), in_state(offset_of(r)));
    }
    b_.CreateStore(out, out_);
    b_.CreateBr(exit_);
  }
  /// Goes on in a new block unless `condition` makes it leave.
  void leave_if(Value* condition, BasicBlock* to) {
    BasicBlock* on = block();
    b_.CreateCondBr(condition, to, on, cold_);
    b_.SetInsertPoint(on);
  }

  // Budgets. At a node's body the variable holds what remains less `longest`; at its check, and outside, what remains.
  [[nodiscard]] std::uint32_t charged_at(std::uint32_t node) const {
    return region_.nodes[node].check ? 0 : region_.nodes[node].longest;
  }
  [[nodiscard]] BasicBlock* head_of(std::uint32_t node) const {
    return region_.nodes[node].check ? checks_[node] : bodies_[node];
  }
  /// Charges for the longest path, or leaves before the node's first instruction.
  void charge(const Node& node) {
    auto* remaining = b_.CreateLoad(b_.getInt64Ty(), budget_);
    // Charged on both sides, so that one subtraction does. Budgets of 2^63 and more look used up: exact, only slow.
    auto* charged = b_.CreateSub(remaining, b_.getInt64(node.longest));
    b_.CreateStore(charged, budget_);
    leave_if(b_.CreateICmpSLT(charged, b_.getInt64(0)), leave(node.longest, node.block->first, 0));
  }

  void dispatch() {
    auto* nowhere = block();
    b_.CreateStore(b_.CreateLoad(b_.getInt64Ty(), in_state(WARMFORK_LC3_FAST_BUDGET)), budget_);
    llvm::SwitchInst* entries =
        b_.CreateSwitch(function_->getArg(2), nowhere, static_cast<unsigned>(region_.entries.size()));
    b_.SetInsertPoint(nowhere);
    b_.CreateUnreachable();
    for (const auto& [pc, node] : region_.entries) {
      BasicBlock* entry = block();
      entries->addCase(b_.getInt32(pc), entry);
      b_.SetInsertPoint(entry);
      at(pc);
      if (!region_.nodes[node].check) charge(region_.nodes[node]);
      b_.CreateBr(head_of(node));
    }
  }

  void emit(std::uint32_t index) {
    const Node& node = region_.nodes[index];
    at(node.block->first);
    if (node.check) {
      b_.SetInsertPoint(checks_[index]);
      charge(node);
      b_.CreateBr(bodies_[index]);
    }
    b_.SetInsertPoint(bodies_[index]);
    for (const Op& op : node.block->ops) {
      at(op.pc);
      if (!emit(op, node.longest - op.index)) return;
    }
    at_end_of(*node.block);
    const std::uint32_t rest = node.longest - node.block->count;  // charged for what comes behind
    const End& end = node.block->end;
    switch (end.kind) {
      case EndKind::kFall: b_.CreateBr(edge(rest, node.next, end.next)); return;
      case EndKind::kBranch: return branch(rest, index);
      case EndKind::kCall:
        set(7, b_.getInt16(end.next));
        b_.CreateBr(edge(rest, node.target, end.target));
        return;
      case EndKind::kCallTo:
      case EndKind::kJump: {
        Value* to = get(end.a);  // before R7 changes: it may be the one
        if (end.kind == EndKind::kCallTo) set(7, b_.getInt16(end.next));
        return jump(rest, node, to);
      }
      case EndKind::kInterpret: leave_here(rest, b_.getInt32(end.next)); return;
    }
  }

  /// The block that an edge leads to. `rest`: what is charged where it begins.
  BasicBlock* edge(std::uint32_t rest, std::uint32_t to, std::uint16_t pc) {
    if (to == kLeave) return leave(rest, pc, kTransfers);
    const std::uint32_t there = charged_at(to);
    if (there == rest) return head_of(to);
    const llvm::IRBuilder<>::InsertPointGuard guard(b_);
    BasicBlock* at = block();
    b_.SetInsertPoint(at);
    add_budget(std::int64_t{rest} - there);
    b_.CreateBr(head_of(to));
    return at;
  }

  Value* taken(const End& end, Value* last) {
    using llvm::CmpInst;
    static constexpr std::array kConditions = {
        CmpInst::BAD_ICMP_PREDICATE, CmpInst::ICMP_SGT, CmpInst::ICMP_EQ, CmpInst::ICMP_SGE,
        CmpInst::ICMP_SLT,           CmpInst::ICMP_NE,  CmpInst::ICMP_SLE};
    return b_.CreateICmp(kConditions.at(end.nzp), last, b_.getInt16(0));
  }

  void branch(std::uint32_t rest, std::uint32_t index) {
    const Node& node = region_.nodes[index];
    const End& end = node.block->end;
    if (end.nzp == 7) {
      b_.CreateBr(edge(rest, node.target, end.target));
      return;
    }
    if (const std::uint32_t join = join_of(index); join != kLeave) {
      Values values;
      for (unsigned r = 0; r < kVariables; ++r) values.variables[r] = get(r);
      values.count = b_.getInt64(0);
      both_sides(node, join, values);
      for (unsigned r = 0; r < kVariables; ++r) set(r, values.variables[r]);
      auto* over = b_.CreateSub(b_.getInt64(rest - charged_at(join)), values.count);
      b_.CreateStore(b_.CreateAdd(b_.CreateLoad(b_.getInt64Ty(), budget_), over), budget_);
      b_.CreateBr(head_of(join));
      return;
    }
    auto* condition = taken(end, get(kLast));
    b_.CreateCondBr(condition, edge(rest, node.target, end.target), edge(rest, node.next, end.next));
  }

  // Short sides of a branch that meet again are both executed, and one of the results is chosen: programs decide on
  // data all the time, and a wrong guess costs more than a dozen operations.
  struct Values {
    std::array<Value*, kVariables> variables{};
    Value* count = nullptr;  // instructions executed
  };

  /// Where both sides of a node's branch meet, if they are short and harmless.
  std::uint32_t join_of(std::uint32_t index) {
    const auto [at, added] = joins_.try_emplace(index);
    if (!added) return at->second.node;  // of itself: not known yet
    const Node& node = region_.nodes[index];
    if (node.target == kLeave || node.next == kLeave) return kLeave;
    const std::vector<std::uint32_t> target = chain(node.target), next = chain(node.next);
    for (std::size_t length = 0; length < target.size() + next.size() - 1; ++length) {
      for (std::size_t i = 0; i <= length; ++i) {
        if (i >= target.size() || length - i >= next.size() || target[i] != next[length - i]) continue;
        std::size_t cost = 0;
        for (std::size_t k = 0; k < i; ++k) cost += cost_of(target[k]);
        for (std::size_t k = 0; k < length - i; ++k) cost += cost_of(next[k]);
        if (cost > kMostOperations) return kLeave;
        joins_[index] = {target[i], cost};
        return target[i];
      }
    }
    return kLeave;
  }
  /// What is certainly executed from a node on, one after the other; the last one may be anything.
  std::vector<std::uint32_t> chain(std::uint32_t from) {
    std::vector<std::uint32_t> nodes{from};
    while (nodes.size() < kLongestChain) {
      const std::uint32_t after = after_of(nodes.back());
      if (after == kLeave) break;
      nodes.push_back(after);
    }
    return nodes;
  }
  std::uint32_t after_of(std::uint32_t index) {
    const Node& node = region_.nodes[index];
    if (node.check) return kLeave;
    for (const Op& op : node.block->ops) {
      if (may_leave(op.kind)) return kLeave;  // all stores may
    }
    const End& end = node.block->end;
    switch (end.kind) {
      case EndKind::kFall: return node.next;
      case EndKind::kCall: return node.target;
      case EndKind::kBranch: return end.nzp == 7 ? node.target : join_of(index);
      default: return kLeave;
    }
  }
  std::size_t cost_of(std::uint32_t index) {
    const auto join = joins_.find(index);
    return region_.nodes[index].block->ops.size() + (join == joins_.end() ? 0 : join->second.cost);
  }

  void both_sides(const Node& node, std::uint32_t join, Values& values) {
    Value* condition = taken(node.block->end, values.variables[kLast]);
    Values target = values, next = values;
    side(node.target, join, target);
    side(node.next, join, next);
    const auto choose = [&](Value* a, Value* b) {
      if (a == b) return a;
      Value* chosen = b_.CreateSelect(condition, a, b);
      if (auto* select = llvm::dyn_cast<llvm::SelectInst>(chosen)) {
        select->setMetadata(llvm::LLVMContext::MD_unpredictable, invariant_);
      }
      return chosen;
    };
    for (unsigned r = 0; r < kVariables; ++r) {
      values.variables[r] = choose(target.variables[r], next.variables[r]);
    }
    values.count = choose(target.count, next.count);
  }

  void side(std::uint32_t index, std::uint32_t join, Values& values) {
    for (; index != join; index = after_of(index)) {
      const Node& node = region_.nodes[index];
      auto& v = values.variables;
      for (const Op& op : node.block->ops) {
        at(op.pc);
        v[op.dr] = compute(op, v[op.a], v[op.b]);
        if (op.sets_cc) v[kLast] = v[op.dr];
      }
      at_end_of(*node.block);
      values.count = b_.CreateAdd(values.count, b_.getInt64(node.block->count));
      const End& end = node.block->end;
      if (end.kind == EndKind::kCall) v[7] = b_.getInt16(end.next);
      if (end.kind == EndKind::kBranch && end.nzp != 7) both_sides(node, joins_.at(index).node, values);
    }
  }

  /// The result of an operation that cannot make the machine leave and is no store.
  Value* compute(const Op& op, Value* a, Value* b) {
    switch (op.kind) {
      case OpKind::kConst: return b_.getInt16(op.imm);
      case OpKind::kMove: return a;
      case OpKind::kAdd: return b_.CreateAdd(a, b);
      case OpKind::kAddImm: return b_.CreateAdd(a, b_.getInt16(op.imm));
      case OpKind::kAnd: return b_.CreateAnd(a, b);
      case OpKind::kAndImm: return b_.CreateAnd(a, b_.getInt16(op.imm));
      case OpKind::kNot: return b_.CreateNot(a);
      case OpKind::kLoad: return b_.CreateLoad(word_, fixed(op.imm));
      default: return nullptr;
    }
  }

  void jump(std::uint32_t rest, const Node& node, Value* to) {
    BasicBlock* elsewhere = block();
    llvm::SwitchInst* known = b_.CreateSwitch(to, elsewhere, static_cast<unsigned>(node.known.size()));
    for (const auto& [pc, at] : node.known) known->addCase(b_.getInt16(pc), edge(rest, at, pc));
    b_.SetInsertPoint(elsewhere);
    leave_here(rest, b_.CreateOr(b_.CreateZExt(to, b_.getInt32Ty()), kTransfers));
  }

  Value* address(Value* word) {
    return b_.CreateGEP(word_, memory_, b_.CreateZExt(word, b_.getInt64Ty()), "",
                        llvm::GEPNoWrapFlags::inBounds() | llvm::GEPNoWrapFlags::noUnsignedWrap());
  }
  Value* fixed(std::uint16_t at) { return address(b_.getInt16(at)); }

  /// `charged`: instructions from the operation's on that the budget has been charged for. False: nothing comes after.
  bool emit(const Op& op, std::uint32_t charged) {
    const auto stay = [&] { return leave(charged, op.pc, 0); };
    const auto result = [&](Value* value) {
      set(op.dr, value);
      if (op.sets_cc) set(kLast, value);
      return true;
    };
    const auto load = [&](Value* at) {
      leave_if(b_.CreateICmpUGE(at, b_.getInt16(kDeviceBase)), stay());
      return result(b_.CreateLoad(word_, address(at)));
    };
    const auto store = [&](Value* at) {
      auto* flag = b_.CreateLoad(
          b_.getInt8Ty(),
          b_.CreateGEP(b_.getInt8Ty(), version_,
                       b_.CreateAdd(b_.CreateZExt(at, b_.getInt64Ty()), b_.getInt64(kCodeGuarded), "", true, true), "",
                       llvm::GEPNoWrapFlags::inBounds() | llvm::GEPNoWrapFlags::noUnsignedWrap()));
      flag->setMetadata(llvm::LLVMContext::MD_invariant_load, invariant_);
      leave_if(b_.CreateICmpNE(flag, b_.getInt8(0)), stay());
      b_.CreateStore(get(op.a), address(at));
      return true;
    };
    switch (op.kind) {
      case OpKind::kLoadBase: return load(b_.CreateAdd(get(op.a), b_.getInt16(op.imm)));
      case OpKind::kLoadIndirect: return load(b_.CreateLoad(word_, fixed(op.imm)));
      case OpKind::kStore:
        // What is guarded is known: the version is made from this unit.
        if (guarded_[op.imm]) {
          b_.CreateBr(stay());
          return false;
        }
        b_.CreateStore(get(op.a), fixed(op.imm));
        return true;
      case OpKind::kStoreBase: return store(b_.CreateAdd(get(op.b), b_.getInt16(op.imm)));
      case OpKind::kStoreIndirect: return store(b_.CreateLoad(word_, fixed(op.imm)));
      default: return result(compute(op, get(op.a), get(op.b)));
    }
  }

  void finish() {
    b_.SetInsertPoint(exit_);
    b_.CreateRet(b_.CreateLoad(b_.getInt32Ty(), out_));
  }

  llvm::LLVMContext& context_;
  const Region& region_;
  llvm::IRBuilder<> b_;
  llvm::Type* const word_;
  llvm::Function* function_ = nullptr;
  llvm::DISubprogram* scope_ = nullptr;  // none: nothing says where it comes from
  Value *memory_ = nullptr, *version_ = nullptr;
  llvm::MDNode *cold_ = nullptr, *invariant_ = nullptr;
  WordSet guarded_;
  std::array<bool, kVariables> used_{}, changed_{};
  std::array<Value*, kVariables> variables_{};
  Value *budget_ = nullptr, *out_ = nullptr;
  std::vector<BasicBlock*> bodies_, checks_;  // by node
  struct Join {
    std::uint32_t node = kLeave;
    std::size_t cost = 0;
  };
  std::map<std::uint32_t, Join> joins_;  // by node whose branch it is
  BasicBlock* exit_ = nullptr;
};

}  // namespace

llvm::Function& lower(llvm::Module& module, const Unit& unit, const Region& region, std::string_view name, bool lines) {
  Lowering lowering(module, unit, region, name);
  if (lines) lowering.keep_lines(module);
  return lowering.run();
}

}  // namespace warmfork::lc3::jit
