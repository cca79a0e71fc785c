/* Where report_state() and the register image have what: for assembly and C++ (scribble.hpp checks that both agree). */
#ifndef WARMFORK_PROBES_SCRIBBLE_LAYOUT_H
#define WARMFORK_PROBES_SCRIBBLE_LAYOUT_H

/* StateReport */
#define REPORT_RAX 0x000
#define REPORT_RBX 0x008
#define REPORT_RCX 0x010
#define REPORT_RDX 0x018
#define REPORT_RSI 0x020
#define REPORT_RDI 0x028
#define REPORT_RBP 0x030
#define REPORT_RSP 0x038
#define REPORT_R8 0x040
#define REPORT_R9 0x048
#define REPORT_R10 0x050
#define REPORT_R11 0x058
#define REPORT_R12 0x060
#define REPORT_R13 0x068
#define REPORT_R14 0x070
#define REPORT_R15 0x078
#define REPORT_RFLAGS 0x080
#define REPORT_RETURN_ADDRESS 0x088
#define REPORT_BELOW_STACK 0x090
#define REPORT_CS 0x098
#define REPORT_SS 0x0a0
#define REPORT_DS 0x0a8
#define REPORT_ES 0x0b0
#define REPORT_FS 0x0b8
#define REPORT_GS 0x0c0
#define REPORT_FS_BASE 0x0c8
#define REPORT_GS_BASE 0x0d0
#define REPORT_MXCSR 0x0d8
#define REPORT_PKRU 0x0e0
#define REPORT_XCR0 0x0e8
#define REPORT_XINUSE 0x0f0
#define REPORT_MEMORY_HASH 0x0f8
#define REPORT_X87_ENVIRONMENT 0x100
#define REPORT_FXSAVE 0x200
#define REPORT_XSAVE 0x400
#define REPORT_XSAVE_SIZE 0x3000
#define REPORT_SIZE 0x3400

/* RegisterImage */
#define IMAGE_GPRS 0x000 /* in the order of REPORT_R* */
#define IMAGE_RFLAGS 0x080
#define IMAGE_DS 0x088
#define IMAGE_ES 0x090
#define IMAGE_FS 0x098
#define IMAGE_GS 0x0a0
#define IMAGE_FS_BASE 0x0a8
#define IMAGE_GS_BASE 0x0b0
#define IMAGE_MXCSR 0x0b8
#define IMAGE_FCW 0x0c0
#define IMAGE_PKRU 0x0c8
#define IMAGE_FEATURES 0x0d0 /* FEATURE_* */
#define IMAGE_X87_COUNT 0x0d8
#define IMAGE_X87 0x100 /* 8 × 16 bytes */
#define IMAGE_MASKS 0x180
#define IMAGE_VECTORS 0x1c0 /* 32 × 64 bytes */
#define IMAGE_SIZE 0x9c0

#define FEATURE_AVX 1
#define FEATURE_AVX512 2 /* with byte and word masks: k0 to k7 have 64 bits */
#define FEATURE_PKRU 4
#define FEATURE_FSGSBASE 8
#define FEATURE_X87_PENDING 16

/* Options of the calls. */
#define SCRIBBLE_FSGSBASE 1 /* RDFSBASE and its like may be used */
#define SCRIBBLE_PENDING 2  /* leaves an unmasked x87 exception pending and unmasks those of SSE */
#define SCRIBBLE_KEEP 4 /* random_scribble: leaves its mappings as they are, also those without access, and FS, GS */

#endif
