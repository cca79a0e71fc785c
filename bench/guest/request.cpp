// The guest of the fork figures: a request dirties as many pages as it is told and answers with what it found in them,
// so that a reset that misses a page shows in the next answer. argv[1]: pages of its block.
#include "warmfork/abi/vmcall.hpp"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {
constexpr std::size_t kPage = 4096;
unsigned char* block;
std::size_t block_pages;
}  // namespace

// Increments a counter in each of `pages` pages, evenly spread over the block. The answer is the argument plus the sum
// of what the counters were: the argument itself, if the block is as it was at first.
extern "C" std::uint64_t request(std::uint64_t argument, std::uint64_t pages) {
  if (pages == 0) return argument;
  const std::size_t stride = block_pages / pages * kPage;
  for (std::uint64_t i = 0; i < pages; ++i) {
    std::uint64_t counter;
    std::memcpy(&counter, block + i * stride, sizeof counter);
    argument += counter++;
    std::memcpy(block + i * stride, &counter, sizeof counter);
  }
  return argument;
}
WARMFORK_REGISTER_VMCALL(request);

int main(int argc, char** argv) {
  block_pages = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 32;
  void* memory = mmap(nullptr, block_pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  block = static_cast<unsigned char*>(memory);
  for (std::size_t i = 0; i < block_pages; ++i) block[i * kPage + 8] = 1;  // the window's memory is really there
  warmfork::wait_for_calls();
}
