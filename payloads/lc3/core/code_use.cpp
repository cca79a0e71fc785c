#include "lc3/core/code_use.hpp"

namespace warmfork::lc3 {
namespace {

// SAFETY: the host gave the address (State::code_use, or a successor it wrote); it is mapped for as long as the guest
// is.
const CodeVersion* version_at(std::uint64_t address) {
  return reinterpret_cast<const CodeVersion*>(static_cast<std::uintptr_t>(address));  // NOLINT
}

template <class T>
const T* at_offset(const CodeVersion* version, std::uint32_t offset) {
  return reinterpret_cast<const T*>(reinterpret_cast<const std::uint8_t*>(version) + offset);  // NOLINT: as above
}

// The host writes code while this processor runs. What it has fetched ahead from there must be fetched anew (Intel SDM
// vol. 3, 9.1.3 "Handling Self- and Cross-Modifying Code"); IRET is the serialising instruction that a guest at CPL 3
// can execute without leaving.
void serialise() {
  std::uint64_t stack = 0, scratch = 0;
  asm volatile(
      "mov %%rsp, %0\n\t"
      "sub $128, %%rsp\n\t"  // the compiler may keep values below the stack pointer
      "mov %%ss, %1\n\t"
      "push %1\n\t"
      "push %0\n\t"
      "pushfq\n\t"
      "mov %%cs, %1\n\t"
      "push %1\n\t"
      "lea 1f(%%rip), %1\n\t"
      "push %1\n\t"
      "iretq\n"
      "1:"
      : "=&r"(stack), "=&r"(scratch)
      :
      : "memory", "cc");
}

bool holds(const State& state, const CodeVersion* version) {
  if (version->lea_sets_cc != state.lea_sets_cc) return false;
  if ((version->counters != 0) != (state.counts != 0) || version->counters > kCodeCounters) return false;
  const auto* ranges = at_offset<CodeRange>(version, version->ranges);
  for (std::uint32_t i = 0; i < version->range_count; ++i) {
    const CodeRange& range = ranges[i];
    if (range.first + range.count > kDeviceBase) return false;
    const auto* words = at_offset<std::uint16_t>(version, range.words);
    if (__builtin_memcmp(state.memory + range.first, words, range.count * sizeof(std::uint16_t)) != 0) return false;
  }
  return true;
}

}  // namespace

void use_newest_code(State& state) {
  CodeUse& use = state.code_use;
  if (use.wanted == 0) {
    state.code = 0;
    return;
  }
  const CodeVersion* version = version_at(use.wanted);
  bool is_new = false;
  while (true) {
    // A region that was loaded from a snapshot's file, or is used anew, holds something else here: nothing in it means
    // anything then, the successor least of all.
    if (version->magic != kCodeMagic) {
      state.code = 0;
      return;
    }
    const std::uint64_t next = __atomic_load_n(&version->successor, __ATOMIC_ACQUIRE);
    if (next == 0) break;
    use.wanted = next;
    version = version_at(next);
    is_new = true;
  }
  if (is_new) serialise();
  if (version->id == use.examined) return;
  use.examined = version->id;
  state.code = holds(state, version) ? use.wanted : 0;
}

void count_in_code(State& state, std::uint64_t counts) {
  if (state.counts == counts) return;
  state.counts = counts;
  forget_code(state);
}

void forget_code(State& state) {
  state.code = 0;
  state.code_use.examined = 0;
}

void lose_code(State& state, std::uint16_t address) {
  CodeUse& use = state.code_use;
  use.lost[use.lost_count++ % (sizeof use.lost / sizeof use.lost[0])] = address;
  state.code = 0;  // `examined` stays: this version is not looked at again
  state.cold_left = patience(state);
}

}  // namespace warmfork::lc3
