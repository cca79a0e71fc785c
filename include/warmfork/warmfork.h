/* warmfork for C: a guest program is booted once, frozen when it is warm, and every request gets a fork of it that
 * nobody has used before. warmfork/warmfork.hpp explains the ideas; tests/api/example.c is a whole program.
 *
 * Results: every function that can fail returns WARMFORK_OK (0) or another enum warmfork_kind, and writes the reason to
 * *error unless that is NULL. What it would have returned is left as it was. Nothing is thrown, nothing aborts; running
 * out of memory is WARMFORK_HOST. Handles that are NULL are WARMFORK_USAGE; freeing NULL does nothing.
 *
 * Structures: set `size` to sizeof the structure and everything else to zero for the defaults, as the _INIT macros do:
 *     warmfork_pool_options options = WARMFORK_POOL_OPTIONS_INIT;
 * A library that is newer takes what it does not find as zero; one that is older refuses (WARMFORK_UNSUPPORTED) what it
 * does not know unless it is zero. Pointers to options may be NULL: all defaults. Nothing is kept of what they point to
 * after the function has returned, but for the output function and its context.
 *
 * Units: times in nanoseconds (0: no limit, or the default named there; take 1 for what has passed already), sizes in
 * bytes. Strings end with NUL and are UTF-8 or whatever the file system says.
 *
 * Threads: a snapshot and a pool may be used by any number of threads at once, a fork and a master by one at a time but
 * for warmfork_fork_cancel(). No function may be called for a handle that is being freed. The library uses signal
 * SIGRTMIN+3 and threads of its own, as warmfork.hpp says. */
#ifndef WARMFORK_WARMFORK_H
#define WARMFORK_WARMFORK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- Errors ------------------------------------------------------------------------------------------------------- */

/* The numbers never change. */
enum warmfork_kind {
  WARMFORK_OK = 0,
  WARMFORK_USAGE = 1,       /* the caller's: NULL, a wrong size, too many arguments, options that contradict */
  WARMFORK_INPUT = 2,       /* the guest program's file is not valid, or has no such function */
  WARMFORK_HOST = 3,        /* the host lacks something: a KVM device, a capability, memory, file descriptors */
  WARMFORK_GUEST_FAULT = 4, /* the guest did something that ended it; also an address it may not use itself */
  WARMFORK_DEADLINE = 5,    /* a timeout has passed */
  WARMFORK_CANCELLED = 6,   /* by warmfork_fork_cancel() or warmfork_pool_close() */
  WARMFORK_LIMIT = 7,       /* a size does not fit into a configured limit */
  WARMFORK_UNSUPPORTED = 8  /* valid, but not supported by this machine or version */
};

/* The caller's memory; written only by functions that fail. Its layout never changes. */
typedef struct warmfork_error {
  int32_t kind;         /* enum warmfork_kind */
  int32_t system_errno; /* of the system call that failed, 0 if none */
  char message[504];    /* one sentence, cut off if it is too long; always ends with NUL */
} warmfork_error;

/* "ok", "usage", "input", …; "unknown" for other numbers. Never NULL, never to be freed. */
const char* warmfork_kind_name(int kind);

/* --- Handles and callbacks ---------------------------------------------------------------------------------------- */

typedef struct warmfork_snapshot warmfork_snapshot; /* a warm guest, frozen */
typedef struct warmfork_pool warmfork_pool;         /* ready forks of a snapshot */
typedef struct warmfork_fork warmfork_fork;         /* a fork on loan from a pool */
typedef struct warmfork_master warmfork_master;     /* the guest before it is frozen */

/* Gets what a guest writes to descriptor 1 or 2: hostile bytes, in pieces, without NUL. Runs on the thread that runs
 * the guest; for a pool several may be in it at once. It must not use that fork. */
typedef void (*warmfork_output)(void* context, int descriptor, const char* bytes, size_t size);

/* Warms the master up by calls into it. Returns WARMFORK_OK, or any other kind if there is to be no snapshot: the boot
 * then fails with it and with what *error says (never NULL; handing it to the functions below is enough). */
typedef int (*warmfork_warm_up)(void* context, warmfork_master* master, warmfork_error* error);

/* --- Snapshots ---------------------------------------------------------------------------------------------------- */

typedef struct warmfork_boot_options {
  size_t size;
  const char* name;               /* argv[0] and in messages; NULL: the path, or "program" */
  const char* const* arguments;   /* from argv[1] on, ending with NULL; NULL: none */
  const char* const* environment; /* NAME=value, ending with NULL; NULL: none. Nothing of the host's is passed on */
  uint64_t memory_bytes;          /* everything the guest can write, together; 0: 64 MiB */
  uint64_t stack_bytes;           /* 0: 1 MiB */
  uint64_t call_area_bytes;       /* where warmfork_fork_write() puts buffers; 0: 64 KiB */
  uint64_t timeout_ns;            /* of booting, and of each warm-up call that has none of its own; 0: no limit */
  uint64_t seed;                  /* of random bytes while booting, if has_seed */
  uint64_t has_seed;              /* 0: the host's entropy; 1: seed */
  const char* kvm_device;         /* NULL: /dev/kvm */
  warmfork_output output;         /* NULL: what the guest prints is discarded */
  void* output_context;
  warmfork_warm_up warm_up; /* NULL: none */
  void* warm_up_context;
} warmfork_boot_options;
#define WARMFORK_BOOT_OPTIONS_INIT {.size = sizeof(warmfork_boot_options)}

/* Boots the static x86-64 Linux program in the file `path` until it waits for calls, warms it up, freezes it; takes
 * milliseconds. *snapshot is to be freed by warmfork_snapshot_free(). Errors: INPUT (no such file, not such a program),
 * GUEST_FAULT (it crashed, or exited without waiting for calls), DEADLINE, LIMIT (memory_bytes), HOST (no KVM device
 * …), UNSUPPORTED, USAGE, and what warm_up returns. */
int warmfork_snapshot_boot(const char* path, const warmfork_boot_options* options, warmfork_snapshot** snapshot,
                           warmfork_error* error);
/* The same with the bytes of such a file, which may go afterwards. */
int warmfork_snapshot_boot_bytes(const void* elf, size_t elf_size, const warmfork_boot_options* options,
                                 warmfork_snapshot** snapshot, warmfork_error* error);

/* Writes the snapshot to `path`, which holds the old file or all of the new one at any time; readable by its owner
 * only, as it holds all of a guest's memory. Errors: USAGE (`path` is no regular file), HOST. */
int warmfork_snapshot_save(const warmfork_snapshot* snapshot, const char* path, warmfork_error* error);
/* What warmfork_snapshot_save() wrote, here or on another machine of the kind. kvm_device NULL: /dev/kvm. Errors: INPUT
 * (no such file, damaged, foreign), UNSUPPORTED (of another version, or of a processor with more features), LIMIT,
 * HOST. */
int warmfork_snapshot_load(const char* path, const char* kvm_device, warmfork_snapshot** snapshot,
                           warmfork_error* error);

/* The address of a function by the name it was registered under, else by its symbol; valid for all forks of the
 * snapshot. Costs a search: once, not for every request. Errors: INPUT (no such function). */
int warmfork_snapshot_find(const warmfork_snapshot* snapshot, const char* name, uint64_t* function,
                           warmfork_error* error);
/* Bytes of memory the snapshot itself holds; 0 for NULL. */
uint64_t warmfork_snapshot_stored_bytes(const warmfork_snapshot* snapshot);
/* Pools made from it keep what they need. */
void warmfork_snapshot_free(warmfork_snapshot* snapshot);

/* --- Calls -------------------------------------------------------------------------------------------------------- */

#define WARMFORK_MAX_ARGUMENTS 6

typedef struct warmfork_call {
  size_t size;
  uint64_t function; /* from a _find function */
  uint64_t arguments[WARMFORK_MAX_ARGUMENTS];
  uint64_t argument_count; /* at most WARMFORK_MAX_ARGUMENTS, else USAGE */
  uint64_t timeout_ns;     /* the longest it may take; 0: the pool's (the boot's for a master); UINT64_MAX: no limit */
} warmfork_call;
#define WARMFORK_CALL_INIT {.size = sizeof(warmfork_call)}

/* --- The master, during warm-up only ------------------------------------------------------------------------------ */

/* As those of snapshots and forks. */
int warmfork_master_find(warmfork_master* master, const char* name, uint64_t* function, warmfork_error* error);
int warmfork_master_call(warmfork_master* master, const warmfork_call* call, uint64_t* answer, warmfork_error* error);
int warmfork_master_write(warmfork_master* master, uint64_t offset, const void* bytes, size_t size, uint64_t* address,
                          warmfork_error* error);
int warmfork_master_read(warmfork_master* master, uint64_t address, void* bytes, size_t size, warmfork_error* error);

/* --- Pools -------------------------------------------------------------------------------------------------------- */

enum warmfork_fork_kind {
  WARMFORK_SPACE = 0, /* page tables and memory of its own in a VM shared with the pool's other forks */
  WARMFORK_VM = 1     /* a KVM VM of its own */
};
enum warmfork_reset_mode {
  WARMFORK_RESET_AUTO = 0,
  WARMFORK_RESET_FULL_COPY = 1,
  WARMFORK_RESET_DIRTY_LOG = 2,
  WARMFORK_RESET_DIRTY_RING = 3,
  WARMFORK_RESET_COW_REMAP = 4
};
enum warmfork_reset_policy {
  WARMFORK_STRICT = 0,  /* before a request returns: nothing of it is in memory afterwards */
  WARMFORK_DEFERRED = 1 /* later, when the fork is next taken or in the background */
};

typedef struct warmfork_pool_options {
  size_t size;
  uint32_t kind;               /* enum warmfork_fork_kind */
  uint32_t reset;              /* enum warmfork_reset_mode */
  uint32_t policy;             /* enum warmfork_reset_policy */
  uint32_t has_seed;           /* 0: unpredictable random bytes; 1: seed */
  uint64_t seed;               /* every fork gets the same random bytes */
  uint64_t ready;              /* forks made ahead; 0: one */
  uint64_t most;               /* forks at once, who wants one more waits; 0: 64 */
  uint64_t timeout_ns;         /* of calls that have none of their own; 0: no limit */
  uint64_t heap_limit_bytes;   /* of each fork; 0: all of memory_bytes that is left */
  uint64_t instruction_budget; /* handed to guests that count instructions themselves; 0: none */
  warmfork_output output;      /* NULL: what guests print is discarded */
  void* output_context;
} warmfork_pool_options;
#define WARMFORK_POOL_OPTIONS_INIT {.size = sizeof(warmfork_pool_options)}

typedef struct warmfork_pool_stats {
  size_t size;
  uint64_t acquired;  /* forks lent, to requests too */
  uint64_t waited;    /* of them, after waiting for another to come back */
  uint64_t faults;    /* forks that came back crashed or exited … */
  uint64_t deadlines; /* … or stopped, by a deadline or a cancellation */
  uint64_t replaced;  /* forks that could not be reset and were thrown away */
  uint64_t forks;     /* alive now */
  uint64_t vcpus;     /* alive now */
  uint64_t in_use;    /* lent now */
} warmfork_pool_stats;
#define WARMFORK_POOL_STATS_INIT {.size = sizeof(warmfork_pool_stats)}

/* Makes options->ready forks. *pool is to be freed by warmfork_pool_free(). Errors: USAGE (ready > most, a number that
 * is in no enum), LIMIT (`most` is more than this KVM can have), UNSUPPORTED (a reset mode this KVM lacks), HOST. */
int warmfork_pool_create(const warmfork_snapshot* snapshot, const warmfork_pool_options* options, warmfork_pool** pool,
                         warmfork_error* error);
/* One call in a fork nobody has used since it was reset. The call's deadline is that of the whole request: waiting for
 * a fork counts. A guest that crashes costs this request, nothing else. Errors: those of warmfork_fork_call() and
 * warmfork_pool_acquire(). */
int warmfork_pool_request(warmfork_pool* pool, const warmfork_call* call, uint64_t* answer, warmfork_error* error);
/* A fork as new; *fork is to be given back by warmfork_fork_free(). Waits while all are in use, at most `timeout_ns`
 * (0: as long as it takes; 1: not at all). Errors: DEADLINE, CANCELLED (the pool is closed), HOST. */
int warmfork_pool_acquire(warmfork_pool* pool, uint64_t timeout_ns, warmfork_fork** fork, warmfork_error* error);
/* Cancels calls and acquisitions in flight and returns when every fork has been given back: not for a thread that holds
 * one. The pool only says CANCELLED from then on. */
void warmfork_pool_close(warmfork_pool* pool);
/* Fills in as much as stats->size holds. Errors: USAGE. */
int warmfork_pool_read_stats(const warmfork_pool* pool, warmfork_pool_stats* stats, warmfork_error* error);
/* Writes "space forks, copied, reset by dirty_ring, strict" … to `text`, cut off after size - 1 characters, with a NUL;
 * returns its whole length, as snprintf does. With size 0 text may be NULL. 0 for NULL. */
size_t warmfork_pool_describe(const warmfork_pool* pool, char* text, size_t size);
/* No thread may be inside a function of the pool. Forks on loan stay usable and keep alive what they need. */
void warmfork_pool_free(warmfork_pool* pool);

/* --- Forks -------------------------------------------------------------------------------------------------------- */

/* Calls a function of the guest; *answer is what it returns. Errors: USAGE; GUEST_FAULT, DEADLINE, CANCELLED and HOST:
 * every later call fails until warmfork_fork_reset(). */
int warmfork_fork_call(warmfork_fork* fork, const warmfork_call* call, uint64_t* answer, warmfork_error* error);
/* Copies `size` bytes into the call area at `offset`; *address is where the guest sees them. Errors: LIMIT. */
int warmfork_fork_write(warmfork_fork* fork, uint64_t offset, const void* bytes, size_t size, uint64_t* address,
                        warmfork_error* error);
/* Copies guest memory out, with the guest's own rights. Errors: GUEST_FAULT (it may not read there itself); with an
 * open channel LIMIT (outside the call area). */
int warmfork_fork_read(warmfork_fork* fork, uint64_t address, void* bytes, size_t size, warmfork_error* error);
/* As new, whatever has become of the guest; closes the channel. Errors: HOST (free it). */
int warmfork_fork_reset(warmfork_fork* fork, warmfork_error* error);
/* Different for every fork and every reset in this process; 0 for NULL. */
uint64_t warmfork_fork_generation(const warmfork_fork* fork);
/* Stops the call that runs, or the next one if none does; a reset and giving back forget it. Any thread; not for signal
 * handlers. */
void warmfork_fork_cancel(warmfork_fork* fork);
/* Why the guest has ended, if a fault ended it, several lines; "" otherwise and while a channel is open. Writes and
 * returns as warmfork_pool_describe(). */
size_t warmfork_fork_fault(const warmfork_fork* fork, char* text, size_t size);

typedef struct warmfork_channel_options {
  size_t size;
  uint64_t polls_before_parking; /* of an idle guest, about a nanosecond each; 0: 262144; UINT64_MAX: never parks */
  uint64_t spin_ns;              /* a caller spins as long before it yields; 0: 20000 */
  uint32_t pin;                  /* 1: the guest's thread is pinned to processor `cpu` */
  uint32_t cpu;
} warmfork_channel_options;
#define WARMFORK_CHANNEL_OPTIONS_INIT {.size = sizeof(warmfork_channel_options)}

/* Calls without exits, for many calls of ONE tenant: Fork::open_channel() in warmfork.hpp says what that is worth and
 * what it costs. Errors: USAGE (one is open, the guest has ended), HOST. */
int warmfork_fork_open_channel(warmfork_fork* fork, const warmfork_channel_options* options, warmfork_error* error);
/* Errors: those of the call that failed. WARMFORK_OK if none is open. */
int warmfork_fork_close_channel(warmfork_fork* fork, warmfork_error* error);
/* Gives the fork back to its pool. */
void warmfork_fork_free(warmfork_fork* fork);

#ifdef __cplusplus
}
#endif

#endif
