#include "lc3/feed/cursor.hpp"

#include <algorithm>

namespace warmfork::lc3 {

CursorAccount account_for(const ring::BroadcastReaderPage& page, std::uint64_t published) {
  const std::uint64_t magic = ring::load_acquire(&page.magic);
  const std::uint64_t sequence = ring::load_relaxed(&page.sequence);
  const std::uint64_t lost = ring::load_relaxed(&page.lost);
  CursorAccount account{.received = 0, .lost = published, .missed = 0, .sound = true};
  if (magic == 0 && sequence == 0 && lost == 0) return account;
  // The record that ends the stream has a number, too: a reader that is done may be one further.
  const std::uint64_t passed = std::min(sequence, published);
  account.sound = magic == ring::kBroadcastReaderMagic && sequence - passed <= 1 && lost <= passed;
  if (!account.sound) return account;
  account.received = passed - lost;
  account.missed = lost;
  account.lost = published - account.received;
  return account;
}

std::uint64_t named_message(std::uint32_t low, std::uint64_t published, std::uint64_t window) {
  if (published == 0) return published;
  const std::uint64_t latest = published - 1;
  const std::uint32_t age = static_cast<std::uint32_t>(latest) - low;
  return age <= latest && age < window ? latest - age : published;
}

}  // namespace warmfork::lc3
