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

#include "base/histogram.hpp"
#include "base/result.hpp"
#include "bus/link.hpp"
#include "feed/certificate.hpp"
#include "feed/tape.hpp"
#include "fork/fork.hpp"
#include "lc3/asm/program.hpp"
#include "lc3/feed/cursor.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "metrics/vm_watch.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace warmfork::feed {
class PcapWriter;
}

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

/// What came back.
struct Answers {
  std::uint64_t count = 0;    // answers
  std::uint64_t unnamed = 0;  // of them such that name no message of the last kWindow
  std::uint64_t unkept = 0;   // of them such that there was no memory for
  std::uint64_t broken = 0;   // links whose program's guest broke the ring's rules
  Histogram ticks;            // from when the named message was due to when its answer was here
};

class FeedReaders {
 public:
  /// An answer's time is known if it names one of so many last messages.
  static constexpr std::uint64_t kWindow = std::uint64_t{1} << 16;

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
  [[nodiscard]] const Answers& answers() const { return answers_; }
  /// Writes the answers that were kept, in the order in which they came: each an Ethernet frame to 02:00:00:00:00:00
  /// from 02:00:00:00:01:NN (the reader) of type x88B5 (IEEE 802: local experiments), its words in network byte order.
  /// `epoch_ns`: time since 1970 at tick `epoch`. `file`: new, and made before the feed, so that one which cannot be
  /// written is found out then. Errors: as PcapWriter.
  [[nodiscard]] Status write_answers(feed::PcapWriter file, std::uint64_t epoch, std::uint64_t epoch_ns) const;

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
  struct Reader;
  struct KeptAnswer;
  FeedReaders() = default;
  [[nodiscard]] Status add_family(const kvm::Kvm& kvm, std::span<const Program> programs, const Program& program);
  /// While the object is made. Null: there is none yet.
  [[nodiscard]] Family* family_of(const Program& program) const;
  [[nodiscard]] Status make_reader(const Program& program, std::size_t number);
  [[nodiscard]] Status power_on(Reader& reader) const;
  [[nodiscard]] Status warm_up(const feed::Tape& tape);
  /// Lets a program read what is in the ring. True: it has ended, and is ready for more.
  [[nodiscard]] Result<bool> rehearse(Reader& reader, std::uint64_t messages, bool timed);
  void restart_ring();
  void put_message(std::span<const std::byte> message, std::uint64_t timestamp) noexcept;
  bool take_answer(Reader& reader) noexcept;
  void run(Reader& reader) const;
  void collect(metrics::Collector& collector);
  void stop_readers();
  [[nodiscard]] feed::ReaderReport report_of(const Reader& reader) const;

  FeedReaderOptions options_;
  Lc3Options machine_;
  std::vector<std::unique_ptr<Family>> families_;
  std::shared_ptr<Feed> feed_;
  std::optional<ring::BroadcastWriter> writer_;
  std::uint64_t ended_ = 0;  // records that are no messages
  std::vector<std::unique_ptr<Reader>> readers_;
  std::vector<std::uint64_t> due_;  // by message, the last kWindow; none without answers
  std::vector<std::byte> kept_;     // KeptAnswer, payload, …
  std::size_t kept_bytes_ = 0;
  Answers answers_;
  std::vector<feed::ReaderReport> reports_;
  bool finished_ = false;
  bool alone_ = false;  // each reader has a CPU of its own
  std::atomic<bool> stop_{false};
  metrics::Cell messages_;                  // published
  std::optional<metrics::Source> numbers_;  // last: it reads the others
};

}  // namespace warmfork::lc3
