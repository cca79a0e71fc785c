// The state of one LC-3 machine: one plain struct that the interpreters, compiled code, the guest program and the host
// all read, so its offsets are part of the contract (asserted below).
//
//   +0x0000  registers, PC, PSR, devices, configuration, counters, RunResult     one page: all that most calls touch
//   +0x1000  input ring: cursors, then 4 KiB of data                             host writes, machine reads
//   +0x3000  output ring: cursors, then 16 KiB of data                           machine writes, host reads
//   +0x8000  guard (1,024 words) | memory (65,536 words) | guard (1,024 words)
//
// Who may touch it: the machine while it runs; the host between calls, and at any time only the cursor it owns of each
// ring and the free part of the input ring. A host treats all of it as hostile bytes: copy, check, use.
//
// Invariants that the fast interpreter and compiled code rely on (lc3/core/machine.hpp keeps them):
//   - every word of both guards, and of memory from xFE00 up, is kTrapWord. The PC may therefore run or branch off
//   either
//     end of memory, or into device space, without a check: what is fetched there is a reserved opcode, whose handler
//     looks at the address again. Nothing else may be written there, device registers live in the fields below.
//   - the condition code is the sign of `last_result` (N: bit 15, Z: zero, P: else); `psr_system` has no N, Z, P bits.
#pragma once

#include "warmfork/lc3/layout.h"

#include <cstddef>
#include <cstdint>

namespace warmfork::lc3 {

inline constexpr std::uint32_t kStateVersion = 3;
inline constexpr std::uint32_t kMemoryWords = 0x10000;
inline constexpr std::uint32_t kGuardWords =
    WARMFORK_LC3_GUARD_WORDS;  // no PC-relative target lies further off (JSR: -1024 … +1023)
inline constexpr std::uint16_t kTrapWord = WARMFORK_LC3_TRAP_WORD;
inline constexpr std::uint16_t kUserBase = 0x3000;
inline constexpr std::uint16_t kDeviceBase = WARMFORK_LC3_DEVICE_BASE;

inline constexpr std::uint16_t kKbsr = 0xfe00, kKbdr = 0xfe02, kDsr = 0xfe04, kDdr = 0xfe06;
inline constexpr std::uint16_t kPsr = 0xfffc, kMcr = 0xfffe;

inline constexpr std::uint16_t kPsrUser = 0x8000, kPsrPriority = 0x0700, kPsrN = 4, kPsrZ = 2, kPsrP = 1;
inline constexpr std::uint16_t kKbsrInterruptEnable = 0x4000, kReady = 0x8000, kMcrRun = 0x8000;

/// Vectors: traps are memory[vector], exceptions and interrupts memory[kInterruptTable + vector].
inline constexpr std::uint16_t kInterruptTable = 0x0100;
inline constexpr std::uint8_t kPrivilegeException = 0x00, kIllegalOpcodeException = 0x01, kAccessException = 0x02;
inline constexpr std::uint8_t kKeyboardInterrupt = 0x80;
inline constexpr std::uint8_t kFirstNativeTrap = 0x20, kLastNativeTrap = 0x25;

/// Why a run ended. Unless "executed" is said, the instruction at PC has not been executed: it is not counted, nothing
/// of it has happened (but for characters that PUTS, PUTSP and IN have already written), and running again tries it
/// again.
enum class StopReason : std::uint32_t {
  kNone = 0,            // never in a result
  kBudget,              // exactly the budget has been executed
  kHalted,              // MCR[15] is clear: the instruction that cleared it (or HALT) has been executed
  kInputNeeded,         // a blocking GETC or IN finds the input ring empty, and more may come
  kInputExhausted,      // as kInputNeeded or kIdle, but the input has been closed: nothing will ever come
  kOutputFull,          // no room in the output ring (PUTS and PUTSP go on where they stopped)
  kOutputPending,       // KBSR is polled without input while output waits to be drained
  kIdle,                // proven: a loop polls KBSR and nothing but input can end it (executed: PC is after a poll)
  kBreakpoint,          // PC is at an execution breakpoint; the next run begins with that instruction
  kWatchpoint,          // executed; RunResult.address was read or written
  kUnhandledException,  // RunResult.vector is x00, x01 or x02, and its vector word is x0000
  kUnhandledInterrupt,  // RunResult.vector is x80 or x81, and its vector word is x0000
  kUnhandledTrap,       // RunResult.vector is the trap vector, and its vector word is x0000
  kCompile,             // the machine has interpreted enough to be worth compiling at PC; Lc3Vm answers it and goes on
  kWaiting,             // a WAIT, SEND or FLUSH of a port (RunResult.address) has looked for as long as it was told to
};
inline constexpr std::uint32_t kStopReasonCount = 15;

/// Result of the last run. `vector` and `address` are zero where the reason gives them no meaning.
struct RunResult {
  StopReason stop;
  std::uint32_t vector;    // kUnhandled…: which one
  std::uint64_t executed;  // instructions executed by this run
  std::uint16_t pc;
  std::uint16_t address;  // kWatchpoint, kWaiting: the address; kUnhandledException x02: the address that was refused
  std::uint16_t access;   // kWatchpoint: WatchFlag that fired
  std::uint16_t reserved;
};
static_assert(sizeof(RunResult) == 24);

/// Configuration bits, fixed while a machine runs.
enum ConfigFlag : std::uint32_t {
  kSecondEdition = 1u << 0,        // LEA sets condition codes; TRAP keeps its return address in R7, RET returns
  kStrictPrivilege = 1u << 1,      // access-control exceptions outside x3000 … xFDFF in user mode
  kNativeTraps = 1u << 2,          // x20 … x25 are served by the machine while their vectors are unchanged
  kRunIntoEmptyVectors = 1u << 3,  // a vector word x0000 is a routine at x0000, not an error
  kDetectIdle = 1u << 4,           // stop with kIdle (or kInputExhausted) when a polling loop is proven idle
  kStopForOutput = 1u << 5,        // stop with kOutputPending
};
inline constexpr std::uint32_t kDefaultConfig = kNativeTraps | kDetectIdle | kStopForOutput;

/// Event counts since initialise(). They wrap, and belong to the machine: a host treats them as claims.
struct Counters {
  std::uint64_t instructions;
  std::uint64_t native_traps;
  std::uint64_t os_traps;  // TRAPs that went through the vector table
  std::uint64_t interrupts;
  std::uint64_t exceptions;
  std::uint64_t slow_steps;  // instructions that the fast interpreter handed to the careful one
  std::uint64_t input_bytes;
  std::uint64_t output_bytes;
};

/// Byte rings. Cursors run freely modulo 2^32; bytes waiting = head - tail; slot = cursor modulo capacity. The producer
/// alone writes `head`, the consumer alone `tail`, each with release order; each on a cache line of its own.
inline constexpr std::uint32_t kInputCapacity = 0x1000;
inline constexpr std::uint32_t kOutputCapacity = 0x4000;
template <std::uint32_t Capacity>
struct ByteRing {
  alignas(128) std::uint32_t head;
  std::uint32_t closed;  // written by the producer: nonzero when nothing will be added any more (read it before head)
  alignas(128) std::uint32_t tail;
  alignas(128) std::uint8_t data[Capacity];
};

/// How far a native trap that had to stop has come; valid only while PC and R0 are what they were.
struct TrapProgress {
  std::uint16_t pc;
  std::uint16_t r0;
  std::uint32_t done;  // characters written so far; 0: none, start afresh
};

/// The machine at an earlier KBSR poll without input: what idle detection compares.
struct PollRecord {
  std::uint16_t registers[8];
  std::uint16_t pc;
  std::uint16_t last_result;
  std::uint16_t psr_system;
  std::uint16_t valid;
  std::uint16_t seen;      // polls since this record was made
  std::uint16_t patience;  // polls after which another record replaces it
};

/// What this machine does with compiled code (code.hpp). Written by the machine but for `wanted` and `patience`, which
/// the host sets between runs.
struct CodeUse {
  std::uint64_t wanted;       // address of the version the host offers, 0: none; the machine follows its successors
  std::uint64_t examined;     // id of the version last compared with memory, 0: none; attached if State::code is not 0
  std::uint32_t patience;     // transfers of control to interpreted code before a run stops with kCompile; 0: never
  std::uint32_t lost_count;   // how often code was lost because the machine changed its words
  std::uint16_t lost[8];      // the addresses, a ring
  std::uint64_t slices;       // of compiled running so far, and where the last of them ended: for finding hot code
  std::uint16_t samples[16];  // a ring
};

struct alignas(0x1000) State {
  std::uint16_t registers[8];
  std::uint16_t pc;
  std::uint16_t last_result;  // condition code, see above
  std::uint16_t psr_system;   // PSR bits 15 and 10-8
  std::uint16_t saved_ssp;
  std::uint16_t saved_usp;
  std::uint16_t kbsr;  // bit 14 only; bit 15 is computed when read
  std::uint16_t kbdr;  // last character read
  std::uint16_t mcr;
  std::uint32_t config;       // of ConfigFlag
  std::uint32_t lea_sets_cc;  // 0 or 1: copy of kSecondEdition for the fast path
  std::uint64_t fast_budget;  // of the fast interpreter: what remains when it enters, takes a slow step, or leaves
  std::uint64_t code;         // address of the attached code version: what it was compiled from is what memory holds
  std::uint64_t exits[2];     // addresses in the fast interpreter that compiled code leaves to
  std::int32_t cold_left;     // transfers to interpreted code until kCompile
  std::uint32_t compiling;    // 1: runs use compiled code where there is some, and look for more
  std::uint64_t counts;       // address of the Instrumentation that compiled code counts in; 0: only code that does not
  // memory[x20 … x25] as they were when the vectors were captured; 0x10000 (no word) before.
  std::uint32_t native_vectors[6];
  std::uint32_t last_exception;  // vector of the exception taken last; means something if counters.exceptions is not 0
  TrapProgress trap_progress;
  PollRecord poll;
  RunResult result;
  Counters counters;
  CodeUse code_use;
  std::uint64_t ports;            // address of the Ports (core/ports.hpp); 0: none was ever connected
  std::uint32_t port_interrupts;  // bit p: a message at port p interrupts

  alignas(0x1000) ByteRing<kInputCapacity> input;
  alignas(0x1000) ByteRing<kOutputCapacity> output;

  alignas(0x1000) std::uint16_t guard_low[kGuardWords];
  std::uint16_t memory[kMemoryWords];
  std::uint16_t guard_high[kGuardWords];
};

static_assert(offsetof(State, registers) == WARMFORK_LC3_REGISTERS && offsetof(State, pc) == WARMFORK_LC3_PC);
static_assert(offsetof(State, last_result) == WARMFORK_LC3_LAST_RESULT);
static_assert(offsetof(State, psr_system) == WARMFORK_LC3_PSR_SYSTEM && offsetof(State, kbsr) == WARMFORK_LC3_KBSR);
static_assert(offsetof(State, mcr) == WARMFORK_LC3_MCR && offsetof(State, config) == WARMFORK_LC3_CONFIG);
static_assert(offsetof(State, lea_sets_cc) == WARMFORK_LC3_LEA_SETS_CC);
static_assert(offsetof(State, fast_budget) == WARMFORK_LC3_FAST_BUDGET && offsetof(State, port_interrupts) < 0xf00);
static_assert(offsetof(State, code) == WARMFORK_LC3_CODE && offsetof(State, exits) == WARMFORK_LC3_EXIT_STAY);
static_assert(offsetof(State, exits) + 8 == WARMFORK_LC3_EXIT_MISS);
static_assert(offsetof(State, cold_left) == WARMFORK_LC3_COLD_LEFT);
static_assert(offsetof(State, compiling) == WARMFORK_LC3_COMPILING);
static_assert(offsetof(State, counts) == WARMFORK_LC3_COUNTS);
static_assert(offsetof(State, input) == WARMFORK_LC3_INPUT && offsetof(State, output) == WARMFORK_LC3_OUTPUT);
static_assert(offsetof(State, guard_low) == 0x8000 && offsetof(State, memory) == WARMFORK_LC3_MEMORY);
static_assert(offsetof(State, guard_high) == WARMFORK_LC3_MEMORY + 2 * kMemoryWords);

/// What happened before and in a traced instruction besides itself.
enum TraceFlag : std::uint16_t {
  kEnteredInterrupt = 1,  // the keyboard interrupt was taken first: `address` is its routine's first instruction
  kEnteredException = 2,  // the instruction raised an exception
  kEnteredTrap = 4,       // a TRAP that went through the vector table
};

/// One record of lc3_trace: the machine after one instruction, and which instruction that was.
struct TraceRecord {
  std::uint16_t registers[8];
  std::uint16_t pc;
  std::uint16_t psr;
  std::uint16_t saved_ssp;
  std::uint16_t saved_usp;
  std::uint16_t address;  // of the instruction executed
  std::uint16_t word;     // the instruction itself
  std::uint16_t entered;  // of TraceFlag
  std::uint16_t reserved;
};
static_assert(sizeof(TraceRecord) == 32);

/// Per-address flags of the debugger.
enum WatchFlag : std::uint8_t { kBreakExecute = 1, kWatchRead = 2, kWatchWrite = 4 };

/// Counters that compiled code may have: two for each instruction of a version (lc3/jit/counts.hpp).
inline constexpr std::uint32_t kCodeCounters = 0x8000;

/// Statistics and breakpoints: 2.8 MiB, allocated only when asked for. Runs that only count use compiled code that
/// counts, where machines compile; all others with it are careful (slower).
struct Instrumentation {
  std::uint32_t collect;      // nonzero: count; zero: only watch flags are honoured
  std::uint32_t watch_count;  // number of addresses with flags, kept by set_watch()
  std::uint64_t opcodes[16];  // executed, by bits 15-12
  std::uint64_t register_reads[8];
  std::uint64_t register_writes[8];
  std::uint64_t branches_taken[kMemoryWords];  // by address of the BR; BR with an empty mask is not counted
  std::uint64_t branches_not_taken[kMemoryWords];
  std::uint64_t executions[kMemoryWords];    // by address of the instruction (coverage)
  std::uint64_t memory_reads[kMemoryWords];  // data reads by the program; fetches are in `executions`
  std::uint64_t memory_writes[kMemoryWords];
  std::uint64_t code_counts[kCodeCounters];  // of the compiled code in use: the host adds what they mean to the rest
  std::uint8_t watch[kMemoryWords];          // of WatchFlag
};

}  // namespace warmfork::lc3
