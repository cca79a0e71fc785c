// The call ring: vmcalls through shared memory, without an exit. The host writes requests, the guest's stub
// (guest-runtime/user_stubs.S) polls for them, calls the function, and writes the answer.
//
//   slot:  | sequence function argument × 6 |  | sequence result … |     one cache line per writer
//            written by the host                 written by the guest
//
// A request is there when its sequence number is; numbers start at 1 and go up by one, and number n uses slot
// n mod 16. The host writes the sequence last, and so does the guest. A request whose function is 0 ends the service.
//
// The guest can write every byte of the ring. The host therefore reads nothing back but the answer's two words, each
// once, and keeps its own count of what it has asked.
#pragma once

#include "warmfork/abi/call_ring_layout.h"

#include <cstddef>
#include <cstdint>

namespace warmfork {

struct alignas(64) CallRequest {
  std::uint64_t sequence;
  std::uint64_t function;
  std::uint64_t arguments[6];
};

struct alignas(64) CallResponse {
  std::uint64_t sequence;
  std::uint64_t result;
};

struct CallSlot {
  CallRequest request;
  CallResponse response;
};

struct CallRing {
  CallSlot slots[WARMFORK_CALL_RING_SLOTS];
};

static_assert(sizeof(CallSlot) == 1U << WARMFORK_CALL_RING_SLOT_SHIFT);
static_assert(offsetof(CallSlot, request.sequence) == WARMFORK_CALL_RING_REQUEST_SEQUENCE);
static_assert(offsetof(CallSlot, request.function) == WARMFORK_CALL_RING_FUNCTION);
static_assert(offsetof(CallSlot, request.arguments) == WARMFORK_CALL_RING_ARGUMENTS);
static_assert(offsetof(CallSlot, response.sequence) == WARMFORK_CALL_RING_RESPONSE_SEQUENCE);
static_assert(offsetof(CallSlot, response.result) == WARMFORK_CALL_RING_RESULT);

}  // namespace warmfork
