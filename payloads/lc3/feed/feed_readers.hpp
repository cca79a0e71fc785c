// LC-3 programs that follow a feed: each in a fork of its own with its own thread, all with the same ring, which they
// can only read. The feed is port 0 of each; port 1, if wanted, is a link back to the host for answers.
//
//   replay() ──publish──> Feed ══ read-only ══> fork 0: port 0 ─> program ─> port 1 ══ Link ──┐
//                              ══ read-only ══> fork 1: …                                     │ idle(), publish()
//        cursor pages <── how far each is ──────────────────                                  v
//                                                                         answers: stamped, kept, written as pcap
//
// A payload of records (feed/itch_record.hpp) is one message each; their numbers then count records, not packets. The
// stream ends with a record of type kEndOfStream: programs find bit 12 of STATUS.
//
// Before the replay every program reads a ring full of the tape and ends with its stream: pages are there, code is
// compiled, and the time it took (the least of five, if short) is the cost of a message. Then its machine is powered on
// again.
//
// A guest cannot hold the feed up, harm another, or spoil the host's numbers: what it writes is its cursor page and its
// link, and both are taken for hostile.
//
// Threads: publish() and idle() are for one; the rest for the object's owner, not at the same time.
#pragma once

#include "base/result.hpp"
#include "bus/link.hpp"
#include "feed/certificate.hpp"
#include "feed/tape.hpp"
#include "fork/fork.hpp"
#include "lc3/asm/program.hpp"
#include "lc3/feed/answer_book.hpp"
#include "lc3/feed/feed_reader.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "metrics/metrics.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork::lc3 {

struct FeedReaderOptions {
  ForkKind fork = ForkKind::kVm;
  Engine engine = Engine::kAuto;
  std::uint64_t feed_bytes = std::uint64_t{4} << 20;  // capacity of the ring, a power of two
  std::uint32_t record_bytes = 0;                     // a payload is records of so many bytes each; 0: it is one
  bool answers = false;                               // port 1 is a link to the host
  std::size_t answer_bytes = std::size_t{16} << 20;   // memory for answers; what is beyond is counted and not kept
  std::vector<int> cpus;                              // reader i runs on cpus[i % size]; none: anywhere
  std::uint64_t grace_ns = 5'000'000'000;             // after the end of the stream, for programs to end as well
  bool warm_up = true;
  std::function<bool()> hurry = [] { return false; };  // asked while warming up: true ends that
};

class FeedReaders {
 public:
  /// Boots a master for each program that is different, forks it once for each reader, warms up with `tape`, and lets
  /// all run: they wait for what is published. Errors: kUsage (no program, a ring that is no power of two or holds no
  /// four of the longest messages), as Lc3Vm::create(), make_fork_source() and Lc3Vm::load(), kHost (a CPU that cannot
  /// be used).
  [[nodiscard]] static Result<std::unique_ptr<FeedReaders>> start(const kvm::Kvm& kvm,
                                                                  std::span<const Program> programs,
                                                                  const feed::Tape& tape,
                                                                  const FeedReaderOptions& options);
  ~FeedReaders();
  FeedReaders(const FeedReaders&) = delete;
  FeedReaders& operator=(const FeedReaders&) = delete;

  /// See FeedSink and BatchSink.
  void publish(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept;
  void put(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept;
  void flush() noexcept;
  /// Takes an answer of each reader, if there is one. For whoever publishes, while it waits.
  void idle() noexcept;

  /// Ends the stream, waits for the programs (those that do not end in time are stopped), and says what they have seen
  /// and done. Nothing is published after. `hurry` is asked over and over whether somebody wants to see the end: then
  /// half a second is enough. The second time it returns the same.
  [[nodiscard]] const std::vector<feed::ReaderReport>& finish(const std::function<bool()>& hurry = [] {
    return false;
  });
  /// After finish().
  [[nodiscard]] const AnswerBook& answers() const { return answers_; }

  /// Messages so far.
  [[nodiscard]] std::uint64_t published() const { return writer_ ? writer_->sequence() - ended_ : 0; }
  [[nodiscard]] std::size_t size() const { return readers_.size(); }
  /// Whether a program has ended, however: the feed goes on without it.
  [[nodiscard]] bool ended(std::size_t reader) const;
  /// What has been compiled for a reader's program, for all readers of it together.
  [[nodiscard]] jit::CacheCounters code_counters(std::size_t reader) const;
  /// The page that a reader writes. For tests, and for whoever watches.
  [[nodiscard]] SharedMemory& cursor_page(std::size_t reader) const;

 private:
  struct Family;
  FeedReaders() = default;
  [[nodiscard]] Status add_family(const kvm::Kvm& kvm, std::span<const Program> programs, const Program& program);
  /// While the object is made. Null: there is none yet.
  [[nodiscard]] Family* family_of(const Program& program) const;
  [[nodiscard]] Status make_reader(const Program& program, std::size_t number);
  [[nodiscard]] Status warm_up(const feed::Tape& tape);
  /// FeedReader::rehearse(), and a new reader in place of one that is spoiled. True: it has ended, and is ready for
  /// more.
  [[nodiscard]] Result<bool> rehearse(std::size_t number, std::uint64_t messages, bool timed);
  void restart_ring();
  void put_message(std::span<const std::byte> message, std::uint64_t timestamp) noexcept;
  void collect(metrics::Collector& collector);
  void stop_readers();

  FeedReaderOptions options_;
  Lc3Options machine_;
  std::vector<std::unique_ptr<Family>> families_;
  std::shared_ptr<Feed> feed_;
  std::optional<ring::BroadcastWriter> writer_;
  std::uint64_t ended_ = 0;  // records that are no messages
  std::vector<std::unique_ptr<FeedReader>> readers_;
  AnswerBook answers_;
  std::vector<feed::ReaderReport> reports_;
  bool finished_ = false;
  bool alone_ = false;  // each reader has a CPU of its own
  std::atomic<bool> stop_{false};
  metrics::Cell messages_;                  // published
  std::optional<metrics::Source> numbers_;  // last: it reads the others
};

}  // namespace warmfork::lc3
