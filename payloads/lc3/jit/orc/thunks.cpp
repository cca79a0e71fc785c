#include "lc3/jit/orc/thunks.hpp"

#include "lc3/jit/orc/lower.hpp"
#include "warmfork/lc3/code.hpp"
#include "warmfork/lc3/layout.h"

#include <xbyak/xbyak.h>

namespace warmfork::lc3::jit {
namespace {

constexpr std::size_t kBytesPerEntry = 16, kBytesPerFunction = 128, kBytesForAll = 512;
constexpr std::size_t kAlignment = 16;

constexpr std::size_t in_state(int offset) { return static_cast<std::size_t>(offset - WARMFORK_LC3_MEMORY); }

class Thunks : public Xbyak::CodeGenerator {
 public:
  Thunks(std::size_t entries, std::size_t functions)
      : CodeGenerator(entries * kBytesPerEntry + functions * kBytesPerFunction + kBytesForAll) {}

  /// `base`: where this will lie in the bytes that hold the functions.
  void run(std::uint32_t base, std::span<const Function> functions, std::vector<MachineCode::Mark>& marks) {
    Xbyak::Label out, transfers, miss;
    for (const Function& function : functions) {
      Xbyak::Label in;
      for (const std::uint16_t entry : function.entries) {
        marks.push_back({base + static_cast<std::uint32_t>(getSize()), entry});
        mov(edx, entry);
        jmp(in, T_NEAR);
      }
      L(in);
      for (int r = 0; r < 8; ++r) mov(ptr[rbx + register_at(r)], Xbyak::Reg16(8 + r));
      mov(ptr[rbx + in_state(WARMFORK_LC3_LAST_RESULT)], ax);
      mov(ptr[rbx + in_state(WARMFORK_LC3_FAST_BUDGET)], rdi);
      // The stack is aligned for a call: the interpreter calls, too. rbx and rbp are kept by whom we call.
      mov(rdi, rbx);
      mov(rsi, rbp);
      db(0xe8);  // call: nothing of Xbyak's knows an address outside
      dd(function.offset - base - static_cast<std::uint32_t>(getSize()) - 4);
      jmp(out, T_NEAR);
    }
    L(out);
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

void append_thunks(MachineCode& code, std::span<const Function> functions) {
  code.bytes.resize((code.bytes.size() + kAlignment - 1) / kAlignment * kAlignment, 0xcc);
  std::size_t entries = 0;
  for (const Function& function : functions) entries += function.entries.size();
  Thunks thunks(entries, functions.size());
  thunks.run(static_cast<std::uint32_t>(code.bytes.size()), functions, code.entries);
  code.bytes.insert(code.bytes.end(), thunks.getCode(), thunks.getCode() + thunks.getSize());
}

}  // namespace warmfork::lc3::jit
