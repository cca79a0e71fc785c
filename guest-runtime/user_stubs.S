/* The user stub page of the system pages (abi/layout.h): code the host puts into every guest, entered at CPL 3.
 * Assembled into the host as plain bytes; position-independent, as large as one page at most.
 *
 * The host takes over at every `out` and sets the registers itself, so nothing behind one is ever reached; hlt (which
 * faults at CPL 3 and stops at CPL 0) stands there all the same.
 */
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

warmfork_user_stubs_end:

    .section .note.GNU-stack, "", @progbits
