/* Code of the raw guest (machine/raw_guest.hpp): what the backend probe and the floors run, without any program around
 * it. One page, position-independent.
 */
#include "warmfork/abi/layout.h"

    .section .rodata.warmfork_probe_code, "a"
    .balign 64 /* the start of a page in the guest: XRSTOR needs its area aligned */
    .global warmfork_probe_code_begin, warmfork_probe_code_end
    .global warmfork_probe_exit, warmfork_probe_exit_loop, warmfork_probe_syscall, warmfork_probe_cpl0_loop
    .global warmfork_probe_xrstor
warmfork_probe_code_begin:

/* One exit. */
warmfork_probe_exit:
    outb %al, $WARMFORK_PORT_RETURN
    hlt

/* Exits for ever: each KVM_RUN is one raw round trip. */
warmfork_probe_exit_loop:
    outb %al, $WARMFORK_PORT_RETURN
    jmp warmfork_probe_exit_loop

warmfork_probe_syscall:
    syscall
    hlt

/* Run at CPL 0: rcx iterations of two instructions, then an exit. */
warmfork_probe_cpl0_loop:
    subq $1, %rcx
    jnz warmfork_probe_cpl0_loop
    outb %al, $WARMFORK_PORT_RETURN
    hlt

/* As the first entry of a fork: all states that the processor has become initial. */
warmfork_probe_xrstor:
    movl $-1, %eax
    movl $-1, %edx
    xrstor64 1f(%rip)
    outb %al, $WARMFORK_PORT_RETURN
    hlt
    .balign 64
1:  .fill 24, 1, 0
    .long 0x1f80 /* MXCSR */
    .fill 548, 1, 0

warmfork_probe_code_end:
    .section .note.GNU-stack, "", @progbits
