/* warmfork: layout of the call ring, for assembly; call_ring.hpp asserts that it is true. */
#ifndef WARMFORK_ABI_CALL_RING_LAYOUT_H
#define WARMFORK_ABI_CALL_RING_LAYOUT_H

#define WARMFORK_CALL_RING_SLOTS 16
#define WARMFORK_CALL_RING_SLOT_SHIFT 7 /* 128 bytes: one cache line written by the host, one by the guest */

/* Offsets in a slot. */
#define WARMFORK_CALL_RING_REQUEST_SEQUENCE 0x00
#define WARMFORK_CALL_RING_FUNCTION 0x08
#define WARMFORK_CALL_RING_ARGUMENTS 0x10
#define WARMFORK_CALL_RING_RESPONSE_SEQUENCE 0x40
#define WARMFORK_CALL_RING_RESULT 0x48

#endif
