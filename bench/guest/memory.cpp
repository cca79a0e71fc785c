// The guest of the memory suite: runs its loops over a shared region.
#include "bench/memory_loops.hpp"
#include "warmfork/abi/vmcall.hpp"

// SAFETY: the host gives the addresses of regions, one of at least `bytes` bytes and one for the sum. Returns the
// ticks.
extern "C" std::uint64_t memory_loop(std::uint64_t block, std::uint64_t loop, std::uint64_t bytes, std::uint64_t count,
                                     std::uint64_t sum) {
  namespace loops = warmfork::bench::memory_loops;
  const loops::Task task{.loop = static_cast<loops::Loop>(loop), .bytes = bytes, .count = count};
  const loops::Answer answer = loops::run(reinterpret_cast<unsigned char*>(block), task);  // NOLINT
  *reinterpret_cast<std::uint64_t*>(sum) = answer.sum;                                     // NOLINT
  return answer.ticks;
}
WARMFORK_REGISTER_VMCALL(memory_loop);

int main() { warmfork::wait_for_calls(); }
