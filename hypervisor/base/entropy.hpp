// Random bytes that no other caller gets, without a system call each time: ChaCha20 (RFC 8439, by libsodium) keyed from
// the kernel's entropy, one generator per thread. Bytes are overwritten as they are handed out, and each block of the
// stream begins with the key of the next, so what was drawn cannot be computed from what is in memory later.
//
// Threads: any. A child of fork(2) starts anew.
#pragma once

#include <cstddef>
#include <span>

namespace warmfork {

/// Fills `out`.
void draw_entropy(std::span<std::byte> out);

}  // namespace warmfork
