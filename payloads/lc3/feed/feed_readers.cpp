#include "lc3/feed/feed_readers.hpp"

#include "base/tsc_clock.hpp"
#include "feed/pcap.hpp"
#include "feed/replay.hpp"
#include "fork/snapshot.hpp"
#include "lc3/feed/words.hpp"
#include "lc3/host/lc3_failure.hpp"
#include "trace/trace.hpp"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

namespace warmfork::lc3 {
namespace {

constexpr unsigned kFeedPort = 0, kAnswerPort = 1;
constexpr std::uint64_t kLinkBytes = 1 << 16;
constexpr std::size_t kMessageBytes = 2 * kPortMessageWords;
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
constexpr int kTimedRehearsals = 5;
constexpr double kLongRehearsalNs = 20e6;
constexpr std::uint64_t kHurriedGraceNs = 500'000'000;
constexpr std::uint64_t kPiece = std::uint64_t{1} << 40;  // instructions of a run: for ever

// What is given up of a ring ahead of what is written.
std::uint64_t announced_ahead(std::uint64_t capacity) { return std::min<std::uint64_t>(4096, capacity / 16); }

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

/// Readers of one program. Their master has it in memory: compiled code is shared by forks, and made only of words that
/// are as in the master.
struct FeedReaders::Family {
  const Program* program = nullptr;  // while the object is made
  std::unique_ptr<Lc3Vm> master;
  std::unique_ptr<ForkSource> source;
};

struct FeedReaders::Reader {
  std::size_t number = 0;
  int cpu = -1;
  const Program* program = nullptr;  // while the object is made
  Family* family = nullptr;
  PortConnections connections;
  std::unique_ptr<Fork> fork;
  std::unique_ptr<Lc3Vm> lc3;
  std::optional<ring::SpscConsumer<ring::Hostile>> answers;
  std::optional<double> ns_per_message;
  std::unique_ptr<metrics::VmWatch> watch;  // if anybody wants metrics
  // What its page has said at most: what it takes back does not count.
  metrics::Cell received, missed;
  // The thread's until done.
  std::uint64_t instructions = 0;
  std::string end, failure, output;
  std::optional<std::array<std::uint16_t, 8>> registers;
  Status pinned;
  std::atomic<bool> started{false};
  std::atomic<bool> done{false};
  std::thread thread;
};

struct FeedReaders::KeptAnswer {
  std::uint64_t tick;
  std::uint32_t bytes;
  std::uint32_t reader;
};

Result<std::unique_ptr<FeedReaders>> FeedReaders::start(const kvm::Kvm& kvm, std::span<const Program> programs,
                                                        const feed::Tape& tape, const FeedReaderOptions& options) {
  if (programs.empty()) return fail(ErrorKind::kUsage, "a feed without a program that reads it");
  const std::size_t longest = options.record_bytes != 0 ? options.record_bytes : tape.longest();
  if (options.feed_bytes / 4 < ring::BroadcastHeader::record(static_cast<std::uint32_t>(longest))) {
    return fail(ErrorKind::kUsage, "a ring of {} bytes for messages of {}: it must hold four of them",
                options.feed_bytes, longest);
  }
  std::unique_ptr<FeedReaders> self(new FeedReaders);
  self->options_ = options;
  self->alone_ = programs.size() <= options.cpus.size();
  self->machine_ = {.engine = options.engine,
                    .ports = {.ports = 2, .link_bytes = kLinkBytes, .feed_bytes = options.feed_bytes}};
  WARMFORK_TRY_ASSIGN(self->feed_, Feed::create(options.feed_bytes));
  self->restart_ring();
  for (const Program& program : programs) WARMFORK_TRY(self->add_family(kvm, programs, program));
  for (std::size_t i = 0; i < programs.size(); ++i) WARMFORK_TRY(self->make_reader(programs[i], i));
  if (options.warm_up && !tape.empty()) WARMFORK_TRY(self->warm_up(tape));
  if (options.answers) {
    self->due_.resize(kWindow);
    self->kept_.resize(options.answer_bytes);
    for (const auto& reader : self->readers_) {
      reader->answers.emplace(reader->connections.ports[kAnswerPort].out->consumer_view());
    }
  }
  self->restart_ring();
  self->messages_.set(0);
  for (const auto& reader : self->readers_) {
    if (!metrics::on()) break;
    reader->watch = std::make_unique<metrics::VmWatch>(
        metrics::VmWatch::Info{.vm = fmt::format("lc3-{}", reader->number),
                               .program = reader->program->files.empty() ? "" : reader->program->files.front(),
                               .kind = name_of(options.fork),
                               .engine = kEngineNames[static_cast<std::size_t>(options.engine)],
                               .memory_bytes = reader->fork->memory().window().size()});
  }
  for (const auto& reader : self->readers_) {
    WARMFORK_TRY(self->power_on(*reader));
    reader->program = nullptr;  // its caller's
    reader->thread = std::thread([owner = self.get(), one = reader.get()] { owner->run(*one); });
  }
  if (metrics::on()) {
    self->numbers_.emplace([owner = self.get()](metrics::Collector& collector) { owner->collect(collector); });
  }
  for (const auto& reader : self->readers_) {
    while (!reader->started.load(std::memory_order_acquire)) std::this_thread::yield();
    if (!reader->pinned) return Failure(reader->pinned.error());
  }
  return self;
}

FeedReaders::~FeedReaders() {
  stop_readers();
  numbers_.reset();
}

FeedReaders::Family* FeedReaders::family_of(const Program& program) const {
  const auto found = std::ranges::find_if(
      families_, [&](const auto& family) { return family->program->segments == program.segments; });
  return found == families_.end() ? nullptr : found->get();
}

Status FeedReaders::add_family(const kvm::Kvm& kvm, std::span<const Program> programs, const Program& program) {
  if (family_of(program) != nullptr) return {};
  auto family = std::make_unique<Family>();
  family->program = &program;
  WARMFORK_TRY_ASSIGN(family->master, Lc3Vm::create(kvm, machine_));
  WARMFORK_TRY(family->master->load(program));
  WARMFORK_TRY_ASSIGN(auto snapshot, Snapshot::take(kvm, family->master->machine()));
  const auto members =
      std::ranges::count_if(programs, [&](const Program& other) { return other.segments == program.segments; });
  // One more than readers: a rehearsal that does not end costs its fork.
  WARMFORK_TRY_ASSIGN(family->source, make_fork_source(kvm, std::move(snapshot), {.kind = options_.fork},
                                                       static_cast<std::size_t>(members) + 1));
  families_.push_back(std::move(family));
  return {};
}

Status FeedReaders::make_reader(const Program& program, std::size_t number) {
  auto reader = std::make_unique<Reader>();
  reader->number = number;
  reader->program = &program;
  reader->family = family_of(program);
  if (!options_.cpus.empty()) reader->cpu = options_.cpus[number % options_.cpus.size()];
  reader->connections.ports[kFeedPort] = {.feed = true, .looks = alone_ ? kLooksAlone : kLooksShared};
  reader->connections.feed = feed_;
  WARMFORK_TRY_ASSIGN(reader->connections.feed_cursor, SharedMemory::create(ring::kPageBytes, true));
  if (options_.answers) {
    WARMFORK_TRY_ASSIGN(reader->connections.ports[kAnswerPort].out, Link::create(kLinkBytes));
    reader->connections.ports[kAnswerPort].looks = kLooksForRoom;
  }
  const Family& family = *reader->family;
  WARMFORK_TRY_ASSIGN(const SharedBindings bindings, family.master->bindings(reader->connections));
  WARMFORK_TRY_ASSIGN(reader->fork, family.source->make_with(bindings));
  WARMFORK_TRY_ASSIGN(GuestCpu* const cpu, family.source->make_cpu());
  if (cpu != nullptr) WARMFORK_TRY(reader->fork->bind(*cpu));
  reader->lc3 = family.master->attach(*reader->fork);
  readers_.push_back(std::move(reader));
  return {};
}

// As new, with its program, connected to the ring as it is now.
Status FeedReaders::power_on(Reader& reader) const {
  std::memset(reader.connections.feed_cursor->bytes().data(), 0, ring::kPageBytes);
  if (const Link* const link = reader.connections.ports[kAnswerPort].out.get(); link != nullptr) {
    ring::format_spsc(*link->producer_view().own, *link->consumer_view().own, link->capacity());
  }
  reader.output.clear();
  WARMFORK_TRY(reader.lc3->power_on(machine_));
  WARMFORK_TRY(reader.lc3->connect(reader.connections));
  WARMFORK_TRY(reader.lc3->close_input());
  return reader.lc3->load(*reader.program);
}

void FeedReaders::restart_ring() {
  ring::format_broadcast(feed_->page(), feed_->capacity());
  writer_.emplace(feed_->page(), feed_->capacity());
  writer_->announce_ahead(announced_ahead(feed_->capacity()));
  ended_ = 0;
}

Status FeedReaders::warm_up(const feed::Tape& tape) {
  // As much as the ring holds without overwriting anything, and the end.
  const auto footprint = [](std::uint64_t bytes) {
    return ring::BroadcastHeader::record(static_cast<std::uint32_t>(bytes));
  };
  const std::uint64_t longest = options_.record_bytes != 0 ? options_.record_bytes : tape.longest();
  const std::uint64_t room = feed_->capacity() - announced_ahead(feed_->capacity()) - 2 * footprint(longest);
  std::uint64_t used = 0, packets = 0;
  for (auto packet = tape.begin(); packets < tape.totals().packets || published() != 0; ++packets) {
    used += (packet->bytes + longest - 1) / longest * footprint(options_.record_bytes != 0 ? longest : packet->bytes);
    if (used > room) break;
    publish(packet->payload(), 0);
    if (++packet == tape.end()) packet = tape.begin();
  }
  const std::uint64_t messages = published();
  if (messages == 0) return {};
  (void)writer_->push({}, kEndOfStream);
  for (std::size_t i = 0; i < readers_.size() && !options_.hurry(); ++i) {
    WARMFORK_TRY_ASSIGN(const bool ends, rehearse(*readers_[i], messages, false));
    if (!ends) continue;
    if (options_.engine == Engine::kOrc || options_.engine == Engine::kAuto) readers_[i]->lc3->finish_optimising();
    // The least of some, for all that is short enough for the host's scheduler to matter.
    for (int again = 0; again < kTimedRehearsals; ++again) {
      const std::uint64_t begin = tsc_now();
      WARMFORK_TRY_ASSIGN(const bool ended, rehearse(*readers_[i], messages, true));
      if (!ended || tsc_to_ns(tsc_now() - begin) > kLongRehearsalNs) break;
    }
  }
  return {};
}

Result<bool> FeedReaders::rehearse(Reader& reader, std::uint64_t messages, bool timed) {
  WARMFORK_TRY(power_on(reader));
  std::optional<ring::SpscConsumer<ring::Hostile>> answers;
  if (options_.answers) {
    answers.emplace(reader.connections.ports[kAnswerPort].out->consumer_view());
  }
  // SAFETY: a whole page, of which anything may be read.
  const auto& page =
      *reinterpret_cast<const ring::BroadcastReaderPage*>(reader.connections.feed_cursor->bytes().data());
  std::uint64_t begin = tsc_now(), before = 0;
  for (std::uint64_t piece = timed ? kUntimed : kRehearsalPiece;; piece = kRehearsalPiece) {
    const auto ran = reader.lc3->run(piece, {.timeout_ns = kRehearsalDeadlineNs});
    if (!ran && ran.error().kind != ErrorKind::kGuestFault && ran.error().kind != ErrorKind::kDeadline) {
      return Failure(ran.error());
    }
    if (!ran) {
      // Its guest is of no use any more; the replay shall find that out and not this.
      const std::size_t number = reader.number;
      const Program& program = *reader.program;
      WARMFORK_TRY(make_reader(program, number));
      std::swap(readers_[number], readers_.back());
      readers_.pop_back();
      return false;
    }
    const std::uint64_t took = tsc_now() - begin;
    if (ran->stop == StopReason::kHalted) {
      const CursorAccount account = account_for(page, messages);
      if (timed && account.received > before) {
        const double ns = tsc_to_ns(took) / static_cast<double>(account.received - before);
        reader.ns_per_message = std::min(ns, reader.ns_per_message.value_or(ns));
      }
      return true;
    }
    if (ran->stop == StopReason::kOutputFull || ran->stop == StopReason::kOutputPending) {
      WARMFORK_TRY(reader.lc3->drain(reader.output));
      reader.output.clear();
    } else if (ran->stop == StopReason::kWaiting && answers) {
      std::array<std::byte, kMessageBytes> forgotten;
      while (answers->pop(forgotten)) {
      }
    } else if (ran->stop != StopReason::kBudget) {
      return false;
    }
    if (options_.hurry()) return false;
    if (piece == kUntimed) {
      before = account_for(page, messages).received;
      begin = tsc_now();
      continue;
    }
    const double most =
        static_cast<double>(kRehearsalNs) + kRehearsalNsPerByte * static_cast<double>(feed_->capacity());
    if (tsc_to_ns(took) > most) return false;
  }
}

void FeedReaders::put_message(std::span<const std::byte> message, std::uint64_t timestamp) noexcept {
  if (!due_.empty()) due_[writer_->sequence() % kWindow] = timestamp;
  if (writer_->put(message)) return;
  writer_->publish();  // half of the ring is not
  (void)writer_->put(message);
}

void FeedReaders::put(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept {
  if (options_.record_bytes == 0) {
    if (!payload.empty()) put_message(payload, timestamp);
    return;
  }
  for (std::size_t at = 0; at < payload.size(); at += options_.record_bytes) {
    put_message(payload.subspan(at, std::min<std::size_t>(options_.record_bytes, payload.size() - at)), timestamp);
  }
}

void FeedReaders::flush() noexcept {
  writer_->publish();
  messages_.set(published());
  if (!due_.empty()) idle();
}

void FeedReaders::publish(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept {
  put(payload, timestamp);
  flush();
}

void FeedReaders::idle() noexcept {
  if (due_.empty()) return;
  for (const auto& reader : readers_) (void)take_answer(*reader);
}

bool FeedReaders::take_answer(Reader& reader) noexcept {
  const auto record = reader.answers->peek();
  if (!record) return false;
  const std::uint64_t now = tsc_now();
  std::array<std::byte, kMessageBytes> bytes;
  const std::size_t size = record->copy_to(bytes);
  reader.answers->advance();
  reader.answers->release();
  ++answers_.count;
  // Read once, above: from here on it is the host's.
  std::array<std::uint16_t, 2> name{};
  std::uint64_t message = published();
  if (size >= sizeof name) {
    std::memcpy(name.data(), bytes.data(), sizeof name);
    message = named_message(static_cast<std::uint32_t>(name[1]) << 16 | name[0], published(), kWindow);
  }
  if (message == published()) {
    ++answers_.unnamed;
  } else {
    const std::uint64_t due = due_[message % kWindow];
    answers_.ticks.record(now > due ? now - due : 0);
  }
  if (sizeof(KeptAnswer) + size > kept_.size() - kept_bytes_) {
    ++answers_.unkept;
    return true;
  }
  const KeptAnswer kept{
      .tick = now, .bytes = static_cast<std::uint32_t>(size), .reader = static_cast<std::uint32_t>(reader.number)};
  std::memcpy(kept_.data() + kept_bytes_, &kept, sizeof kept);
  std::memcpy(kept_.data() + kept_bytes_ + sizeof kept, bytes.data(), size);
  kept_bytes_ += sizeof kept + size;
  return true;
}

// The reader's thread, from before the first message to the program's end.
void FeedReaders::run(Reader& reader) const {
  trace::name_thread("reader");
  reader.pinned = pin_this_thread(reader.cpu);
  reader.started.store(true, std::memory_order_release);
  if (reader.watch) reader.watch->state(metrics::VmState::kRunning);
  const auto drain = [&]() -> Status {
    WARMFORK_TRY(reader.lc3->drain(reader.output));
    if (reader.output.size() > kMaxOutput) reader.output.resize(kMaxOutput);
    return {};
  };
  const auto work = [&]() -> Status {
    while (!stop_.load(std::memory_order_relaxed)) {
      WARMFORK_TRY_ASSIGN(const RunResult ran, reader.lc3->run(kPiece));
      reader.instructions += ran.executed;
      if (reader.watch) reader.watch->instructions(reader.instructions);
      switch (ran.stop) {
        case StopReason::kBudget: continue;
        case StopReason::kWaiting: std::this_thread::yield(); continue;
        case StopReason::kOutputFull:
        case StopReason::kOutputPending: WARMFORK_TRY(drain()); continue;
        default: break;
      }
      WARMFORK_TRY(drain());
      reader.end = stop_name(ran.stop);
      WARMFORK_TRY_ASSIGN(const auto failure, find_failure(*reader.lc3, machine_, ran));
      if (failure) {
        reader.failure = fmt::format("{} at x{:04X}", failure->what, failure->address);
      } else if (ran.stop != StopReason::kHalted) {
        reader.failure = fmt::format("ended because: {}", describe(ran.stop));
      }
      if (reader.failure.empty()) {
        // Two words of the guest about itself. They differ by one record at most, read and not yet released.
        WARMFORK_TRY_ASSIGN(const PortReport port, reader.lc3->port_report(kFeedPort));
        // SAFETY: a whole page, of which anything may be read.
        const auto& page =
            *reinterpret_cast<const ring::BroadcastReaderPage*>(reader.connections.feed_cursor->bytes().data());
        const std::uint64_t shown = ring::load_relaxed(&page.sequence) - ring::load_relaxed(&page.lost);
        if (port.received - shown > 1) {
          reader.failure = fmt::format("it has read {} records, and its cursor page says {}", port.received, shown);
        }
      }
      WARMFORK_TRY_ASSIGN(const Registers registers, reader.lc3->registers());
      reader.registers = registers.general;
      return {};
    }
    return fail(ErrorKind::kCancelled, "stopped");
  };
  if (reader.pinned) {
    if (const Status ended = work(); !ended) {
      const bool stopped = ended.error().kind == ErrorKind::kCancelled;
      reader.end = stopped ? "stopped" : "crashed";
      reader.failure = stopped ? "did not end with the stream and was stopped" : ended.error().message;
    }
  }
  if (reader.watch) {
    reader.watch->state(reader.end == "stopped" ? metrics::VmState::kStopped : metrics::VmState::kDone);
    if (reader.end == "crashed" || !reader.failure.empty()) reader.watch->fault(reader.failure);
  }
  reader.done.store(true, std::memory_order_release);
}

// On the thread that scrapes; the pages are read as they are just being written.
void FeedReaders::collect(metrics::Collector& collector) {
  for (const auto& reader : readers_) {
    // SAFETY: a whole page, of which anything may be read.
    const auto& page =
        *reinterpret_cast<const ring::BroadcastReaderPage*>(reader->connections.feed_cursor->bytes().data());
    const CursorAccount account = account_for(page, messages_);
    const bool over = reader->done.load(std::memory_order_acquire);  // then what it has not read is lost as well
    reader->received.set(std::max(reader->received.value(), account.received));
    reader->missed.set(std::max(reader->missed.value(), over ? account.lost : account.missed));
    const std::string name = fmt::format("lc3-{}", reader->number);
    collector.count(metrics::Family::kFeedRead, {name}, reader->received);
    collector.count(metrics::Family::kFeedDropped, {name}, reader->missed);
  }
}

bool FeedReaders::ended(std::size_t reader) const { return readers_[reader]->done.load(std::memory_order_acquire); }

jit::CacheCounters FeedReaders::code_counters(std::size_t reader) const {
  return readers_[reader]->family->master->code_counters();
}

SharedMemory& FeedReaders::cursor_page(std::size_t reader) const { return *readers_[reader]->connections.feed_cursor; }

void FeedReaders::stop_readers() {
  stop_.store(true);
  for (const auto& reader : readers_) {
    if (!reader->thread.joinable()) continue;
    // A cancellation can come between two runs, or in a call that ends the thread's work otherwise.
    while (!reader->done.load(std::memory_order_acquire)) {
      reader->lc3->cancel();
      ::usleep(1000);
    }
    reader->thread.join();
  }
}

feed::ReaderReport FeedReaders::report_of(const Reader& reader) const {
  // SAFETY: a whole page, of which anything may be read.
  const auto& page =
      *reinterpret_cast<const ring::BroadcastReaderPage*>(reader.connections.feed_cursor->bytes().data());
  const CursorAccount account = account_for(page, published());
  feed::ReaderReport report{
      .name = fmt::format("lc3-{}", reader.number), .received = account.received, .dropped = account.lost};
  report.program = feed::ProgramReport{.published = published(),
                                       .instructions = reader.instructions,
                                       .ns_per_message = reader.ns_per_message,
                                       .end = reader.end,
                                       .failure = reader.failure,
                                       .output = reader.output,
                                       .registers = reader.registers};
  if (!account.sound) {
    report.program->failure += fmt::format("{}its cursor page cannot be true, so nothing counts as received",
                                           report.program->failure.empty() ? "" : "; ");
  }
  return report;
}

const std::vector<feed::ReaderReport>& FeedReaders::finish(const std::function<bool()>& hurry) {
  if (finished_) return reports_;
  finished_ = true;
  (void)writer_->push({}, kEndOfStream);
  ended_ = 1;
  const std::uint64_t begin = tsc_now();
  const auto all_done = [&] {
    return std::ranges::all_of(readers_,
                               [](const auto& reader) { return reader->done.load(std::memory_order_acquire); });
  };
  const auto grace_ns = [&] {
    return static_cast<double>(hurry() ? std::min(options_.grace_ns, kHurriedGraceNs) : options_.grace_ns);
  };
  while (!all_done() && tsc_to_ns(tsc_now() - begin) < grace_ns()) {
    idle();
    std::this_thread::yield();
  }
  stop_readers();
  for (const auto& reader : readers_) {
    if (reader->answers) {
      while (take_answer(*reader)) {
      }
      answers_.broken += reader->answers->violation() ? 1 : 0;
    }
    reports_.push_back(report_of(*reader));
  }
  return reports_;
}

Status FeedReaders::write_answers(feed::PcapWriter file, std::uint64_t epoch, std::uint64_t epoch_ns) const {
  std::array<std::byte, feed::kEthernetBytes + kMessageBytes> frame{};
  constexpr std::uint16_t kLocalExperiment = 0x88b5;
  frame[0] = frame[6] = std::byte{2};
  frame[10] = std::byte{1};
  frame[12] = std::byte{kLocalExperiment >> 8};
  frame[13] = std::byte{kLocalExperiment & 0xff};
  for (std::size_t at = 0; at < kept_bytes_;) {
    KeptAnswer kept;
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
