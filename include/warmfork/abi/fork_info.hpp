// What every fork can read about itself: which fork it is, random bytes no other fork has, its instruction budget.
//
// The host writes this page at every fork and every reset, before the guest runs; the guest can only read it. A program
// that keeps a random generator across forks compares `generation` with what it saw last and reseeds when it differs
// (the rule Linux drivers follow for VM generation identifiers, Documentation/virt/vmgenid).
#pragma once

#include "warmfork/abi/layout.h"

#include <cstdint>

namespace warmfork {

struct ForkInfo {
  std::uint64_t generation;          // 0 in the master; else different at every fork and reset of this process
  std::uint64_t instruction_budget;  // for payloads that count instructions of their own; 0: none
  std::uint8_t random[64];           // fresh at every fork and reset, unless a seed was asked for
};
static_assert(sizeof(ForkInfo) == 80);
static_assert(WARMFORK_FORK_INFO_OFFSET + sizeof(ForkInfo) <= WARMFORK_PAGE_SIZE);

#if defined(__x86_64__) && !defined(WARMFORK_HOST)
/// This guest's page. Values change only between calls.
inline const volatile ForkInfo& fork_info() {
  // SAFETY: the host maps the page at this address in every guest.
  return *reinterpret_cast<const volatile ForkInfo*>(WARMFORK_FORK_PAGE + WARMFORK_FORK_INFO_OFFSET);
}
#endif

}  // namespace warmfork
