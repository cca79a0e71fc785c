// What the guest `probe_scribble` and the tests that use it agree on. Host and guest.
//
//   scribble_registers(seed, options)                   returns with random values in every register
//   scribble_memory(seed, ranges, count)                writes a pattern over the ranges
//   scribble_all(seed, options, ranges, count)          both
//   report_state(report, options, ranges, count)        all it finds at its entry, and a hash of the ranges
//   random_scribble(seed, steps, ranges, count, options)  random writes, system calls and stack use
//   crash(which)                                        enum Crash
//   try_fsgsbase()                                      an invalid opcode where CPL 3 may not use RDFSBASE
//
// Options are SCRIBBLE_* of layout.h. `ranges` is the guest address of `count` Ranges, at most kMaxRanges. No call
// needs any of the guest's data: it may scribble over all of it and be called again.
#pragma once

#include "layout.h"

#include <cstddef>
#include <cstdint>

namespace warmfork::scribble {

struct Range {
  std::uint64_t begin;
  std::uint64_t size;
};
inline constexpr std::size_t kMaxRanges = 16;

/// What a call finds at its first instruction; 64-byte aligned in memory. QEMU's emulated processor keeps FIP and FDP
/// in no save area and never resets them: FNSTENV shows there what any program of that machine has left.
struct StateReport {
  std::uint64_t gprs[16];  // rax rbx rcx rdx rsi rdi rbp rsp r8 … r15
  std::uint64_t rflags;
  std::uint64_t return_address;
  std::uint64_t below_stack;  // the word under the stack pointer
  std::uint64_t cs, ss, ds, es, fs, gs;
  std::uint64_t fs_base, gs_base;  // 0 without SCRIBBLE_FSGSBASE
  std::uint64_t mxcsr;
  std::uint64_t pkru;    // 0 without OSPKE
  std::uint64_t xcr0;    // 0 without OSXSAVE, and no XSAVE area then
  std::uint64_t xinuse;  // XGETBV with ECX=1
  std::uint64_t memory_hash;
  std::uint8_t x87_environment[256];  // FNSTENV: 28 bytes
  std::uint8_t fxsave[512];
  std::uint8_t xsave[REPORT_XSAVE_SIZE];  // XSAVE with all components
};
static_assert(offsetof(StateReport, rflags) == REPORT_RFLAGS && offsetof(StateReport, cs) == REPORT_CS);
static_assert(offsetof(StateReport, fs_base) == REPORT_FS_BASE && offsetof(StateReport, mxcsr) == REPORT_MXCSR);
static_assert(offsetof(StateReport, memory_hash) == REPORT_MEMORY_HASH);
static_assert(offsetof(StateReport, x87_environment) == REPORT_X87_ENVIRONMENT);
static_assert(offsetof(StateReport, fxsave) == REPORT_FXSAVE && offsetof(StateReport, xsave) == REPORT_XSAVE);
static_assert(sizeof(StateReport) == REPORT_SIZE);

/// The word that scribble_memory() writes at `address`.
[[nodiscard]] constexpr std::uint64_t pattern(std::uint64_t seed, std::uint64_t address) {
  // splitmix64
  std::uint64_t z = seed + address * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/// Ways for a guest to end, or to return as no function does.
enum class Crash : std::uint64_t {
  kDivideByZero,
  kUndefinedInstruction,
  kNullWrite,
  kHalt,
  kForeignPortOut,
  kForeignPortIn,
  kOwnPortIn,        // a read of the return port: KVM waits for the value
  kOwnPortInString,  // rep insb: KVM waits for bytes to write into memory
  kOwnPortInDoubleword,
  kOwnPortOutWord,
  kOwnPortOutString,
  kInfiniteLoop,
  kSingleStep,
  kSingleStepSyscall,
  kStackOverflow,
  kBreakpoint,         // int3
  kDebugTrap,          // int1
  kSoftwareInterrupt,  // int 0x80
  kExit,               // exit(7)
  kJumpToKernel,
  kJumpToExceptionStub,
  kNonCanonicalRead,
  kWriteToText,
  kExecuteData,
  kX87Exception,
  kSseException,
  kWaitForCallsAgain,
  kMovSsThenOut,    // returns, and leaves the interrupt shadow of MOV SS
  kMovSsThenTrap,   // mov ss; int3
  kReturnWithTrap,  // returns with TF
  kCount,
};

}  // namespace warmfork::scribble
