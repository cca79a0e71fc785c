// What a machine does with compiled code besides executing it: attaching versions, noticing that their words change
// (warmfork/lc3/code.hpp has the rules). Internal to lc3_core.
#pragma once

#include "lc3/core/step.hpp"
#include "warmfork/lc3/code.hpp"

namespace warmfork::lc3 {

/// Attaches the newest version there is, if memory holds what it was made from; detaches otherwise. Cheap when nothing
/// is new. To be called between slices of running.
void use_newest_code(State& state);

/// Memory may have changed in any way: the next use_newest_code() compares again.
void forget_code(State& state);

/// From now on the machine uses code that counts in the Instrumentation at this address (State::counts), or none that
/// does.
void count_in_code(State& state, std::uint64_t counts);

/// Transfers to interpreted code that a run may make from now on.
inline std::int32_t patience(const State& state) {
  constexpr std::int32_t kForEver = 0x7fffffff;  // more than a slice has instructions
  const std::uint32_t patience = state.code_use.patience;
  return patience == 0 || patience > kForEver ? kForEver : static_cast<std::int32_t>(patience);
}

/// The code made from the word at `address` is no longer true of this machine.
void lose_code(State& state, std::uint16_t address);

/// For steps of a machine that may have code attached.
class CodeHooks : public NoHooks {
 public:
  explicit CodeHooks(State& state) : state_(state) {}

  void write(std::uint16_t address) {
    if (state_.code == 0 || address >= kDeviceBase || count_ == kMost) return;
    // SAFETY: use_newest_code() attached it.
    const auto* guarded = reinterpret_cast<const std::uint8_t*>(state_.code + kCodeGuarded);  // NOLINT
    if (guarded[address] != 0) before_[count_++] = {address, state_.memory[address]};
  }
  /// Whether many words may be stored without a look at them: no code was made from the ones there.
  bool may_store(std::uint16_t first, std::uint32_t count) const {
    if (state_.code == 0) return true;
    // SAFETY: use_newest_code() attached it.
    const auto* guarded = reinterpret_cast<const std::uint8_t*>(state_.code + kCodeGuarded) + first;  // NOLINT
    std::uint64_t any = 0;
    std::uint32_t i = 0;
    for (; i + sizeof any <= count; i += sizeof any) {
      std::uint64_t eight = 0;
      __builtin_memcpy(&eight, guarded + i, sizeof eight);
      any |= eight;
    }
    for (; i < count; ++i) any |= guarded[i];
    return any == 0;
  }
  /// Many words at once, which are about to be these. Null: may_store() has said that nobody cares.
  void write_block(std::uint16_t first, const std::uint16_t* words, std::uint32_t count) {
    if (state_.code == 0 || words == nullptr) return;
    // SAFETY: use_newest_code() attached it.
    const auto* guarded = reinterpret_cast<const std::uint8_t*>(state_.code + kCodeGuarded) + first;  // NOLINT
    for (std::uint32_t i = 0; i < count; ++i) {
      if (guarded[i] == 0 || state_.memory[first + i] == words[i]) continue;
      block_changed_ = true;
      changed_ = static_cast<std::uint16_t>(first + i);
      return;
    }
  }
  /// After a step: loses the code if a word has changed.
  void settle() {
    for (unsigned i = 0; i < count_; ++i) {
      if (state_.memory[before_[i].address] != before_[i].word) lose_code(state_, before_[i].address);
    }
    count_ = 0;
    if (block_changed_) lose_code(state_, changed_);
    block_changed_ = false;
  }

 private:
  static constexpr unsigned kMost = 2;  // stores of one instruction: exceptions and TRAP push two words
  struct Before {
    std::uint16_t address;
    std::uint16_t word;
  };
  State& state_;
  Before before_[kMost];
  unsigned count_ = 0;
  bool block_changed_ = false;
  std::uint16_t changed_ = 0;
};

}  // namespace warmfork::lc3
