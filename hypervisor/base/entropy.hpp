// Random bytes that no other caller gets, without a system call each time: ChaCha20 (RFC 8439, by libsodium) keyed from
// the kernel's entropy, one generator per thread, whose key is replaced at every draw so that what was drawn cannot be
// computed from what is in memory later.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <span>

namespace warmfork {

/// Fills `out` (at most 256 bytes a call; more is drawn in pieces).
void draw_entropy(std::span<std::byte> out);

}  // namespace warmfork
