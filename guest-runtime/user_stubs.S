/* The user stub page of the system pages (abi/layout.h): code the host puts into every guest, entered at CPL 3.
 * Assembled into the host as plain bytes; position-independent, as large as one page at most.
 *
 * The host takes over at every `out` and sets the registers itself, so nothing behind one is ever reached, except where
 * it says so; hlt (which faults at CPL 3 and stops at CPL 0) stands there all the same.
 */
#include "warmfork/abi/call_ring_layout.h"
#include "warmfork/abi/layout.h"

    .section .rodata.warmfork_user_stubs, "a"
    .balign 16
    .global warmfork_user_stubs_begin, warmfork_user_stubs_end
warmfork_user_stubs_begin:

    /* SYSCALL lands here (MSR LSTAR): at CPL 0 on hardware, still at CPL 3 on kvm-pvm. One instruction either way. */
    .org WARMFORK_STUB_SYSCALL, 0xf4
    outb %al, $WARMFORK_PORT_SYSCALL
    hlt

    /* A vmcall starts here: rax = function, rdi rsi rdx rcx r8 r9 = arguments, rsp 16-byte aligned. */
    .org WARMFORK_STUB_VMCALL, 0xf4
    call *%rax
    outb %al, $WARMFORK_PORT_RETURN
    hlt

    /* The first vmcall after a fork or a reset: all x87, SSE, AVX and AVX-512 state becomes the snapshot's before any
     * other instruction runs. r11 = function, rdi rsi r10 rcx r8 r9 = arguments, edx:eax = all ones (the states to
     * restore, Intel SDM vol. 1, 13.8). */
    .org WARMFORK_STUB_VMCALL_PRISTINE, 0xf4
    xrstor64 WARMFORK_FORK_PAGE
    movq %r10, %rdx
    call *%r11
    outb %al, $WARMFORK_PORT_RETURN
    hlt

    /* Serves a call ring (abi/call_ring.hpp) without exits until a request's function is 0. Entered by `call` like any
     * vmcall: rdi = ring, rsi = first sequence number, rdx = polls before parking (0: never); but it preserves nothing.
     * What a called function preserves (System V AMD64 ABI, 3.2.1) holds everything between calls. The host continues
     * behind the parking exit when there is a request. PAUSE is for a processor shared with whoever makes requests; it
     * comes seldom because a request that comes during one is seen later. */
    .org WARMFORK_STUB_SERVE, 0xf4
    subq $8, %rsp /* behind a call: called functions find it aligned again */
    movq %rdi, %rbx
    movq %rsi, %r12
    movq %rdx, %r13
1:  movl %r12d, %r14d
    andl $(WARMFORK_CALL_RING_SLOTS - 1), %r14d
    shll $WARMFORK_CALL_RING_SLOT_SHIFT, %r14d
    addq %rbx, %r14
2:  movq %r13, %r15
3:  cmpq %r12, WARMFORK_CALL_RING_REQUEST_SEQUENCE(%r14)
    je 4f
    decq %r15
    testb %r15b, %r15b
    jnz 3b
    pause
    testq %r15, %r15
    jnz 3b
    outb %al, $WARMFORK_PORT_PARK
    jmp 2b
4:  movq WARMFORK_CALL_RING_FUNCTION(%r14), %rax
    testq %rax, %rax
    jz 5f
    movq WARMFORK_CALL_RING_ARGUMENTS + 0x00(%r14), %rdi
    movq WARMFORK_CALL_RING_ARGUMENTS + 0x08(%r14), %rsi
    movq WARMFORK_CALL_RING_ARGUMENTS + 0x10(%r14), %rdx
    movq WARMFORK_CALL_RING_ARGUMENTS + 0x18(%r14), %rcx
    movq WARMFORK_CALL_RING_ARGUMENTS + 0x20(%r14), %r8
    movq WARMFORK_CALL_RING_ARGUMENTS + 0x28(%r14), %r9
    call *%rax
    movq %rax, WARMFORK_CALL_RING_RESULT(%r14)
    movq %r12, WARMFORK_CALL_RING_RESPONSE_SEQUENCE(%r14)
    incq %r12
    jmp 1b
5:  addq $8, %rsp
    ret

warmfork_user_stubs_end:

    .section .note.GNU-stack, "", @progbits
