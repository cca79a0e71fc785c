#include "machine/fault_report.hpp"

#include <fmt/format.h>

namespace warmfork {

std::string FaultReport::to_text() const {
  const kvm_regs& r = regs;
  return fmt::format(
      "  rip {:016x}{}  rflags {:08x}\n"
      "  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}\n"
      "  rsi {:016x}  rdi {:016x}  rbp {:016x}  rsp {:016x}\n"
      "  r8  {:016x}  r9  {:016x}  r10 {:016x}  r11 {:016x}\n"
      "  r12 {:016x}  r13 {:016x}  r14 {:016x}  r15 {:016x}\n"
      "  last exit: {}",
      rip, symbol.empty() ? std::string() : " (" + symbol + ")", r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi,
      r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, last_exit);
}

}  // namespace warmfork
