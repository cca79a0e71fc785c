// A mapped file whose owner shortens it: who touches what is gone gets SIGBUS, which ends the process and, with it, all
// that it has measured. While one of these lives that memory becomes zeros of this process's own instead, nobody meets
// anybody there any more, and shortened() says why: whoever looks at it can end with an error and a report.
//
// One at a time, as there is one handler of a signal. Threads: any may touch the memory and ask.
#pragma once

#include <cstddef>
#include <span>

namespace warmfork::ivshmem {

class ShrinkWatch {
 public:
  /// `memory`: whole pages, a shared mapping for reading and writing that outlives this object.
  explicit ShrinkWatch(std::span<std::byte> memory);
  ~ShrinkWatch();
  ShrinkWatch(const ShrinkWatch&) = delete;
  ShrinkWatch& operator=(const ShrinkWatch&) = delete;

  /// Whether something of the memory was found to be gone.
  [[nodiscard]] bool shortened() const;
};

}  // namespace warmfork::ivshmem
