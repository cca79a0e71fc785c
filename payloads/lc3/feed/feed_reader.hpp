// An LC-3 program that follows a feed, in a fork and a thread of its own: its ports, its machine from power-on to the
// end of the stream, and what it says of itself. The feed is its port 0; port 1, if wanted, is a link back to the host.
//
// What its guest writes is its cursor page and its link, and both are taken for hostile.
//
// Threads: all for the object's owner, but collect() and done(), for any; rehearse() before start() only. What its own
// thread writes is read when it is done.
#pragma once

#include "base/result.hpp"
#include "feed/certificate.hpp"
#include "fork/fork.hpp"
#include "lc3/asm/program.hpp"
#include "lc3/feed/answer_book.hpp"
#include "lc3/feed/cursor.hpp"
#include "lc3/host/lc3_vm.hpp"
#include "metrics/vm_watch.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace warmfork::lc3 {

class FeedReader {
 public:
  struct Setup {
    std::size_t number = 0;
    int cpu = -1;          // where it runs; -1: anywhere
    bool alone = false;    // that CPU is its own
    bool answers = false;  // port 1 is a link to the host
    Lc3Options machine;    // machine_options(), as its master's
    std::shared_ptr<Feed> feed;
  };
  enum class Rehearsal : std::uint8_t {
    kEnded,    // with the stream; it is ready for more
    kGoesOn,   // for longer than anybody waits, or it has stopped for something else
    kSpoiled,  // its guest is of no use any more
  };

  /// What a machine has to be for programs that follow a feed.
  [[nodiscard]] static Lc3Options machine_options(Engine engine, std::uint64_t feed_bytes);
  /// A fork from `source`, which is of `master`; both outlive it. `program` lives until start().
  [[nodiscard]] static Result<std::unique_ptr<FeedReader>> make(Lc3Vm& master, ForkSource& source,
                                                                const Program& program, const Setup& setup);

  [[nodiscard]] std::size_t number() const { return setup_.number; }
  [[nodiscard]] const Program& program() const { return *program_; }

  /// Lets the program read the `messages` that are in the ring, from power-on. `timed`: notes what one of them costs.
  /// `hurry` is asked every now and then: true ends it.
  [[nodiscard]] Result<Rehearsal> rehearse(std::uint64_t messages, bool timed, const std::function<bool()>& hurry);
  void finish_optimising() { lc3_->finish_optimising(); }

  /// If anybody wants metrics, before start().
  void watch(ForkKind kind);
  /// As new, with its program, connected to the ring as it is now; runs in a thread from now on, until it ends or
  /// `stop` is true and it was cancelled.
  [[nodiscard]] Status start(const std::atomic<bool>& stop);
  /// Until its thread runs. The error: it cannot, on that CPU.
  [[nodiscard]] Status wait_until_started() const;
  [[nodiscard]] bool done() const { return done_.load(std::memory_order_acquire); }
  /// Cancels what runs until it is done. Only after `stop` was set.
  void join();

  /// Opens the host's end of port 1, if it is a link.
  void open_answers();
  [[nodiscard]] std::optional<AnswerBook::Link>& answers() { return answers_; }

  [[nodiscard]] feed::ReaderReport report(std::uint64_t published) const;
  /// On the thread that scrapes.
  void collect(metrics::Collector& collector, std::uint64_t published);
  [[nodiscard]] jit::CacheCounters code_counters() const { return master_->code_counters(); }
  [[nodiscard]] SharedMemory& cursor_page() const { return *connections_.feed_cursor; }

 private:
  FeedReader(Lc3Vm& master, const Program& program, const Setup& setup)
      : setup_(setup), program_(&program), master_(&master) {}
  [[nodiscard]] Status power_on();
  [[nodiscard]] const ring::BroadcastReaderPage& page() const;
  void run(const std::atomic<bool>& stop);

  const Setup setup_;
  const Program* program_;  // while the object is made
  Lc3Vm* const master_;
  PortConnections connections_;
  std::unique_ptr<Fork> fork_;
  std::unique_ptr<Lc3Vm> lc3_;
  std::optional<AnswerBook::Link> answers_;
  std::optional<double> ns_per_message_;
  std::unique_ptr<metrics::VmWatch> watch_;  // if anybody wants metrics
  // What its page has said at most: what it takes back does not count.
  metrics::Cell received_, missed_;
  // The thread's until done.
  std::uint64_t instructions_ = 0;
  std::string end_, failure_, output_;
  std::optional<std::array<std::uint16_t, 8>> registers_;
  Status pinned_;
  std::atomic<bool> started_{false};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace warmfork::lc3
