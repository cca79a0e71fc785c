#include "lc3/feed/words.hpp"

#include "warmfork/lc3/ports.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace warmfork::lc3 {

void exchange_bytes(std::span<std::byte> words) {
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) std::swap(words[i], words[i + 1]);
}

Result<feed::Tape> frames_to_words(const feed::Tape& frames, std::size_t memory_bytes) {
  // A frame of an odd length grows by a byte, within what a packet is rounded up to.
  WARMFORK_TRY_ASSIGN(feed::TapeBuilder builder,
                      feed::TapeBuilder::create(std::max<std::size_t>(std::min(memory_bytes, frames.size()), 1)));
  for (const feed::Packet& packet : frames) {
    const std::uint32_t bytes = std::min(packet.bytes, 2 * kPortMessageWords);
    auto room = builder.add(packet.time_ns, packet.wire_bytes, (bytes + 1) / 2 * 2);
    if (!room) return with_context(room.error(), fmt::format("words of packet {}", builder.packets() + 1));
    if (bytes == 0) continue;
    room->back() = std::byte{0};
    std::memcpy(room->data(), packet.payload().data(), bytes);
    exchange_bytes(*room);
  }
  return builder.finish();
}

}  // namespace warmfork::lc3
