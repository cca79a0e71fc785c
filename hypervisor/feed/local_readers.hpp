// Readers in this process: threads that follow a ring, count what comes, and checksum it. They stand where guests are
// to read, and show what a reader that does next to nothing can take.
//
//   publish() ──> │ slot │ slot │ slot │ … │ ──> reader, reader, …      versions: odd while written, 2n + 2 when the
//                                                                       slot holds packet n
//
// The writer never waits. A reader copies a slot and looks at its version again: if that has changed the copy is
// nothing. One that has been overtaken goes on in the middle of what the ring holds, and counts what it has lost.
//
// Threads: publish() is for one; the rest for the object's owner.
#pragma once

#include "base/mapping.hpp"
#include "base/result.hpp"
#include "feed/tape.hpp"
#include "metrics/metrics.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace warmfork::feed {

/// What more there is to say of a reader that is a program on a machine of its own.
struct ProgramReport {
  std::uint64_t published = 0;           // messages: a packet's records are one each
  std::uint64_t instructions = 0;        // executed in all
  std::optional<double> ns_per_message;  // measured ahead of the replay, with all messages there already
  std::string end;                       // how it ended, a word
  std::string failure;                   // why that is not good enough; empty: it is
  std::string output;                    // what it has printed: any bytes
  std::optional<std::array<std::uint16_t, 8>> registers;  // at its end
};

/// What a reader has seen.
struct ReaderReport {
  std::string name;
  std::uint64_t received = 0;
  std::uint64_t dropped = 0;
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;                 // the sum of the packets' XXH3
  std::optional<ProgramReport> program = {};  // then it counts messages, and bytes and checksum are not known
};

class LocalReaders {
 public:
  struct Options {
    unsigned readers = 1;
    int cpu = -1;                                   // where they run; -1: anywhere
    std::size_t ring_bytes = std::size_t{4} << 20;  // of memory for slots, unless `longest` needs more for two of them
  };
  /// Starts the readers of payloads of at most `longest` bytes. Errors: kHost (memory, a CPU that cannot be used).
  [[nodiscard]] static Result<std::unique_ptr<LocalReaders>> start(std::size_t longest, const Options& options);
  ~LocalReaders();
  LocalReaders(const LocalReaders&) = delete;
  LocalReaders& operator=(const LocalReaders&) = delete;

  /// See FeedSink. At most `longest` bytes.
  void publish(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept;

  /// Waits until the readers have seen all there is, ends them, and says what they saw. Nothing is published after.
  [[nodiscard]] std::vector<ReaderReport> finish();

  [[nodiscard]] std::size_t slots() const { return slots_; }

 private:
  // Followed by the words of the payload.
  struct Slot {
    std::atomic<std::uint64_t> version;
    std::atomic<std::uint64_t> timestamp;
    std::atomic<std::uint64_t> size;
    std::uint64_t unused;
  };
  LocalReaders() = default;
  [[nodiscard]] Slot* slot(std::uint64_t packet) const;
  [[nodiscard]] static std::atomic<std::uint64_t>* words(Slot* slot);
  /// What others may see of a reader while it reads.
  struct alignas(64) Seen {
    metrics::Cell received, dropped;
  };
  void read(ReaderReport& report, Seen& seen) const;

  Mapping memory_;
  std::size_t slots_ = 0, stride_ = 0, longest_ = 0;
  std::vector<ReaderReport> reports_;
  std::vector<Seen> seen_;
  std::vector<std::thread> threads_;
  alignas(64) std::uint64_t next_ = 0;  // the writer's
  alignas(64) std::atomic<std::uint64_t> end_{~std::uint64_t{0}};
  std::optional<metrics::Source> numbers_;  // last: it reads seen_
};

/// What a reader that has lost nothing sums up over the first `packets` packets of a tape that is repeated.
[[nodiscard]] std::uint64_t expected_checksum(const Tape& tape, std::uint64_t packets);

}  // namespace warmfork::feed
