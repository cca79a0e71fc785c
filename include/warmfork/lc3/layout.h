/* Offsets into warmfork::lc3::State for code that is not C++: the fast interpreter and compiled code.
 * Usable from C, C++ and assembly: macros only. state.hpp asserts that they are true. */
#ifndef WARMFORK_LC3_LAYOUT_H
#define WARMFORK_LC3_LAYOUT_H

#define WARMFORK_LC3_REGISTERS 0x00   /* eight words */
#define WARMFORK_LC3_PC 0x10          /* word */
#define WARMFORK_LC3_LAST_RESULT 0x12 /* word; the condition code is its sign */
#define WARMFORK_LC3_PSR_SYSTEM 0x14  /* word; PSR bits 15 and 10-8 */
#define WARMFORK_LC3_KBSR 0x1a        /* word; bit 14 only */
#define WARMFORK_LC3_MCR 0x1e         /* word */
#define WARMFORK_LC3_CONFIG 0x20      /* dword */
#define WARMFORK_LC3_LEA_SETS_CC 0x24 /* dword; 0 or 1 */
#define WARMFORK_LC3_FAST_BUDGET 0x28 /* qword */
#define WARMFORK_LC3_CODE 0x30        /* qword; address of the attached code version, 0: none */
#define WARMFORK_LC3_EXIT_STAY 0x38   /* qword; where compiled code leaves to, see code.hpp */
#define WARMFORK_LC3_EXIT_MISS 0x40   /* qword */
#define WARMFORK_LC3_COLD_LEFT 0x48   /* dword, signed */
#define WARMFORK_LC3_COMPILING 0x4c   /* dword; 0: the plain fast interpreter */
#define WARMFORK_LC3_COUNTS 0x50      /* qword; address of the Instrumentation that compiled code counts in, 0: none */
#define WARMFORK_LC3_INPUT 0x1000
#define WARMFORK_LC3_OUTPUT 0x3000
#define WARMFORK_LC3_MEMORY 0x8800

#define WARMFORK_LC3_GUARD_WORDS 0x400
#define WARMFORK_LC3_DEVICE_BASE 0xfe00
#define WARMFORK_LC3_TRAP_WORD 0xd000

/* A code version (code.hpp), from its base. */
#define WARMFORK_LC3_CODE_ENTRIES 0x1000  /* 65,536 dwords: offset of the code that begins at an address, 0: none */
#define WARMFORK_LC3_CODE_GUARDED 0x41000 /* 65,536 bytes: nonzero where a store must not be done by compiled code */
#define WARMFORK_LC3_CODE_TEXT 0x51000

#endif
