#include "lc3/host/profile.hpp"

#include "lc3/host/lc3_vm.hpp"
#include "warmfork/abi/layout.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace warmfork::lc3 {

const char* name_of(ProfilePoint::Tier tier) {
  switch (tier) {
    case ProfilePoint::Tier::kInterpreter: return "interp";
    case ProfilePoint::Tier::kXbyak: return "xbyak";
    case ProfilePoint::Tier::kLlvm: return "llvm";
    case ProfilePoint::Tier::kGuest: return "guest";
    case ProfilePoint::Tier::kEntry: return "entry";
  }
  return "unknown";
}

class Lc3Vm::ProfileSink final : public SampleSink {
 public:
  ProfileSink(const Lc3Vm& vm, Profile& profile)
      : guest_(*vm.guest_), names_(vm.code_ == nullptr ? nullptr : vm.code_->names), state_(vm.state_), to_(profile) {
    // All of core/fast.S.
    if (const ElfSymbol* fast = guest_.plan().find_symbol("lc3_fast_enter"); fast != nullptr) {
      fast_begin_ = fast->address;
      fast_bytes_ = fast->size;
    }
    guest_.set_sample_sink(this);
  }
  ~ProfileSink() { guest_.set_sample_sink(nullptr); }
  ProfileSink(const ProfileSink&) = delete;
  ProfileSink& operator=(const ProfileSink&) = delete;

  void sample(const kvm_regs& regs) override { to_.add(locate(regs)); }

 private:
  [[nodiscard]] ProfilePoint locate(const kvm_regs& regs) const {
    using Tier = ProfilePoint::Tier;
    if (regs.rip < WARMFORK_USER_BASE) return {.tier = Tier::kEntry, .function = {}};
    if (names_ != nullptr) {
      if (const auto found = names_->find(regs.rip)) {
        return {.tier = found->optimised ? Tier::kLlvm : Tier::kXbyak, .pc = found->pc, .function = {}};
      }
    }
    if (regs.rip - fast_begin_ < fast_bytes_) {
      // core/fast.S: rsi is behind the instruction, in State::memory, which rbx is the address of. At its entries and
      // exits it is not, but then the State has the PC.
      const std::uint64_t memory = state_.value + offsetof(State, memory);
      const std::uint64_t behind = (regs.rsi - memory) / 2 + (dispatches(regs.rip) ? 1 : 0);
      if (regs.rbx == memory && behind - 1 < kMemoryWords) {
        return {.tier = Tier::kInterpreter, .pc = static_cast<std::uint16_t>(behind - 1), .function = {}};
      }
      return {.tier = Tier::kInterpreter, .pc = pc(), .function = {}};
    }
    std::string function = guest_.plan().symbolize(regs.rip);
    if (const std::size_t plus = function.rfind("+0x"); plus != std::string::npos) function.resize(plus);
    return {.tier = Tier::kGuest, .pc = pc(), .function = std::move(function)};
  }
  // True before rsi has moved behind the instruction that comes next: in NEXT of core/fast.S, from its beginning to
  // `add $2, %rsi`, which `jmp *(%rbp,%rcx,8)` follows.
  [[nodiscard]] bool dispatches(std::uint64_t rip) const {
    static constexpr std::array<std::uint8_t, 8> kMoveOn{0x48, 0x83, 0xc6, 0x02, 0xff, 0x64, 0xcd, 0x00};
    constexpr std::size_t kBefore = 4 + 6 + 3;  // sub, jb, movzwl
    const auto code = guest_.memory().read_value<std::array<std::uint8_t, kBefore + kMoveOn.size()>>(Gva{rip});
    return code && !std::ranges::search(*code, kMoveOn).empty();
  }
  // The guest may have made its State unreadable.
  [[nodiscard]] std::uint16_t pc() const {
    return guest_.memory().read_value<std::uint16_t>(state_ + offsetof(State, pc)).value_or(0);
  }

  Guest& guest_;
  const std::shared_ptr<jit::CodeNames> names_;
  const Gva state_;
  Profile& to_;
  std::uint64_t fast_begin_ = 0, fast_bytes_ = 0;
};

// Here, where the sink is complete.
Lc3Vm::Lc3Vm() = default;
Lc3Vm::~Lc3Vm() = default;

void Lc3Vm::sample_into(Profile& profile) { profile_ = std::make_unique<ProfileSink>(*this, profile); }

}  // namespace warmfork::lc3
