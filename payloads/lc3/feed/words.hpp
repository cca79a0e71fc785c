// Frames as an LC-3 program reads them: words of 16 bits in network byte order, so that a field of 16 bits of a header
// is a word. Made ahead of a replay, not in it. Pure; any thread.
#pragma once

#include "base/result.hpp"
#include "feed/tape.hpp"

#include <cstddef>

namespace warmfork::lc3 {

/// The tape of frames with the bytes of each pair exchanged. An odd last byte is the high half of a word whose low half
/// is 0; of a frame longer than a port's message (kPortMessageWords) only its beginning is left. Times and what a frame
/// takes on the wire stay. Errors: kLimit, it takes more than `memory_bytes`; kHost.
[[nodiscard]] Result<feed::Tape> frames_to_words(const feed::Tape& frames, std::size_t memory_bytes);

/// The bytes of `words` words exchanged in place: of an answer, on its way out.
void exchange_bytes(std::span<std::byte> words);

}  // namespace warmfork::lc3
