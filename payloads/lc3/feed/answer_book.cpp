#include "lc3/feed/answer_book.hpp"

#include "base/tsc_clock.hpp"
#include "feed/network.hpp"
#include "feed/pcap.hpp"
#include "lc3/feed/cursor.hpp"
#include "lc3/feed/words.hpp"
#include "warmfork/lc3/ports.hpp"

#include <array>
#include <cstring>
#include <span>

namespace warmfork::lc3 {
namespace {

constexpr std::size_t kMessageBytes = std::size_t{2} * kPortMessageWords;

struct Kept {
  std::uint64_t tick;
  std::uint32_t bytes;
  std::uint32_t reader;
};

}  // namespace

void AnswerBook::open(std::size_t bytes) {
  due_.resize(kWindow);
  kept_.resize(bytes);
}

bool AnswerBook::take(Link& link, std::size_t reader, std::uint64_t published) noexcept {
  const auto record = link.peek();
  if (!record) return false;
  const std::uint64_t now = tsc_now();
  std::array<std::byte, kMessageBytes> bytes;
  const std::size_t size = record->copy_to(bytes);
  link.advance();
  link.release();
  ++answers_.count;
  // Read once, above: from here on it is the host's.
  std::array<std::uint16_t, 2> name{};
  std::uint64_t message = published;
  if (size >= sizeof name) {
    std::memcpy(name.data(), bytes.data(), sizeof name);
    message = named_message(static_cast<std::uint32_t>(name[1]) << 16 | name[0], published, kWindow);
  }
  if (message == published) {
    ++answers_.unnamed;
  } else {
    const std::uint64_t due = due_[message % kWindow];
    answers_.ticks.record(now > due ? now - due : 0);
  }
  if (sizeof(Kept) + size > kept_.size() - kept_bytes_) {
    ++answers_.unkept;
    return true;
  }
  const Kept kept{.tick = now, .bytes = static_cast<std::uint32_t>(size), .reader = static_cast<std::uint32_t>(reader)};
  std::memcpy(kept_.data() + kept_bytes_, &kept, sizeof kept);
  std::memcpy(kept_.data() + kept_bytes_ + sizeof kept, bytes.data(), size);
  kept_bytes_ += sizeof kept + size;
  return true;
}

void AnswerBook::take_rest(Link& link, std::size_t reader, std::uint64_t published) noexcept {
  while (take(link, reader, published)) {
  }
  answers_.broken += link.violation() ? 1 : 0;
}

Status AnswerBook::write(feed::PcapWriter file, std::uint64_t epoch, std::uint64_t epoch_ns) const {
  std::array<std::byte, feed::kEthernetBytes + kMessageBytes> frame{};
  constexpr std::uint16_t kLocalExperiment = 0x88b5;
  frame[0] = frame[6] = std::byte{2};
  frame[10] = std::byte{1};
  frame[12] = std::byte{kLocalExperiment >> 8};
  frame[13] = std::byte{kLocalExperiment & 0xff};
  for (std::size_t at = 0; at < kept_bytes_;) {
    Kept kept;
    std::memcpy(&kept, kept_.data() + at, sizeof kept);
    const auto words = std::span(frame).subspan(feed::kEthernetBytes, kept.bytes);
    std::memcpy(words.data(), kept_.data() + at + sizeof kept, kept.bytes);
    exchange_bytes(words);
    frame[11] = static_cast<std::byte>(kept.reader);
    const std::uint64_t since = kept.tick > epoch ? kept.tick - epoch : 0;
    const std::size_t bytes = feed::kEthernetBytes + kept.bytes;
    WARMFORK_TRY(file.write(epoch_ns + static_cast<std::uint64_t>(tsc_to_ns(since)), std::span(frame).first(bytes),
                            static_cast<std::uint32_t>(bytes)));
    at += sizeof kept + kept.bytes;
  }
  return file.finish();
}

}  // namespace warmfork::lc3
