/* The note that names a guest program's vmcall table (abi/layout.h); linked into every program that offers vmcalls. */
#include "warmfork/abi/layout.h"

    .section .note.warmfork, "a", @note
    .balign 4
    .long 2f - 1f
    .long 4f - 3f
    .long WARMFORK_NOTE_VMCALLS
1:  .asciz "warmfork"
2:  .balign 4
3:  .quad WARMFORK_ABI_VERSION
    .quad __start_warmfork_vmcalls
    .quad __stop_warmfork_vmcalls
4:
    .section .note.GNU-stack, "", @progbits
