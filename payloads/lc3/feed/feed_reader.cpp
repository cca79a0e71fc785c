#include "lc3/feed/feed_reader.hpp"

#include "base/tsc_clock.hpp"
#include "lc3/host/lc3_failure.hpp"
#include "trace/trace.hpp"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace warmfork::lc3 {
namespace {

constexpr unsigned kFeedPort = 0, kAnswerPort = 1;
constexpr std::uint64_t kLinkBytes = 1 << 16;
constexpr std::size_t kMaxOutput = 64 << 10;  // of a program that is kept
// How often WAIT looks before the machine stops and the host may do something: some 20 ms if the CPU is the reader's
// own; if it is shared, another reader waits for it meanwhile.
constexpr std::uint32_t kLooksAlone = 1 << 22, kLooksShared = 1 << 12;
constexpr std::uint32_t kLooksForRoom = 1 << 12;
// A rehearsal goes on for as long at most, looked at after each piece: longer for a larger ring, each page of which
// takes a guest some microseconds the first time.
constexpr std::uint64_t kRehearsalNs = 500'000'000, kRehearsalPiece = 20'000'000;
constexpr double kRehearsalNsPerByte = 10;
constexpr std::uint64_t kRehearsalDeadlineNs = 5'000'000'000;
// Instructions before the clock starts: a machine that was just powered on stops some times to be given its code.
constexpr std::uint64_t kUntimed = 10'000;
constexpr std::uint64_t kPiece = std::uint64_t{1} << 40;  // instructions of a run: for ever

Status pin_this_thread(int cpu) {
  if (cpu < 0) return {};
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu >= CPU_SETSIZE) return fail(ErrorKind::kUsage, "CPU {}: 0 to {} are possible", cpu, CPU_SETSIZE - 1);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); error != 0) {
    return fail(ErrorKind::kHost, "CPU {} cannot be used: {}", cpu, std::strerror(error));
  }
  return {};
}

}  // namespace

Lc3Options FeedReader::machine_options(Engine engine, std::uint64_t feed_bytes) {
  return {.engine = engine, .ports = {.ports = 2, .link_bytes = kLinkBytes, .feed_bytes = feed_bytes}};
}

Result<std::unique_ptr<FeedReader>> FeedReader::make(Lc3Vm& master, ForkSource& source, const Program& program,
                                                     const Setup& setup) {
  std::unique_ptr<FeedReader> self(new FeedReader(master, program, setup));
  PortConnections& connections = self->connections_;
  connections.ports[kFeedPort] = {.feed = true, .looks = setup.alone ? kLooksAlone : kLooksShared};
  connections.feed = setup.feed;
  WARMFORK_TRY_ASSIGN(connections.feed_cursor, SharedMemory::create(ring::kPageBytes, true));
  if (setup.answers) {
    WARMFORK_TRY_ASSIGN(connections.ports[kAnswerPort].out, Link::create(kLinkBytes));
    connections.ports[kAnswerPort].looks = kLooksForRoom;
  }
  WARMFORK_TRY_ASSIGN(const SharedBindings bindings, master.bindings(connections));
  WARMFORK_TRY_ASSIGN(self->fork_, source.make_with(bindings));
  WARMFORK_TRY_ASSIGN(GuestCpu* const cpu, source.make_cpu());
  if (cpu != nullptr) WARMFORK_TRY(self->fork_->bind(*cpu));
  self->lc3_ = master.attach(*self->fork_);
  return self;
}

const ring::BroadcastReaderPage& FeedReader::page() const {
  // SAFETY: a whole page, of which anything may be read.
  return *reinterpret_cast<const ring::BroadcastReaderPage*>(connections_.feed_cursor->bytes().data());
}

// As new, with its program, connected to the ring as it is now.
Status FeedReader::power_on() {
  std::memset(connections_.feed_cursor->bytes().data(), 0, ring::kPageBytes);
  if (const Link* const link = connections_.ports[kAnswerPort].out.get(); link != nullptr) {
    ring::format_spsc(*link->producer_view().own, *link->consumer_view().own, link->capacity());
  }
  output_.clear();
  WARMFORK_TRY(lc3_->power_on(setup_.machine));
  WARMFORK_TRY(lc3_->connect(connections_));
  WARMFORK_TRY(lc3_->close_input());
  return lc3_->load(*program_);
}

Result<FeedReader::Rehearsal> FeedReader::rehearse(std::uint64_t messages, bool timed,
                                                   const std::function<bool()>& hurry) {
  WARMFORK_TRY(power_on());
  std::optional<AnswerBook::Link> answers;
  if (setup_.answers) {
    answers.emplace(connections_.ports[kAnswerPort].out->consumer_view());
  }
  std::uint64_t begin = tsc_now(), before = 0;
  for (std::uint64_t piece = timed ? kUntimed : kRehearsalPiece;; piece = kRehearsalPiece) {
    const auto ran = lc3_->run(piece, {.timeout_ns = kRehearsalDeadlineNs});
    if (!ran && ran.error().kind != ErrorKind::kGuestFault && ran.error().kind != ErrorKind::kDeadline) {
      return Failure(ran.error());
    }
    if (!ran) return Rehearsal::kSpoiled;
    const std::uint64_t took = tsc_now() - begin;
    if (ran->stop == StopReason::kHalted) {
      const CursorAccount account = account_for(page(), messages);
      if (timed && account.received > before) {
        const double ns = tsc_to_ns(took) / static_cast<double>(account.received - before);
        ns_per_message_ = std::min(ns, ns_per_message_.value_or(ns));
      }
      return Rehearsal::kEnded;
    }
    if (ran->stop == StopReason::kOutputFull || ran->stop == StopReason::kOutputPending) {
      WARMFORK_TRY(lc3_->drain(output_));
      output_.clear();
    } else if (ran->stop == StopReason::kWaiting && answers) {
      std::array<std::byte, 2 * kPortMessageWords> forgotten;
      while (answers->pop(forgotten)) {
      }
    } else if (ran->stop != StopReason::kBudget) {
      return Rehearsal::kGoesOn;
    }
    if (hurry()) return Rehearsal::kGoesOn;
    if (piece == kUntimed) {
      before = account_for(page(), messages).received;
      begin = tsc_now();
      continue;
    }
    const double most =
        static_cast<double>(kRehearsalNs) + kRehearsalNsPerByte * static_cast<double>(setup_.feed->capacity());
    if (tsc_to_ns(took) > most) return Rehearsal::kGoesOn;
  }
}

void FeedReader::open_answers() { answers_.emplace(connections_.ports[kAnswerPort].out->consumer_view()); }

void FeedReader::watch(ForkKind kind) {
  watch_ = std::make_unique<metrics::VmWatch>(
      metrics::VmWatch::Info{.vm = fmt::format("lc3-{}", setup_.number),
                             .program = program_->files.empty() ? "" : program_->files.front(),
                             .kind = name_of(kind),
                             .engine = kEngineNames[static_cast<std::size_t>(setup_.machine.engine)],
                             .memory_bytes = fork_->memory().window().size()});
}

Status FeedReader::start(const std::atomic<bool>& stop) {
  WARMFORK_TRY(power_on());
  program_ = nullptr;  // its caller's
  thread_ = std::thread([this, &stop] { run(stop); });
  return {};
}

Status FeedReader::wait_until_started() const {
  while (!started_.load(std::memory_order_acquire)) std::this_thread::yield();
  return pinned_;
}

// The reader's thread, from before the first message to the program's end.
void FeedReader::run(const std::atomic<bool>& stop) {
  trace::name_thread("reader");
  pinned_ = pin_this_thread(setup_.cpu);
  started_.store(true, std::memory_order_release);
  if (watch_) watch_->state(metrics::VmState::kRunning);
  const auto drain = [&]() -> Status {
    WARMFORK_TRY(lc3_->drain(output_));
    if (output_.size() > kMaxOutput) output_.resize(kMaxOutput);
    return {};
  };
  const auto work = [&]() -> Status {
    while (!stop.load(std::memory_order_relaxed)) {
      WARMFORK_TRY_ASSIGN(const RunResult ran, lc3_->run(kPiece));
      instructions_ += ran.executed;
      if (watch_) watch_->instructions(instructions_);
      switch (ran.stop) {
        case StopReason::kBudget: continue;
        case StopReason::kWaiting: std::this_thread::yield(); continue;
        case StopReason::kOutputFull:
        case StopReason::kOutputPending: WARMFORK_TRY(drain()); continue;
        default: break;
      }
      WARMFORK_TRY(drain());
      end_ = stop_name(ran.stop);
      WARMFORK_TRY_ASSIGN(const auto failure, find_failure(*lc3_, setup_.machine, ran));
      if (failure) {
        failure_ = fmt::format("{} at x{:04X}", failure->what, failure->address);
      } else if (ran.stop != StopReason::kHalted) {
        failure_ = fmt::format("ended because: {}", describe(ran.stop));
      }
      if (failure_.empty()) {
        // Two words of the guest about itself. They differ by one record at most, read and not yet released.
        WARMFORK_TRY_ASSIGN(const PortReport port, lc3_->port_report(kFeedPort));
        const std::uint64_t shown = ring::load_relaxed(&page().sequence) - ring::load_relaxed(&page().lost);
        if (port.received - shown > 1) {
          failure_ = fmt::format("it has read {} records, and its cursor page says {}", port.received, shown);
        }
      }
      WARMFORK_TRY_ASSIGN(const Registers registers, lc3_->registers());
      registers_ = registers.general;
      return {};
    }
    return fail(ErrorKind::kCancelled, "stopped");
  };
  if (pinned_) {
    if (const Status ended = work(); !ended) {
      const bool stopped = ended.error().kind == ErrorKind::kCancelled;
      end_ = stopped ? "stopped" : "crashed";
      failure_ = stopped ? "did not end with the stream and was stopped" : ended.error().message;
    }
  }
  if (watch_) {
    watch_->state(end_ == "stopped" ? metrics::VmState::kStopped : metrics::VmState::kDone);
    if (end_ == "crashed" || !failure_.empty()) watch_->fault(failure_);
  }
  done_.store(true, std::memory_order_release);
}

void FeedReader::join() {
  if (!thread_.joinable()) return;
  // A cancellation can come between two runs, or in a call that ends the thread's work otherwise.
  while (!done()) {
    lc3_->cancel();
    ::usleep(1000);
  }
  thread_.join();
}

// The page is read as it is just being written.
void FeedReader::collect(metrics::Collector& collector, std::uint64_t published) {
  const CursorAccount account = account_for(page(), published);
  const bool over = done();  // then what it has not read is lost as well
  received_.set(std::max(received_.value(), account.received));
  missed_.set(std::max(missed_.value(), over ? account.lost : account.missed));
  const std::string name = fmt::format("lc3-{}", setup_.number);
  collector.count(metrics::Family::kFeedRead, {name}, received_);
  collector.count(metrics::Family::kFeedDropped, {name}, missed_);
}

feed::ReaderReport FeedReader::report(std::uint64_t published) const {
  const CursorAccount account = account_for(page(), published);
  feed::ReaderReport report{
      .name = fmt::format("lc3-{}", setup_.number), .received = account.received, .dropped = account.lost};
  report.program = feed::ProgramReport{.published = published,
                                       .instructions = instructions_,
                                       .ns_per_message = ns_per_message_,
                                       .end = end_,
                                       .failure = failure_,
                                       .output = output_,
                                       .registers = registers_};
  if (!account.sound) {
    report.program->failure += fmt::format("{}its cursor page cannot be true, so nothing counts as received",
                                           report.program->failure.empty() ? "" : "; ");
  }
  return report;
}

}  // namespace warmfork::lc3
