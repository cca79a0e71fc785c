// crash(which): one way for a guest to end for every kind of exit, exception and half-done access there is.
#include "scribble.hpp"
#include "warmfork/abi/vmcall.hpp"

#include <sys/syscall.h>

#include <cstdint>

namespace warmfork::scribble {
namespace {

std::uint64_t bytes[8];

[[gnu::noinline]] std::uint64_t descend(volatile std::uint64_t* above) {
  volatile std::uint64_t here[64];
  here[0] = *above + 1;
  if (here[0] == 0) return 0;  // never, but the compiler cannot know
  return descend(here) + here[0];
}

[[noreturn]] void jump(std::uint64_t target) {
  asm volatile("jmp *%0" : : "r"(target));
  __builtin_unreachable();
}

}  // namespace

extern "C" std::uint64_t crash(std::uint64_t which) {
  std::uint64_t scratch = 0;
  switch (static_cast<Crash>(which)) {
    case Crash::kDivideByZero: asm volatile("divl %%ecx" : "+a"(scratch) : "d"(0), "c"(0)); break;
    case Crash::kUndefinedInstruction: asm volatile("ud2"); break;
    case Crash::kNullWrite: asm volatile("movq %0, 0" : : "r"(scratch) : "memory"); break;
    case Crash::kHalt: asm volatile("hlt"); break;
    case Crash::kForeignPortOut: asm volatile("outb %%al, %%dx" : : "d"(0x3f8), "a"(0)); break;
    case Crash::kForeignPortIn: asm volatile("inb %%dx, %%al" : "=a"(scratch) : "d"(0x60)); break;
    case Crash::kOwnPortIn: asm volatile("inb %1, %%al" : "=a"(scratch) : "i"(WARMFORK_PORT_RETURN)); break;
    case Crash::kOwnPortInString: {
      auto* to = bytes;
      std::uint64_t count = sizeof bytes;
      asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(WARMFORK_PORT_RETURN) : "memory");
      break;
    }
    case Crash::kOwnPortInDoubleword: asm volatile("inl %1, %%eax" : "=a"(scratch) : "i"(WARMFORK_PORT_RETURN)); break;
    case Crash::kOwnPortOutWord: asm volatile("outw %%ax, %0" : : "i"(WARMFORK_PORT_RETURN), "a"(0)); break;
    case Crash::kOwnPortOutString: {
      auto* from = bytes;
      std::uint64_t count = sizeof bytes;
      asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(WARMFORK_PORT_RETURN) : "memory");
      break;
    }
    case Crash::kInfiniteLoop:
      for (;;) asm volatile("" ::: "memory");
    case Crash::kSingleStep: asm volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n nop" ::: "memory", "cc"); break;
    case Crash::kSingleStepSyscall:
      asm volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n syscall"
                   : "=a"(scratch)
                   : "a"(SYS_getpid)
                   : "rcx", "r11", "memory", "cc");
      break;
    case Crash::kStackOverflow: return descend(&scratch);
    case Crash::kBreakpoint: asm volatile("int3"); break;
    case Crash::kDebugTrap: asm volatile(".byte 0xf1"); break;
    case Crash::kSoftwareInterrupt: asm volatile("int $0x80" : "=a"(scratch) : "a"(20)); break;
    case Crash::kExit:
      asm volatile("syscall" : "=a"(scratch) : "a"(SYS_exit_group), "D"(7) : "rcx", "r11", "memory");
      break;
    case Crash::kJumpToKernel: jump(0xffff'8000'0000'0000);
    case Crash::kJumpToExceptionStub: jump(WARMFORK_SYSTEM_BASE + WARMFORK_EXCEPTION_STUBS_OFFSET);
    case Crash::kNonCanonicalRead:
      asm volatile("movq (%1), %0" : "=r"(scratch) : "r"(std::uint64_t{0x8000'0000'0000'0000}));
      break;
    case Crash::kWriteToText: asm volatile("movb $0, crash(%%rip)" ::: "memory"); break;
    case Crash::kExecuteData: jump(reinterpret_cast<std::uint64_t>(bytes));
    case Crash::kX87Exception: {
      const std::uint16_t control = 0x340;  // nothing is masked
      asm volatile("fninit\n fldcw %0\n fldz\n fldz\n fdivp\n fwait" : : "m"(control));
      break;
    }
    case Crash::kSseException: {
      const std::uint32_t control = 0;
      asm volatile("ldmxcsr %0\n xorps %%xmm0, %%xmm0\n divss %%xmm0, %%xmm0" : : "m"(control) : "xmm0");
      break;
    }
    case Crash::kWaitForCallsAgain: warmfork::wait_for_calls();
    case Crash::kMovSsThenOut:
      asm volatile("mov %1, %%ss\n outb %%al, %0" : : "i"(WARMFORK_PORT_RETURN), "r"(0x2b), "a"(1) : "memory");
      break;
    case Crash::kMovSsThenTrap: asm volatile("mov %0, %%ss\n int3" : : "r"(0x2b) : "memory"); break;
    case Crash::kReturnWithTrap:
      asm volatile("push $0x3102\n popfq\n outb %%al, %0" : : "i"(WARMFORK_PORT_RETURN), "a"(1) : "memory");
      break;
    case Crash::kCount: break;
  }
  return scratch;
}

}  // namespace warmfork::scribble

using warmfork::scribble::crash;
WARMFORK_REGISTER_VMCALL(crash);
