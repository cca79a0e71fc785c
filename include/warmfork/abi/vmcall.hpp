// How a guest program offers vmcalls, and how it says that it is warm.
//
//   extern "C" std::uint64_t add(std::uint64_t a, std::uint64_t b) { return a + b; }
//   WARMFORK_REGISTER_VMCALL(add);
//   int main() { warmfork::wait_for_calls(); }
//
// A vmcall is an ordinary C function of up to six integer arguments (System V AMD64 ABI, §3.2.3); its result is the
// integer it returns. Freestanding; used by guests only, except for VmcallEntry, whose layout the host reads.
#pragma once

#include "warmfork/abi/layout.h"

#include <cstdint>

namespace warmfork {

/// One entry of a guest's vmcall table (section `warmfork_vmcalls`), as the host's loader reads it.
struct VmcallEntry {
  std::uint64_t name;      // address of a NUL-terminated name of at most 63 bytes, in a read-only segment
  std::uint64_t function;  // address of the function, in an executable segment
};
static_assert(sizeof(VmcallEntry) == 16);

#if defined(__x86_64__) && !defined(WARMFORK_HOST)
/// Stops here and tells the host that vmcalls may be made. Never returns: calls start on a stack below this frame.
[[noreturn]] inline void wait_for_calls() {
  for (;;) asm volatile("outb %%al, %0" : : "i"(WARMFORK_PORT_READY) : "memory");
}
#endif

}  // namespace warmfork

/// Registers the function `function_name` as a vmcall of that name. Written once per function, at namespace scope.
#define WARMFORK_REGISTER_VMCALL(function_name)                                      \
  [[gnu::used, gnu::retain, gnu::section("warmfork_vmcalls")]] static const struct { \
    const char* name;                                                                \
    decltype(&function_name) function;                                               \
  } warmfork_vmcall_##function_name {                                                \
    #function_name, &function_name                                                   \
  }
