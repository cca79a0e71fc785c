#include "lc3/jit/orc/thunks.hpp"

#include "lc3/jit/orc/lower.hpp"
#include "warmfork/lc3/code.hpp"
#include "warmfork/lc3/layout.h"

#include <xbyak/xbyak.h>

namespace warmfork::lc3::jit {
namespace {

constexpr std::size_t kBytesPerEntry = 16, kBytesForAll = 512;
constexpr std::size_t kAlignment = 16;

constexpr std::size_t in_state(int offset) { return static_cast<std::size_t>(offset - WARMFORK_LC3_MEMORY); }

class Thunks : public Xbyak::CodeGenerator {
 public:
  explicit Thunks(std::size_t entries) : CodeGenerator(entries * kBytesPerEntry + kBytesForAll) {}

  /// `function`: where it begins, from the first byte of this.
  void run(std::int64_t function, std::span<const std::uint16_t> entries, std::vector<std::uint32_t>& offsets) {
    Xbyak::Label common, transfers, miss;
    for (const std::uint16_t entry : entries) {
      offsets.push_back(static_cast<std::uint32_t>(getSize()));
      mov(edx, entry);
      jmp(common, T_NEAR);
    }
    L(common);
    for (int r = 0; r < 8; ++r) mov(ptr[rbx + register_at(r)], Xbyak::Reg16(8 + r));
    mov(ptr[rbx + in_state(WARMFORK_LC3_LAST_RESULT)], ax);
    mov(ptr[rbx + in_state(WARMFORK_LC3_FAST_BUDGET)], rdi);
    // The stack is aligned for a call: the interpreter calls, too. rbx and rbp are kept by whom we call.
    mov(rdi, rbx);
    mov(rsi, rbp);
    db(0xe8);  // call: nothing of Xbyak's knows an address outside
    dd(static_cast<std::uint32_t>(function - static_cast<std::int64_t>(getSize()) - 4));
    mov(ecx, eax);
    movzx(esi, ax);
    for (int r = 0; r < 8; ++r) movzx(Xbyak::Reg32(8 + r), word[rbx + register_at(r)]);
    movzx(eax, word[rbx + in_state(WARMFORK_LC3_LAST_RESULT)]);
    mov(rdi, ptr[rbx + in_state(WARMFORK_LC3_FAST_BUDGET)]);
    test(ecx, kTransfers);
    jnz(transfers);
    jmp(ptr[rbx + in_state(WARMFORK_LC3_EXIT_STAY)]);
    L(transfers);
    mov(edx, ptr[rbp + rsi * 4 + std::size_t{kCodeEntries}]);
    test(edx, edx);
    jz(miss);
    add(rdx, rbp);
    jmp(rdx);
    L(miss);
    jmp(ptr[rbx + in_state(WARMFORK_LC3_EXIT_MISS)]);
  }

 private:
  static std::size_t register_at(int r) { return in_state(WARMFORK_LC3_REGISTERS + 2 * r); }
};

}  // namespace

void append_thunks(MachineCode& code, std::uint32_t function, std::span<const std::uint16_t> entries) {
  code.bytes.resize((code.bytes.size() + kAlignment - 1) / kAlignment * kAlignment, 0xcc);
  const auto base = static_cast<std::uint32_t>(code.bytes.size());
  Thunks thunks(entries.size());
  std::vector<std::uint32_t> offsets;
  thunks.run(std::int64_t{function} - base, entries, offsets);
  code.bytes.insert(code.bytes.end(), thunks.getCode(), thunks.getCode() + thunks.getSize());
  for (std::size_t i = 0; i < entries.size(); ++i) code.entries.push_back({base + offsets[i], entries[i]});
}

}  // namespace warmfork::lc3::jit
