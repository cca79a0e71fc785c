/* The fast interpreter: threaded code over raw instruction words.
 *
 * Each of the 65,536 words has its entry in one constant table of handlers, so a fetched word dispatches by one indexed
 * jump. Nothing is decoded ahead and nothing is cached: code that modifies itself is exact at no cost, and table and
 * handlers are read-only, hence shared by all forks of a guest. Handlers are generated per opcode, register numbers and,
 * where it pays, immediates; a handler fills one slot of a fixed size, so the table is arithmetic. Assembly, because the
 * machine needs thirteen registers for good and two to work with: no calling convention of the compiler leaves that many.
 *
 *   r8d … r15d  R0 … R7     valid in their low 16 bits: what lies above is carry. Addresses are truncated after the offset
 *   eax         last result is added, everything else looks at 16 bits; that saves an extension per result.
 *   rsi         PC, as the address of the word behind the instruction, in State::memory or the guards around it
 *   rdi         budget that remains after this instruction
 *   rbx         address of State::memory
 *   rbp         address of the table
 *   ecx         on entry to a handler: the instruction word; free after that, as edx is
 *
 * PC is never checked: device space and the guards hold reserved opcodes, whose handler is `slow`, which takes the address
 * modulo 2^16. `slow` executes the whole instruction at PC with the careful step: TRAP, RTI, reserved opcodes, and loads
 * and stores of device space or across either end of memory. No handler changes anything before it has decided not to be
 * slow. Nothing may be stored between the fetch of a word and the use of its immediate (it stays in ecx). */
#include "warmfork/lc3/layout.h"

#define IN_STATE(offset) ((offset) - WARMFORK_LC3_MEMORY)(%rbx)
#define DEVICE_BYTES (2 * WARMFORK_LC3_DEVICE_BASE)

  .text

/* --- Dispatch ------------------------------------------------------------------------------------------------------ */
.macro NEXT
  sub $1, %rdi
  jb .Lleave
  movzwl (%rsi), %ecx
  add $2, %rsi
  jmp *(%rbp,%rcx,8)
.endm

/* Handlers of a group sit in slots of one size; .org refuses to go backwards, so one that outgrows its slot is an error. */
.macro GROUP group, slot
  .balign 64
  .set slot_size, \slot
\group:
  .set group_index, 0
.endm
.macro END_SLOT group
  .set group_index, group_index + 1
  .org \group + group_index * slot_size, 0xcc
.endm

/* --- Entry and exits ------------------------------------------------------------------------------------------------ */
.macro ENTER
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  sub $8, %rsp
  lea WARMFORK_LC3_MEMORY(%rdi), %rbx
.endm
.macro LOAD
  movzwl IN_STATE(WARMFORK_LC3_PC), %esi
  lea (%rbx,%rsi,2), %rsi
  mov IN_STATE(WARMFORK_LC3_FAST_BUDGET), %rdi
  movzwl IN_STATE(WARMFORK_LC3_LAST_RESULT), %eax
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 0), %r8d
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 2), %r9d
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 4), %r10d
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 6), %r11d
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 8), %r12d
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 10), %r13d
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 12), %r14d
  movzwl IN_STATE(WARMFORK_LC3_REGISTERS + 14), %r15d
.endm
.macro SPILL
  sub %rbx, %rsi
  shr $1, %rsi
  mov %si, IN_STATE(WARMFORK_LC3_PC)
  mov %rdi, IN_STATE(WARMFORK_LC3_FAST_BUDGET)
  mov %ax, IN_STATE(WARMFORK_LC3_LAST_RESULT)
  mov %r8w, IN_STATE(WARMFORK_LC3_REGISTERS + 0)
  mov %r9w, IN_STATE(WARMFORK_LC3_REGISTERS + 2)
  mov %r10w, IN_STATE(WARMFORK_LC3_REGISTERS + 4)
  mov %r11w, IN_STATE(WARMFORK_LC3_REGISTERS + 6)
  mov %r12w, IN_STATE(WARMFORK_LC3_REGISTERS + 8)
  mov %r13w, IN_STATE(WARMFORK_LC3_REGISTERS + 10)
  mov %r14w, IN_STATE(WARMFORK_LC3_REGISTERS + 12)
  mov %r15w, IN_STATE(WARMFORK_LC3_REGISTERS + 14)
.endm

/* StopReason lc3_fast_enter(State*): runs state->fast_budget instructions; leaves what remains there. */
  .globl lc3_fast_enter
  .hidden lc3_fast_enter
  .type lc3_fast_enter, @function
  .balign 64
lc3_fast_enter:
  ENTER
  lea .Ltable(%rip), %rbp
.Lreload:
  LOAD
  NEXT

/* --- Beside compiled code --------------------------------------------------------------------------------------------- */
/* The same interpreter with a second table: its transfers of control look whether there is compiled code for where they
 * go, and its stores whether compiled code was made from the word (code.hpp). Without an attached version, or where it has
 * no code, transfers are counted, so that a machine that interprets for long asks for compilation. */

/* Goes on at rsi, in compiled code if there is any: else by what follows the macro. */
.macro TO_CODE
  mov IN_STATE(WARMFORK_LC3_CODE), %rdx
  test %rdx, %rdx
  jz 1f
  mov %rsi, %rcx
  sub %rbx, %rcx
  shr $1, %rcx
  movzwl %cx, %ecx
  mov WARMFORK_LC3_CODE_ENTRIES(%rdx,%rcx,4), %ecx
  test %ecx, %ecx
  jz 1f
  mov %rdx, %rbp
  add %rdx, %rcx
  jmp *%rcx
1:
.endm
.macro NEXT_OR_CODE
  TO_CODE
  NEXT
.endm
.macro NEXT_TRANSFER
  TO_CODE
  decl IN_STATE(WARMFORK_LC3_COLD_LEFT)
  js .Lcompile
  NEXT
.endm

/* StopReason lc3_compiling_enter(State*): as lc3_fast_enter, with compiled code. */
  .globl lc3_compiling_enter
  .hidden lc3_compiling_enter
  .type lc3_compiling_enter, @function
  .balign 64
lc3_compiling_enter:
  ENTER
  lea .Lexit_stay(%rip), %rax
  mov %rax, IN_STATE(WARMFORK_LC3_EXIT_STAY)
  lea .Lexit_miss(%rip), %rax
  mov %rax, IN_STATE(WARMFORK_LC3_EXIT_MISS)
  jmp .Lreload_compiling

/* From compiled code, PC in esi. */
  .balign 16
.Lexit_stay:
  lea (%rbx,%rsi,2), %rsi
  lea .Lcompiling_table(%rip), %rbp
  NEXT
  .balign 16
.Lexit_miss:
  lea (%rbx,%rsi,2), %rsi
  lea .Lcompiling_table(%rip), %rbp
  decl IN_STATE(WARMFORK_LC3_COLD_LEFT)
  js .Lcompile
  NEXT

/* uint32_t lc3_counted_enter(State*): code that counts, from PC, where State::code has an entry. What remains of
 * state->fast_budget is left there. Returns 0 where the code has left to have one instruction interpreted, 1 behind a
 * transfer to where there is no code. */
  .globl lc3_counted_enter
  .hidden lc3_counted_enter
  .type lc3_counted_enter, @function
  .balign 64
lc3_counted_enter:
  ENTER
  lea .Lcounted_stay(%rip), %rax
  mov %rax, IN_STATE(WARMFORK_LC3_EXIT_STAY)
  lea .Lcounted_miss(%rip), %rax
  mov %rax, IN_STATE(WARMFORK_LC3_EXIT_MISS)
  LOAD
  mov IN_STATE(WARMFORK_LC3_CODE), %rbp
  mov IN_STATE(WARMFORK_LC3_COUNTS), %rdx
  movzwl IN_STATE(WARMFORK_LC3_PC), %ecx
  mov WARMFORK_LC3_CODE_ENTRIES(%rbp,%rcx,4), %ecx
  add %rbp, %rcx
  jmp *%rcx
.Lcounted_stay:
  lea (%rbx,%rsi,2), %rsi
  SPILL
  xor %eax, %eax
  jmp .Lreturn
.Lcounted_miss:
  lea (%rbx,%rsi,2), %rsi
  SPILL
  mov $1, %eax
  jmp .Lreturn

/* PC in rsi, nothing of the instruction there has happened. */
.Lcompile:
  SPILL
  mov $13, %eax  /* StopReason::kCompile, asserted by engine.cpp */
  jmp .Lreturn

/* --- Leaving ---------------------------------------------------------------------------------------------------------- */
/* The budget is used up: rdi is -1, PC is at the next instruction. */
.Lleave:
  xor %edi, %edi
  SPILL
  mov $1, %eax  /* StopReason::kBudget, asserted by engine.cpp */
.Lreturn:
  add $8, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

/* The instruction before rsi, carefully. */
  .balign 64
.Lslow:
  sub $2, %rsi
  SPILL
  lea -WARMFORK_LC3_MEMORY(%rbx), %rdi
  call lc3_fast_slow_step
  test %eax, %eax
  jnz .Lreturn
  cmpl $0, IN_STATE(WARMFORK_LC3_COMPILING)
  je .Lreload
.Lreload_compiling:
  LOAD
  lea .Lcompiling_table(%rip), %rbp
  NEXT_OR_CODE

/* --- Handlers ------------------------------------------------------------------------------------------------------- */
/* `.irp` over the numbers of the host registers that hold R0 … R7. */
#define EACH(name) .irp name, 8, 9, 10, 11, 12, 13, 14, 15

.macro ADD_REGISTER d, a, b
  lea (%r\a,%r\b), %r\d\()d
  mov %r\d\()d, %eax
  NEXT
  END_SLOT .Ladd_register
.endm
GROUP .Ladd_register, 32
EACH(d)
EACH(a)
EACH(b)
  ADD_REGISTER \d, \a, \b
.endr
.endr
.endr

.macro AND_REGISTER d, a, b
  mov %r\a\()d, %eax
  and %r\b\()d, %eax
  mov %eax, %r\d\()d
  NEXT
  END_SLOT .Land_register
.endm
GROUP .Land_register, 32
EACH(d)
EACH(a)
EACH(b)
  AND_REGISTER \d, \a, \b
.endr
.endr
.endr

/* Immediates are the slowest index of a group, as their field value (0 … 15, -16 … -1): programs use few of them, so what a
 * program needs lies in few pages, whichever registers it uses. */
#define SIGNED(value, sign) (((value) ^ (sign)) - (sign))

.macro ADD_IMMEDIATE d, a, value
  lea \value(%r\a), %r\d\()d
  mov %r\d\()d, %eax
  NEXT
  END_SLOT .Ladd_immediate
.endm
GROUP .Ladd_immediate, 32
.set immediate, 0
.rept 32
EACH(d)
EACH(a)
  ADD_IMMEDIATE \d, \a, SIGNED(immediate, 16)
.endr
.endr
.set immediate, immediate + 1
.endr

.macro AND_IMMEDIATE d, a, value
  .if \value == 0
    xor %eax, %eax
  .else
    mov %r\a\()d, %eax
    and $\value, %eax
  .endif
  mov %eax, %r\d\()d
  NEXT
  END_SLOT .Land_immediate
.endm
GROUP .Land_immediate, 32
.set immediate, 0
.rept 32
EACH(d)
EACH(a)
  AND_IMMEDIATE \d, \a, SIGNED(immediate, 16)
.endr
.endr
.set immediate, immediate + 1
.endr

.macro NOT d, a
  mov %r\a\()d, %eax
  not %eax
  mov %eax, %r\d\()d
  NEXT
  END_SLOT .Lnot
.endm
GROUP .Lnot, 32
EACH(d)
EACH(a)
  NOT \d, \a
.endr
.endr

/* BR: two dispatches, not one with a selected PC, so that a predicted branch lets the fetch run ahead of the data. The
 * offset is part of the handler, not taken from the word: else every taken branch would put a load and two shifts into
 * the chain of PCs, which is what bounds the speed (measured: 2.5 times slower on a loop of three instructions). */
.macro BRANCH offset, condition
  .ifnc \condition, never
    .ifnc \condition, always
      test %ax, %ax
      j\condition 1f
      NEXT
    .endif
1:
    add $(2 * \offset), %rsi
  .endif
  NEXT
  END_SLOT .Lbranch
.endm
GROUP .Lbranch, 64
.set immediate, 0
.rept 512
.irp condition, never, g, e, ns, s, ne, le, always
  BRANCH SIGNED(immediate, 256), \condition
.endr
.set immediate, immediate + 1
.endr

/* Addresses. BASED: ecx = word address base + offset6. RELATIVE: rcx = byte offset from the memory's begin, of the
 * incremented PC + offset9; beyond either end it is at least DEVICE_BYTES, unsigned. */
.macro BASED b, offset
  lea \offset(%r\b), %ecx
  movzwl %cx, %ecx
  cmp $WARMFORK_LC3_DEVICE_BASE, %ecx
  jae .Lslow
.endm
.macro RELATIVE_ADDRESS
  shl $55, %rcx  /* sign-extends bits 8-0, times two */
  sar $54, %rcx
  add %rsi, %rcx
  sub %rbx, %rcx
.endm
.macro RELATIVE
  RELATIVE_ADDRESS
  cmp $DEVICE_BYTES, %rcx
  jae .Lslow
.endm
.macro INDIRECT
  RELATIVE
  movzwl (%rbx,%rcx), %ecx
  cmp $WARMFORK_LC3_DEVICE_BASE, %ecx
  jae .Lslow
.endm

.macro LDR d, b, offset
  BASED \b, \offset
  movzwl (%rbx,%rcx,2), %r\d\()d
  mov %r\d\()d, %eax
  NEXT
  END_SLOT .Lldr
.endm
.macro STR d, b, offset
  BASED \b, \offset
  mov %r\d\()w, (%rbx,%rcx,2)
  NEXT
  END_SLOT .Lstr
.endm
GROUP .Lldr, 64
.set immediate, 0
.rept 64
EACH(d)
EACH(b)
  LDR \d, \b, SIGNED(immediate, 32)
.endr
.endr
.set immediate, immediate + 1
.endr
GROUP .Lstr, 64
.set immediate, 0
.rept 64
EACH(d)
EACH(b)
  STR \d, \b, SIGNED(immediate, 32)
.endr
.endr
.set immediate, immediate + 1
.endr

.macro LD d
  RELATIVE
  movzwl (%rbx,%rcx), %r\d\()d
  mov %r\d\()d, %eax
  NEXT
  END_SLOT .Lld
.endm
GROUP .Lld, 64
EACH(d)
  LD \d
.endr
.macro ST d
  RELATIVE
  mov %r\d\()w, (%rbx,%rcx)
  NEXT
  END_SLOT .Lst
.endm
GROUP .Lst, 64
EACH(d)
  ST \d
.endr
.macro LDI d
  INDIRECT
  movzwl (%rbx,%rcx,2), %r\d\()d
  mov %r\d\()d, %eax
  NEXT
  END_SLOT .Lldi
.endm
GROUP .Lldi, 128
EACH(d)
  LDI \d
.endr
.macro STI d
  INDIRECT
  mov %r\d\()w, (%rbx,%rcx,2)
  NEXT
  END_SLOT .Lsti
.endm
GROUP .Lsti, 128
EACH(d)
  STI \d
.endr
.macro LEA d
  RELATIVE_ADDRESS
  shr $1, %rcx
  mov %ecx, %r\d\()d
  cmpl $0, IN_STATE(WARMFORK_LC3_LEA_SETS_CC)
  cmovne %ecx, %eax
  NEXT
  END_SLOT .Llea
.endm
GROUP .Llea, 64
EACH(d)
  LEA \d
.endr

.macro JMP b
  movzwl %r\b\()w, %ecx
  lea (%rbx,%rcx,2), %rsi
  NEXT
  END_SLOT .Ljmp
.endm
GROUP .Ljmp, 32
EACH(b)
  JMP \b
.endr
.macro LINK
  sub %rbx, %rdx
  shr $1, %rdx
  mov %edx, %r15d
.endm
.macro JSRR b
  movzwl %r\b\()w, %ecx  /* before R7 changes: it may be the base */
  mov %rsi, %rdx
  lea (%rbx,%rcx,2), %rsi
  LINK
  NEXT
  END_SLOT .Ljsrr
.endm
GROUP .Ljsrr, 64
EACH(b)
  JSRR \b
.endr
.macro JSR offset
  mov %rsi, %rdx
  add $(2 * \offset), %rsi
  LINK
  NEXT
  END_SLOT .Ljsr
.endm
GROUP .Ljsr, 64
.set immediate, 0
.rept 2048
  JSR SIGNED(immediate, 1024)
.set immediate, immediate + 1
.endr

/* Beside compiled code. Offsets are taken from the word: what runs here is cold. */
.macro RELATIVE_TARGET sign_bits
  shl $(64 - \sign_bits), %rcx
  sar $(63 - \sign_bits), %rcx
  add %rcx, %rsi
.endm
.macro COMPILING_BRANCH condition
  .ifnc \condition, never
    .ifnc \condition, always
      test %ax, %ax
      j\condition 2f
      NEXT
2:
    .endif
    RELATIVE_TARGET 9
    NEXT_TRANSFER
  .else
    NEXT
  .endif
  END_SLOT .Lcompiling_branch
.endm
GROUP .Lcompiling_branch, 128
.irp condition, never, g, e, ns, s, ne, le, always
  COMPILING_BRANCH \condition
.endr
.macro COMPILING_JMP b
  movzwl %r\b\()w, %ecx
  lea (%rbx,%rcx,2), %rsi
  NEXT_TRANSFER
  END_SLOT .Lcompiling_jmp
.endm
GROUP .Lcompiling_jmp, 128
EACH(b)
  COMPILING_JMP \b
.endr
.macro COMPILING_JSRR b
  movzwl %r\b\()w, %ecx
  mov %rsi, %rdx
  lea (%rbx,%rcx,2), %rsi
  LINK
  NEXT_TRANSFER
  END_SLOT .Lcompiling_jsrr
.endm
GROUP .Lcompiling_jsrr, 128
EACH(b)
  COMPILING_JSRR \b
.endr
  .balign 64
.Lcompiling_jsr:
  mov %rsi, %rdx
  RELATIVE_TARGET 11
  LINK
  NEXT_TRANSFER

/* Stores: the word's address in ecx. */
.macro GUARD
  mov IN_STATE(WARMFORK_LC3_CODE), %rdx
  test %rdx, %rdx
  jz 1f
  cmpb $0, WARMFORK_LC3_CODE_GUARDED(%rdx,%rcx)
  jne .Lslow
1:
.endm
.macro COMPILING_STR d, b
  shl $58, %rcx
  sar $58, %rcx
  add %r\b\()d, %ecx
  movzwl %cx, %ecx
  cmp $WARMFORK_LC3_DEVICE_BASE, %ecx
  jae .Lslow
  GUARD
  mov %r\d\()w, (%rbx,%rcx,2)
  NEXT
  END_SLOT .Lcompiling_str
.endm
GROUP .Lcompiling_str, 128
EACH(d)
EACH(b)
  COMPILING_STR \d, \b
.endr
.endr
.macro COMPILING_ST d
  RELATIVE
  shr $1, %rcx
  GUARD
  mov %r\d\()w, (%rbx,%rcx,2)
  NEXT
  END_SLOT .Lcompiling_st
.endm
GROUP .Lcompiling_st, 128
EACH(d)
  COMPILING_ST \d
.endr
.macro COMPILING_STI d
  INDIRECT
  GUARD
  mov %r\d\()w, (%rbx,%rcx,2)
  NEXT
  END_SLOT .Lcompiling_sti
.endm
GROUP .Lcompiling_sti, 128
EACH(d)
  COMPILING_STI \d
.endr
  .size lc3_fast_enter, . - lc3_fast_enter

/* --- The table ------------------------------------------------------------------------------------------------------ */
#ifdef __PIC__
  .section .data.rel.ro, "aw", @progbits
#else
  .section .rodata, "a", @progbits
#endif
  .balign 4096
.macro SLOTS count, group, slot, index:vararg
  .rept \count
    .quad \group + (\slot) * (\index)
    .set word, word + 1
  .endr
.endm
#define HIGH ((word >> 9) & 7)
#define MIDDLE ((word >> 6) & 7)
#define PAIR ((word >> 6) & 0x3f)
/* The plain table, or the one beside compiled code: they differ in transfers of control and in stores. */
.macro TABLE compiling
  .set word, 0
  .if \compiling
    SLOTS 0x1000, .Lcompiling_branch, 128, HIGH                   /* 0000 */
  .else
    SLOTS 0x1000, .Lbranch, 64, (word & 0x1ff) << 3 | HIGH
  .endif
  .rept 64                                                        /* 0001, by bit 5 */
    SLOTS 32, .Ladd_register, 32, PAIR << 3 | (word & 7)
    SLOTS 32, .Ladd_immediate, 32, (word & 0x1f) << 6 | PAIR
  .endr
  SLOTS 0x1000, .Lld, 64, HIGH                                    /* 0010 */
  .if \compiling
    SLOTS 0x1000, .Lcompiling_st, 128, HIGH                       /* 0011 */
    SLOTS 0x800, .Lcompiling_jsrr, 128, MIDDLE                    /* 0100, by bit 11 */
    SLOTS 0x800, .Lcompiling_jsr, 0, 0
  .else
    SLOTS 0x1000, .Lst, 64, HIGH
    SLOTS 0x800, .Ljsrr, 64, MIDDLE
    SLOTS 0x800, .Ljsr, 64, word & 0x7ff
  .endif
  .rept 64                                                        /* 0101, by bit 5 */
    SLOTS 32, .Land_register, 32, PAIR << 3 | (word & 7)
    SLOTS 32, .Land_immediate, 32, (word & 0x1f) << 6 | PAIR
  .endr
  SLOTS 0x1000, .Lldr, 64, (word & 0x3f) << 6 | PAIR               /* 0110 */
  .if \compiling
    SLOTS 0x1000, .Lcompiling_str, 128, PAIR                      /* 0111 */
  .else
    SLOTS 0x1000, .Lstr, 64, (word & 0x3f) << 6 | PAIR
  .endif
  SLOTS 0x1000, .Lslow, 0, 0                                      /* 1000 RTI */
  SLOTS 0x1000, .Lnot, 32, PAIR                                   /* 1001 */
  SLOTS 0x1000, .Lldi, 128, HIGH                                  /* 1010 */
  .if \compiling
    SLOTS 0x1000, .Lcompiling_sti, 128, HIGH                      /* 1011 */
    SLOTS 0x1000, .Lcompiling_jmp, 128, MIDDLE                    /* 1100 */
  .else
    SLOTS 0x1000, .Lsti, 128, HIGH
    SLOTS 0x1000, .Ljmp, 32, MIDDLE
  .endif
  SLOTS 0x1000, .Lslow, 0, 0                                      /* 1101 reserved */
  SLOTS 0x1000, .Llea, 64, HIGH                                   /* 1110 */
  SLOTS 0x1000, .Lslow, 0, 0                                      /* 1111 TRAP */
  .if word != 0x10000
    .error "the handler table does not have 65,536 entries"
  .endif
.endm
.Ltable:
  TABLE 0
.Lcompiling_table:
  TABLE 1

  .section .note.GNU-stack, "", @progbits
