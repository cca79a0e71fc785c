/* The parts of probe_scribble that C++ cannot say: every register loaded and left so, every register seen as it is. */
#include "layout.h"
#include "warmfork/abi/layout.h"

    .text

/* [[noreturn]] void load_registers_and_leave(const RegisterImage* rdi): loads everything, then returns from the vmcall
 * without a way back: nothing between the last load and the OUT. Which loads are possible stands in the image.
 */
    .global load_registers_and_leave
    .type load_registers_and_leave, @function
load_registers_and_leave:
    movq IMAGE_FEATURES(%rdi), %rsi

    /* x87: some of the eight registers (FLD m80 never faults), one inexact operation for the status word, then the
     * control word. Nothing that waits for exceptions comes behind it. */
    fninit
    fldpi
    fld1
    fdivp                   /* 1/pi: sets PE, FOP, FIP */
    fstp %st(0)
    movq IMAGE_X87_COUNT(%rdi), %rcx
    leaq IMAGE_X87(%rdi), %rdx
1:  testq %rcx, %rcx
    jz 2f
    fldt (%rdx)             /* and FDP */
    addq $16, %rdx
    decq %rcx
    jmp 1b
2:  fldcw IMAGE_FCW(%rdi)   /* masks nothing if FEATURE_X87_PENDING: PE is pending then */

    testq $FEATURE_AVX512, %rsi
    jz 3f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 (IMAGE_VECTORS + 64 * \n)(%rdi), %zmm\n
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    kmovq (IMAGE_MASKS + 8 * \n)(%rdi), %k\n
    .endr
    jmp 5f
3:  testq $FEATURE_AVX, %rsi
    jz 4f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu (IMAGE_VECTORS + 64 * \n)(%rdi), %ymm\n
    .endr
    jmp 5f
4:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups (IMAGE_VECTORS + 64 * \n)(%rdi), %xmm\n
    .endr
5:  ldmxcsr IMAGE_MXCSR(%rdi)

    testq $FEATURE_PKRU, %rsi
    jz 6f
    xorl %ecx, %ecx
    xorl %edx, %edx
    movl IMAGE_PKRU(%rdi), %eax
    wrpkru
6:
    movl IMAGE_DS(%rdi), %eax
    movl %eax, %ds
    movl IMAGE_ES(%rdi), %eax
    movl %eax, %es
    movl IMAGE_FS(%rdi), %eax
    movl %eax, %fs
    movl IMAGE_GS(%rdi), %eax
    movl %eax, %gs
    testq $FEATURE_FSGSBASE, %rsi
    jz 7f
    movq IMAGE_FS_BASE(%rdi), %rax
    wrfsbase %rax
    movq IMAGE_GS_BASE(%rdi), %rax
    wrgsbase %rax
7:
    pushq IMAGE_RFLAGS(%rdi)
    popfq                   /* from here on MOV only, aligned: AC may be set */
    movq (IMAGE_GPRS + REPORT_RAX)(%rdi), %rax
    movq (IMAGE_GPRS + REPORT_RBX)(%rdi), %rbx
    movq (IMAGE_GPRS + REPORT_RCX)(%rdi), %rcx
    movq (IMAGE_GPRS + REPORT_RDX)(%rdi), %rdx
    movq (IMAGE_GPRS + REPORT_RSI)(%rdi), %rsi
    movq (IMAGE_GPRS + REPORT_RBP)(%rdi), %rbp
    movq (IMAGE_GPRS + REPORT_RSP)(%rdi), %rsp
    movq (IMAGE_GPRS + REPORT_R8)(%rdi), %r8
    movq (IMAGE_GPRS + REPORT_R9)(%rdi), %r9
    movq (IMAGE_GPRS + REPORT_R10)(%rdi), %r10
    movq (IMAGE_GPRS + REPORT_R11)(%rdi), %r11
    movq (IMAGE_GPRS + REPORT_R12)(%rdi), %r12
    movq (IMAGE_GPRS + REPORT_R13)(%rdi), %r13
    movq (IMAGE_GPRS + REPORT_R14)(%rdi), %r14
    movq (IMAGE_GPRS + REPORT_R15)(%rdi), %r15
    movq (IMAGE_GPRS + REPORT_RDI)(%rdi), %rdi
    outb %al, $WARMFORK_PORT_RETURN
    ud2
    .size load_registers_and_leave, . - load_registers_and_leave

/* u64 report_state(StateReport* rdi, u64 options rsi, const Range* rdx, u64 count rcx): stores all it finds before any
 * of it changes, then the hash of the ranges, which it returns.
 */
    .global report_state
    .type report_state, @function
report_state:
    movq %rax, REPORT_RAX(%rdi)
    movq %rbx, REPORT_RBX(%rdi)
    movq %rcx, REPORT_RCX(%rdi)
    movq %rdx, REPORT_RDX(%rdi)
    movq %rsi, REPORT_RSI(%rdi)
    movq %rdi, REPORT_RDI(%rdi)
    movq %rbp, REPORT_RBP(%rdi)
    movq %rsp, REPORT_RSP(%rdi)
    movq %r8, REPORT_R8(%rdi)
    movq %r9, REPORT_R9(%rdi)
    movq %r10, REPORT_R10(%rdi)
    movq %r11, REPORT_R11(%rdi)
    movq %r12, REPORT_R12(%rdi)
    movq %r13, REPORT_R13(%rdi)
    movq %r14, REPORT_R14(%rdi)
    movq %r15, REPORT_R15(%rdi)
    movq (%rsp), %rax
    movq %rax, REPORT_RETURN_ADDRESS(%rdi)
    movq -8(%rsp), %rax
    movq %rax, REPORT_BELOW_STACK(%rdi)
    pushfq
    popq REPORT_RFLAGS(%rdi)
    pushq $2                /* no DF for REP STOS, no AC for the compiler's code */
    popfq
    movq %rax, -8(%rsp)     /* the hash sees the stack as it was */
    xorl %eax, %eax
    movl %cs, %eax
    movq %rax, REPORT_CS(%rdi)
    movl %ss, %eax
    movq %rax, REPORT_SS(%rdi)
    movl %ds, %eax
    movq %rax, REPORT_DS(%rdi)
    movl %es, %eax
    movq %rax, REPORT_ES(%rdi)
    movl %fs, %eax
    movq %rax, REPORT_FS(%rdi)
    movl %gs, %eax
    movq %rax, REPORT_GS(%rdi)

    movq %rdi, %r12
    movq %rsi, %r13
    movq %rdx, %r14
    movq %rcx, %r15
    leaq REPORT_FS_BASE(%r12), %rdi
    movl $((REPORT_SIZE - REPORT_FS_BASE) / 8), %ecx
    xorl %eax, %eax
    rep stosq

    /* All of the extended state while it is as it was found. FNSTENV masks all exceptions, so it comes last. */
    stmxcsr REPORT_MXCSR(%r12)
    movl $1, %eax
    xorl %ecx, %ecx
    cpuid
    btl $27, %ecx           /* OSXSAVE */
    jnc 2f
    xorl %ecx, %ecx
    xgetbv
    movl %eax, REPORT_XCR0(%r12)
    movl %edx, (REPORT_XCR0 + 4)(%r12)
    movl $0xd, %eax
    movl $1, %ecx
    cpuid
    btl $2, %eax            /* XGETBV with ECX=1 */
    jnc 1f
    movl $1, %ecx
    xgetbv
    movl %eax, REPORT_XINUSE(%r12)
    movl %edx, (REPORT_XINUSE + 4)(%r12)
1:  movl $0xd, %eax
    xorl %ecx, %ecx
    cpuid
    movl $-1, %eax
    movl $-1, %edx
    cmpl $REPORT_XSAVE_SIZE, %ebx
    jbe 3f
    movl $0xe7, %eax        /* larger than any area known: what is part of every processor's */
    xorl %edx, %edx
3:  xsave64 REPORT_XSAVE(%r12)
2:  fxsave64 REPORT_FXSAVE(%r12)
    fnstenv REPORT_X87_ENVIRONMENT(%r12)

    testq $SCRIBBLE_FSGSBASE, %r13
    jz 4f
    rdfsbase %rax
    movq %rax, REPORT_FS_BASE(%r12)
    rdgsbase %rax
    movq %rax, REPORT_GS_BASE(%r12)
4:  movl $7, %eax
    xorl %ecx, %ecx
    cpuid
    btl $4, %ecx            /* OSPKE */
    jnc 5f
    xorl %ecx, %ecx
    rdpkru
    movl %eax, REPORT_PKRU(%r12)
5:
    movq %r12, %rdi
    movq %r14, %rsi
    movq %r15, %rdx
    subq $8, %rsp
    call hash_memory
    addq $8, %rsp
    movq %rax, REPORT_MEMORY_HASH(%r12)
    ret
    .size report_state, . - report_state

    .section .note.GNU-stack, "", @progbits
