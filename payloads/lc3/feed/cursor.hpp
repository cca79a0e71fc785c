// What a reader of a feed has got and lost, from the page in which it says so. The page is the guest's: anything can
// stand in it. Pure; any thread, the reader stopped.
#pragma once

#include "warmfork/ring/broadcast.hpp"

#include <cstdint>

namespace warmfork::lc3 {

struct CursorAccount {
  std::uint64_t received = 0;  // messages that the reader is done with
  std::uint64_t lost = 0;      // all others: received + lost is what was published, always
  std::uint64_t missed = 0;    // of the lost, those it has passed: what it has lost so far, if it still reads
  bool sound = true;           // the page says something that can be true; if not, nothing counts as received
};

/// Reads each word of the page once. `published`: messages, without the record that ends the stream. A reader that has
/// stopped early has lost what came after. A page of zeros is that of a reader which has not begun.
///
/// A page that could be true is believed: a guest that lies about itself within what was published is not found out.
[[nodiscard]] CursorAccount account_for(const ring::BroadcastReaderPage& page, std::uint64_t published);

/// The number of the message of 64 bits that an answer names by its low 32, among the last `window` of `published`.
/// `published` itself: there is no such message, or it is longer ago.
[[nodiscard]] std::uint64_t named_message(std::uint32_t low, std::uint64_t published, std::uint64_t window);

}  // namespace warmfork::lc3
