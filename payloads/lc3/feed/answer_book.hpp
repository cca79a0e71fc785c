// What comes back from programs that follow a feed: each answer is stamped when the host looks, named by the message it
// is to, and kept for a file. An answer begins with the low and high word of its message's number.
//
// Links are the guests': what they hold is taken for hostile, one answer per look.
//
// Threads: due() and take() are for who publishes; the rest is for after that.
#pragma once

#include "base/histogram.hpp"
#include "base/result.hpp"
#include "warmfork/ring/spsc.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace warmfork::feed {
class PcapWriter;
}

namespace warmfork::lc3 {

/// What came back.
struct Answers {
  std::uint64_t count = 0;    // answers
  std::uint64_t unnamed = 0;  // of them such that name no message of the last AnswerBook::kWindow
  std::uint64_t unkept = 0;   // of them such that there was no memory for
  std::uint64_t broken = 0;   // links whose program's guest broke the ring's rules
  Histogram ticks;            // from when the named message was due to when its answer was here
};

class AnswerBook {
 public:
  /// An answer's time is known if it names one of so many last messages.
  static constexpr std::uint64_t kWindow = std::uint64_t{1} << 16;
  using Link = ring::SpscConsumer<ring::Hostile>;

  /// Wants answers from now on, and keeps `bytes` of them.
  void open(std::size_t bytes);
  [[nodiscard]] bool wanted() const noexcept { return !due_.empty(); }

  /// When the message with this number is due. Nothing if no answers are wanted.
  void due(std::uint64_t message, std::uint64_t tick) noexcept {
    if (!due_.empty()) due_[message % kWindow] = tick;
  }
  /// Takes an answer from a reader's link. False: there is none.
  bool take(Link& link, std::size_t reader, std::uint64_t published) noexcept;
  /// The reader has ended: takes all there are.
  void take_rest(Link& link, std::size_t reader, std::uint64_t published) noexcept;

  [[nodiscard]] const Answers& counts() const { return answers_; }
  /// Writes the answers that were kept, in the order in which they came: each an Ethernet frame to 02:00:00:00:00:00
  /// from 02:00:00:00:01:NN (the reader) of type x88B5 (IEEE 802: local experiments), its words in network byte order.
  /// `epoch_ns`: time since 1970 at tick `epoch`. `file`: new, and made before the feed, so that one which cannot be
  /// written is found out then. Errors: as PcapWriter.
  [[nodiscard]] Status write(feed::PcapWriter file, std::uint64_t epoch, std::uint64_t epoch_ns) const;

 private:
  std::vector<std::uint64_t> due_;  // by message, the last kWindow; none if no answers are wanted
  std::vector<std::byte> kept_;     // Kept, payload, …
  std::size_t kept_bytes_ = 0;
  Answers answers_;
};

}  // namespace warmfork::lc3
