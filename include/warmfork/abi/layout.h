/* warmfork: the guest's address space and its ports, as both sides see them.
 *
 * Usable from C, C++ and assembly: macros only. A guest sees this map:
 *
 *   0x0000'0000  null guard, never mapped
 *   0x0001'0000  WARMFORK_SYSTEM_BASE: pages made by the host, read-only slot
 *                +0x0000  GDT, TSS, I/O bitmap   supervisor, read
 *                +0x1000  IDT                    supervisor, read
 *                +0x2000  exception stubs        supervisor, execute
 *                +0x3000  user stubs             user, execute (syscall entry, vmcall entries, call ring server)
 *   0x0001'4000  WARMFORK_FORK_PAGE: what is different in every fork (abi/fork_info.hpp) and the pristine extended
 *                state; user, read; written by the host only, in the window
 *   0x0020'0000  WARMFORK_USER_BASE: the lowest address a guest program may use
 *                read-only segments (image), writable segments (window), then the rest of the window:
 *                heap and mappings | guard | stack | guard | call area | guard | call ring | guard | exception stack
 *   (at a multiple of 2 MiB behind that, if the host has asked for one)
 *                code region: machine code the host writes; user, read and execute
 *   (behind that, if the host has asked for them)
 *                guard | shared region | guard | shared region | guard …: memory of several guests and the host; user,
 *                read or read and write, never execute; not mapped where the host has bound no memory. The host tells
 *                a program where its regions are
 */
#ifndef WARMFORK_ABI_LAYOUT_H
#define WARMFORK_ABI_LAYOUT_H

#define WARMFORK_ABI_VERSION 1

#define WARMFORK_PAGE_SIZE 0x1000
#define WARMFORK_SYSTEM_BASE 0x10000
#define WARMFORK_GDT_OFFSET 0x0000
#define WARMFORK_IDT_OFFSET 0x1000
#define WARMFORK_EXCEPTION_STUBS_OFFSET 0x2000
#define WARMFORK_USER_STUBS_OFFSET 0x3000
#define WARMFORK_SYSTEM_SIZE 0x4000
#define WARMFORK_FORK_PAGE 0x14000
#define WARMFORK_USER_BASE 0x200000

/* Offsets of the entry points in the user stub page. */
#define WARMFORK_STUB_SYSCALL 0x00
#define WARMFORK_STUB_VMCALL 0x10
#define WARMFORK_STUB_VMCALL_PRISTINE 0x20
#define WARMFORK_STUB_SERVE 0x40

/* The fork page: an XSAVE area in the standard format (Intel SDM vol. 1, 13.4) at its start, then ForkInfo. */
#define WARMFORK_FORK_XSTATE_SIZE 0xe00
#define WARMFORK_FORK_INFO_OFFSET 0xe00

/* Each exception vector v has a stub of WARMFORK_EXCEPTION_STUB_SIZE bytes that writes port PORT_EXCEPTION + v. */
#define WARMFORK_EXCEPTION_STUB_SIZE 8
#define WARMFORK_EXCEPTION_COUNT 32

/* Ports a guest may write (one byte; the value matters to the doorbell only). Any other port ends the guest. */
#define WARMFORK_PORT_EXCEPTION 0x20 /* 0x20 … 0x3f, from the exception stubs only */
#define WARMFORK_PORT_SYSCALL 0x40   /* from the syscall stub */
#define WARMFORK_PORT_RETURN 0x41    /* a vmcall has returned: result in rax */
#define WARMFORK_PORT_READY 0x42     /* the program is warm and waits for vmcalls */
#define WARMFORK_PORT_DOORBELL 0x44  /* the byte written is the number of the doorbell that rings */
#define WARMFORK_PORT_PARK 0x43      /* the call ring has been empty for as long as it was told to wait */

/* ELF note that names a program's vmcall table: owner "warmfork", this type,
 * descriptor: u64 ABI version, u64 address of the first entry, u64 address past the last entry. */
#define WARMFORK_NOTE_VMCALLS 1

#endif
